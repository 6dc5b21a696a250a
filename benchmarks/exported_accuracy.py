# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checks that an exported network is as accurate as the run, to the image.

  python -m benchmarks.exported_accuracy --workdir=/tmp/digits --exported=DIR

Runs every subnet of an export on the whole test split, and compares the number
of correct images with `subnets.csv`. A row has the subnets with the same number
of deltas, and the largest difference in correct images.
"""

from concurrent import futures
import functools
import sys

from absl import app, flags

import adaptanet_jax
from adaptanet_jax import machine
from adaptanet_jax.export import runtime
from adaptanet_jax.models.subnet import NUM_STAGES
from benchmarks import harness

_WORKDIR = flags.DEFINE_string('workdir', None, 'Of the run.', required=True)
_EXPORTED = flags.DEFINE_string('exported', None, 'Of its net.', required=True)
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 500, 'Images at a time.')


def _difference(net, images, labels, name):
  """Returns correct images of the export less those of the run."""
  right = 0
  for start in range(0, len(images), _BATCH_SIZE.value):
    part = slice(start, start + _BATCH_SIZE.value)
    right += int((net(images[part], name).argmax(-1) == labels[part]).sum())
  return right - round(net.table[name]['top1'] * len(images))


def main(argv):
  """Prints one table; exits with 1 if any subnet differs."""
  del argv
  # Subnets side by side, one thread each, so that no thread waits for another.
  net = runtime.load(
      _EXPORTED.value, sess_options=harness.session_options(1)
  )
  pool = futures.ThreadPoolExecutor(machine.num_cores())
  images, labels = adaptanet_jax.examples(_WORKDIR.value)
  report = harness.Report(
      'exported_accuracy',
      f'the ONNX file against subnets.csv, {len(images):,} test images',
      ['deltas', 'subnets', 'that differ', 'images at most'],
  )
  failed = False
  for deltas in range(NUM_STAGES + 1):
    names = [name for name in net.subnets if name.count('d') == deltas]
    compare = functools.partial(_difference, net, images, labels)
    found = dict(zip(names, pool.map(compare, names)))
    differing = {name: by for name, by in found.items() if by}
    most = max(map(abs, found.values()), default=0)
    report.add(
        str(deltas), [len(names), len(differing), most], differing=differing
    )
    failed |= bool(differing)
  report.done()
  sys.exit(failed)


if __name__ == '__main__':
  app.run(main)
