# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times policies beside fixed subnets, on the examples of a model.

  python -m benchmarks.policies --model=digits [--policy=depth/budget]

Columns: milliseconds of an image, the mean over some examples that run one by
one, in JAX and in the exported graph (ONNX Runtime); milliseconds of a batch of
the same examples in JAX; and per cent of the examples for which JAX and the
graph choose the same subnet. In brackets the time over that of x1.0.
"""

import functools
import pathlib
import tempfile

from absl import app, flags
import numpy as np

import adaptanet_jax
from adaptanet_jax.export import runtime
from adaptanet_jax.models.subnet import LARGEST, UNIFORM, UNIFORM_DELTA
from benchmarks import harness

_MODEL = flags.DEFINE_string('model', 'digits', 'With policies and examples.')
_POLICIES = flags.DEFINE_multi_string('policy', ['depth/budget'], 'Policies.')
_IMAGES = flags.DEFINE_integer('images', 32, 'Examples to run.')
_COLUMNS = ('one, JAX, ms', 'one, ONNX, ms', 'batch, JAX, ms')


def _one_by_one(run, images):
  for n in range(len(images)):
    np.asarray(run(images[n : n + 1]))


def _runs(net, exported, images, subnet, policy):
  """Returns what to time, by column."""

  def run(own, images):
    return own.route(images, policy)[0] if policy else own(images, subnet)

  ours, theirs = (functools.partial(run, own) for own in (net, exported))
  return dict(zip(_COLUMNS, (
      functools.partial(_one_by_one, ours, images),
      functools.partial(_one_by_one, theirs, images),
      lambda: np.asarray(ours(images)),
  ), strict=True))


def _same_subnets(net, exported, images, policy):
  """Returns the share of images for which both choose the same subnet."""
  ours, theirs = (own.route(images, policy)[1] for own in (net, exported))
  return float(np.mean(np.array([*map(str, ours)]) == np.array(theirs)))


def main(argv):
  """Prints one table."""
  del argv
  net = adaptanet_jax.load(_MODEL.value)
  images = adaptanet_jax.examples(_MODEL.value)[0][: _IMAGES.value]
  report = harness.Report(
      'policies',
      f'{net.about.name}, {len(images)} examples',
      ['runs', *_COLUMNS, 'same, %'],
  )
  with tempfile.TemporaryDirectory() as name:
    folder = str(pathlib.Path(name, 'exported'))
    net.export(folder, verify=False)
    exported = runtime.load(folder, sess_options=harness.session_options())
    subnets = (LARGEST, UNIFORM[-1], UNIFORM_DELTA[0], UNIFORM_DELTA[-1])
    rows = dict.fromkeys(map(str, subnets), '')
    rows |= {policy: policy for policy in _POLICIES.value}
    runs = {
        (row, column): run
        for row, policy in rows.items()
        for column, run in _runs(net, exported, images, row, policy).items()
    }
    times = harness.time_in_turns(runs)
    for row, policy in rows.items():
      cells, milliseconds = [], {}
      for column in _COLUMNS:
        per = len(images) if column.startswith('one') else 1
        own = 1e3 * times[row, column] / per
        ratio = harness.Ratio.of(own, 1e3 * times[str(LARGEST), column] / per)
        cells.append(f'{np.median(own):.2f} ({ratio})')
        milliseconds[column] = [round(float(t), 4) for t in own]
      same = None
      if policy:
        same = 100.0 * _same_subnets(net, exported, images, policy)
      report.add(row, [*cells, same], milliseconds=milliseconds)
  report.done()


if __name__ == '__main__':
  app.run(main)
