# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Files of pictures to arrays, as training or as evaluation has them.

What comes out are 8-bit pixels, grey or RGB, upright as EXIF says, 16 bits
scaled to 8, and what is transparent laid on white.

Nothing of ours is imported here, so that an export can bring this file along.

H = height, W = width, C = colours.
"""

from __future__ import annotations  # Devices have older Pythons.

from collections.abc import Iterator
import contextlib
import io
import math

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

# No others: Pillow has one run Ghostscript, whatever a file's name says.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'TIFF')
# Augmentations that need all pixels of an image.
ON_HOST = ('resized_crop',)
# A random crop's share of the image, and its width over its height (the usual
# ones of ImageNet).
_AREA = (0.08, 1.0)
_ASPECT = (3 / 4, 4 / 3)
# Boxes that are tried before the largest one at the centre is taken.
_NUM_TRIES = 10
_BILINEAR = Image.Resampling.BILINEAR
# A longer side is cut to so many times the shorter one before it is scaled.
_LONGEST_STRIP = 4
# Modes that Pillow converts to grey and to RGB without loss of range.
_8_BIT_MODES = frozenset((
    *('1', 'L', 'LA', 'La', 'P', 'PA', 'RGB', 'RGBA', 'RGBX', 'RGBa'),
    *('CMYK', 'YCbCr', 'HSV'),
))
_16_BIT_MODES = frozenset(('I', 'I;16', 'I;16L', 'I;16B', 'I;16N'))
# What puts a picture upright, by EXIF's number for how it lies.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Those that lie on a side.
_SIDEWAYS = frozenset((5, 6, 7, 8))


class ImageError(ValueError):
  """Bytes that are no picture, or one that cannot be used; says why."""


def resize(image: np.ndarray, size: int, shorter_side: int = 0) -> np.ndarray:
  """Scales the shorter side and cuts the centre square.

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
  # All of a picture of one row would take gigabytes once its height fits.
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
  """Decodes an image as evaluation has it; see `resize`.

  Args:
    image: of any colours; a file of one of `FORMATS`, or one that is open.
    shape: `(H, W, C)` of the result, H = W.
    shorter_side: see `resize`.

  Returns:
    `uint8[H, W, C]`.

  Raises:
    ImageError: it is no such file, a damaged one, or its pixels are no colours.
  """
  with _reading(image) as picture:
    turned = _turned(picture, _orientation(picture))
    pixels = np.asarray(_plain(turned, _mode(shape)))
  return resize(
      pixels.reshape(*pixels.shape[:2], shape[-1]), shape[0], shorter_side
  )


def decode_random_crop(
    encoded: bytes, shape: tuple[int, int, int], rng: np.random.Generator
) -> np.ndarray:
  """Decodes a random part of an image, mirrored or not, as training has it.

  The part has 8 to 100 % of the image's area and an aspect ratio of 3/4 to 4/3.

  Args:
    encoded: a file of one of `FORMATS`, of any colours.
    shape: `(H, W, C)` of the result, H = W.
    rng: draws the part.

  Returns:
    `uint8[H, W, C]`.

  Raises:
    ImageError: it is no such file, or a damaged one.
  """
  with _reading(encoded) as picture:
    orientation = _orientation(picture)
    size = picture.size
    full = size[::-1] if orientation in _SIDEWAYS else size
    left, top, width, height = _random_box(full, rng)
    # A JPEG can be decoded at a half, a quarter or an eighth of its size, which
    # is much faster; at twice the pixels that are asked for it shows no more.
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
    picture.draft(None, (1, 1))  # As small as it can be: faster.
    _plain(picture, 'L')


@contextlib.contextmanager
def _reading(image: bytes | Image.Image) -> Iterator[Image.Image]:
  """Opens a file; whatever goes wrong within becomes an ImageError."""
  try:
    if isinstance(image, Image.Image):
      yield image  # It is the caller's to close.
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
  """Returns EXIF's number for how a picture lies; 1: upright."""
  if picture.format == 'TIFF':  # Pillow turns these itself as it reads them.
    return 1
  try:
    return picture.getexif().get(ExifTags.Base.Orientation, 1)
  except Exception:  # Damaged EXIF is no reason to lose a picture.
    return 1


def _turned(picture: Image.Image, orientation: int) -> Image.Image:
  turn = _TURNS.get(orientation)
  return picture if turn is None else picture.transpose(turn)


def _plain(picture: Image.Image, mode: str) -> Image.Image:
  """Returns a picture in mode `L` or `RGB`, of 8 bits, with nothing hidden."""
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
  values = np.asarray(picture).astype(np.int64)
  low, high = int(values.min()), int(values.max())
  if low < 0 or high > 65535:
    raise ImageError(
        f'its pixels are numbers from {low} to {high}; expected 0 to 65535'
    )
  # `convert` would make 255 of all that is above.
  pixels = ((values + 128) // 257).astype(np.uint8)
  hidden = picture.info.get('transparency')
  if isinstance(hidden, int):
    pixels[values == hidden] = 255
  return Image.fromarray(pixels)


def _mode(shape: tuple[int, int, int]) -> str:
  return 'L' if shape[-1] == 1 else 'RGB'


def _random_box(
    size: tuple[int, int], rng: np.random.Generator
) -> tuple[float, float, float, float]:
  """Returns left, top, width and height of a part of an image of a size."""
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
