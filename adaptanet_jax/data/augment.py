# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Augmentation on the device, inside the training step: crop and flip.

B = batch, H = height, W = width, C = colours.
"""

import functools

import jax
from jax import lax
import jax.numpy as jnp

from adaptanet_jax.data.images import ON_HOST

AUGMENTATIONS = ('none', 'crop', 'crop_flip', 'resized_crop')
CROP_PADDING = 4


def augment(
    kind: str, rng: jax.Array, images: jax.Array, first: jax.Array
) -> jax.Array:
  """Shifts and mirrors each image by its own random numbers.

  The numbers depend only on the image's place in the global batch, not on how
  the batch is laid out over devices.

  Args:
    kind: one of `AUGMENTATIONS`.
    rng: key of the step.
    images: `uint8[B, H, W, C]`.
    first: place of `images[0]` in the global batch.

  Returns:
    `uint8[B, H, W, C]`; `images` itself if `kind` is 'none' or was applied when
    the images were decoded.
  """
  if kind == 'none' or kind in ON_HOST:
    return images
  places = first + jnp.arange(images.shape[0])
  rngs = jax.vmap(functools.partial(jax.random.fold_in, rng))(places)
  border = (CROP_PADDING, CROP_PADDING)
  padded = jnp.pad(images, ((0, 0), border, border, (0, 0)))
  one = functools.partial(
      _crop_flip, shape=images.shape[1:], flip=kind == 'crop_flip'
  )
  return jax.vmap(one)(rngs, padded)


def _crop_flip(
    rng: jax.Array, image: jax.Array, *, shape: tuple[int, ...], flip: bool
) -> jax.Array:
  crop_rng, flip_rng = jax.random.split(rng)
  top, left = jax.random.randint(crop_rng, (2,), 0, 2 * CROP_PADDING + 1)
  image = lax.dynamic_slice(image, (top, left, 0), shape)
  if not flip:
    return image
  return jnp.where(jax.random.bernoulli(flip_rng), image[:, ::-1], image)
