# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.report.comparison."""

import functools
import os
import pathlib
import tempfile

from absl.testing import absltest, parameterized
import numpy as np

from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation import subnet_table
from adaptanet_jax.models.subnet import Subnet
from adaptanet_jax.report import comparison
from adaptanet_jax.workdir import write_json
from configs import common
from tests.report.sections import figures

_DATASET = {'name': 'digits', 'test_examples': 500}


class ComparisonTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enter_context(tempfile.TemporaryDirectory())
    )

  def _workdir(
      self, name, subnets=(), dataset=None, changes=(), **sections
  ):
    path = self.folder / name
    path.mkdir()
    config = common.get_config()
    if 'supernet' not in sections:
      config.baseline.network = next(iter(sections), '')
    config.update_from_flattened_dict(dict(changes))
    write_json(str(path / 'config.json'), config.to_dict())
    values = {'dataset': dataset or _DATASET} | sections
    write_json(str(path / 'results.json'), values)
    if subnets:
      # All other subnets are too expensive for any budget.
      table = {
          'madds': np.full((8,) * 4, 10_000), 'top1': np.full((8,) * 4, 1.0)
      }
      for subnet, madds, top1 in subnets:
        code = tuple(Subnet.parse(subnet).encode())
        table['madds'][code], table['top1'][code] = madds, top1
      subnet_table.write(str(path), table)
    return str(path)

  def _columns(self):
    ours = self._workdir(
        'ours-0',
        subnets=(
            ('1.0-1.0-1.0-1.0', 1000, 0.9),
            ('0.25-0.25-0.25-0.25', 100, 0.6),
            ('0.25d-0.25-0.25-0.25', 50, 0.7),
        ),
        supernet=figures(0.9),
        delta=figures(0.8, madds=50),
    )
    usnet = functools.partial(figures, norm='bn', madds=90)
    self._workdir('usnet-0', usnet=usnet(0.92))
    longer = usnet(0.96)
    longer['training'] |= {'seconds': 8.0}
    self._workdir('usnet-1', changes={'seed': 1}, usnet=longer)
    self._workdir('gn', usnet=figures(0.5))
    return comparison.collect(
        [ours, *comparison.find(f'{self.folder}/*')], _DATASET
    )

  def test_seeds_are_one_column_and_kinds_are_in_order(self):
    columns = self._columns()
    self.assertEqual(
        [(c.title, len(c.sections)) for c in columns],
        [
            ('ours (gn)', 1),
            ('ours, delta (gn)', 1),
            ('USNet (bn)', 2),
            ('USNet (gn)', 1),
        ],
    )
    np.testing.assert_allclose(columns[2].values('x0.5'), [0.72, 0.76])
    np.testing.assert_allclose(
        columns[2].values('runtime-random', 'std'), [0.01] * 2
    )

  @parameterized.parameters(
      # Ours have .9, .8, .7 and .6 at 1000, 700, 400 and 100 MAdds.
      (0, 550, [0.75]),
      (0, 100, [0.6]),
      (0, 5000, [0.9]),
      (0, 99, None),
      # USNet's cost 900 to 90 MAdds; 495 is half-way between 630 and 360.
      (2, 495, [0.77, 0.81]),
  )
  def test_mixtures_of_uniform_widths_by_hand(self, column, madds, expected):
    actual = self._columns()[column].uniform_mixture(madds)
    if expected is None:
      self.assertIsNone(actual)
    else:
      np.testing.assert_allclose(actual, expected)

  @parameterized.parameters(
      (0, 999, [0.6]),  # Subnets with deltas are in another column.
      (1, 999, [0.7]),
      (1, 1000, [0.9]),
      (0, 60, None),
      (2, 1000, None),  # USNet has no table of subnets.
  )
  def test_the_best_subnet_within_a_budget(self, column, madds, expected):
    actual = self._columns()[column].best_subnet(madds)
    self.assertEqual(None if actual is None else list(actual), expected)

  def test_budgets_are_those_of_all_uniform_subnets(self):
    self.assertEqual(
        comparison.budgets(self._columns()),
        [1000, 900, 700, 630, 500, 400, 360, 350, 200, 100, 90, 50],
    )

  def test_what_differs_in_more_than_the_seed_is_another_column(self):
    ours = self._workdir('ours', supernet=figures(0.9))
    for name, changes in (
        ('ieb-0', {}),
        ('ib-0', {'baseline.ensemble': 'ib'}),
        ('ib-1', {'baseline.ensemble': 'ib', 'seed': 1}),
        # A setting that does not affect training.
        ('ieb-1', {'seed': 1, 'evaluation.batch_size': 8}),
        # Deltas are trained after the widths, which stay the same.
        ('ours-1', {'seed': 1, 'delta.kind': 'separable'}),
    ):
      section = 'supernet' if name == 'ours-1' else 'dsnet'
      self._workdir(name, changes=changes, **{section: figures(0.9)})
    columns = comparison.collect(
        [ours, *comparison.find(f'{self.folder}/*')], _DATASET
    )
    self.assertEqual(
        [(c.title, sorted(c.seeds)) for c in columns],
        [
            ('ours (gn)', [0, 1]),
            ('DSNet (gn)', [0, 1]),
            ('DSNet (gn, baseline.ensemble=ieb)', [0, 1]),
        ],
    )

  def test_a_run_that_was_measured_before_it_was_done_stands_alone(self):
    ours = self._workdir('ours-0', supernet=figures(0.9))
    early = figures(0.5)
    early['training'] |= {'steps': 7}
    self._workdir('ours-1', changes={'seed': 1}, supernet=early)
    columns = comparison.collect(
        [ours, *comparison.find(f'{self.folder}/*')], _DATASET
    )
    self.assertEqual(
        [(c.title, c.seeds) for c in columns],
        [('ours (gn)', [0]), ('ours (gn, steps=7)', [1])],
    )

  def test_training_is_the_mean_over_seeds(self):
    *_, training, _ = comparison.tables(self._columns(), _DATASET)
    self.assertEqual(
        training.rows[2], ['USNet (bn)', '2', '10', '640', '6', '']
    )

  def test_batch_statistics_and_a_joint_phase_make_other_columns(self):
    calibrated = [figures(0.9, norm='bn') for _ in range(2)]
    for section, name in zip(calibrated, ('subnet', 'none')):
      section['calibration'] = name
    joint = {'joint.epochs': 1.0}
    workdirs = [
        self._workdir('first', usnet=calibrated[0]),
        self._workdir('second', changes={'seed': 1}, usnet=calibrated[1]),
        self._workdir('ours', supernet=figures(0.9)),
        self._workdir('again', changes=joint, supernet=figures(0.9)),
        # Deltas train before it, and so decide what it trains.
        self._workdir(
            'other',
            changes=joint | {'delta.kind': 'separable'},
            supernet=figures(0.9),
        ),
    ]
    columns = comparison.collect(workdirs, _DATASET)
    self.assertEmpty([path for c in columns for path in c.passed_over])
    self.assertEqual(
        [(c.network, c.differs) for c in columns],
        [
            ('supernet', ()),
            ('supernet', ('delta.kind=separable', 'joint.epochs=1.0')),
            ('supernet', ('joint.epochs=1.0',)),
            ('usnet', ()),
            ('usnet', ('evaluation.calibration=none',)),
        ],
    )

  def test_of_the_same_network_and_seed_the_first_is_taken(self):
    ours = self._workdir('ours', supernet=figures(0.9))
    copy = self._workdir('copy', supernet=figures(0.8))
    (column,) = comparison.collect([ours, copy], _DATASET)
    np.testing.assert_array_equal(column.values('x1.0'), [0.9])
    self.assertEqual(column.passed_over, [os.path.realpath(copy)])

  def test_of_a_run_that_is_left_out_nothing_counts(self):
    ours = self._workdir('ours', supernet=figures(0.9))
    torn = self._workdir('torn', changes={'seed': 1}, supernet=figures(0.8))
    (pathlib.Path(torn) / 'subnets.csv').write_text('subnet,top1\n1.0,')
    problems = []
    (column,) = comparison.collect([torn, ours], _DATASET, problems)
    self.assertLen(problems, 1)
    self.assertEqual(column.seeds, [0])
    self.assertEqual(column.sections, [figures(0.9)])
    np.testing.assert_array_equal(column.values('x1.0'), [0.9])
    self.assertLen(column.subnets, 1)

  def test_without_ours_there_is_no_table_of_claims(self):
    workdir = self._workdir('usnet-0', usnet=figures(0.9))
    other = self._workdir('usnet-1', changes={'seed': 1}, usnet=figures(0.9))
    columns = comparison.collect([workdir, other], _DATASET)
    titles = [t.title for t in comparison.tables(columns, _DATASET)]
    self.assertEqual(
        titles, ['Table II, all networks', 'At equal MAdds', 'Training']
    )

  def test_nothing_to_compare_gives_no_columns(self):
    self.assertEqual(comparison.find(''), [])
    self.assertEqual(comparison.collect([], _DATASET), [])

  def test_a_workdir_named_twice_counts_once(self):
    workdir = self._workdir('ours', supernet=figures(0.9))
    found = comparison.find(f'{workdir}, {self.folder}/*')
    self.assertEqual(found, [os.path.realpath(workdir)])
    (column,) = comparison.collect([workdir, *found], _DATASET)
    self.assertLen(column.sections, 1)

  def test_what_names_no_workdir_is_refused(self):
    with self.assertRaisesRegex(UsageError, "'/nowhere/.', but there is no re"):
      comparison.find('/nowhere/*')

  def test_what_an_older_version_measured_is_refused(self):
    section = figures(0.9)
    del section['norm'], section['training']
    ours = self._workdir('ours', supernet=figures(0.9))
    old = self._workdir('old', supernet=section)
    with self.assertRaisesRegex(UsageError, 'old was measured by an older'):
      comparison.collect([ours, old], _DATASET)

  def test_other_data_are_refused(self):
    ours = self._workdir('ours', supernet=figures(0.9))
    other = self._workdir(
        'other', dataset={'name': 'cifar100'}, usnet=figures(0.9)
    )
    with self.assertRaisesRegex(UsageError, "other has other data.*'cifar100'"):
      comparison.collect([ours, other], _DATASET)


if __name__ == '__main__':
  absltest.main()
