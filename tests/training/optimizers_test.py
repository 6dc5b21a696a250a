# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.training.optimizers."""

import math

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from adaptanet_jax import settings
from adaptanet_jax.training import optimizers


def _settings(**changes):
  values = {
      'optimizer': 'sgd',
      'learning_rate': 0.5,
      'schedule': 'constant',
      'warmup_epochs': 0.0,
      'momentum': 0.0,
      'weight_decay': 0.0,
  }
  return ml_collections.FrozenConfigDict(values | changes)


def _rates(num_steps, *, steps, steps_per_epoch, **changes):
  """Returns learning rates: SGD's updates of a weight with gradient 1."""
  tx = optimizers.make_optimizer(
      _settings(**changes), steps=steps, steps_per_epoch=steps_per_epoch
  )
  params = {'kernel': jnp.zeros(())}
  grads = {'kernel': jnp.ones(())}
  state = tx.init(params)
  rates = []
  for _ in range(num_steps):
    updates, state = tx.update(grads, state, params)
    rates.append(-float(updates['kernel']))
  return rates


class MakeOptimizerTest(parameterized.TestCase):

  @parameterized.parameters(*settings.ALLOWED['teacher.optimizer'])
  def test_it_starts_from_zeros_as_the_first_state_of_a_phase(self, name):
    tx = optimizers.make_optimizer(
        _settings(optimizer=name, momentum=0.9), steps=9, steps_per_epoch=3
    )
    leaves = jax.tree.leaves(tx.init({'kernel': jnp.ones((2, 3))}))
    self.assertNotEmpty(leaves)
    for leaf in leaves:
      self.assertFalse(np.any(leaf))

  def test_cosine_after_warm_up_by_hand(self):
    rates = _rates(
        13, steps=12, steps_per_epoch=4, schedule='cosine', warmup_epochs=1.0
    )
    # Four steps of warm-up, in fifths of the peak.
    np.testing.assert_allclose(rates[:4], [0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    # Then .5 (1 + cos(pi k / 8)) / 2 for k = 0 to 8.
    self.assertAlmostEqual(rates[4], 0.5, places=6)
    self.assertAlmostEqual(rates[6], 0.25 * (1 + math.sqrt(0.5)), places=6)
    self.assertAlmostEqual(rates[8], 0.25, places=6)
    self.assertAlmostEqual(rates[12], 0.0, places=6)

  def test_constant_after_warm_up_by_hand(self):
    rates = _rates(6, steps=6, steps_per_epoch=4, warmup_epochs=0.75)
    # Three steps of warm-up, in quarters of the peak.
    np.testing.assert_allclose(rates, [0.125, 0.25, 0.375, 0.5, 0.5, 0.5])

  def test_steps_down_are_shares_of_all_steps_with_those_of_warm_up(self):
    rates = _rates(
        20, steps=20, steps_per_epoch=4, schedule='step', warmup_epochs=1.0
    )
    # At 30, 60 and 90 % of 20 steps; the first four are warm-up.
    np.testing.assert_allclose(
        rates[4:], [0.5] * 2 + [0.05] * 6 + [0.005] * 6 + [5e-4] * 2, rtol=1e-5
    )

  @parameterized.parameters('constant', 'cosine')
  def test_without_warm_up_the_first_step_is_at_the_peak(self, schedule):
    rates = _rates(1, steps=8, steps_per_epoch=4, schedule=schedule)
    self.assertAlmostEqual(rates[0], 0.5, places=6)

  def test_momentum_is_nesterovs(self):
    # The velocities are 1 and 1.9, and the steps .5 (1 + .9 velocity).
    rates = _rates(2, steps=8, steps_per_epoch=4, momentum=0.9)
    np.testing.assert_allclose(rates, [0.95, 1.355], rtol=1e-6)

  def test_weight_decay_of_sgd_touches_kernels_alone(self):
    tx = optimizers.make_optimizer(
        _settings(weight_decay=0.1), steps=8, steps_per_epoch=4
    )
    params = {
        'conv': {'kernel': jnp.array(2.0)},
        'norm': {'scale': jnp.array(3.0), 'bias': jnp.array(4.0)},
    }
    grads = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(grads, tx.init(params), params)
    # Rate .5 * decay .1 * weight 2.
    self.assertAlmostEqual(float(updates['conv']['kernel']), -0.1, places=6)
    self.assertEqual(float(updates['norm']['scale']), 0.0)
    self.assertEqual(float(updates['norm']['bias']), 0.0)

  def test_adam_follows_the_sign_and_decays_nothing(self):
    tx = optimizers.make_optimizer(
        _settings(optimizer='adam', learning_rate=1e-3, weight_decay=0.1),
        steps=8,
        steps_per_epoch=4,
    )
    params = {'a': {'kernel': jnp.array(2.0)}, 'b': {'kernel': jnp.array(2.0)}}
    grads = {'a': {'kernel': jnp.array(-3.0)}, 'b': {'kernel': jnp.array(0.0)}}
    updates, _ = tx.update(grads, tx.init(params), params)
    # The first step is rate * gradient / |gradient|.
    self.assertAlmostEqual(float(updates['a']['kernel']), 1e-3, places=7)
    self.assertEqual(float(updates['b']['kernel']), 0.0)


if __name__ == '__main__':
  absltest.main()
