# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.training.losses."""

from absl.testing import absltest, parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax.training import losses

_PREDICTION = jnp.array([[1.0, 2.0], [3.0, 4.0]])
_TARGET = jnp.array([[1.0, 0.0], [0.0, 4.0]])


def _random(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


def _outputs(seed):
  return {'anchor4': _random(seed, 4, 2, 2, 3), 'logits': _random(seed, 4, 5)}


class MeanSquaredErrorTest(parameterized.TestCase):

  def test_value_by_hand(self):
    # (0 + 4 + 9 + 0) / 4.
    self.assertEqual(losses.mean_squared_error(_PREDICTION, _TARGET), 3.25)

  def test_gradient_by_hand(self):
    grads = jax.grad(losses.mean_squared_error)(_PREDICTION, _TARGET)
    # 2 (prediction - target) / 4.
    np.testing.assert_allclose(grads, [[0.0, 1.0], [1.5, 0.0]])

  def test_a_common_shift_and_a_batch_twice_change_nothing(self):
    loss = losses.mean_squared_error(_PREDICTION, _TARGET)
    self.assertEqual(
        losses.mean_squared_error(_PREDICTION + 8, _TARGET + 8), loss
    )
    twice = [jnp.concatenate([x, x]) for x in (_PREDICTION, _TARGET)]
    self.assertEqual(losses.mean_squared_error(*twice), loss)

  def test_bfloat16_is_averaged_in_float32(self):
    ones = jnp.ones((64, 64), jnp.bfloat16)
    loss = losses.mean_squared_error(ones, jnp.zeros_like(ones))
    self.assertEqual(loss.dtype, jnp.float32)
    # A sum of ones in bfloat16 would not grow beyond 256.
    self.assertEqual(loss, 1.0)
    # 1 + 2^-7 is the next number after 1 in bfloat16.
    loss = losses.mean_squared_error(ones + 2**-7, ones)
    self.assertEqual(loss, 2.0**-14)


class AnchorLossTest(parameterized.TestCase):

  def test_value_by_hand(self):
    outputs = {'anchor4': _PREDICTION, 'logits': jnp.array([[1.0, 1.0, 4.0]])}
    targets = {'anchor4': _TARGET, 'logits': jnp.array([[1.0, 2.0, 1.0]])}
    # 3.25, as above, plus (0 + 1 + 9) / 3: outputs weigh the same, whatever
    # their size.
    self.assertAlmostEqual(
        float(losses.anchor_loss(outputs, targets)), 3.25 + 10 / 3, places=6
    )

  def test_zero_where_all_match(self):
    self.assertEqual(losses.anchor_loss(_outputs(0), _outputs(0)), 0.0)

  def test_order_of_names_and_of_examples_changes_nothing(self):
    outputs, targets = _outputs(0), _outputs(1)
    loss = losses.anchor_loss(outputs, targets)
    backwards = dict(reversed(outputs.items()))
    self.assertEqual(losses.anchor_loss(backwards, targets), loss)
    order = jnp.array([2, 0, 3, 1])
    shuffled = [{k: v[order] for k, v in x.items()} for x in (outputs, targets)]
    np.testing.assert_allclose(losses.anchor_loss(*shuffled), loss, rtol=1e-6)

  def test_gradients_are_finite_and_zero_at_the_target(self):
    grad = jax.grad(losses.anchor_loss)
    grads = grad({k: 1e4 * v for k, v in _outputs(0).items()}, _outputs(1))
    chex.assert_tree_all_finite(grads)
    self.assertGreater(float(jnp.abs(grads['logits']).min()), 0.0)
    chex.assert_trees_all_equal(
        grad(_outputs(0), _outputs(0)),
        jax.tree.map(jnp.zeros_like, _outputs(0)),
    )

  def test_float32_from_bfloat16(self):
    half = {k: v.astype(jnp.bfloat16) for k, v in _outputs(0).items()}
    single = {k: v.astype(jnp.float32) for k, v in half.items()}
    loss = losses.anchor_loss(half, _outputs(1))
    self.assertEqual(loss.dtype, jnp.float32)
    np.testing.assert_allclose(
        loss, losses.anchor_loss(single, _outputs(1)), rtol=1e-6
    )

  @parameterized.parameters(
      (['logits'], 'anchor4'), (['anchor3', 'anchor4', 'logits'], 'anchor3')
  )
  def test_other_names_are_refused(self, names, other):
    targets = dict.fromkeys(names, _TARGET)
    # JAX's text, which changes with its releases, names the one that differs.
    with self.assertRaisesRegex(ValueError, other):
      losses.anchor_loss(_outputs(0), targets)


class SmoothTargetsTest(parameterized.TestCase):

  def test_values_by_hand(self):
    targets = losses.smooth_targets(
        jnp.array([1, 0]), 4, label_smoothing=0.2
    )
    # .2 / 4 for every class, and .8 more for the label.
    np.testing.assert_allclose(
        targets, [[0.05, 0.85, 0.05, 0.05], [0.85, 0.05, 0.05, 0.05]], rtol=1e-6
    )

  def test_without_smoothing_all_of_it_is_the_label(self):
    targets = losses.smooth_targets(
        jnp.array([2, 0]), 3, label_smoothing=0.0
    )
    np.testing.assert_array_equal(targets, [[0, 0, 1], [1, 0, 0]])


class Top1Test(parameterized.TestCase):

  def test_value_by_hand(self):
    logits = jnp.array([[1.0, 3.0], [0.0, -1.0], [2.0, 5.0]])
    # The largest logits are those of 1, 0 and 1: two of three are right.
    top1 = losses.top1(logits, jnp.array([1, 1, 1]))
    self.assertAlmostEqual(float(top1), 2 / 3, places=6)
    self.assertEqual(top1.dtype, jnp.float32)


class GaussianKlTest(parameterized.TestCase):

  @parameterized.parameters(
      # With target variance g = 1e-4, predicted variance p and error e, forward
      # is (log(p / g) + (g + e^2) / p - 1) / 2, and literal is
      # (log(g / p) + (p + e^2) / g - 1) / 2. First p = g and e = 0:
      ('forward', 1e-4, 0.0, 0.0),
      ('literal', 1e-4, 0.0, 0.0),
      # p = 1e-2, e = 0.1: (log(100) + 1.01 - 1) / 2.
      ('forward', 1e-2, 0.1, 2.307585),
      # (-log(100) + 200 - 1) / 2.
      ('literal', 1e-2, 0.1, 97.197415),
  )
  def test_values_by_hand(self, divergence, variance, error, expected):
    kl = losses.gaussian_kl(
        jnp.full((2, 3), 5.0 + error),
        jnp.full((2, 3), np.log(variance)),
        jnp.full((2, 3), 5.0),
        divergence,
    )
    np.testing.assert_allclose(kl, expected, rtol=1e-4, atol=1e-4)

  def _slope(self, divergence, variance, error):
    """Returns the derivative of the divergence by the log-variance."""
    def kl(log_variance):
      return losses.gaussian_kl(
          jnp.full((1, 1), error),
          log_variance.reshape(1, 1),
          jnp.zeros((1, 1)),
          divergence,
      )

    return float(jax.grad(kl)(jnp.log(variance)))

  @parameterized.parameters(0.0, 0.1, 1.0, 10.0)
  def test_the_literal_one_s_best_variance_ignores_the_error(self, error):
    for variance in (1e-5, 1e-4, 1e-2, 1.0):
      # (p / g - 1) / 2: zero at p = g, whatever the error.
      np.testing.assert_allclose(
          self._slope('literal', variance, error),
          (variance / 1e-4 - 1.0) / 2.0,
          rtol=1e-3,
          atol=1e-4,
      )
    # Hence the default is the other direction, which learns the error.
    best = 1e-4 + error**2
    self.assertAlmostEqual(self._slope('forward', best, error), 0.0, places=4)
    self.assertLess(self._slope('forward', best / 2, error), -0.1)
    self.assertGreater(self._slope('forward', best * 2, error), 0.1)

  @parameterized.parameters(*losses.DIVERGENCES)
  def test_gradients_are_finite_and_of_both_heads(self, divergence):
    grads = jax.grad(losses.gate_loss, (0, 1))(
        jnp.array([[1.0, -2.0]]),
        jnp.array([[0.5, -3.0]]),
        jnp.array([[0.0, 4.0]]),
        divergence,
    )
    chex.assert_tree_all_finite(grads)
    for grad in grads:
      self.assertTrue(np.all(grad != 0.0))

  def test_gate_loss_is_the_sum_of_equation_4(self):
    arguments = (
        jnp.array([[1.0, -2.0]]),
        jnp.array([[0.5, -3.0]]),
        jnp.array([[0.0, 4.0]]),
    )
    expected = losses.gaussian_kl(*arguments, 'forward')
    expected += losses.soft_cross_entropy(arguments[0], arguments[2])
    actual = losses.gate_loss(*arguments, 'forward')
    np.testing.assert_allclose(actual, expected, rtol=1e-6)

  def test_an_unknown_divergence_is_refused(self):
    with self.assertRaisesRegex(ValueError, "'reverse'.*forward.*literal"):
      losses.gaussian_kl(*[jnp.zeros((1, 1))] * 3, 'reverse')


class SoftCrossEntropyTest(parameterized.TestCase):

  def test_value_by_hand(self):
    # Probabilities 3/4 and 1/4 against 1/2 and 1/2: log 2.
    target = jnp.log(jnp.array([[3.0, 1.0]]))
    loss = losses.soft_cross_entropy(jnp.zeros((1, 2)), target)
    np.testing.assert_allclose(loss, np.log(2.0), rtol=1e-6)

  def test_is_least_where_the_probabilities_agree(self):
    target = jnp.array([[1.0, 2.0, -1.0]])
    grad = jax.grad(losses.soft_cross_entropy)(target + 3.0, target)
    np.testing.assert_allclose(grad, np.zeros((1, 3)), atol=1e-6)


if __name__ == '__main__':
  absltest.main()
