# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A section of results.json with figures that are easy to check by hand."""

from adaptanet_jax.models.subnet import MIXED


def figures(top1, *, norm='gn', madds=100):
  """Returns a section whose widths cost 10, 7, 4 and 1 times `madds`."""
  return {
      'uniform': {
          name: {'top1': top1 - n / 10, 'madds': madds * (10 - 3 * n)}
          for n, name in enumerate(('1.0', '0.75', '0.5', '0.25'))
      },
      'mixed': {
          str(s): {'top1': top1 - 0.2, 'madds': 5 * madds} for s in MIXED
      },
      'random': {
          'mean': top1 - 0.15, 'std': 0.01, 'madds_mean': 5 * madds,
      },
      'exact': {
          'mean': top1 - 0.15, 'min': top1 - 0.3, 'max': top1, 'subnets': 256,
      },
      'norm': norm,
      'calibration': None,
      'training': {'steps': 10, 'images': 640, 'seconds': 5.0},
  }
