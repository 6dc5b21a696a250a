# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.analyses.timing: how measured times are used."""

import dataclasses
import itertools
import shutil
import tempfile
import types
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np

from adaptanet_jax.analyses import timing
from adaptanet_jax.evaluation import subnet_table
from adaptanet_jax.models.resnet import ResNet
from adaptanet_jax.models.subnet import Subnet
from configs import common as configs


class MeasureTest(absltest.TestCase):

  def test_a_row_has_the_norm_that_ran(self):
    net = ResNet('resnet26x8', 'cifar', 'gn_ws', 10, (8, 8, 1))
    student = dataclasses.replace(net, delta='conv3x3')
    values = {}
    work = types.SimpleNamespace(
        workdir='/no/such/folder',
        nets=types.SimpleNamespace(teacher=net, student=student),
        config=configs.get_config(),
        results=types.SimpleNamespace(values=values, update=values.update),
    )
    runs = {name: lambda *_: None for name in timing.programs(work)}
    row = {'ms_median': 1.0, 'ms_quiet': 1.0}
    with (
        mock.patch.object(timing, '_runs', return_value=runs),
        mock.patch.object(
            timing.latency, 'measure', lambda runs, **_: [row] * len(runs)
        ),
    ):
      timing.measure_latency(work)
    # Kernels are standardised in advance.
    norms = {row['network']: row['norm'] for row in values['latency']}
    self.assertEqual(norms['supernet x1.0'], 'gn')
    self.assertNotIn('gn_ws', norms.values())


class EstimateTest(parameterized.TestCase):

  def _measure(
      self, milliseconds, *, later=1.0,
      top1=lambda codes: 1.0 - codes.sum(0) / 100.0,
  ):
    """Measures a network whose subnets take `milliseconds(code)`.

    In later passes the machine is slower by the factor `later`.
    """
    net = ResNet('resnet26x8', 'cifar', 'gn', 10, (8, 8, 1))
    student = dataclasses.replace(net, delta='conv3x3')
    workdir = self.enter_context(tempfile.TemporaryDirectory())
    subnet_table.write(workdir, {'top1': top1(np.indices((8,) * 4))})
    values = {}
    work = types.SimpleNamespace(
        workdir=workdir,
        nets=types.SimpleNamespace(teacher=net, student=student),
        config=configs.get_config(),
        results=types.SimpleNamespace(values=values, update=values.update),
    )
    runs = dict.fromkeys(timing.programs(work), lambda: np.zeros(4, int))
    runs['supernet'] = np.asarray
    factors = itertools.chain([1.0], itertools.repeat(later))

    def measure(runs, *, num_runs):
      del num_runs
      factor = next(factors)
      quiet = [factor * milliseconds(np.asarray(run())) for run in runs]
      # Other work makes medians meaningless.
      return [{'ms_quiet': q, 'ms_median': 100 - q} for q in quiet]

    with (
        mock.patch.object(timing, '_runs', return_value=runs),
        mock.patch.object(timing.latency, 'measure', measure),
        mock.patch.object(
            timing.latency, 'measure_energy', return_value={}
        ),
    ):
      timing.measure_latency(work)
    column = subnet_table.read(workdir).get('latency_ms')
    return values['stage_latency'], column

  def test_sums_over_stages_are_checked_on_other_subnets(self):
    # Stage n takes 8 - c ms.
    stages, column = self._measure(lambda code: 32.0 - code.sum())
    self.assertTrue(stages['trusted'])
    self.assertAlmostEqual(stages['median_error'], 0.0)
    self.assertEqual(stages['largest_ms'], 32.0)
    np.testing.assert_allclose(
        column, 32.0 - np.indices((8,) * 4).sum(0)
    )

  def test_sums_that_are_far_off_are_not_trusted(self):
    # What a second narrow stage would save, it does not.
    stages, column = self._measure(lambda code: 32.0 - code.max())
    self.assertGreater(stages['median_error'], timing.MOST_ERROR)
    self.assertFalse(stages['trusted'])
    self.assertIsNone(column)

  def test_a_sum_that_is_no_time_is_not_trusted(self):
    stages, column = self._measure(lambda code: max(1.0, 28.0 - code.sum()))
    self.assertAlmostEqual(stages['median_error'], 0.0)
    self.assertFalse(stages['trusted'])
    self.assertIsNone(column)

  def test_sums_that_are_off_where_it_matters_are_not_trusted(self):
    # Two narrow stages save nothing in the subnets that are accurate.
    stages, column = self._measure(
        lambda code: 40.0
        - code.sum()
        + 20.0 * (code.max() == 1 and code.sum() > 1),
        top1=lambda codes: np.where(
            codes.max(0) <= 1, 0.9 - codes.sum(0) / 100.0, 0.1
        ),
    )
    self.assertLess(stages['median_error'], timing.MOST_ERROR)
    self.assertGreater(stages['front_error'], timing.MOST_ERROR)
    self.assertFalse(stages['trusted'])
    self.assertIsNone(column)

  def test_a_load_that_has_changed_is_taken_off(self):
    stages, column = self._measure(lambda code: 32.0 - code.sum(), later=3.0)
    self.assertNotEmpty(stages['front_ms'])
    np.testing.assert_allclose(column, 32.0 - np.indices((8,) * 4).sum(0))


class AddColumnTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    workdir = tempfile.mkdtemp()
    self.addCleanup(shutil.rmtree, workdir)
    # Subnets of four widths; wider ones are more accurate.
    codes = np.indices((4,) * 4)
    top1 = 1.0 - codes.sum(0) / 20.0 - codes[0] / 1000.0
    subnet_table.write(workdir, {'top1': top1})
    self.work = types.SimpleNamespace(
        workdir=workdir, results=types.SimpleNamespace(values={})
    )

  def _column(self, **stages):
    added = -np.arange(4.0) * np.ones((4, 1))
    self.work.results.values['stage_latency'] = {
        'largest_ms': 20.0,
        'added_ms': added.tolist(),
        'front_ms': {},
        'trusted': True,
    } | stages
    timing.add_column(self.work)
    return subnet_table.read(self.work.workdir).get('latency_ms')

  def test_times_are_added_up_over_stages(self):
    column = self._column()
    self.assertEqual(column[0, 0, 0, 0], 20.0)
    self.assertEqual(column[1, 2, 3, 0], 14.0)

  def test_what_was_timed_as_a_whole_counts(self):
    column = self._column(front_ms={'0.75-0.5-0.25-1.0': 17.5})
    self.assertEqual(column[1, 2, 3, 0], 17.5)
    self.assertEqual(column[1, 2, 3, 1], 13.0)

  def test_times_that_cannot_be_trusted_are_left_out(self):
    self.assertIsNone(self._column(trusted=False))
    self.assertIsNotNone(self._column())

  def test_those_that_look_fastest_for_their_accuracy_are_timed(self):
    top1 = subnet_table.read(self.work.workdir)['top1']
    milliseconds = 20.0 - np.indices((4,) * 4).sum(0).astype(float)
    front = timing._front(top1, milliseconds, {})
    # One for each sum of codes, 0 to 12: the most accurate of equal times.
    self.assertLen(front, 13)
    self.assertEqual([code.sum() for code in front], list(range(12, -1, -1)))
    for code in front:
      self.assertTrue(code[0] == 0 or code[1:].sum() == 9)
    names = [str(Subnet.decode(code)) for code in front]
    rest = timing._front(top1, milliseconds, dict.fromkeys(names[1:], 1.0))
    self.assertLen(rest, 1)
    np.testing.assert_array_equal(rest[0], front[0])

  def test_they_are_timed_until_the_front_has_no_sum_left(self):
    # Some sums are far too low, and another front lies behind them.
    codes = np.indices((4,) * 4)
    true = 20.0 - codes.sum(0).astype(float)
    sums = np.where(codes.max(0) == codes[3], 0.5, 1.0) * true

    def measure(codes):
      return np.array([true[tuple(code)] for code in codes])

    timed = timing._time_front(self.work, sums, measure)
    for name, milliseconds in timed.items():
      sums[tuple(Subnet.parse(name).encode())] = milliseconds
    top1 = subnet_table.read(self.work.workdir)['top1']
    self.assertEmpty(timing._front(top1, sums, timed))

  def test_without_a_table_there_is_no_front(self):
    self.work.workdir += '/elsewhere'
    sums = np.ones((8,) * 4)
    self.assertEmpty(timing._time_front(self.work, sums, self.fail))


if __name__ == '__main__':
  absltest.main()
