# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.evaluation.results."""

import errno
import os
import pathlib
import re
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized

from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation import results


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


class JsonTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.path = os.path.join(
        self.enterContext(tempfile.TemporaryDirectory()), 'values.json'
    )

  def test_what_was_written_is_read(self):
    values = {'schema': 1, 'nested': {'list': [1, 0.1, None, 'text']}}
    results.write_json(self.path, values)
    self.assertEqual(results.read_json(self.path), values)
    self.assertEqual(os.listdir(os.path.dirname(self.path)), ['values.json'])

  def test_a_value_that_is_no_json_leaves_the_old_file(self):
    results.write_json(self.path, {'old': 1})
    with self.assertRaises(TypeError):
      results.write_json(self.path, {'new': 2, 'then': object()})
    self.assertEqual(results.read_json(self.path), {'old': 1})

  def test_a_full_disk_leaves_the_old_file(self):
    results.write_json(self.path, {'old': 1})
    full = OSError(errno.ENOSPC, 'No space left on device')
    with mock.patch.object(os, 'fsync', side_effect=full):
      with self.assertRaisesRegex(OSError, 'No space left'):
        results.write_json(self.path, {'new': 2})
    self.assertEqual(results.read_json(self.path), {'old': 1})

  @parameterized.parameters('', '{"schema": 1, "seco', 'no json at all')
  def test_a_broken_file_is_refused_by_name(self, text):
    pathlib.Path(self.path).write_text(text)
    with self.assertRaisesRegex(
        UsageError, rf'{self.path} is no JSON .*Move it away'
    ):
      results.read_json(self.path)


class ResultsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.workdir = self.enterContext(tempfile.TemporaryDirectory())

  def test_sections_survive_the_object(self):
    first = results.Results(self.workdir)
    first.update(seed=3, teacher={'top1': 0.5})
    first.update(teacher={'top1': 0.75})
    self.assertEqual(
        results.Results(self.workdir).values,
        {'schema': 1, 'seconds': {}, 'seed': 3, 'teacher': {'top1': 0.75}},
    )

  def test_seconds_add_up_phase_by_phase(self):
    first = results.Results(self.workdir)
    first.add_seconds('teacher', 12.345)
    results.Results(self.workdir).add_seconds('lock_in', 2.0)
    self.assertEqual(
        results.Results(self.workdir).values['seconds'],
        {'teacher': 12.3, 'lock_in': 2.0},
    )

  def test_nothing_is_written_before_the_first_section(self):
    results.Results(self.workdir)
    self.assertEmpty(os.listdir(self.workdir))


class CsvTest(absltest.TestCase):

  def test_what_was_written_is_read(self):
    rows = [
        {'subnet': '1.0-0.5d-0.25-1.0', 'madds': 12, 'top1': 0.25},
        {'subnet': '1.0-1.0-1.0-1.0', 'madds': 10**12, 'top1': 1e-05},
    ]
    path = os.path.join(tempfile.mkdtemp(), 'x.csv')
    results.write_csv(path, rows)
    self.assertEqual(results.read_csv(path), rows)
    self.assertIsInstance(results.read_csv(path)[0]['madds'], int)


class TableTest(parameterized.TestCase):

  def test_numbers_stand_in_their_rows(self):
    lines = results.tables(_values()).splitlines()
    rows = [line.split() for line in lines]
    self.assertEqual(
        rows[0],
        ['digits,', '500', 'test', 'images', 'top-1', 'M', 'MAdds'],
    )
    self.assertEqual(set(lines[1]), set('- '))
    self.assertEqual(
        rows[2:],
        [
            ['teacher', '98.40%', '12.3'],
            ['x1.0', '98.00%', '12.0'],
            ['x0.25', '90.00%', '1.3'],
            ['0.25-1.0-1.0-0.25', '95.00%', '6.5'],
            ['runtime-random', '93.21%', '+-', '1.23%', '5.5'],
            ['all', '256:', 'mean', '93.33%'],
            ['lowest', '88.88%'],
            ['highest', '97.77%'],
        ],
    )

  def test_latencies_are_a_table_of_their_own(self):
    row = {'network': 'teacher', 'batch': 8, 'ms_median': 1.5, 'ms_p90': 2}
    values = _values() | {'latency': [row]}
    first, second = results.tables(values).split('\n\n')
    self.assertEqual(first, results.tables(_values()))
    expected = ['one pass, batch 8', 'ms median', 'ms p90']
    lines = [re.split('  +', line) for line in second.splitlines()]
    self.assertEqual(lines[0], expected)
    self.assertEqual(lines[2], ['teacher', '1.50', '2.00'])
    alone = {'dataset': values['dataset'], 'latency': [row]}
    self.assertEqual(results.tables(alone), second)

  def test_columns_are_aligned(self):
    lines = results.tables(_values()).splitlines()
    self.assertLen({len(line) for line in lines}, 1)

  def test_deltas_and_policies_have_rows_of_their_own(self):
    values = _values()
    values['delta'] = values['supernet']
    values['policies'] = {
        'joint': {'pull_up': {'top1': 0.5, 'madds': 1_500_000}}
    }
    values['subnets'] = {'count': 4096, 'mean': 0.75, 'min': 0.25, 'max': 1.0}
    rows = [line.split() for line in results.tables(values).splitlines()]
    self.assertIn(['all', '4,096', 'subnets:', 'mean', '75.00%'], rows)
    self.assertIn(['lowest', '25.00%'], rows)
    self.assertIn(['x0.25d', '90.00%', '1.3'], rows)
    self.assertIn(['0.25d-1.0d-1.0d-0.25d', '95.00%', '6.5'], rows)
    self.assertIn(
        ['runtime-random,', 'deltas', '93.21%', '+-', '1.23%', '5.5'], rows
    )
    self.assertIn(['policy', 'joint/pull_up', '50.00%', '1.5'], rows)

  def test_a_teacher_alone_has_a_table(self):
    values = {key: _values()[key] for key in ('dataset', 'teacher')}
    lines = results.tables(values).splitlines()
    self.assertLen(lines, 3)
    self.assertEqual(lines[2].split(), ['teacher', '98.40%', '12.3'])


if __name__ == '__main__':
  absltest.main()
