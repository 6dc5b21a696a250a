# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of benchmarks.harness, and that a benchmark runs."""

import json
import os
import subprocess
import sys
import tempfile
from unittest import mock

from absl import flags
from absl.testing import absltest, flagsaver, parameterized
import jax.numpy as jnp
import numpy as np

from benchmarks import harness


class HarnessTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    flags.FLAGS.mark_as_parsed()
    self.path = os.path.join(
        self.enterContext(tempfile.TemporaryDirectory()), 'new', 'found.json'
    )
    self.enterContext(flagsaver.flagsaver(rounds=2, out=self.path))

  def _found(self):
    with open(self.path, encoding='utf-8') as file:
      return json.load(file)

  def test_a_ratio_is_taken_round_by_round(self):
    # The reference slows down, so the ratios are 2, 1 and .5.
    ratio = harness.Ratio.of(np.array([2.0, 2.0, 2.0]), np.array([1, 2, 4]))
    self.assertEqual((ratio.median, ratio.spread), (1.0, 1.5))
    self.assertEqual(str(ratio), '1.00 ~150%')

  @parameterized.parameters(
      (1e-3, None),
      (2e-3, 'b and a differ by 2.0e-03'),
      (float('nan'), 'b and a differ by nan'),
  )
  def test_what_differs_is_not_compared(self, difference, message):
    outputs = {
        'a': jnp.array([0.5, -1.0]),
        'b': np.array([0.5 + 0.999 * difference, -1.0]),
    }
    if message is None:
      self.assertIsNone(harness.check_same('it', outputs))
    else:
      with self.assertRaisesRegex(SystemExit, f'it: {message}.*not compared'):
        harness.check_same('it', outputs)

  def test_runs_take_turns(self):
    calls = []
    runs = {name: lambda name=name: calls.append(name) for name in 'ab'}
    times = harness.time_in_turns(runs)
    self.assertEqual({k: v.shape for k, v in times.items()},
                     {'a': (2,), 'b': (2,)})
    # One turn to choose the number of runs, then two rounds.
    turns = ''.join(calls)
    changes = [x for n, x in enumerate(turns) if n == 0 or x != turns[n - 1]]
    self.assertEqual(changes, list('ababab'))

  def test_a_report_is_written_with_what_it_was_measured_on(self):
    report = harness.Report('name', 'about it', ['what', 'ms', 'ratio', 'x'])
    ratio = harness.Ratio(0.5, 0.1)
    report.add('first', [1.25, ratio, None], more=[1, 2])
    # It does not replace an older report until it has all rows.
    self.assertFalse(os.path.exists(self.path))
    report.done()
    found = self._found()
    self.assertEqual(
        found['rows'],
        [{'what': 'first', 'ms': 1.25, 'x': None, 'more': [1, 2],
          'ratio': {'median': 0.5, 'spread': 0.1}}],
    )
    self.assertEqual(found['device']['platform'], 'cpu')
    self.assertIn('jax', found['device']['versions'])
    self.assertIn('-m benchmarks.name', found['command'])

  def test_what_other_flags_have_measured_is_not_replaced(self):
    for argv, kept in (
        (['name', '--side=32', '--rounds=3'], 1),
        (['name', '--rounds=3', '--side=32', '--out=a file'], 2),
        (['name', '--out', 'file', '--rounds=3', '--side=32'], 3),
        (['name', '--rounds=3'], None),
    ):
      with mock.patch.object(sys, 'argv', argv):
        report = harness.Report('name', 'about it', ['what'])
        report.add('row', [], place=kept)
        if kept:
          report.done()
          self.assertEqual(self._found()['rows'][0]['place'], kept)
        else:
          with self.assertRaisesRegex(SystemExit, 'side=32.*partial; expected'):
            report.done()
    self.assertEqual(self._found()['rows'][0]['place'], 3)
    self.assertTrue(os.path.exists(f'{self.path}.partial'))


_BFLOAT16 = """
from absl import app
from adaptanet_jax import platforms
platforms.auto_dtype = lambda: 'bfloat16'
from benchmarks import convolution
convolution._LAYERS = ((16, 32, 1),)
app.run(convolution.main)
"""


class BenchmarksTest(parameterized.TestCase):

  @parameterized.parameters(
      (
          'subnet_latency',
          ('--subnet=0.25-0.25d-0.25-0.25', '--side=32', '--batch_size=1',
           '--peer=exported'),
          {'subnet': '0.25-0.25d-0.25-0.25 32px b1', 'eager': None},
      ),
      (
          'all_subnets',
          ('--batch_size=2',),
          {'subnets': '256', 'differing_predictions': 0.0},
      ),
      (
          'train_step',
          ('--phase=teacher', '--batch_size=4'),
          {'phase': 'teacher', 'subnets': 1, 'peer/ours': None},
      ),
  )
  def test_it_runs(self, name, arguments, expected):
    path = os.path.join(
        self.enterContext(tempfile.TemporaryDirectory()), 'found.json'
    )
    done = subprocess.run(
        [
            *(sys.executable, '-m', f'benchmarks.{name}', '--rounds=1'),
            *('--architecture=resnet26x8', f'--out={path}', *arguments),
        ],
        env=os.environ | {
            'XLA_FLAGS': '--xla_backend_optimization_level=0',
            'JAX_NUM_CPU_DEVICES': '2',
        },
        capture_output=True,
        text=True,
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    with open(path, encoding='utf-8') as file:
      (row,) = json.load(file)['rows']
    self.assertContainsSubset(expected, row)
    label = next(iter(expected.values()))
    self.assertIn(f'\n{label}  ', done.stdout)

  def test_convolutions_are_compared_in_the_type_of_an_accelerator(self):
    path = os.path.join(
        self.enterContext(tempfile.TemporaryDirectory()), 'found.json'
    )
    done = subprocess.run(
        [
            *(sys.executable, '-c', _BFLOAT16),
            *('--rounds=1', '--batch_size=8', f'--out={path}'),
        ],
        capture_output=True,
        text=True,
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    with open(path, encoding='utf-8') as file:
      self.assertLen(json.load(file)['rows'], 5)

  @parameterized.parameters(
      ('digits.py:smoke', 'v6e:2x2', 'expected h100, or a slice of v5e'),
      # Its work would be counted wrongly.
      ('baselines.py:usnet,digits', 'h100', 'a configuration of AdaptaNet'),
  )
  def test_what_cannot_be_estimated_is_refused(self, name, topology, message):
    done = subprocess.run(
        [
            *(sys.executable, '-m', 'benchmarks.accelerators'),
            *(f'--config=configs/{name}', f'--topology={topology}'),
            '--phase=baseline',
        ],
        capture_output=True,
        text=True,
    )
    self.assertEqual(done.returncode, 1)
    self.assertIn(message, done.stderr)


if __name__ == '__main__':
  absltest.main()
