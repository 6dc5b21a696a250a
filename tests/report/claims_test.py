# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.report.claims."""

from absl.testing import absltest, parameterized

from adaptanet_jax.report import claims
from adaptanet_jax.report.tables import Column
from tests.report.sections import figures


def _columns(ours, **others):
  return [
      Column(network=network, title=network, sections=sections)
      for network, sections in ({'supernet': [ours]} | others).items()
  ]


class ClaimsTest(parameterized.TestCase):

  def test_by_hand(self):
    # USNet has two seeds, 4 points apart: a standard error of 2.
    columns = _columns(
        figures(0.9), usnet=[figures(0.92), figures(0.96)], dsnet=[figures(0.5)]
    )
    self.assertEqual(
        [': '.join(row) for row in claims.table(columns, 10_000).rows],
        [
            'supernet: runtime-random above its own x0.25: 75.00: 60.00: yes',
            'supernet: x1.0 comparable to usnet: 90.00: 94.00: undecided',
            'supernet: x1.0 comparable to dsnet: 90.00: 50.00: yes',
            'supernet: x0.75 comparable to usnet: 80.00: 84.00: undecided',
            'supernet: x0.75 comparable to dsnet: 80.00: 40.00: yes',
            'supernet: mixed subnets above usnet: 70.00: 74.00: no',
            'supernet: mixed subnets comparable to dsnet: 70.00: 30.00: yes',
        ],
    )

  @parameterized.parameters(
      # The standard error is sqrt(2 * .09 / 100), 4.2 points.
      (0.9, 0.9, 100, 'undecided'),
      (0.9, 0.9, 10_000, 'yes'),  # 2 points of slack, an error of 0.4.
      (0.88, 0.9, 10_000, 'undecided'),  # Two points below, the limit.
      (0.87, 0.9, 10_000, 'no'),
      (0.87, 0.9, 1_000, 'undecided'),  # An error of 1.4.
  )
  def test_what_is_within_a_standard_error_is_undecided(
      self, ours, theirs, num_examples, expected
  ):
    columns = _columns(figures(ours), usnet=[figures(theirs)])
    _, x1, *_ = claims.table(columns, num_examples).rows
    self.assertIn('x1.0 comparable to', x1[0])
    self.assertEqual(x1[-1], expected, str(x1))

  @parameterized.parameters(
      # Ours should have a smaller std than USNet*, a higher mean than DSNet*.
      ('usnet_random', 'std', 0.02, True),
      ('usnet_random', 'std', 0.005, False),
      ('dsnet_random', 'mean', 0.7, True),
      ('dsnet_random', 'mean', 0.8, False),
  )
  def test_runtime_random(self, network, key, value, holds):
    theirs = figures(0.9)
    theirs['random'][key] = value
    # What ten passes happened to show does not count beside the exact figure.
    theirs['random'] |= {'exact_std': theirs['random']['std'], 'std': 0.01}
    ours = figures(0.9)
    ours['random']['exact_std'] = 0.01
    columns = _columns(ours, **{network: [theirs]})
    *_, (text, _, figure, found) = claims.table(columns, 10_000).rows
    self.assertIn('runtime-random', text)
    self.assertEqual(figure, f'{100 * value:.2f}')
    self.assertEqual(found, 'yes' if holds else 'no')

  def test_a_deviation_over_ten_passes_decides_nothing(self):
    theirs = figures(0.9)
    theirs['random']['std'] = 0.5
    columns = _columns(figures(0.9), usnet_random=[theirs])
    *_, row = claims.table(columns, 10_000).rows
    self.assertEqual(row[1:], ['1.00', '50.00', 'undecided'])

  def test_over_several_seeds_it_decides(self):
    # Theirs: 50 and 52, a standard error of 1; ours: twice 1.
    sections = [figures(0.9), figures(0.9)]
    for section, std in zip(sections, (0.5, 0.52)):
      section['random']['std'] = std
    columns = _columns(figures(0.9), usnet_random=sections)
    columns[0].sections.append(figures(0.9))
    *_, row = claims.table(columns, 10_000).rows
    self.assertEqual(row[1:], ['1.00', '51.00', 'yes'])

  def test_within_a_network_seeds_are_compared_one_by_one(self):
    # Seeds differ by 20 points, and runtime-random is always 15 above x0.25.
    columns = _columns(figures(0.9))
    columns[0].sections.append(figures(0.7))
    row, *_ = claims.table(columns, 10_000).rows
    self.assertEqual(row[1:], ['65.00', '50.00', 'yes'])
    # Once it is 15 above and once 25 below: -5, with an error of 20.
    columns[0].sections[1]['random']['mean'] = 0.15
    row, *_ = claims.table(columns, 10_000).rows
    self.assertEqual(row[1:], ['45.00', '50.00', 'undecided'])

  def test_without_ours_nothing_is_claimed(self):
    column = Column(network='usnet', title='', sections=[figures(0.9)] * 2)
    self.assertEmpty(claims.table([column], 10_000).rows)


if __name__ == '__main__':
  absltest.main()
