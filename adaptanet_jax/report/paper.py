# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The paper's own figures, to stand beside a run's (Tables I, II and III).

ResNet-50 throughout; accuracies in percent, MAdds in millions.
"""

from typing import Any

from adaptanet_jax.models.subnet import MIXED, WIDTHS

# The subnets of Table II.
_SUBNETS = (*(f'x{rho}' for rho in WIDTHS), *map(str, MIXED))


def _rows(*top1: float, random: str) -> dict[str, str]:
  cells = [f'{value:.2f}' for value in top1]
  return dict(zip(_SUBNETS, cells, strict=True)) | {'runtime-random': random}


# Cells by data set, network and row; ours are with GroupNorm.
TABLE_II: dict[str, dict[str, Any]] = {
    'CIFAR-100': {
        'teacher': '78.56',
        'supernet': _rows(
            *(72.2, 70.75, 67.8, 61.8, 64.2, 64.0, 63.9, 64.1),
            random='67.9 ± 1.8',
        ),
        'delta': _rows(
            *(66.9, 65.9, 62.1, 55.21, 58.8, 58.3, 59.5, 59.6),
            random='61.2 ± 2.7',
        ),
        'usnet': _rows(
            *(71.9, 71.6, 70.63, 68.6, 66.7, 66.9, 65.6, 65.9),
            random='66.6 ± 2.6',
        ),
        'dsnet': _rows(
            *(72.8, 72.5, 72.0, 70.5, 68.3, 68.8, 59.3, 63.5),
            random='67.5 ± 4.8',
        ),
        'usnet_random': _rows(
            *(69.8, 67.6, 66.3, 67.2, 63.0, 63.6, 64.3, 64.8),
            random='65.8 ± 2.3',
        ),
        'dsnet_random': _rows(
            *(66.4, 65.3, 64.4, 62.6, 62.5, 63.6, 62.4, 64.2),
            random='63.9 ± 1.4',
        ),
    },
    'ImageNet': {
        'teacher': '80.85',
        'supernet': _rows(
            *(76.2, 74.1, 64.1, 57.4, 62.2, 61.3, 61.6, 62.1),
            random='63.8 ± 3.6',
        ),
        'delta': _rows(
            *(61.4, 58.2, 53.8, 48.7, 52.6, 51.2, 51.6, 51.9),
            random='53.2 ± 3.8',
        ),
        'usnet': _rows(
            *(75.6, 74.0, 71.2, 64.2, 56.6, 50.2, 49.6, 52.8),
            random='63.8 ± 10.9',
        ),
        'dsnet': _rows(
            *(73.6, 71.5, 68.3, 66.5, 62.8, 61.1, 61.6, 59.8),
            random='61.9 ± 5.1',
        ),
        'usnet_random': _rows(
            *(62.0, 38.1, 37.9, 60.6, 33.9, 49.1, 51.4, 20.2),
            random='48.1 ± 14.2',
        ),
        'dsnet_random': _rows(
            *(70.1, 69.3, 65.1, 63.9, 61.3, 64.1, 62.0, 64.3),
            random='63.2 ± 3.2',
        ),
    },
}

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
  """Returns which of the paper's data sets a run's is set beside."""
  return 'ImageNet' if name.startswith('imagenet') else 'CIFAR-100'
