# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Decodes picture files into arrays, for training and for evaluation.

The arrays have 8-bit pixels, grey or RGB. Pictures are turned upright by their
EXIF data, 16-bit values are scaled to 8 bits, and transparent parts are white.

This file imports no other module of the package, so that an export can include
a copy of it.

H = height, W = width, C = colours.
"""

from __future__ import annotations  # Devices have older Pythons.

from collections.abc import Iterator
import contextlib
import io
import math

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

if not hasattr(Image.Image, 'has_transparency_data'):
  raise ImportError('Pillow is older than 10.1')
# No others: Pillow runs Ghostscript for one, whatever the file is called.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'TIFF')
# Augmentations that need the whole image, and so run where it is decoded.
ON_HOST = ('resized_crop',)
# A random crop's share of the image, and its width over its height (the usual
# ones of ImageNet).
_AREA = (0.08, 1.0)
_ASPECT = (3 / 4, 4 / 3)
# Random boxes to try before falling back to the largest one at the centre.
_NUM_TRIES = 10
_BILINEAR = Image.Resampling.BILINEAR
# The longer side is cropped to at most this many times the shorter one.
_LONGEST_STRIP = 4
# Modes that Pillow converts to grey and to RGB without loss of range.
_8_BIT_MODES = frozenset((
    *('1', 'L', 'LA', 'La', 'P', 'PA', 'RGB', 'RGBA', 'RGBX', 'RGBa'),
    *('CMYK', 'YCbCr', 'HSV'),
))
# Tags of TIFF, and a value of the second.
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262
_WHITE_IS_ZERO = 0
_16_BIT_MODES = frozenset(('I', 'I;16', 'I;16L', 'I;16B', 'I;16N'))
# The transpose that turns a picture upright, by its EXIF orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Orientations that swap height and width.
_SIDEWAYS = frozenset((5, 6, 7, 8))


class ImageError(ValueError):
  """The bytes are not a usable picture; the message says why."""


def resize(image: np.ndarray, size: int, shorter_side: int = 0) -> np.ndarray:
  """Scales the shorter side and crops the centre square.

  Args:
    image: `uint8[H, W, C]`, C 1 or 3.
    size: side of the result, in pixels.
    shorter_side: what the shorter side is scaled to, in pixels; 0: `size`.

  Returns:
    `uint8[size, size, C]`; `image` itself if it has that shape.
  """
  height, width, colours = image.shape
  scale = max(shorter_side, size) / min(height, width)
  if height == width == size and scale == 1.0:
    return image
  # A picture one row high, scaled whole to this height, would take gigabytes.
  longest = _LONGEST_STRIP * min(height, width)
  top, left = max(0, height - longest) // 2, max(0, width - longest) // 2
  image = image[top : top + longest, left : left + longest]
  height, width, _ = image.shape
  shape = (round(width * scale), round(height * scale))
  picture = Image.fromarray(image[..., 0] if colours == 1 else image)
  scaled = np.asarray(picture.resize(shape, _BILINEAR))
  top, left = (shape[1] - size) // 2, (shape[0] - size) // 2
  cut = scaled[top : top + size, left : left + size]
  return cut.reshape(size, size, colours)


def decode(
    image: bytes | Image.Image,
    shape: tuple[int, int, int],
    shorter_side: int = 0,
) -> np.ndarray:
  """Decodes an image for evaluation; see `resize`.

  Args:
    image: the bytes of a file in one of `FORMATS`, or an open image; of any
      colours.
    shape: `(H, W, C)` of the result, H = W.
    shorter_side: see `resize`.

  Returns:
    `uint8[H, W, C]`.

  Raises:
    ImageError: the image has another format, is damaged, or has pixels of an
      unsupported type.
  """
  with _reading(image) as picture:
    if not isinstance(image, Image.Image):  # The caller's stays as it is.
      _reduce(picture, max(shorter_side, shape[0]))
    turned = _turned(picture, _orientation(picture))
    pixels = np.asarray(_plain(turned, _mode(shape)))
  return resize(
      pixels.reshape(*pixels.shape[:2], shape[-1]), shape[0], shorter_side
  )


def decode_random_crop(
    encoded: bytes, shape: tuple[int, int, int], rng: np.random.Generator
) -> np.ndarray:
  """Decodes a random part of an image for training, mirrored half of the time.

  The part has 8 to 100 % of the image's area and an aspect ratio of 3/4 to 4/3.

  Args:
    encoded: the bytes of a file in one of `FORMATS`, of any colours.
    shape: `(H, W, C)` of the result, H = W.
    rng: draws the part.

  Returns:
    `uint8[H, W, C]`.

  Raises:
    ImageError: as for `decode`.
  """
  with _reading(encoded) as picture:
    orientation = _orientation(picture)
    size = picture.size
    full = size[::-1] if orientation in _SIDEWAYS else size
    left, top, width, height = _random_box(full, rng)
    # A JPEG can be decoded at a half, a quarter or an eighth of its size, which
    # is much faster; more than twice the requested side adds no detail.
    reduce = min(width, height) / (2 * shape[0])
    if reduce >= 2.0:
      picture.draft(None, (int(size[0] / reduce), int(size[1] / reduce)))
    picture = _turned(picture, orientation)
    scale = picture.size[0] / full[0], picture.size[1] / full[1]
    left, width = left * scale[0], width * scale[0]
    top, height = top * scale[1], height * scale[1]
    box = (left, top, left + width, top + height)
    picture = _plain(picture, _mode(shape))
    pixels = np.asarray(picture.resize(shape[1::-1], _BILINEAR, box))
  if rng.random() < 0.5:
    pixels = pixels[:, ::-1]
  return pixels.reshape(shape)


def check(encoded: bytes) -> None:
  """Raises ImageError if a file cannot be decoded; reads all of it."""
  with _reading(encoded) as picture:
    picture.draft(None, (1, 1))  # The smallest size decodes fastest.
    _plain(picture, 'L')


def _reduce(picture: Image.Image, side: int) -> None:
  """Lets a JPEG be decoded at a half, a quarter or an eighth of its size.

  That is several times as fast, and changes pixels mostly by a few of 255
  levels. Twice the requested side is kept. Pictures whose size is no multiple
  stay whole, and so do strips, of which `resize` cuts the middle: all would be
  shifted by a fraction of a pixel.

  Args:
    picture: the picture, not decoded yet; of another format it stays whole.
    side: what its shorter side is scaled to afterwards, in pixels.
  """
  width, height = picture.size
  shorter = min(width, height)
  if max(width, height) > _LONGEST_STRIP * shorter:
    return
  for factor in (8, 4, 2):
    fits = width % factor == height % factor == 0
    if fits and shorter >= 2 * factor * side:
      picture.draft(None, (width // factor, height // factor))
      break


@contextlib.contextmanager
def _reading(image: bytes | Image.Image) -> Iterator[Image.Image]:
  """Opens an image; any exception in the `with` block becomes an ImageError."""
  try:
    if isinstance(image, Image.Image):
      yield image  # The caller closes it.
      return
    with Image.open(io.BytesIO(image), formats=FORMATS) as picture:
      yield picture
  except ImageError:
    raise
  except UnidentifiedImageError as error:
    start = b'' if isinstance(image, Image.Image) else bytes(image[:16])
    raise ImageError(
        f'it is no {", ".join(FORMATS[:-1])} or {FORMATS[-1]} file; it starts '
        f'with {start!r}'
        if start
        else 'it is empty'
    ) from error
  except Exception as error:  # Each format has errors of its own.
    lines = str(error).strip().splitlines() or [type(error).__name__]
    raise ImageError(lines[0].rstrip('.')) from error


def _orientation(picture: Image.Image) -> int:
  """Returns a picture's EXIF orientation; 1: upright."""
  if picture.format == 'TIFF':  # Pillow turns these itself as it reads them.
    return 1
  if picture.format == 'PNG':
    # `getexif` would, and its errors are ignored here. Pillow raises one for
    # damaged pixels only the first time.
    picture.load()
  try:
    return picture.getexif().get(ExifTags.Base.Orientation, 1)
  except Exception:  # A picture with damaged EXIF data is still usable.
    return 1


def _turned(picture: Image.Image, orientation: int) -> Image.Image:
  turn = _TURNS.get(orientation)
  return picture if turn is None else picture.transpose(turn)


def _plain(picture: Image.Image, mode: str) -> Image.Image:
  """Returns a picture in mode `L` or `RGB`, 8 bits each, on white."""
  if not all(picture.size):
    raise ImageError('it has no pixels')
  if picture.mode in _16_BIT_MODES:
    return _of_16_bits(picture).convert(mode)
  if picture.mode not in _8_BIT_MODES:
    raise ImageError(
        f'its pixels are of Pillow mode {picture.mode}, whose range is not '
        'known; expected 8 or 16 bits'
    )
  if picture.has_transparency_data:
    picture = picture.convert('RGBA')
    white = Image.new('RGBA', picture.size, 'white')
    picture = Image.alpha_composite(white, picture)
  return picture.convert(mode)


def _of_16_bits(picture: Image.Image) -> Image.Image:
  values = np.asarray(picture).astype(np.int32)
  low, high = int(values.min()), int(values.max())
  if low < 0 or high > 65535:
    raise ImageError(
        f'its pixels are numbers from {low} to {high}; expected 0 to 65535'
    )
  # `convert` would clip the values at 255. Those of a TIFF may have 12 bits.
  tags = getattr(picture, 'tag_v2', {})
  most = 2 ** min(16, *tags.get(_BITS_PER_SAMPLE, (16,))) - 1
  # Of 8 bits and fewer, Pillow inverts the values itself.
  if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
    values = most - values
  pixels = ((255 * values + most // 2) // most).astype(np.uint8)
  hidden = picture.info.get('transparency')
  if isinstance(hidden, int):
    pixels[values == hidden] = 255
  return Image.fromarray(pixels)


def _mode(shape: tuple[int, int, int]) -> str:
  return 'L' if shape[-1] == 1 else 'RGB'


def _random_box(
    size: tuple[int, int], rng: np.random.Generator
) -> tuple[float, float, float, float]:
  """Returns left, top, width and height of a random crop."""
  width, height = size
  for _ in range(_NUM_TRIES):
    area = width * height * rng.uniform(*_AREA)
    aspect = math.exp(rng.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
    box_width, box_height = math.sqrt(area * aspect), math.sqrt(area / aspect)
    if box_width <= width and box_height <= height:
      return (
          rng.uniform(0.0, width - box_width),
          rng.uniform(0.0, height - box_height),
          box_width,
          box_height,
      )
  box_width = min(width, height * _ASPECT[1])
  box_height = min(height, width / _ASPECT[0])
  return (
      (width - box_width) / 2,
      (height - box_height) / 2,
      box_width,
      box_height,
  )
