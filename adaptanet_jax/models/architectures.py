# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Shapes of networks: how deep and how wide their stages are."""

import dataclasses

from adaptanet_jax.models.subnet import NUM_STAGES


@dataclasses.dataclass(frozen=True)
class Architecture:
  """Shape of a network: one row of `ARCHITECTURES`.

  Attributes:
    depths: blocks of each stage.
    planes: inner channels of the blocks of each stage, at full width.
    stem_channels: channels of the stem, at full width.
  """

  depths: tuple[int, ...]
  planes: tuple[int, ...]
  stem_channels: int


def _architecture(depths: tuple[int, ...], planes: int) -> Architecture:
  return Architecture(
      depths, tuple(planes * 2**n for n in range(NUM_STAGES)), planes
  )


# Names give the layers, 3 * blocks + 2, and the planes of stage 1 if not 64.
ARCHITECTURES = {
    'resnet152': _architecture((3, 8, 36, 3), 64),
    'resnet101': _architecture((3, 4, 23, 3), 64),
    'resnet50': _architecture((3, 4, 6, 3), 64),
    'resnet26': _architecture((2, 2, 2, 2), 64),
    'resnet26x32': _architecture((2, 2, 2, 2), 32),
    'resnet26x16': _architecture((2, 2, 2, 2), 16),
    'resnet26x8': _architecture((2, 2, 2, 2), 8),
}
