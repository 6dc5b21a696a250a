# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.models.gates."""

import dataclasses

from absl.testing import absltest, parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import trees
from adaptanet_jax.models import gates as gates_lib

_SHAPES = ((16, 16, 8), (8, 8, 16), (4, 4, 32), (2, 2, 64))


def _gates(anchors=(1, 2, 3, 4), resolution=4, num_classes=5):
  return gates_lib.GateSet(anchors, num_classes, resolution)


def _variables(gates, shapes=_SHAPES, seed=0):
  return trees.draw_like(gates.shapes(shapes), seed=seed)


def _anchor(number, seed=0):
  rng = np.random.default_rng(seed)
  return rng.standard_normal((3, *_SHAPES[number - 1]), np.float32)


class VarGateTest(parameterized.TestCase):

  @parameterized.parameters(
      # Side of the anchor, side that it is pooled to, inputs of a head. Strides
      # halve the map as long as it stays at least as large as the second.
      (32, 4, 4 * 4 * 32),
      (4, 4, 4 * 4 * 32),
      (2, 4, 2 * 2 * 32),
      (56, 7, 7 * 7 * 32),
      (7, 7, 7 * 7 * 32),
  )
  def test_heads_read_32_channels_of_the_paper_s_size(
      self, side, resolution, features
  ):
    gates = _gates((1,), resolution)
    shapes = _variables(gates, ((side, side, 8),) * 4)['params']['gates']
    for head in ('detection', 'log_variance'):
      self.assertEqual(shapes['gate1'][head]['kernel'].shape, (features, 5))
    self.assertEqual(
        shapes['gate1']['conv1']['kernel'].shape, (2, 2, 8, 32)
    )
    self.assertEqual(
        shapes['gate1']['conv2']['kernel'].shape, (2, 2, 32, 32)
    )

  @parameterized.parameters(1, 2, 3, 4)
  def test_puts_out_a_detection_and_a_variance_for_each_class(self, number):
    gates = _gates()
    outputs = gates.run(_variables(gates), number, _anchor(number))
    for output in outputs:
      chex.assert_shape(output, (3, 5))
      chex.assert_type(output, jnp.float32)
    self.assertFalse(np.allclose(*outputs))

  def test_an_example_s_output_does_not_depend_on_the_others(self):
    gates = _gates()
    variables = _variables(gates)
    together = gates.run(variables, 2, _anchor(2))
    alone = gates.run(variables, 2, _anchor(2)[1:2])
    chex.assert_trees_all_close(
        jax.tree.map(lambda x: x[1:2], together), alone, rtol=1e-4, atol=1e-4
    )

  def test_training_moves_the_statistics_of_every_gate(self):
    gates = _gates((1, 3))
    variables = _variables(gates)
    features = {f'anchor{n}': _anchor(n) for n in (1, 2, 3, 4)}
    outputs, stats = gates.run_all(variables, features)
    self.assertEqual(set(outputs), {1, 3})
    old = variables['batch_stats']
    chex.assert_trees_all_equal_shapes(stats, old)
    stayed = jax.tree.map(np.array_equal, stats, old)
    self.assertFalse(any(jax.tree.leaves(stayed)))

  def test_gates_are_replaced_without_touching_anything_else(self):
    gates = _gates()
    first, second = _variables(gates), _variables(gates, seed=1)
    mixed = {
        name: {'gates': first[name]['gates'] | {
            'gate2': second[name]['gates']['gate2']}}
        for name in first
    }
    for n in (1, 2, 3, 4):
      source = second if n == 2 else first
      chex.assert_trees_all_equal(
          gates.run(mixed, n, _anchor(n)), gates.run(source, n, _anchor(n))
      )

  def test_an_anchor_without_a_gate_is_refused(self):
    gates = _gates((1, 3))
    with self.assertRaisesRegex(ValueError, r'Anchor 2 has no gate.*\(1, 3\)'):
      gates.run(_variables(gates), 2, _anchor(2))


class PoolTest(parameterized.TestCase):

  def test_windows_by_hand(self):
    # From five to two: the windows are 0 to 3 and 2 to 5.
    x = jnp.array([1.0, 2.0, 3.0, 4.0, 8.0]).reshape(1, 5, 1, 1)
    pooled = gates_lib.adaptive_average_pool(x, 2)
    chex.assert_trees_all_close(pooled.ravel(), jnp.array([2.0, 5.0]))

  @parameterized.parameters((8, 4), (14, 7))
  def test_whole_windows_are_means_of_blocks(self, side, size):
    x = np.random.default_rng(0).standard_normal((2, side, side, 3), np.float32)
    block = side // size
    expected = x.reshape(2, size, block, size, block, 3).mean((2, 4))
    actual = gates_lib.adaptive_average_pool(jnp.asarray(x), size)
    chex.assert_trees_all_close(actual, expected, rtol=1e-5, atol=1e-6)

  def test_a_smaller_map_stays(self):
    x = np.random.default_rng(0).standard_normal((2, 2, 2, 3), np.float32)
    chex.assert_trees_all_close(
        gates_lib.adaptive_average_pool(jnp.asarray(x), 4), x
    )


def _confidence(name, detection, log_variance):
  every = gates_lib.confidences(jnp.asarray(detection), log_variance)
  return every[gates_lib.CONFIDENCES.index(name)]


class ConfidencesTest(parameterized.TestCase):

  def test_variance_is_of_the_ten_classes_detected_most(self):
    detection = jnp.arange(12.0)[None]
    # The two weakest classes have huge variances, and are left out.
    log_variance = jnp.array([[50.0, 50.0, *[1.0] * 9, 3.0]])
    actual = _confidence('variance', detection, log_variance)
    chex.assert_trees_all_close(actual, jnp.array([-1.2]), rtol=1e-6)

  def test_variance_is_of_all_classes_where_there_are_fewer(self):
    log_variance = jnp.array([[1.0, 2.0, 3.0, 6.0]])
    actual = _confidence('variance', jnp.zeros((1, 4)), log_variance)
    chex.assert_trees_all_close(actual, jnp.array([-3.0]))

  def test_margin_and_entropy_by_hand(self):
    # The probabilities are 1/2, 1/4 and 1/4, and 1/3 each.
    detection = np.log([[2.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    nothing = jnp.zeros((2, 3))
    chex.assert_trees_all_close(
        _confidence('margin', detection, nothing),
        jnp.array([0.25, 0.0]), atol=1e-6,
    )
    chex.assert_trees_all_close(
        _confidence('entropy', detection, nothing),
        jnp.array([-1.5 * np.log(2.0), -np.log(3.0)]), rtol=1e-6,
    )

  def test_a_single_class_leaves_nothing_to_doubt_but_its_variance(self):
    every = gates_lib.confidences(jnp.zeros((2, 1)), jnp.array([[1.0], [2.0]]))
    chex.assert_trees_all_close(
        every, jnp.array([[-1.0, -2.0], [0.0, 0.0], [0.0, 0.0]])
    )

  def test_a_set_of_gates_goes_by_the_one_that_it_names(self):
    gates = gates_lib.GateSet((1,), 3, 4)
    variables = gates.init(jax.random.key(0), ((4, 4, 2),) * 4)
    anchor = jnp.asarray(
        np.random.default_rng(0).standard_normal((5, 4, 4, 2), np.float32)
    )
    every = gates_lib.confidences(*gates.run(variables, 1, anchor))
    for name, expected in zip(gates_lib.CONFIDENCES, every):
      named = dataclasses.replace(gates, confidence=name)
      chex.assert_trees_all_close(
          named.confide(variables, 1, anchor), expected
      )


if __name__ == '__main__':
  absltest.main()
