# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""JPEG and PNG bytes to arrays, as training or as evaluation has them.

H = height, W = width, C = colours.
"""

import io
import math

import numpy as np
from PIL import Image

# Augmentations that need all pixels of an image.
ON_HOST = ('resized_crop',)
# A random crop's share of the image, and its width over its height (the usual
# ones of ImageNet).
_AREA = (0.08, 1.0)
_ASPECT = (3 / 4, 4 / 3)
# Boxes that are tried before the largest one at the centre is taken.
_NUM_TRIES = 10
_BILINEAR = Image.Resampling.BILINEAR


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
  shape = (round(width * scale), round(height * scale))
  picture = Image.fromarray(image[..., 0] if colours == 1 else image)
  scaled = np.asarray(picture.resize(shape, _BILINEAR))
  top, left = (shape[1] - size) // 2, (shape[0] - size) // 2
  cut = scaled[top : top + size, left : left + size]
  return cut.reshape(size, size, colours)


def decode(
    encoded: bytes, shape: tuple[int, int, int], shorter_side: int = 0
) -> np.ndarray:
  """Decodes an image as evaluation has it; see `resize`.

  Args:
    encoded: JPEG or PNG, of any colours.
    shape: `(H, W, C)` of the result, H = W.
    shorter_side: see `resize`.

  Returns:
    `uint8[H, W, C]`.
  """
  pixels = np.asarray(_open(encoded).convert(_mode(shape)))
  return resize(
      pixels.reshape(*pixels.shape[:2], shape[-1]), shape[0], shorter_side
  )


def decode_random_crop(
    encoded: bytes, shape: tuple[int, int, int], rng: np.random.Generator
) -> np.ndarray:
  """Decodes a random part of an image, mirrored or not, as training has it.

  The part has 8 to 100 % of the image's area and an aspect ratio of 3/4 to 4/3.

  Args:
    encoded: JPEG or PNG, of any colours.
    shape: `(H, W, C)` of the result, H = W.
    rng: draws the part.

  Returns:
    `uint8[H, W, C]`.
  """
  picture = _open(encoded)
  left, top, width, height = _random_box(picture.size, rng)
  # A JPEG can be decoded at a half, a quarter or an eighth of its size, which
  # is much faster; at twice the pixels that are asked for it shows no more.
  reduce = min(width, height) / (2 * shape[0])
  if reduce >= 2.0:
    full = picture.size
    picture.draft(None, (int(full[0] / reduce), int(full[1] / reduce)))
    scale = picture.size[0] / full[0], picture.size[1] / full[1]
    left, width = left * scale[0], width * scale[0]
    top, height = top * scale[1], height * scale[1]
  box = (left, top, left + width, top + height)
  picture = picture.convert(_mode(shape))
  pixels = np.asarray(picture.resize(shape[1::-1], _BILINEAR, box))
  if rng.random() < 0.5:
    pixels = pixels[:, ::-1]
  return pixels.reshape(shape)


def _open(encoded: bytes) -> Image.Image:
  return Image.open(io.BytesIO(encoded))


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
