# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.training.baseline_methods."""

import collections

from absl.testing import absltest, parameterized
import jax
import numpy as np

from adaptanet_jax.training import baseline_methods as methods


def _draws(draw, count):
  keys = jax.random.split(jax.random.key(3), count)
  return np.asarray(jax.jit(jax.vmap(draw))(keys))


class DrawTest(parameterized.TestCase):

  def test_the_sandwich_has_the_largest_first_and_the_smallest_last(self):
    drawn = _draws(methods.draw_sandwich, 50)
    self.assertEqual(drawn.dtype, np.int32)
    # All stages have the same width.
    np.testing.assert_array_equal(drawn, drawn[..., :1].repeat(4, -1))
    rows = {tuple(subnets) for subnets in drawn[..., 0]}
    self.assertEqual(rows, {(0, 1, 2, 3), (0, 2, 1, 3)})

  def test_any_three_are_different_and_the_widest_is_first(self):
    drawn = _draws(methods.draw_any, 2000)
    self.assertEqual(drawn.shape, (2000, 3, 4))
    self.assertEqual(drawn.dtype, np.int32)
    for subnets in drawn[:200]:
      self.assertLen({tuple(subnet) for subnet in subnets}, 3)
    # Branch indices rise as widths fall.
    total = drawn.sum(-1)
    self.assertTrue((np.diff(total) >= 0).all())

  def test_any_three_cover_all_256_evenly(self):
    drawn = _draws(methods.draw_any, 4000)
    counts = collections.Counter(map(tuple, drawn.reshape(-1, 4)))
    self.assertLen(counts, 256)
    # 12,000 draws make 46.9 of each, with a standard deviation of 6.8.
    self.assertBetween(min(counts.values()), 20, 46)
    self.assertBetween(max(counts.values()), 47, 80)

  @parameterized.parameters('usnet', 'usnet_random', 'dsnet', 'dsnet_random')
  def test_every_network_of_the_table_is_there(self, name):
    method = methods.METHODS[name]
    self.assertEqual(method.moving_average, name.startswith('dsnet'))
    self.assertEqual(method.title.endswith('*'), name.endswith('random'))
    expected = 3 if name.endswith('random') else 4
    self.assertLen(method.draw(jax.random.key(0)), expected)


if __name__ == '__main__':
  absltest.main()
