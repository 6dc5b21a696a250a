# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.training.phases."""

import dataclasses

from absl.testing import absltest, parameterized
from flax import traverse_util
import jax
import numpy as np

from adaptanet_jax import settings, trees, workspace
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

  def test_spaces_and_epochs_are_the_papers(self):
    built = _build()
    self.assertIsNone(built['teacher'].space)
    for n in range(1, 5):
      self.assertEqual(built[f'cascade{n}'].space, SubnetSpace(n, n))
    self.assertEqual(built['lock_in'].space, SubnetSpace(1, 4))
    student = [built[name].epochs for name in _NAMES[1:]]
    # The deltas' cascade and lock-in take as long as the first; then the gates.
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
    self.assertEqual({built[name].input_from for name in _NAMES[1:5]}, {source})
    self.assertEqual(built['lock_in'].input_from, 'student')

  def test_cascade_modules_are_disjoint_and_make_up_the_network(self):
    net = ResNet('resnet26x8', 'cifar', 'gn', 5, (16, 16, 1))
    params = jax.eval_shape(net.init, jax.random.key(0))['params']
    modules = []
    for n in range(1, 5):
      module, rest = trees.split(params, _build()[f'cascade{n}'].trains)
      modules.append(_leaves(module))
      self.assertNoCommonElements(modules[-1], _leaves(rest))
    # Their sizes add up, so they are disjoint; together they are everything.
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
      (3.0, 30),
      (0.5, 5),
      # 12.4 and 12.6 steps.
      (1.24, 12),
      (1.26, 13),
      # A phase takes at least one step.
      (0.01, 1),
      # A teacher that is used as it is.
      (0.0, 0),
  )
  def test_parts_of_an_epoch_count_as_given(self, epochs, expected):
    phase = dataclasses.replace(_build()['lock_in'], epochs=epochs)
    self.assertEqual(phase.settings.batch_size, 64)
    # Ten full batches, and one that is dropped.
    self.assertEqual(phase.epoch_steps(10 * 64 + 63), 10)
    self.assertEqual(phase.num_steps(10 * 64 + 63), expected)


class MakeRngTest(parameterized.TestCase):

  def test_phases_and_seeds_have_keys_of_their_own(self):
    keys = [
        tuple(jax.random.key_data(phases.make_rng(seed, name)).tolist())
        for seed in (0, 1)
        for name in _NAMES
    ]
    self.assertLen(set(keys), 2 * len(_NAMES))

  def test_a_key_is_a_function_of_seed_and_phase(self):
    first, second = (
        jax.random.key_data(phases.make_rng(5, 'cascade2')) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


class DependenciesTest(parameterized.TestCase):

  @parameterized.parameters(
      ('seed', 'teacher'),
      ('data.held_out', 'teacher'),
      ('model.stem', 'teacher'),
      ('model.norm', 'cascade'),
      ('model.sort_channels', 'cascade'),
      ('mdsr.num_random', 'cascade'),
      ('cascade.input', 'cascade'),
      ('lock_in.learning_rate', 'lock_in'),
      ('delta.kind', 'delta.cascade'),
      ('delta.lock_in.epochs', 'delta.lock_in'),
      ('joint.epochs', 'joint'),
      ('gates.resolution', 'gates'),
  )
  def test_a_setting_changes_the_phases_from_its_own_on(self, key, first):
    config = common.get_config()
    config.joint.epochs = 1.0
    old = config.to_dict()
    flat = traverse_util.flatten_dict(old, sep='.')
    new = traverse_util.unflatten_dict(flat | {key: 2.0}, sep='.')
    sections = list(phases.sections_of(config))
    changed = [
        section
        for section in sections
        if settings.differing(old, new, up_to=section)
    ]
    self.assertEqual(changed, sections[sections.index(first) :])


class ObjectiveTest(parameterized.TestCase):

  def _arguments(self, name, *, num_examples=640, **changes):
    """Returns the keyword arguments of a phase's objective."""
    config = common.get_config()
    config.update_from_flattened_dict(changes)
    built = {phase.name: phase for phase in phases.build_phases(config)}
    nets, gates = workspace.networks(config, 10, (8, 8, 1))
    arguments = phases.objective_for(
        config, built[name], nets, gates, num_examples=num_examples
    ).keywords
    if weighting := arguments.get('weighting'):
      arguments |= dataclasses.asdict(weighting)
    return arguments

  @parameterized.parameters(
      ('teacher', 'teacher.label_smoothing', 0.25, 'label_smoothing'),
      ('cascade2', 'mdsr.teacher_weight', 0.75, 'teacher_weight'),
      ('lock_in', 'mdsr.num_random', 5, 'num_random'),
      ('cascade3', 'cascade.input', 'teacher', 'input_from'),
      ('cascade4', 'cascade.soft_weight', 0.5, 'soft_weight'),
      ('delta_lock_in', 'delta.lock_in.soft_weight', 0.5, 'soft_weight'),
      ('gates', 'mdsr.num_random', 5, 'num_random'),
      ('gates', 'gates.divergence', 'literal', 'divergence'),
  )
  def test_settings_reach_it(self, name, key, value, argument):
    found = self._arguments(name, **{key: value})
    self.assertEqual(found[argument], value)
    self.assertNotEqual(self._arguments(name)[argument], value)

  @parameterized.parameters(
      ('label_smoothing', 0.25), ('ensemble', 'ib')
  )
  def test_settings_reach_a_baseline(self, key, value):
    network = {'baseline.network': 'dsnet'}
    found = self._arguments(
        'baseline', **network, **{f'baseline.{key}': value}
    )
    self.assertEqual(found[key], value)
    self.assertNotEqual(
        self._arguments('baseline', **network)[key], value
    )

  @parameterized.parameters(
      # Seven epochs of ten batches of 64.
      (0.0, 0), (0.01, 69), (1.0, 60), (1.5, 55), (7.0, 0), (9.0, 0)
  )
  def test_the_soft_loss_is_that_of_the_last_epochs(self, epochs, first):
    found = self._arguments('lock_in', **{'mdsr.soft_epochs': epochs})
    self.assertEqual(found['soft_from'], first)

  def test_the_soft_loss_may_be_that_of_a_phase_of_one_step(self):
    found = self._arguments(
        'lock_in', **{'lock_in.epochs': 0.001, 'mdsr.soft_epochs': 1.0}
    )
    self.assertEqual(found['soft_from'], 0)


if __name__ == '__main__':
  absltest.main()
