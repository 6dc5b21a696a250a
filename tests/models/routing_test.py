# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.models.routing."""

import functools

from absl.testing import absltest, parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import trees
from adaptanet_jax.evaluation import policies
from adaptanet_jax.models import routing, supernet
from adaptanet_jax.models.gates import GateSet
from adaptanet_jax.models.resnet import ResNet

_NET = ResNet(
    'resnet26x8', 'cifar_half', 'gn', 10, (16, 16, 1), delta='conv3x3'
)
_GATES = GateSet((1, 2, 3), 10, 4)
_NUM_IMAGES = 21


@functools.cache
def _variables():
  gates = _GATES.shapes(_NET.anchor_shapes)
  return trees.draw_like(trees.merge(_NET.shapes(), gates))


@functools.cache
def _images():
  shape = (_NUM_IMAGES, 16, 16, 1)
  return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


@functools.cache
def _by_sample():
  chex.clear_trace_counter()

  @jax.jit
  @chex.assert_max_traces(1)
  def run(variables, choices):
    return routing.forward_by_sample(
        _NET, variables, _images(), choices, chunk_size=4
    )

  return functools.partial(run, _variables())


@functools.cache
def _alone():
  """Returns a function that runs one subnet and also returns the anchors."""
  run = jax.jit(functools.partial(supernet.forward, _NET))
  return functools.partial(run, _variables())


class ForwardBySampleTest(parameterized.TestCase):

  def _assert_equals_each_alone(self, choices):
    actual = _by_sample()(jnp.asarray(choices, jnp.int32))
    for n, image in enumerate(_images()):
      expected, _ = _alone()(image[None], choices[n].astype(np.int32))
      chex.assert_trees_all_close(
          actual[n], expected[0], rtol=1e-4, atol=1e-4
      )

  def test_each_image_is_run_as_if_it_were_alone(self):
    rng = np.random.default_rng(0)
    self._assert_equals_each_alone(rng.integers(0, 8, (_NUM_IMAGES, 4)))

  @parameterized.parameters(0, 7)
  def test_one_choice_for_all_leaves_other_chunks_empty(self, choice):
    self._assert_equals_each_alone(np.full((_NUM_IMAGES, 4), choice))

  def test_most_chunks_that_can_be_needed(self):
    # Seven choices have one image each, and the eighth has the rest.
    choices = np.minimum(np.arange(_NUM_IMAGES), 7)
    self._assert_equals_each_alone(np.repeat(choices[:, None], 4, 1))


class ChunksTest(parameterized.TestCase):

  @parameterized.product(
      batch_size=(1, 3, 8, 29), num_choices=(1, 4, 8), chunk_size=(1, 4, 16)
  )
  def test_every_image_has_a_place_in_a_chunk_of_its_choice(
      self, batch_size, num_choices, chunk_size
  ):
    rng = np.random.default_rng(batch_size)
    for _ in range(5):
      choices = rng.integers(0, rng.integers(1, num_choices + 1), batch_size)
      slots, takes, chunk_choices = map(
          np.asarray,
          routing._chunks(
              jnp.asarray(choices, jnp.int32), num_choices, chunk_size
          ),
      )
      self.assertLen(set(slots.tolist()), batch_size)
      np.testing.assert_array_equal(
          takes.ravel()[slots], np.arange(batch_size)
      )
      np.testing.assert_array_equal(chunk_choices[slots // chunk_size], choices)
      # Only chunks that hold an image are run.
      used = np.unique(slots // chunk_size)
      np.testing.assert_array_equal(np.flatnonzero(chunk_choices >= 0), used)

  @parameterized.parameters(
      # Chunks of 4 for choices with 1, 1 and 6 images.
      (8, 3, 4, 4),
      # Seven choices have one image each, the eighth has 14: 7 + ceil(14 / 8).
      (21, 8, 8, 9),
      # Two images cannot fill three choices.
      (2, 3, 4, 2),
  )
  def test_most_chunks_by_hand(self, batch_size, num_choices, size, expected):
    actual = routing.max_chunks(batch_size, num_choices, size)
    self.assertEqual(actual, expected)

  def test_executed_madds_count_padding_by_hand(self):
    stage_madds = np.array([[10, 1], [20, 2], [30, 3], [40, 4]])
    subnets = np.array([[0, 0, 1, 1]] * 3 + [[1, 0, 1, 0]] * 2)
    # Chunks of 4. Stage 1 has 3 and 2 images, in a chunk each: 4 * 11. Stage 2
    # has 5 images of choice 0, in two chunks: 8 * 20. Stage 3: 8 * 3. Stage 4:
    # 4 * 44.
    expected = 44 + 160 + 24 + 176
    count = functools.partial(routing.executed, stage_madds)
    self.assertEqual(count(subnets, batch_size=5, chunk_size=4), expected)
    # Chunks of one image waste nothing.
    own = stage_madds[np.arange(4), subnets].sum()
    self.assertEqual(count(subnets, batch_size=5, chunk_size=1), own)
    # A batch of one image wastes nothing either; the last image of a split may
    # be alone in a larger one.
    self.assertEqual(count(subnets[:1], batch_size=1, chunk_size=4), 37)
    self.assertEqual(count(subnets[:1], batch_size=5, chunk_size=4), 4 * 37)


@functools.cache
def _route():
  run = functools.partial(routing.route, _NET, _GATES, chunk_size=4)
  return functools.partial(jax.jit(run), _variables(), _images())


class DrawTest(parameterized.TestCase):

  def test_by_hand(self):
    images = np.zeros((2, 2, 2, 1), np.uint8)
    images[1, 0, 0, 0], images[1, 1, 1, 0] = 200, 55
    # 255 * 40503 = 10,328,265, which is 39,113 beyond 157 * 65,536.
    np.testing.assert_array_equal(routing.draw(images), [0.0, 39113 / 65536])

  def test_numbers_are_evenly_spread(self):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2000, 8, 8, 3), np.uint8)
    drawn = np.sort(routing.draw(images))
    self.assertBetween(drawn[0], 0.0, 0.01)
    self.assertBetween(drawn[-1], 0.99, 1.0 - 2.0**-16)
    # The Kolmogorov-Smirnov distance; random draws exceed .03 once in 20.
    expected = np.arange(2000) / 2000
    self.assertLess(np.abs(drawn - expected).max(), 0.03)


class RouteTest(parameterized.TestCase):

  def test_a_share_follows_each_rule_and_no_gate_is_read_in_vain(self):
    first, second = (0, 1, 2, 3), (7, 6, 5, 4)
    edges = [np.zeros((8**n, 1), np.float32) for n in (1, 2, 3)]
    mixture = policies.Mixture(
        policies.Rule.fixed(first, 2), policies.Rule.fixed(second, 2), 0.4
    )
    logits, subnets, reads = _route()(policies.to_policy(mixture, edges))
    expected = np.where(
        (np.asarray(routing.draw(_images())) < 0.4)[:, None], first, second
    )
    self.assertLen(np.unique(expected, axis=0), 2)
    np.testing.assert_array_equal(subnets, expected)
    self.assertFalse(reads.any())
    chex.assert_trees_all_close(
        logits, _by_sample()(jnp.asarray(expected, jnp.int32)),
        rtol=1e-4, atol=1e-4,
    )

  @parameterized.parameters(1, 5)
  def test_a_program_of_what_a_policy_may_need(self, count):
    edges = [np.zeros((8**n, 1), np.float32) for n in (1, 2, 3)]
    rule = policies.Rule.by_bin(5, np.array([[2, 5], [5, 2], [7, 0]]))
    rule.reads[1][:] = False  # The gate of anchor 2.
    mixture = policies.Mixture(policies.Rule.fixed((1,) * 4, 2), rule, 0.4)
    policy = policies.to_policy(mixture, edges)
    self.assertEqual(
        policy.used, (((1, 5), (1, 2, 5), (1, 2, 5), (0, 1, 7)), (1, 3))
    )
    images = _images()[:count]
    run = functools.partial(routing.route, _NET, _GATES, chunk_size=4)
    few = jax.jit(functools.partial(run, used=policy.used))
    chex.assert_trees_all_close(
        few(_variables(), images, policy),
        jax.jit(run)(_variables(), images, policy),
        rtol=1e-4, atol=1e-4,
    )
    # Eleven of 32 choices are left, and two of three gates of two convolutions.
    counts = [
        jax.jit(functools.partial(run, used=used))
        .lower(_variables(), images, policy)
        .as_text()
        .count('stablehlo.convolution')
        for used in (
            policy.used,
            policy.used._replace(gates=routing.ROUTING_GATES),
            None,
        )
    ]
    self.assertEqual(counts[0], counts[1] - 2)
    self.assertLess(counts[1], 0.5 * counts[2])

  def test_images_take_the_choices_of_their_own_confidences(self):
    edges = [np.zeros((8**n, 1), np.float32) for n in (1, 2, 3)]
    table = np.array([[2, 5], [5, 2], [7, 0]])
    run = _alone()
    taken, confidences = [], []
    for image in _images():
      choices, prefix = [5], 5
      for n in (1, 2, 3):
        code = np.array(choices + [0] * (4 - n), np.int32)
        _, features = run(image[None], code)
        (confident,) = map(
            float, _GATES.confide(_variables(), n, features[f'anchor{n}'])
        )
        if n == 1 and not confidences:
          # A border near the first image's confidence, so that images fall
          # into both bins.
          edges[0][:] = confident + 0.01
        confidences.append(confident)
        number = int(confident > edges[n - 1][prefix, 0])
        choices.append(int(table[n - 1][number]))
        prefix = prefix * 8 + choices[-1]
      taken.append(choices)
    self.assertGreater(len({tuple(c) for c in taken}), 1)
    rule = policies.Rule.by_bin(5, table)
    policy = policies.to_policy(policies.Mixture.of(rule), edges)
    logits, subnets, reads = _route()(policy)
    np.testing.assert_array_equal(subnets, taken)
    self.assertTrue(reads.all())
    alone = jax.jit(functools.partial(routing.route, _NET, _GATES))
    for n, image in enumerate(_images()):
      own, (subnet,), _ = alone(_variables(), image[None], policy)
      np.testing.assert_array_equal(subnet, taken[n])
      chex.assert_trees_all_close(own[0], logits[n], rtol=1e-4, atol=1e-4)
    for n, image in enumerate(_images()):
      expected, _ = run(image[None], np.array(taken[n], np.int32))
      chex.assert_trees_all_close(logits[n], expected[0], rtol=1e-4, atol=1e-4)


if __name__ == '__main__':
  absltest.main()
