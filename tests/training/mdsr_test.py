# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.training.mdsr."""

import functools
import itertools

from absl.testing import absltest, parameterized
import jax
import numpy as np

from adaptanet_jax.training import mdsr

_FOUR_STAGES = mdsr.SubnetSpace(1, 4)


# Number of keys that `_draw_many` draws with.
_NUM_KEYS = 2000


@functools.partial(jax.jit, static_argnums=(1, 2))
def _draw(rng, space, num_random):
  return mdsr.draw_subnets(rng, space, num_random)


@functools.cache
def _draw_many(space):
  """Draws three random subnets with each key: `int32[keys, |eta|, 4]`."""
  rngs = jax.random.split(jax.random.key(7), _NUM_KEYS)
  draw = jax.vmap(lambda rng: mdsr.draw_subnets(rng, space, 3))
  return np.asarray(jax.jit(draw)(rngs))


def _as_set(subnets):
  return {tuple(subnet) for subnet in subnets.tolist()}


class SubnetSpaceTest(parameterized.TestCase):

  def test_corners_are_the_largest_and_the_smallest(self):
    np.testing.assert_array_equal(
        _FOUR_STAGES.corners(), [[0, 0, 0, 0], [3, 3, 3, 3]]
    )
    np.testing.assert_array_equal(mdsr.SubnetSpace(2, 2).corners(), [[0], [3]])

  def test_others_are_all_that_are_no_corner(self):
    np.testing.assert_array_equal(mdsr.SubnetSpace(3, 3).others(), [[1], [2]])
    others = _as_set(_FOUR_STAGES.others())
    # 4^4 minus 2.
    self.assertLen(others, 254)
    self.assertNoCommonElements(others, [(0, 0, 0, 0), (3, 3, 3, 3)])

  def test_stages_are_numbered_as_in_the_paper(self):
    self.assertEqual(list(mdsr.SubnetSpace(2, 4).numbers), [2, 3, 4])

  def test_deltas_are_a_second_dimension(self):
    joint = mdsr.SubnetSpace(1, 2, 'joint')
    # The largest and the smallest width, as blocks and as deltas.
    np.testing.assert_array_equal(
        joint.corners(), [[0, 0], [3, 3], [4, 4], [7, 7]]
    )
    self.assertLen(_as_set(joint.others()), 64 - 4)
    self.assertTrue(joint.has_largest)

  def test_where_deltas_alone_train_each_subnet_has_one(self):
    delta = mdsr.SubnetSpace(1, 4, 'delta')
    np.testing.assert_array_equal(delta.corners()[:, 0], [4, 7])
    others = delta.others()
    # 8^4 minus the 4^4 without a delta, minus 2.
    self.assertLen(_as_set(others), 4096 - 256 - 2)
    self.assertTrue((others.max(1) >= 4).all())
    self.assertFalse(delta.has_largest)
    np.testing.assert_array_equal(
        mdsr.SubnetSpace(3, 3, 'delta').others(), [[5], [6]]
    )


class DrawSubnetsTest(parameterized.TestCase):

  @parameterized.parameters((1, 1), (4, 4), (2, 3), (1, 4))
  def test_corners_come_first(self, first, last):
    space = mdsr.SubnetSpace(first, last)
    eta = _draw_many(space)
    varied = eta[..., first - 1 : last]
    self.assertTrue((varied[:, 0] == 0).all())
    self.assertTrue((varied[:, 1] == 3).all())

  @parameterized.parameters(1, 2, 3, 4)
  def test_one_stage_trains_all_four_widths_in_each_step(self, stage):
    eta = _draw_many(mdsr.SubnetSpace(stage, stage))
    self.assertEqual(eta.shape, (_NUM_KEYS, 4, 4))
    widths = np.sort(eta[..., stage - 1], axis=-1)
    np.testing.assert_array_equal(
        widths, np.broadcast_to(np.arange(4), widths.shape)
    )

  def test_four_stages_train_five_different_subnets(self):
    for eta in _draw_many(_FOUR_STAGES):
      self.assertEqual(eta.shape, (5, 4))
      self.assertEqual(eta.dtype, np.int32)
      self.assertLen(_as_set(eta), 5)
      self.assertEqual(eta[0].tolist(), [0, 0, 0, 0])
      self.assertEqual(eta[1].tolist(), [3, 3, 3, 3])

  @parameterized.parameters((1, 3), (10, 12), (254, 256), (1000, 256))
  def test_num_random_is_met_as_far_as_there_are_others(self, asked, size):
    eta = np.asarray(_draw(jax.random.key(0), _FOUR_STAGES, asked))
    self.assertEqual(eta.shape, (size, 4))
    self.assertLen(_as_set(eta), size)

  def test_draws_are_a_function_of_the_key(self):
    space = mdsr.SubnetSpace(3, 4)
    eta = mdsr.draw_subnets(jax.random.key(3), space, 3)
    # Compiled or not, and however often it is called.
    for _ in range(2):
      np.testing.assert_array_equal(_draw(jax.random.key(3), space, 3), eta)
    first_keys = _draw_many(_FOUR_STAGES)[:50, 2:]
    self.assertLen({draw.tobytes() for draw in first_keys}, 50)

  def test_over_many_keys_every_other_subnet_appears(self):
    # A given one is missed with probability (1 - 3 / 254)^2000 = 5e-11.
    drawn = _draw_many(_FOUR_STAGES)[:, 2:].reshape(-1, 4)
    self.assertEqual(_as_set(drawn), _as_set(_FOUR_STAGES.others()))

  def test_subnets_of_a_step_share_a_prefix_that_varies_over_steps(self):
    # A given one of 16 is missed with probability (15 / 16)^2000 = 9e-57.
    eta = _draw_many(mdsr.SubnetSpace(3, 3))
    prefixes = eta[..., :2]
    np.testing.assert_array_equal(
        prefixes, np.broadcast_to(prefixes[:, :1], prefixes.shape)
    )
    every = set(itertools.product(range(4), repeat=2))
    self.assertEqual(_as_set(prefixes[:, 0]), every)

  @parameterized.parameters((1, 1), (2, 2), (1, 3))
  def test_stages_after_the_space_are_at_full_width(self, first, last):
    eta = _draw_many(mdsr.SubnetSpace(first, last))
    self.assertTrue((eta[..., last:] == 0).all())


  def test_the_prefix_of_a_delta_is_any_subnet(self):
    eta = _draw_many(mdsr.SubnetSpace(2, 2, 'delta'))
    # A given one of 8 is missed with probability (7 / 8)^2000 = 1e-116.
    self.assertEqual(set(eta[:, 0, 0].tolist()), set(range(8)))
    np.testing.assert_array_equal(
        np.sort(eta[..., 1], axis=-1)[0], [4, 5, 6, 7]
    )


class WeightingTest(parameterized.TestCase):

  @parameterized.parameters(
      # The largest has 1, the others v / (|eta| - 1), (1 - v) / (|eta| - 1).
      (5, 0.5, 0.125, 0.125),
      (4, 0.25, 0.25 / 3, 0.75 / 3),
      (3, 1.0, 0.5, 0.0),
      (3, 0.0, 0.0, 0.5),
  )
  def test_values_of_equation_3(self, size, v, to_teacher, to_largest):
    weights = mdsr.Weighting(v).at(0, size, has_largest=True)
    self.assertEqual({weight.dtype.name for weight in weights}, {'float32'})
    np.testing.assert_allclose(weights[0], [1.0] + [to_teacher] * (size - 1))
    np.testing.assert_allclose(weights[1], [0.0] + [to_largest] * (size - 1))
    np.testing.assert_array_equal(weights[2], 0.0)

  @parameterized.product(size=(3, 5, 256), v=(0.0, 0.3, 1.0))
  def test_all_others_together_weigh_as_much_as_the_largest(self, size, v):
    to_teacher, to_largest, _ = mdsr.Weighting(v).at(
        0, size, has_largest=True
    )
    self.assertAlmostEqual(
        float(to_teacher.sum() + to_largest.sum()), 2.0, places=5
    )

  def test_a_soft_cross_entropy_takes_its_share_once_it_counts(self):
    weighting = mdsr.Weighting(0.25, soft_weight=0.75, soft_from=7)
    for early, only in zip(
        weighting.at(6, 3, has_largest=True),
        mdsr.Weighting(0.25).at(6, 3, has_largest=True),
    ):
      np.testing.assert_array_equal(early, only)
    to_teacher, to_largest, to_soft = weighting.at(7, 3, has_largest=True)
    np.testing.assert_allclose(to_teacher, [0.25, 0.03125, 0.03125])
    np.testing.assert_allclose(to_largest, [0.0, 0.09375, 0.09375])
    # The mean over all three.
    np.testing.assert_allclose(to_soft, [0.25, 0.25, 0.25])

  def test_without_the_largest_the_others_share_one(self):
    to_teacher, to_largest, to_soft = mdsr.Weighting(0.25, soft_weight=0.5).at(
        0, 5, has_largest=False
    )
    np.testing.assert_allclose(to_soft, [0.1] * 5)
    np.testing.assert_allclose(to_teacher, [0.025] * 5)
    np.testing.assert_allclose(to_largest, [0.075] * 5)


if __name__ == '__main__':
  absltest.main()
