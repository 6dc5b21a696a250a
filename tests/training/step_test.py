# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.training.step."""

from absl.testing import absltest
import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from adaptanet_jax.training.step import TrainState, map_train_step


def _objective(params, stats, inputs):
  """Returns gradients of 1, and as metric the sum of the teacher's `w`."""
  grads = jax.tree.map(jnp.ones_like, params)
  stats = jax.tree.map(lambda leaf: leaf + 1.0, stats)
  return grads, stats, {'taught': inputs.teacher['params']['w'].sum()}


def _run(state, teacher, num_steps, decay):
  step = map_train_step(_objective, optax.sgd(0.5), 'none', decay)
  count = jax.local_device_count()
  batch = {
      'image': np.zeros((count, 1, 4, 4, 1), np.uint8),
      'label': np.zeros((count, 1), np.int32),
  }
  seen = []
  for _ in range(num_steps):
    state, metrics = step(state, {}, teacher, jax.random.key(0), batch)
    seen.append(float(metrics['taught']))
  return state, seen


class MovingAverageTest(absltest.TestCase):

  def _state(self, average):
    tx = optax.sgd(0.5)
    params = {'w': jnp.array([4.0])}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats={'mean': jnp.array([0.0])},
        opt_state=tx.init(params),
        average=average,
    )

  def test_it_follows_parameters_and_statistics_and_teaches(self):
    average = {
        'params': {'w': jnp.array([4.0])},
        'batch_stats': {'mean': jnp.array([0.0])},
    }
    state, seen = _run(self._state(average), {}, 3, decay=0.2)
    # w falls by .5 a step: 3.5, 3, 2.5; the mean rises by 1. The old average
    # has weight 2 / 11 in the first step, then .2, because 3 / 12 is more.
    # w: 3.5 + .5 * 2 / 11 = 3.590909; 3 + .2 * .590909 = 3.118182; 2.5 + .2 *
    # .618182 = 2.623636. Mean: 1 - 2 / 11 = .818182; 2 - .2 * 1.181818 =
    # 1.763636; 3 - .2 * 1.236364 = 2.752727.
    np.testing.assert_allclose(state.params['w'], [2.5])
    np.testing.assert_allclose(
        state.average['params']['w'], [2.623636], rtol=1e-6
    )
    np.testing.assert_allclose(
        state.average['batch_stats']['mean'], [2.752727], rtol=1e-6
    )
    # The teacher of each step is the average of the steps before it.
    np.testing.assert_allclose(seen, [4.0, 3.590909, 3.118182], rtol=1e-6)

  def test_without_one_the_teacher_is_the_one_given(self):
    teacher = {'params': {'w': jnp.array([7.0])}}
    state, seen = _run(self._state({}), teacher, 2, decay=0.5)
    self.assertEqual(state.average, {})
    self.assertEqual(seen, [7.0, 7.0])


def _brightness(params, stats, inputs):
  """Returns gradients that depend on each image and on its random shift."""
  weights = jnp.arange(1.0, 17.0).reshape(1, 4, 4, 1)
  images = inputs.images.astype(jnp.float32)
  bright = (images * weights).mean((1, 2, 3))
  mean = (bright * (1.0 + inputs.labels)).mean()
  return jax.tree.map(lambda leaf: leaf * mean, params), stats, {'mean': mean}


class DevicesTest(absltest.TestCase):

  def test_four_take_the_step_that_one_takes(self):
    tx = optax.sgd(1e-3)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 4, 4, 1), np.uint8)
    labels = rng.integers(0, 10, 8, np.int32)
    found = []
    for count in (1, 4):
      # With one parameter there would be as many leaves as arguments, and pmap
      # of jax 0.10.2 would take the axes of the arguments for the leaves'.
      params = {'v': jnp.array([3.0]), 'w': jnp.array([1.0, -2.0])}
      state = TrainState(
          step=jnp.zeros((), jnp.int32),
          params=params,
          batch_stats={},
          opt_state=tx.init(params),
      )
      step = map_train_step(
          _brightness, tx, 'crop', on=jax.local_devices()[:count]
      )
      batch = {
          'image': images.reshape(count, -1, 4, 4, 1),
          'label': labels.reshape(count, -1),
      }
      state, metrics = step(state, {}, {}, jax.random.key(0), batch)
      self.assertTrue(metrics['mean'].is_fully_replicated)
      found.append((jax.device_get(state.params), jax.device_get(metrics)))
    (params, metrics), _ = found
    self.assertGreater(metrics['mean'], 0.0)
    factor = 1.0 - 1e-3 * metrics['mean']
    expected = factor * np.array([1.0, -2.0])
    np.testing.assert_allclose(params['w'], expected, rtol=1e-6)
    chex.assert_trees_all_close(*found, rtol=1e-6)


if __name__ == '__main__':
  absltest.main()
