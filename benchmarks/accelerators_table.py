# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Prints what `benchmarks.accelerators` has kept, as Markdown tables:

  python -m benchmarks.accelerators_table [results/accelerators/v5e-4x4 ...]
"""

import glob
import json
import os
import sys
from typing import Any

from adaptanet_jax.models.subnet import WIDTH_CHOICES

_RESULTS = os.path.join('results', 'accelerators')
_WIDEST, _NARROWEST = str(WIDTH_CHOICES[0]), str(WIDTH_CHOICES[-1])
_HEAD = (
    'phase', 'images a chip', 'CPU s to compile', 'GB a chip', 'of it code, MB',
    'FLOPs over 2 MAdds', 'ms a step', 'TFLOP/s',
    f'x{_NARROWEST} over x{_WIDEST}, stages 1 to 4',
)  # fmt: skip


def read(folder):
  """Returns the kept figures of whole steps, by pixels and then by phase.

  Of a phase with several numbers of images per chip the configuration's share
  counts: the others are in the file's name, which is longer.
  """
  found: dict[int, dict[str, Any]] = {}
  for path in sorted(glob.glob(os.path.join(folder, '*.json')), key=len):
    with open(path, encoding='utf-8') as file:
      row = json.load(file)
    # Files from before one stage could be compiled alone do not say so.
    if row.get('stages', 'all') == 'all':
      found.setdefault(row['pixels'], {}).setdefault(row['phase'], row)
  return found


def _narrow_over_wide(row):
  """Returns for each stage the cycles of its narrowest width over its widest.

  Forward and backward count together; stages without a switch are left out.
  """
  cycles: dict[int, list[float]] = {}
  for switch in row.get('estimate', {}).get('stages', ()):
    both = cycles.setdefault(switch['stage'], [0, 0])
    both[0] += switch['cycles'][_NARROWEST]
    both[1] += switch['cycles'][_WIDEST]
  return {stage: narrow / wide for stage, (narrow, wide) in cycles.items()}


def _cells(row):
  memory, estimate = row['memory_bytes'], row.get('estimate')
  cells = [
      row['phase'],
      str(row['images_per_chip']),
      f"{row['compile_seconds']['of_all_cores']:.0f}",
      f"{memory['all'] / 1e9:.2f}",
      f"{memory['code'] / 1e6:.0f}",
      f"{row['flops_over_madds']:.2f}",
  ]
  if not estimate:
    return cells
  ratios = _narrow_over_wide(row)
  return [
      *cells,
      f"{estimate['milliseconds']:.2f}",
      f"{estimate['tflops']:.1f}",
      ', '.join(f'{ratio:.2f}' for ratio in ratios.values()),
  ]


def main(folders):
  """Prints a table for each topology and size of images."""
  for folder in folders or sorted(glob.glob(os.path.join(_RESULTS, '*'))):
    for pixels, rows in sorted(read(folder).items()):
      first = next(iter(rows.values()))
      versions = first['compiled_on']['versions']
      compiler = (
          'libtpu' if 'estimate' in first else 'nvidia-cuda-nvcc-cu12'
      )
      print(
          f"\n{first['architecture']}, {pixels} px, {first['chips']} x "
          f"{first['device']} ({first['topology']}); {first['date']}, jax "
          f"{versions['jax']}, {compiler} {versions[compiler]}\n"
      )
      cells = [_cells(row) for _, row in sorted(rows.items())]
      width = max(map(len, cells))
      for row in (_HEAD[:width], ('---',) * width, *cells):
        print(f"| {' | '.join(row)} |")


if __name__ == '__main__':
  main(sys.argv[1:])
