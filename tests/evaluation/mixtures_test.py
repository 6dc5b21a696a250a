# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.evaluation.mixtures."""

from absl.testing import absltest, parameterized
import numpy as np

from adaptanet_jax.evaluation import mixtures


class ComparisonTest(parameterized.TestCase):

  @parameterized.parameters(
      (1.0, 0.4), (2.0, 0.6), (3.0, 0.8), (5.0, 0.9),
      # Less and more than all points.
      (0.5, 0.4), (9.0, 0.9),
  )
  def test_uniform_mixture_is_the_concave_envelope(self, madds, expected):
    # The point at 2 lies below the line from 1 to 3.
    costs, top1 = (3.0, 1.0, 2.0, 5.0), (0.8, 0.4, 0.5, 0.9)
    actual = mixtures.uniform_mixture(costs, top1, madds)
    self.assertAlmostEqual(actual, expected)

  def test_uniform_mixture_is_chosen_by_other_accuracies(self):
    # By these the one at 2 is worth it, and from 2 to 3 both are mixed.
    costs, top1, held_out = (3.0, 1.0, 2.0), (0.8, 0.4, 0.5), (0.7, 0.3, 0.6)
    actual = mixtures.uniform_mixture(costs, top1, 2.5, held_out)
    self.assertAlmostEqual(actual, 0.65)
    self.assertAlmostEqual(mixtures.uniform_mixture(costs, top1, 2.5), 0.7)

  def test_random_is_the_mean_of_subnets_of_like_cost(self):
    madds = np.full((8,) * 4, 1000.0)
    top1 = np.zeros((8,) * 4)
    madds[0, 0, 0, 0], top1[0, 0, 0, 0] = 96.0, 0.5
    madds[1, 2, 3, 0], top1[1, 2, 3, 0] = 104.0, 0.7
    madds[4, 4, 4, 4], top1[4, 4, 4, 4] = 100.0, 0.9
    # More than 5 % away, these do not count.
    madds[0, 0, 0, 1], madds[5, 5, 5, 5] = 94.0, 106.0
    random = mixtures.random_at
    self.assertAlmostEqual(random(top1, madds, 'width', 100.0), 0.6)
    self.assertAlmostEqual(random(top1, madds, 'joint', 100.0), 0.7)
    self.assertAlmostEqual(random(top1, madds, 'depth', 100.0), 0.9)
    self.assertIsNone(random(top1, madds, 'joint', 500.0))


if __name__ == '__main__':
  absltest.main()
