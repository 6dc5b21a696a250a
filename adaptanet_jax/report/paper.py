# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The paper's figures, for comparison with a run's (Tables I, II and III).

ResNet-50 throughout; accuracies in percent, MAdds in millions.
"""

import re

from adaptanet_jax.models.subnet import MIXED, WIDTHS

RANDOM = 'runtime-random'
_ROWS = (*(f'x{rho}' for rho in WIDTHS), *map(str, MIXED), RANDOM)


def _by_network(text: str) -> dict[str, dict[str, str]]:
  """Parses lines of a network's name and a cell per row of `_ROWS`."""
  lines = (line.split() for line in text.strip().splitlines())
  return {
      network: {
          row: cell.replace('±', ' ± ')
          for row, cell in zip(_ROWS, cells, strict=True)
      }
      for network, *cells in lines
  }


# Supernet and delta with GroupNorm; the teacher is in `TEACHER`.
TABLE_II = {
    'CIFAR-100': _by_network('''
        supernet     72.20 70.75 67.80 61.80 64.20 64.00 63.90 64.10 67.9±1.8
        delta        66.90 65.90 62.10 55.21 58.80 58.30 59.50 59.60 61.2±2.7
        usnet        71.90 71.60 70.63 68.60 66.70 66.90 65.60 65.90 66.6±2.6
        dsnet        72.80 72.50 72.00 70.50 68.30 68.80 59.30 63.50 67.5±4.8
        usnet_random 69.80 67.60 66.30 67.20 63.00 63.60 64.30 64.80 65.8±2.3
        dsnet_random 66.40 65.30 64.40 62.60 62.50 63.60 62.40 64.20 63.9±1.4
    '''),
    'ImageNet': _by_network('''
        supernet     76.20 74.10 64.10 57.40 62.20 61.30 61.60 62.10 63.8±3.6
        delta        61.40 58.20 53.80 48.70 52.60 51.20 51.60 51.90 53.2±3.8
        usnet        75.60 74.00 71.20 64.20 56.60 50.20 49.60 52.80 63.8±10.9
        dsnet        73.60 71.50 68.30 66.50 62.80 61.10 61.60 59.80 61.9±5.1
        usnet_random 62.00 38.10 37.90 60.60 33.90 49.10 51.40 20.20 48.1±14.2
        dsnet_random 70.10 69.30 65.10 63.90 61.30 64.10 62.00 64.30 63.2±3.2
    '''),
}
TEACHER = {'CIFAR-100': '78.56', 'ImageNet': '80.85'}

# Milliseconds, watts and millijoules on an RTX 4090, batch 1, 224 pixels.
TABLE_I = {
    'batch_norm': (4.77, 72.47, 345.68),
    'layer_norm': (22.22, 83.52, 1855.81),
    'group_norm': (5.85, 74.21, 434.12),
    'teacher': (4.38, 76.42, 334.72),
    'delta': (2.38, 72.16, 171.74),
}

# Top-1 and mean MAdds by data set, scope and policy.
TABLE_III: dict[str, dict[str, dict[str, tuple[float, float]]]] = {
    'CIFAR-100': {
        'joint': {'pull_up': (63.3, 445.1), 'pull_down': (65.0, 595.1)},
        'width': {'pull_up': (69.8, 663.6), 'pull_down': (68.2, 605.3)},
        'depth': {'pull_up': (63.6, 331.8), 'pull_down': (61.5, 288.7)},
    },
    'ImageNet': {
        'joint': {'pull_up': (59.1, 1623.2), 'pull_down': (57.8, 1584.7)},
        'width': {'pull_up': (68.2, 2208.3), 'pull_down': (69.4, 2168.9)},
        'depth': {'pull_up': (55.8, 1076.5), 'pull_down': (56.9, 994.3)},
    },
}


def data_set_for(name: str) -> str:
  """Returns the paper's data set to compare a run's data set with.

  That is CIFAR-100 for sets that the paper does not have.

  Args:
    name: the set's, in which TFDS allows a configuration and a version.
  """
  own = re.split('[:/]', name)[0]
  return 'ImageNet' if own == 'imagenet2012' else 'CIFAR-100'
