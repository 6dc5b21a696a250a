# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.evaluation.gate_trees."""

import dataclasses

from absl.testing import absltest, parameterized
import numpy as np

from adaptanet_jax.evaluation import gate_trees, policies
from tests.evaluation.budget_test import (
  COSTS,
  GATE_MADDS,
  make_observed,
)


class GatesTest(parameterized.TestCase):

  @parameterized.product(
      gates=((1,), (2,), (3,), (1, 2, 3)), price=(0.0, 1e-4, 1e-3, 1e-2)
  )
  def test_the_best_tree_at_a_price_is_the_best_of_all(self, gates, price):
    observed = make_observed(60, informed=1.0)
    rule = gate_trees.fit(observed, scope='width', gates=gates, count=2)(price)
    right, madds = policies.outcome(observed, policies.Mixture.of(rule))
    halves = np.repeat([0, 1], 4)

    def best(members, *subnet):
      """Tries everything that some examples may do after these choices."""
      if len(subnet) == 4:
        right = observed.correct[subnet][members].sum()
        return right - price * COSTS[[*subnet]].sum() * len(members)

      def next_choice(members):
        return max(best(members, *subnet, choice) for choice in range(4))

      gate = len(subnet)
      found = next_choice(members)
      if gate in gates:
        prefix = int('0' + ''.join(map(str, subnet)), 8)
        bins = halves[observed.bins(gate, np.full(len(observed), prefix))]
        cost = price * GATE_MADDS[gate - 1] * len(members)
        parts = (members[bins[members] == number] for number in (0, 1))
        found = max(found, sum(map(next_choice, parts)) - cost)
      return found

    every = np.arange(len(observed))
    expected = max(best(every, start) for start in range(4))
    self.assertAlmostEqual((right - price * madds).sum(), expected, places=6)

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
