# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.evaluation.gate_trees."""

import dataclasses
import itertools

from absl.testing import absltest, parameterized
import numpy as np

from adaptanet_jax.evaluation import gate_trees, policies
from tests.evaluation.budget_test import (
  COSTS,
  GATE_MADDS,
  make_observed,
)


class GatesTest(parameterized.TestCase):

  @parameterized.parameters(0.0, 1e-4, 1e-3, 1e-2)
  def test_the_best_tree_at_a_price_is_the_best_of_all(self, price):
    # Trees of one gate with two bins are few enough to try all of them.
    observed = make_observed(60, informed=1.0)
    solve = gate_trees.fit(observed, scope='width', gates=(1,), count=2)

    def value(rule):
      right, madds = policies.outcome(observed, policies.Mixture.of(rule))
      return (right - price * madds).sum()

    actual = value(solve(price))
    best = -np.inf
    halves = np.repeat([0, 1], 4)
    for start in range(4):
      # After its bin an example runs a fixed subnet; takes the best of each.
      bins = halves[
          observed.bins(1, np.full(len(observed), start))
      ]
      total = 0.0
      for number in (0, 1):
        total += max(
            (
                observed.correct[(start, *rest)][bins == number]
                - price * (COSTS[[start, *rest]].sum() + GATE_MADDS[0])
            ).sum()
            for rest in itertools.product(range(4), repeat=3)
        )
      unread = max(
          (
              observed.correct[(start, *rest)]
              - price * COSTS[[start, *rest]].sum()
          ).sum()
          for rest in itertools.product(range(4), repeat=3)
      )
      best = max(best, total, unread)
    self.assertAlmostEqual(actual, best, places=6)

  def test_a_gate_that_costs_more_than_it_brings_is_not_read(self):
    observed = make_observed(200, informed=1.0)
    dear = dataclasses.replace(observed, gate_madds=1000 * GATE_MADDS)
    rules = [
        gate_trees.fit(table, scope='width', gates=(1, 2, 3), count=2)(1e-3)
        for table in (observed, dear)
    ]
    reads = [
        policies.play(observed, rule)[1].any().item() for rule in rules
    ]
    self.assertEqual(reads, [True, False])


if __name__ == '__main__':
  absltest.main()
