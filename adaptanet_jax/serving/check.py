# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether a menu gives numbers, and the same ones in every batch."""

from collections.abc import Sequence

import numpy as np

from adaptanet_jax.errors import UsageError
from adaptanet_jax.serving.controller import Entry
from adaptanet_jax.serving.engine import Engine

# How far an image's logits alone may be from those in a batch, as a share of
# the largest: this, or so many steps of the type that computes them if more.
_TOLERANCE, _TOLERANCE_STEPS = 1e-3, 8


def fixed_images(engine: Engine, count: int) -> np.ndarray:
  """Returns always the same images for a network, `uint8[count, H, W, C]`."""
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (count, *engine.image_shape), np.uint8)


def check(engine: Engine, entries: Sequence[Entry], size: int) -> None:
  """Runs every entry of a menu on a batch, and on its first image alone.

  Alone, a policy may take an image another way.

  Args:
    engine: runs the entries.
    entries: entries of the menu.
    size: number of images in the batch.

  Raises:
    UsageError: logits are not finite, or an image's differ in a batch.
  """
  images = fixed_images(engine, size)
  tolerance = max(_TOLERANCE, _TOLERANCE_STEPS * engine.precision)
  for entry in entries:
    together, _ = engine.run(images, entry.name)
    alone, _ = engine.run(images[:1], entry.name)
    if not (np.isfinite(together).all() and np.isfinite(alone).all()):
      raise UsageError(
          f'{entry.name} gives numbers that are not finite; expected a model '
          'whose weights are.'
      )
    largest = np.abs(together).max() or 1.0  # All may be zero.
    difference = np.abs(together[:1] - alone).max() / largest
    if difference > tolerance and not entry.policy:
      raise UsageError(
          f'{entry.name} gives an image other logits in a batch of {size} than '
          f'alone, by {difference:.1e} of the largest; expected at most '
          f'{tolerance:.1e}. A smaller --max_batch may help.'
      )
