# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.report.tables."""

import re

from absl.testing import absltest, parameterized
import numpy as np

from adaptanet_jax.evaluation import budget
from adaptanet_jax.report import paper, tables
from adaptanet_jax.training.baseline_methods import NETWORKS


def _values():
  return {
      'dataset': {'name': 'digits', 'test_examples': 500},
      'teacher': {'top1': 0.984, 'madds': 12_345_678},
      'supernet': {
          'uniform': {
              '1.0': {'top1': 0.98, 'madds': 12_000_000},
              '0.25': {'top1': 0.9, 'madds': 1_260_000},
          },
          'mixed': {'0.25-1.0-1.0-0.25': {'top1': 0.95, 'madds': 6_540_000}},
          'random': {
              'mean': 0.9321,
              'std': 0.0123,
              'passes': 10,
              'madds_mean': 5_510_000,
          },
          'exact': {'mean': 0.9333, 'min': 0.8888, 'max': 0.9777,
                    'subnets': 256},
      },
  }


class TableTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.table = tables.Table(
        'A <title>', ['name', 'a, %', 'b', 'paper'],
        [['first', '1.00 ± 0.50', '', '3'], ['2nd', '12.00', '4', '']],
        note='Say & mean.',
        num_paper=1,
    )

  def test_text_is_aligned_and_leaves_the_paper_out(self):
    self.assertEqual(
        self.table.text().splitlines(),
        [
            'A <title>',
            'name           a, %  b',
            '-----  ------------  -',
            'first  1.00 +- 0.50   ',
            '2nd           12.00  4',
        ],
    )

  def test_text_of_the_first_columns(self):
    lines = self.table.text(num_columns=2).splitlines()
    self.assertEqual(lines[-1], '2nd           12.00')

  def test_html_has_it_all(self):
    text = self.table.html(level=3)
    self.assertStartsWith(text, '<h3>A &lt;title&gt;</h3>')
    self.assertEndsWith(text, '<p class="quiet">Say &amp; mean.</p>')
    self.assertIn('<th>a,&nbsp;%</th><th>b</th><th class=paper>paper', text)
    self.assertIn('<td>1.00 ± 0.50</td><td></td><td class=paper>3</td>', text)


class FormatTest(parameterized.TestCase):

  @parameterized.parameters(
      (None, None, ''),
      ([0.5], None, '50.00'),
      ([0.5], 0.25, '50.00 ± 25.00'),
      # Two values that differ by .04 have the deviation .04 / sqrt(2).
      ([0.5, 0.54], 0.25, '52.00 ± 2.83'),
  )
  def test_over_seeds(self, values, std, expected):
    values = None if values is None else np.array(values)
    self.assertEqual(tables.over_seeds(values, std), expected)


class TableIITest(parameterized.TestCase):

  def _columns(self, *num_seeds):
    section = _values()['supernet']
    return [
        tables.Column(network='usnet', title='US', sections=[section] * n)
        for n in num_seeds
    ]

  def _row(self, table, name):
    (row,) = [row for row in table.rows if row[0] == name]
    return row[1:]

  def test_one_seed_has_the_deviation_over_passes(self):
    table = tables.table_ii('', self._columns(1))
    self.assertEqual(table.head, ['subnet, by stage', 'US, %'])
    self.assertEqual(self._row(table, 'runtime-random'), ['93.21 ± 1.23'])
    self.assertNotIn('  its std over passes', [row[0] for row in table.rows])

  def test_beside_several_seeds_it_has_a_row_of_its_own(self):
    table = tables.table_ii('', self._columns(1, 2))
    self.assertEqual(
        self._row(table, 'runtime-random'), ['93.21', '93.21 ± 0.00']
    )
    self.assertEqual(
        self._row(table, '  its std over passes'), ['1.23', '1.23 ± 0.00']
    )

  def test_the_papers_figures_stand_beside(self):
    table = tables.table_ii(
        '', self._columns(1), theirs=paper.TABLE_II['CIFAR-100']
    )
    self.assertEqual(self._row(table, 'x0.25'), ['90.00', '68.60'])
    self.assertEqual(self._row(table, 'all 256: mean'), ['93.33', ''])

  def test_the_teacher_stands_beside_ours_and_the_papers_teacher(self):
    values = _values() | {'delta': _values()['supernet']}
    table = tables.run_table_ii(values)
    # Ours, our deltas, and the paper's figures for both.
    expected = ['98.40', '12.3', '', '', '78.56', '']
    self.assertEqual(self._row(table, 'teacher'), expected)

  def test_rows_are_as_long_as_the_head(self):
    values = _values() | {'delta': _values()['supernet']}
    for table in (
        tables.run_table_ii(values),
        tables.table_ii('', self._columns(1, 2)),
    ):
      self.assertEqual({len(row) for row in table.rows}, {len(table.head)})


class PaperTest(parameterized.TestCase):

  @parameterized.parameters(*paper.TABLE_II)
  def test_every_network_has_every_row(self, data):
    self.assertIn(data, paper.TEACHER)
    self.assertSameElements(paper.TABLE_II[data], NETWORKS)
    for rows in paper.TABLE_II[data].values():
      self.assertLen(rows, 9)
      self.assertRegex(rows['runtime-random'], r'^\d\d\.\d ± \d')


class ConsoleTest(parameterized.TestCase):

  def test_numbers_stand_in_their_rows(self):
    data, table, _ = tables.console(_values() | {'subnets': {
        'count': 256, 'mean': 0.75, 'min': 0.25, 'max': 1.0
    }}).split('\n\n')
    self.assertEqual(data, 'digits, 500 test images')
    lines = table.splitlines()
    self.assertLen({len(line) for line in lines[1:]}, 1)
    self.assertEqual(set(lines[2]), set('- '))
    self.assertEqual(
        [re.split('  +', line.strip()) for line in lines[3:]],
        [
            ['teacher', '98.40', '12.3'],
            ['x1.0', '98.00', '12.0'],
            ['x0.25', '90.00', '1.3'],
            ['0.25-1.0-1.0-0.25', '95.00', '6.5'],
            ['runtime-random', '93.21 +- 1.23', '5.5'],
            ['all 256: mean', '93.33'],
            ['lowest', '88.88'],
            ['highest', '97.77'],
        ],
    )

  def _latency(self):
    row = {'network': 'batch_norm', 'norm': 'bn', 'ms_median': 1.5, 'ms_p90': 2}
    return {
        'device': {'kind': 'cpu'},
        'latency': [row | {'watts': None, 'millijoules': None}],
        'stage_latency': {'batch': 8, 'median_error': 0.1, 'largest_ms': 1.0,
                          'checked_subnets': 16},
    }

  @parameterized.parameters(True, False)
  def test_latencies_that_cannot_be_trusted_are_told_of(self, trusted):
    values = _values() | self._latency()
    values['stage_latency']['trusted'] = trusted
    note = tables.table_i(values).note
    self.assertEqual('latencies are left out' in note, not trusted)

  def test_latencies_are_a_table_of_their_own(self):
    values = _values() | self._latency()
    *first, last = tables.console(values).split('\n\n')
    self.assertEqual('\n\n'.join(first), tables.console(_values()))
    lines = [re.split('  +', line.strip()) for line in last.splitlines()]
    self.assertEqual(lines[1][:4], ['network', 'norm', 'ms, median', 'ms, p90'])
    self.assertEqual(
        lines[3], ['batch norm', 'bn', '1.50', '2.00', 'n/a', 'n/a']
    )
    alone = {'dataset': values['dataset']} | self._latency()
    self.assertEqual(tables.console(alone), last)

  def test_deltas_stand_beside_and_policies_below(self):
    values = _values()
    values['delta'] = values['supernet']
    entry = {'top1': 0.5, 'madds': 1_500_000, 'madds_executed': 2_000_000,
             'seconds': 1.0, 'mixture_top1': 0.25, 'random_top1': None}
    look = {'top1': 0.75, 'madds': 1_500_000, 'kind': 'any second look',
            'again': 0.125, 'mixture_top1': 0.25, 'random_top1': None}
    values['policies'] = {'joint': {'pull_up': entry, 'budget': look}}
    values['subnets'] = {'count': 4096, 'mean': 0.75, 'min': 0.25, 'max': 1.0}
    text = tables.console(values)
    rows = [re.split('  +', line.strip()) for line in text.splitlines()]
    self.assertIn(['x0.25', '90.00', '1.3', '90.00', '1.3'], rows)
    self.assertIn(
        ['runtime-random', '93.21 +- 1.23', '5.5', '93.21 +- 1.23', '5.5'], rows
    )
    self.assertIn('mean 75.00 %, lowest 25.00 %, highest 100.00 %.', text)
    # The table has the name that a loaded network's `route` accepts.
    self.assertIn(
        ['joint/pull_up', '50.00', '1.5', '2.0', '1.00', '25.00'], rows
    )
    self.assertIn(
        ['joint/budget', '75.00', '1.5', 'any second look', '25.00'], rows
    )
    self.assertLessEqual(max(map(len, text.splitlines())), 80)

  def test_whatever_a_policy_is_made_of_fits_a_line(self):
    values = _values()
    entry = {'top1': 0.5, 'madds': 1_500_000_000, 'mixture_top1': 0.25,
             'madds_executed': 2_000_000_000, 'seconds': 100.0}
    for kind in budget.kinds('joint', 8, 1000):
      values['policies'] = {
          'joint': {'pull_down': entry, 'budget': entry | {'kind': kind}}
      }
      text = tables.console(values)
      self.assertIn(kind, text)
      self.assertLessEqual(max(map(len, text.splitlines())), 80, text)

  def test_a_teacher_alone_has_a_table(self):
    values = {key: _values()[key] for key in ('dataset', 'teacher')}
    lines = tables.console(values).splitlines()
    self.assertLen(lines, 2 + 4)
    self.assertEqual(lines[-1].split(), ['teacher', '98.40', '12.3'])

  def test_before_anything_was_measured_there_is_nothing(self):
    self.assertEqual(tables.console({'dataset': _values()['dataset']}), '')


if __name__ == '__main__':
  absltest.main()
