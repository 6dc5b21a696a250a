# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.evaluation.subnet_table."""

import itertools
import pathlib
import tempfile

from absl.testing import absltest, parameterized
import numpy as np

from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation import subnet_table
from adaptanet_jax.models.subnet import Subnet
from adaptanet_jax.workdir import Paths


def _table(num_choices=4):
  shape = (num_choices,) * 4
  top1 = np.random.default_rng(0).random(shape)
  top1[0, 0, 0, 0], top1[0, 0, 0, 1] = 1.0, 1e-05
  madds = np.arange(num_choices**4).reshape(shape) * 10**12
  return {'madds': madds, 'top1': top1}


class SubnetTableTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.workdir = self.enterContext(tempfile.TemporaryDirectory())
    self.path = pathlib.Path(Paths(self.workdir).subnets)

  @parameterized.parameters(4, 8)
  def test_what_was_written_is_read(self, num_choices):
    table = _table(num_choices)
    subnet_table.write(self.workdir, table)
    found = subnet_table.read(self.workdir)
    self.assertEqual(list(found), ['madds', 'top1'])
    for name, column in table.items():
      self.assertEqual(found[name].dtype, column.dtype)
      np.testing.assert_array_equal(found[name], column)
    before = self.path.read_bytes()
    subnet_table.write(self.workdir, found)
    self.assertEqual(self.path.read_bytes(), before)

  def test_rows_by_hand(self):
    subnet_table.write(self.workdir, _table())
    lines = self.path.read_bytes().split(b'\r\n')
    self.assertLen(lines, 1 + 256 + 1)
    self.assertEqual(
        lines[:3],
        [
            b'subnet,madds,top1',
            b'1.0-1.0-1.0-1.0,0,1.0',
            b'1.0-1.0-1.0-0.75,1000000000000,1e-05',
        ],
    )

  @parameterized.parameters('1.0-0.5-0.25-1.0', '0.25d-1.0-0.5d-0.75')
  def test_a_subnet_stands_at_its_code(self, name):
    subnet_table.write(self.workdir, _table(8))
    (row,) = [
        line.split(',')
        for line in self.path.read_text().splitlines()
        if line.startswith(f'{name},')
    ]
    code = tuple(Subnet.parse(name).encode())
    found = subnet_table.read(self.workdir)
    self.assertEqual(int(row[1]), found['madds'][code])
    self.assertEqual(float(row[2]), found['top1'][code])

  def test_a_column_is_added_or_replaced(self):
    subnet_table.write(self.workdir, _table())
    for values in (np.zeros((4,) * 4), np.ones((4,) * 4)):
      subnet_table.add_column(self.workdir, 'latency_ms', values)
      found = subnet_table.read(self.workdir)
      self.assertEqual(list(found), ['madds', 'top1', 'latency_ms'])
      np.testing.assert_array_equal(found['latency_ms'], values)

  def test_a_column_is_dropped_if_it_is_there(self):
    subnet_table.write(self.workdir, _table())
    subnet_table.add_column(self.workdir, 'latency_ms', np.zeros((4,) * 4))
    for _ in range(2):
      subnet_table.drop_column(self.workdir, 'latency_ms')
      found = subnet_table.read(self.workdir)
      self.assertEqual(list(found), ['madds', 'top1'])

  def test_of_more_choices_those_of_the_table_are_taken(self):
    subnet_table.write(self.workdir, _table())
    values = np.arange(8.0**4).reshape((8,) * 4)
    subnet_table.add_column(self.workdir, 'latency_ms', values)
    found = subnet_table.read(self.workdir)['latency_ms']
    self.assertEqual(found.shape, (4, 4, 4, 4))
    self.assertEqual(found[1, 2, 3, 0], values[1, 2, 3, 0])

  def test_the_best_within_a_budget(self):
    shape = (4,) * 4
    table = {'madds': np.full(shape, 9), 'expected_top1': np.zeros(shape)}
    for code, madds, top1 in (
        ((0, 1, 2, 3), 5, 0.9), ((3, 2, 1, 0), 4, 0.9), ((3, 3, 3, 3), 1, 0.5)
    ):
      table['madds'][code], table['expected_top1'][code] = madds, top1
    # Of two that are as accurate, the costlier one.
    for budget, expected in ((9, '1.0-0.75-0.5-0.25'), (5, '1.0-0.75-0.5-0.25'),
                             (4.9, '0.25-0.5-0.75-1.0'),
                             (1, '0.25-0.25-0.25-0.25')):
      found = subnet_table.best_within(table, budget)
      self.assertEqual(str(found), expected)
    with self.assertRaisesRegex(UsageError, 'at most 0 MAdds; expected 1 or'):
      subnet_table.best_within(table, 0)
    del table['expected_top1']
    with self.assertRaisesRegex(UsageError, 'were not measured; expected an'):
      subnet_table.best_within(table, 9)

  def test_without_a_table_there_is_nothing_to_add_to(self):
    self.assertEqual(subnet_table.read(self.workdir), {})
    subnet_table.add_column(self.workdir, 'latency_ms', np.zeros((4,) * 4))
    self.assertFalse(self.path.exists())

  @parameterized.named_parameters(
      ('cut off', lambda text: text[: len(text) // 2]),
      ('without a row', lambda text: text.replace('1.0-1.0-1.0-0.5,', '', 1)),
      ('out of order', lambda text: text.replace('1.0-1.0-1.0-0.5,', '0.5,')),
      ('no numbers', lambda text: text.replace('1000000000000', 'many')),
      ('empty', lambda text: ''),
      # A quote opens a field that is longer than the reader takes.
      ('one endless field', lambda text: f'"{text * 20}'),
  )
  def test_a_broken_file_is_refused_by_name(self, damage):
    subnet_table.write(self.workdir, _table())
    self.path.write_text(damage(self.path.read_text()))
    with self.assertRaisesRegex(
        UsageError, f'{self.path} is not a table of all subnets .*Move it away'
    ):
      subnet_table.read(self.workdir)


class ParetoFrontTest(parameterized.TestCase):

  def test_by_hand(self):
    costs = [3.0, 1.0, 2.0, 4.0, 2.0, 5.0]
    top1 = [0.5, 0.2, 0.4, 0.5, 0.3, 0.9]
    # The better one of two that cost 2; the cheaper one of two with the same
    # accuracy, at 3 and 4; then the most expensive.
    self.assertEqual(subnet_table.pareto_front(costs, top1), [1, 2, 0, 5])

  def test_one_that_beats_all_stands_alone(self):
    self.assertEqual(subnet_table.pareto_front([1.0, 2.0], [0.9, 0.5]), [0])

  def test_nothing_off_the_front_beats_it(self):
    costs = [(7 * n) % 31 for n in range(31)]
    top1 = [(11 * n) % 31 for n in range(31)]
    front = subnet_table.pareto_front(costs, top1)
    for n in range(31):
      beaten = any(
          costs[m] <= costs[n] and top1[m] >= top1[n] for m in front
      )
      self.assertTrue(beaten)
    for before, after in itertools.pairwise(front):
      self.assertLess(costs[before], costs[after])
      self.assertLess(top1[before], top1[after])


if __name__ == '__main__':
  absltest.main()
