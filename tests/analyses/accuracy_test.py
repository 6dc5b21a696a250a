# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.analyses.accuracy: what becomes of predictions."""

import tempfile
import types
from unittest import mock

from absl.testing import absltest
import numpy as np

from adaptanet_jax.analyses import accuracy
from adaptanet_jax.evaluation import results, subnet_table
from adaptanet_jax.evaluation.cost import Cost, CostTable
from adaptanet_jax.models.subnet import CHOICES, UNIFORM_DELTA
from adaptanet_jax.training import phases
from configs import digits

# Choice c of stage n costs (c + 1) * 10^n MAdds, n from 0, and the head 5.
_COSTS = CostTable(
    tuple((tuple(Cost((c + 1) * 10**n, c) for c in range(8)),)
          for n in range(4)),
    (Cost(5, 7),),
)
_LABELS = np.array([3, 1, 4, 1])


class AccuracyTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    config = digits.get_config('smoke')
    self.phases = {p.name: p for p in phases.build_phases(config)}
    workdir = self.enter_context(tempfile.TemporaryDirectory())
    found = results.Results(workdir)
    # Phase n took 2^n seconds, so that each sum tells its phases.
    for n, name in enumerate(self.phases):
      found.add_seconds(name, float(2**n))
    net = types.SimpleNamespace(
        norm='gn', delta='conv3x3', choices=CHOICES
    )
    self.work = types.SimpleNamespace(
        config=config,
        workdir=workdir,
        phases=tuple(self.phases),
        results=found,
        dataset=types.SimpleNamespace(
            train=range(100), test=mock.MagicMock(labels=_LABELS)
        ),
        supernet=net,
        nets=types.SimpleNamespace(student=net),
        variables={'student': {}},
    )
    self.work.dataset.test.__len__.return_value = len(_LABELS)
    self.enter_context(
        mock.patch.object(accuracy.cost, 'cost_table', lambda net: _COSTS)
    )

  def _evaluate(self):
    # Subnet n of the first stage's choice c is right on the first c // 2.
    shares = np.arange(8) // 2
    prediction = np.full((8,) * 4 + (4,), 9)
    for choice, share in enumerate(shares):
      prediction[choice, ..., :share] = _LABELS[:share]
    with (
        mock.patch.object(accuracy, 'programs', lambda *_: {'tree': None}),
        mock.patch.object(
            accuracy.common,
            'predict',
            lambda *_, **__: {'prediction': prediction},
        ),
    ):
      accuracy.evaluate(self.work)
    return self.work.results.values

  def test_what_a_network_took_to_train_counts_all_that_it_stands_on(self):
    found = self._evaluate()
    names = list(self.phases)
    own = [n for n in names if not n.startswith('delta') and n != 'gates']
    self.assertLen(own, 6)
    for network, trained in (
        ('supernet', own), ('delta', [n for n in names if n != 'gates'])
    ):
      steps = {name: self.phases[name].num_steps(100) for name in trained}
      self.assertEqual(
          found[network]['training'],
          {
              'steps': sum(steps.values()),
              'images': sum(
                  self.phases[name].settings.batch_size * count
                  for name, count in steps.items()
              ),
              'seconds': sum(2.0 ** names.index(name) for name in trained),
          },
      )

  def test_sections_and_table_agree(self):
    found = self._evaluate()
    self.assertEqual(
        found['supernet']['uniform']['0.25'], {'top1': 0.25, 'madds': 4449}
    )
    self.assertEqual(
        found['delta']['uniform']['0.25'], {'top1': 0.75, 'madds': 8893}
    )
    self.assertEqual(found['supernet']['exact']['max'], 0.25)
    self.assertEqual(found['delta']['exact']['min'], 0.5)
    self.assertEqual(
        {k: found['subnets'][k] for k in ('count', 'mean', 'min', 'max')},
        {'count': 4096, 'mean': 0.375, 'min': 0.0, 'max': 0.75},
    )
    table = subnet_table.read(self.work.workdir)
    self.assertEqual(list(table), ['madds', 'params', 'top1'])
    code = tuple(UNIFORM_DELTA[-1].encode())
    self.assertEqual(
        [column[code].item() for column in table.values()],
        [8893, 4 * 7 + 7, 0.75],
    )

  def test_columns_of_other_analyses_stay_and_own_ones_are_new(self):
    old = np.full((8,) * 4, 0.125)
    subnet_table.write(
        self.work.workdir, {'top1': old, 'expected_top1': old}
    )
    self._evaluate()
    table = subnet_table.read(self.work.workdir)
    self.assertEqual(list(table), ['madds', 'params', 'top1', 'expected_top1'])
    self.assertEqual(table['top1'].max(), 0.75)
    np.testing.assert_array_equal(table['expected_top1'], old)

  def test_each_accuracy_in_training_has_its_subnets_name(self):
    self.work.config.evaluation.every_epoch = True
    prediction = np.full((4, 4), 9)
    for row in range(4):
      prediction[row, : 4 - row] = _LABELS[: 4 - row]
    with (
        mock.patch.object(
            accuracy, 'validation_program', lambda *_: object()
        ),
        mock.patch.object(
            accuracy.common,
            'predict',
            lambda *_: {'prediction': prediction},
        ),
    ):
      for name, mark in (('lock_in', ''), ('delta_lock_in', 'd')):
        validate = accuracy.validator(self.work, self.phases[name])
        self.assertEqual(
            validate({}),
            {
                f'test_top1/{rho}{mark}': top1
                for rho, top1 in (
                    (1.0, 1.0), (0.75, 0.75), (0.5, 0.5), (0.25, 0.25)
                )
            },
        )

  def test_widths_that_share_statistics_are_not_measured_in_training(self):
    self.work.config.evaluation.every_epoch = True
    validated = {}
    for norm in ('gn', 'bn', 'bn_private', 'bn_switchable'):
      self.work.nets.student.norm = norm
      validated[norm] = [
          name
          for name, phase in self.phases.items()
          if accuracy._is_validated(self.work, phase)
      ]
    self.assertEqual(
        validated['gn'], ['teacher', 'lock_in', 'delta_lock_in']
    )
    self.assertEqual(validated['bn'], ['teacher'])
    self.assertEqual(validated['bn_private'], validated['gn'])
    self.assertEqual(validated['bn_switchable'], validated['gn'])


if __name__ == '__main__':
  absltest.main()
