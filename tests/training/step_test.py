# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.training.step."""

from absl.testing import absltest
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


if __name__ == '__main__':
  absltest.main()
