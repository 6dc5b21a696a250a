# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.report.figures."""

from absl.testing import absltest, parameterized

from adaptanet_jax.report import figures


class ParetoFrontTest(parameterized.TestCase):

  def test_by_hand(self):
    costs = [3.0, 1.0, 2.0, 4.0, 2.0, 5.0]
    top1 = [0.5, 0.2, 0.4, 0.5, 0.3, 0.9]
    # Of two that cost 2 the better; at 3 and 4 the same accuracy, so the
    # cheaper; then the dearest.
    self.assertEqual(figures.pareto_front(costs, top1), [1, 2, 0, 5])

  def test_one_that_beats_all_stands_alone(self):
    self.assertEqual(figures.pareto_front([1.0, 2.0], [0.9, 0.5]), [0])

  def test_nothing_off_the_front_beats_it(self):
    costs = [(7 * n) % 31 for n in range(31)]
    top1 = [(11 * n) % 31 for n in range(31)]
    front = figures.pareto_front(costs, top1)
    for n in range(31):
      beaten = any(
          costs[m] <= costs[n] and top1[m] >= top1[n] for m in front
      )
      self.assertTrue(beaten)


if __name__ == '__main__':
  absltest.main()
