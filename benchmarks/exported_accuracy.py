# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checks that an exported network is as accurate as the run, to the image.

  python -m benchmarks.exported_accuracy --workdir=/tmp/digits --exported=DIR

Runs every subnet of an export on the whole test split, and compares the number
of correct images with `subnets.csv`.
"""

import sys
import time

from absl import app, flags
import numpy as np

import adaptanet_jax
from adaptanet_jax.export import runtime

_WORKDIR = flags.DEFINE_string('workdir', None, 'Of the run.', required=True)
_EXPORTED = flags.DEFINE_string('exported', None, 'Of its net.', required=True)
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 500, 'Images at a time.')


def main(argv):
  """Prints how many subnets differ, and by how much."""
  del argv
  net = runtime.load(_EXPORTED.value)
  images, labels = adaptanet_jax.examples(_WORKDIR.value)
  started, differing = time.perf_counter(), {}
  for number, name in enumerate(net.subnets, start=1):
    right = 0
    for start in range(0, len(images), _BATCH_SIZE.value):
      part = slice(start, start + _BATCH_SIZE.value)
      right += int((net(images[part], name).argmax(-1) == labels[part]).sum())
    expected = round(net.table[name]['top1'] * len(images))
    if right != expected:
      differing[name] = right - expected
    if number % 256 == 0:
      print(f'{number:,} of {len(net.subnets):,}', file=sys.stderr, flush=True)
  print(
      f'{len(net.subnets):,} subnets on {len(images):,} images in '
      f'{time.perf_counter() - started:.0f} s: {len(differing)} differ'
  )
  if differing:
    most = max(np.abs(list(differing.values())))
    print(f'by {most} images at most: {list(differing.items())[:10]}')
    sys.exit(1)


if __name__ == '__main__':
  app.run(main)
