# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.training.phases."""

import dataclasses
import math

from absl.testing import absltest, parameterized
from flax import traverse_util
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from adaptanet_jax import trees
from adaptanet_jax.models.resnet import ResNet
from adaptanet_jax.training import phases
from adaptanet_jax.training.mdsr import SubnetSpace
from configs import common

_NAMES = [
    'teacher',
    *(f'cascade{n}' for n in (1, 2, 3, 4)),
    'lock_in',
    *(f'delta_cascade{n}' for n in (1, 2, 3, 4)),
    'delta_lock_in',
    'gates',
]


def _build(**cascade):
  config = common.get_config()
  config.cascade.update(cascade)
  return {phase.name: phase for phase in phases.build_phases(config)}


def _leaves(tree):
  return set(traverse_util.flatten_dict(tree, sep='/'))


def _settings(**changes):
  settings = {
      'optimizer': 'sgd',
      'learning_rate': 0.5,
      'schedule': 'constant',
      'warmup_epochs': 0.0,
      'momentum': 0.0,
      'weight_decay': 0.0,
  }
  return ml_collections.FrozenConfigDict(settings | changes)


def _rates(num_steps, *, steps, steps_per_epoch, **changes):
  """Learning rates, read off what SGD does to a weight of gradient 1."""
  tx = phases.make_optimizer(
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


class BuildPhasesTest(parameterized.TestCase):

  def test_names_come_in_the_order_of_training(self):
    built = phases.build_phases(common.get_config())
    self.assertEqual([phase.name for phase in built], _NAMES)
    self.assertEqual(
        [phase.group for phase in built],
        ['teacher', *['cascade'] * 4, 'lock_in', *['delta'] * 5, 'gates'],
    )
    self.assertEqual(
        [phase.network for phase in built], ['teacher', *['student'] * 11]
    )
    self.assertContainsSubset({phase.group for phase in built}, phases.GROUPS)

  def test_spaces_and_epochs_are_the_papers(self):
    built = _build()
    self.assertIsNone(built['teacher'].space)
    for n in range(1, 5):
      self.assertEqual(built[f'cascade{n}'].space, SubnetSpace(n, n))
    self.assertEqual(built['lock_in'].space, SubnetSpace(1, 4))
    student = [built[name].epochs for name in _NAMES[1:]]
    # The deltas' own cascade and lock-in mirror the first; then the gates.
    self.assertEqual(student, [3.0, 4.0, 5.0, 6.0, 7.0] * 2 + [1.0])

  def test_what_varies_while_deltas_and_gates_train(self):
    built = _build()
    for n in (1, 2, 3, 4):
      phase = built[f'delta_cascade{n}']
      self.assertEqual(phase.space, SubnetSpace(n, n, 'delta'))
      self.assertEqual(phase.trains, (f'delta/stage{n}',))
    self.assertEqual(built['delta_lock_in'].space, SubnetSpace(1, 4, 'delta'))
    self.assertEqual(built['delta_lock_in'].trains, ('delta',))
    self.assertEqual(built['gates'].space, SubnetSpace(1, 4, 'joint'))
    self.assertEqual(built['gates'].section, 'gates')

  @parameterized.parameters('student', 'teacher')
  def test_the_cascade_reads_what_is_configured(self, source):
    built = _build(input=source)
    self.assertEqual({built[name].reads for name in _NAMES[1:5]}, {source})
    self.assertEqual(built['lock_in'].reads, 'student')

  def test_cascade_modules_are_disjoint_and_make_up_the_network(self):
    net = ResNet('resnet26x8', 'cifar', 'gn', 5, (16, 16, 1))
    params = jax.eval_shape(net.init, jax.random.key(0))['params']
    modules = []
    for n in range(1, 5):
      module, rest = trees.split(params, _build()[f'cascade{n}'].trains)
      modules.append(_leaves(module))
      self.assertNoCommonElements(modules[-1], _leaves(rest))
    # Disjoint, for their sizes add up; and together they are everything.
    everything = _leaves(params)
    self.assertEqual(sum(map(len, modules)), len(everything))
    self.assertEqual(set().union(*modules), everything)
    self.assertIn('backbone/stem/conv/kernel', modules[0])
    self.assertIn('backbone/head/kernel', modules[3])

  @parameterized.parameters('teacher', 'lock_in')
  def test_teacher_and_lock_in_train_the_whole_network(self, name):
    net = ResNet('resnet26x8', 'cifar', 'gn', 5, (16, 16, 1))
    params = jax.eval_shape(net.init, jax.random.key(0))['params']
    trained, rest = trees.split(params, _build()[name].trains)
    self.assertEqual(_leaves(trained), _leaves(params))
    self.assertEmpty(rest)


class NumStepsTest(parameterized.TestCase):

  @parameterized.parameters(
      (3.0, 10, 30),
      (0.5, 10, 5),
      # 1.24 * 10 = 12.4.
      (1.24, 10, 12),
      # However short, a phase takes a step.
      (0.01, 10, 1),
  )
  def test_parts_of_an_epoch_count_as_given(self, epochs, per_epoch, expected):
    phase = dataclasses.replace(_build()['lock_in'], epochs=epochs)
    self.assertEqual(phases.num_steps(phase, per_epoch), expected)


class MakeOptimizerTest(parameterized.TestCase):

  def test_cosine_after_warm_up_by_hand(self):
    rates = _rates(
        13, steps=12, steps_per_epoch=4, schedule='cosine', warmup_epochs=1.0
    )
    # Four steps of warm-up by fifths of the peak.
    np.testing.assert_allclose(rates[:4], [0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    # Then .5 (1 + cos(pi k / 8)) / 2 for k = 0 to 8.
    self.assertAlmostEqual(rates[4], 0.5, places=6)
    self.assertAlmostEqual(rates[6], 0.25 * (1 + math.sqrt(0.5)), places=6)
    self.assertAlmostEqual(rates[8], 0.25, places=6)
    self.assertAlmostEqual(rates[12], 0.0, places=6)

  def test_constant_after_warm_up_by_hand(self):
    rates = _rates(6, steps=6, steps_per_epoch=4, warmup_epochs=0.75)
    # Three steps of warm-up by quarters of the peak.
    np.testing.assert_allclose(rates, [0.125, 0.25, 0.375, 0.5, 0.5, 0.5])

  @parameterized.parameters('constant', 'cosine')
  def test_without_warm_up_the_first_step_is_at_the_peak(self, schedule):
    rates = _rates(1, steps=8, steps_per_epoch=4, schedule=schedule)
    self.assertAlmostEqual(rates[0], 0.5, places=6)

  def test_momentum_is_nesterovs(self):
    # Velocities are 1 and 1.9; steps are .5 (1 + .9 velocity).
    rates = _rates(2, steps=8, steps_per_epoch=4, momentum=0.9)
    np.testing.assert_allclose(rates, [0.95, 1.355], rtol=1e-6)

  def test_weight_decay_of_sgd_touches_kernels_alone(self):
    tx = phases.make_optimizer(
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
    tx = phases.make_optimizer(
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


class MakeRngTest(parameterized.TestCase):

  def test_phases_and_seeds_have_keys_of_their_own(self):
    keys = [
        tuple(jax.random.key_data(phases.make_rng(seed, phase)).tolist())
        for seed in (0, 1)
        for phase in _build().values()
    ]
    self.assertLen(set(keys), 2 * len(_NAMES))

  def test_a_key_is_a_function_of_seed_and_phase(self):
    phase = _build()['cascade2']
    first, second = (
        jax.random.key_data(phases.make_rng(5, phase)) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


if __name__ == '__main__':
  absltest.main()
