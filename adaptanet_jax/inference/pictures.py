# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Converts a user's pictures to a network's input, as in evaluation.

H = height, W = width, C = colours.
"""

from collections.abc import Iterable
import os
import pathlib
from typing import Any

import jax
import numpy as np
from PIL import Image

from adaptanet_jax.data import images
from adaptanet_jax.errors import UsageError, first_line

# The path of a file, an image, or `uint8[H, W, C]`.
Picture = str | os.PathLike | Image.Image | np.ndarray


def as_array(values: Any) -> np.ndarray | jax.Array:
  """Returns an array; raises UsageError if the values do not make up one."""
  if isinstance(values, jax.Array):  # It may be traced.
    return values
  try:
    return np.asarray(values)
  except (ValueError, TypeError) as error:
    raise UsageError(
        f'What should be an array is not one ({first_line(error)}); expected '
        'lists of the same length, or an array.'
    ) from error


def to_batch(
    pictures: Picture | Iterable[Picture],
    shape: tuple[int, int, int],
    shorter_side: int,
) -> np.ndarray:
  """Converts one or several pictures to a batch for a network.

  Args:
    pictures: one or several; see `to_pixels`.
    shape: see `to_pixels`.
    shorter_side: see `to_pixels`.

  Returns:
    `uint8[B, H, W, C]`.

  Raises:
    UsageError: a picture cannot be read, or is not a picture.
  """
  if isinstance(pictures, Picture):
    pictures = [pictures]
  try:
    found = list(pictures)
  except TypeError as error:
    raise UsageError(
        f'pictures = {pictures!r}; expected a picture, or several: paths of '
        'files, PIL images or uint8 arrays.'
    ) from error
  pixels = [to_pixels(picture, shape, shorter_side) for picture in found]
  return np.stack(pixels) if pixels else np.zeros((0, *shape), np.uint8)


def to_pixels(
    picture: Picture, shape: tuple[int, int, int], shorter_side: int
) -> np.ndarray:
  """Scales a picture and crops its centre; see `images.resize`.

  Args:
    picture: a picture of any size and colours. A large JPEG is decoded at a
      part of its size, as in evaluation; an open image is taken as it is.
    shape: `(H, W, C)` of the result, H = W.
    shorter_side: what the shorter side is scaled to before cropping; 0: H.

  Returns:
    `uint8[H, W, C]`.

  Raises:
    UsageError: the picture cannot be read, or is not a picture.
  """
  if isinstance(picture, np.ndarray):
    picture = _image_of(picture)
  if not isinstance(picture, str | os.PathLike | Image.Image):
    raise UsageError(
        f'A picture is a {type(picture).__name__}; expected the path of a '
        'file, a PIL image or a uint8 array.'
    )
  name = 'A picture' if isinstance(picture, Image.Image) else str(picture)
  try:
    image = (
        picture
        if isinstance(picture, Image.Image)
        else pathlib.Path(picture).read_bytes()
    )
    return images.decode(image, shape, shorter_side)
  except (OSError, ValueError) as error:
    reason = getattr(error, 'strerror', None) or str(error)
    raise UsageError(
        f'{name}: {reason}. Expected a picture, such as a JPEG or a PNG.'
    ) from error


def _image_of(pixels: np.ndarray) -> Image.Image:
  if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (
      1, 3
  ):
    raise UsageError(
        f'A picture is {pixels.dtype}{list(pixels.shape)}; expected '
        'uint8[H, W, C], C 1 or 3.'
    )
  return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
