# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.analyses.timing: how measured times are used."""

import dataclasses
import shutil
import tempfile
import types
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np

from adaptanet_jax.analyses import timing
from adaptanet_jax.evaluation import subnet_table
from adaptanet_jax.models.resnet import ResNet
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
    self.assertIsNotNone(self._column())
    self.assertIsNone(self._column(trusted=False))

  def test_those_that_look_fastest_for_their_accuracy_are_timed(self):
    milliseconds = 20.0 - np.indices((4,) * 4).sum(0).astype(float)
    front = timing._front(self.work, milliseconds)
    # One for each sum of codes, 0 to 12: the most accurate of equal times.
    self.assertLen(front, 13)
    self.assertEqual([code.sum() for code in front], list(range(12, -1, -1)))
    for code in front:
      self.assertTrue(code[0] == 0 or code[1:].sum() == 9)

  def test_without_a_table_there_is_no_front(self):
    self.work.workdir += '/elsewhere'
    self.assertEmpty(timing._front(self.work, np.zeros((8,) * 4)))


if __name__ == '__main__':
  absltest.main()
