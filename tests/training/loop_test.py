# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.training.loop."""

import dataclasses
import functools
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import chex
import jax
import numpy as np

from adaptanet_jax import preemption, trees
from adaptanet_jax.data import sources
from adaptanet_jax.errors import UsageError
from adaptanet_jax.models.gates import GateSet
from adaptanet_jax.models.resnet import ResNet
from adaptanet_jax.programs import Programs
from adaptanet_jax.progress import MetricsLog
from adaptanet_jax.training import loop, mdsr, objectives, phases
from adaptanet_jax.training.checkpoints import PhaseCheckpoints
from adaptanet_jax.training.forward import Networks
from configs import digits

NET = ResNet('resnet26x8', 'cifar', 'gn', 10, (16, 16, 1), axis_name='batch')
DELTA_NET = dataclasses.replace(NET, delta='conv3x3')
GATE_SET = GateSet((1, 2, 3, 4), 10, 4, axis_name='batch')
STEPS = 2
BATCH_SIZE = 8


def _config():
  c = digits.get_config('smoke')
  c.data.train_examples = STEPS * BATCH_SIZE
  c.data.held_out = 0.0
  for section in (c.cascade, c.delta.cascade, c.delta.lock_in, c.gates):
    section.batch_size = BATCH_SIZE
  c.log_every_steps = 1
  return c


def _host(tree):
  return jax.tree.map(np.array, tree)


def _all_differ(old, new):
  differ = jax.tree.map(lambda a, b: not np.array_equal(a, b), old, new)
  return all(jax.tree.leaves(differ))


class LoopTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.workdir = tempfile.mkdtemp()
    cls.addClassCleanup(shutil.rmtree, cls.workdir)
    cls.config = _config()
    cls.split = sources.load(cls.config).train
    cls.teacher = _host(trees.draw_like(NET.shapes()))
    cls.student = _host(
        trees.merge(
            trees.draw_like(NET.shapes(), seed=1),
            trees.draw_like(
                jax.eval_shape(DELTA_NET.init_delta, jax.random.key(0))
            ),
            trees.draw_like(GATE_SET.shapes(NET.anchor_shapes)),
        )
    )
    cls.phases = {p.name: p for p in phases.build_phases(cls.config)}

  def _step(self, phase, objective):
    # The step is compiled from shapes; it then runs on arrays.
    shapes = jax.eval_shape(lambda: (self.student, self.teacher))
    return loop.make_step(phase, *shapes, self.split, objective, 'none')

  def _train(self, phase, objective, step=None, validate=None):
    step = step or self._step(phase, objective)
    with (
        PhaseCheckpoints(self.workdir, phase.name, keep=1) as checkpoints,
        Programs() as programs,
    ):
      programs.ahead(step.program)
      return loop.train_phase(
          phase,
          self.student,
          self.teacher,
          self.split,
          step=step,
          programs=programs,
          config=self.config,
          checkpoints=checkpoints,
          log=MetricsLog(self.workdir),
          validate=validate,
      )

  @parameterized.parameters('cascade1', 'gates')
  def test_a_phase_changes_what_it_trains_alone_and_in_one_trace(self, name):
    phase = self.phases[name]
    # Copies: what a step donates must not be the network's own.
    before, teacher_before = jax.tree.map(
        np.array, (self.student, self.teacher)
    )
    num_traces = 0

    def objective(*args):
      nonlocal num_traces
      num_traces += 1
      if name == 'gates':
        return objectives.gate_gradients(
            *args,
            net=DELTA_NET,
            gates=GATE_SET,
            space=phase.space,
            num_random=1,
            divergence='forward',
        )
      return objectives.anchor_gradients(
          *args,
          nets=Networks(NET, NET),
          space=phase.space,
          input_from=phase.input_from,
          num_random=3,
          weighting=mdsr.Weighting(0.5),
      )

    # An earlier run took 100 seconds, and made no checkpoint.
    MetricsLog(self.workdir).write(name, 0, 100.0, {})
    after, seconds = self._train(phase, objective)

    (trained_before, frozen_before), (trained_after, frozen_after) = (
        loop.split_variables(variables, phase.trains)
        for variables in (before, after)
    )
    chex.assert_trees_all_equal(frozen_after, frozen_before)
    chex.assert_trees_all_equal(self.teacher, teacher_before)
    self.assertTrue(_all_differ(trained_before, trained_after))
    self.assertGreater(seconds, 100.0)
    # Two steps with different subnets share one trace.
    self.assertEqual(num_traces, 1)

  def test_a_moving_average_survives_a_restart(self):
    phase = dataclasses.replace(
        self.phases['cascade1'], name='averaged', average_decay=0.5
    )

    def objective(params, stats, inputs):
      average = inputs.teacher['params']
      # The gradient depends on the average, so a wrong one would be noticed.
      grads = jax.tree.map(lambda p, a: 1.0 + p - a, params, average)
      return grads, stats, {'loss': jax.numpy.zeros(())}

    step = self._step(phase, objective)
    once, _ = self._train(phase, objective, step)
    restarted = dataclasses.replace(phase, name='restarted')
    first = dataclasses.replace(step, num_steps=1)
    self._train(restarted, objective, first)
    twice, _ = self._train(restarted, objective, step)
    chex.assert_trees_all_equal(once, twice)

  def _two_epochs(self, name, loss=0.0):
    """Returns a phase, its step, and a function that reads its accuracies."""
    phase = dataclasses.replace(
        self.phases['cascade1'], name=name, epochs=2.0
    )

    def objective(params, stats, *unused):
      grads = jax.tree.map(jax.numpy.ones_like, params)
      return grads, stats, {'loss': jax.numpy.full((), loss)}

    def accuracies():
      return [
          row['step']
          for row in MetricsLog(self.workdir).read()
          if row['phase'] == name and 'test_top1' in row
      ]

    return phase, self._step(phase, objective), accuracies

  def test_asked_to_stop_at_the_end_of_an_epoch_it_saves_and_measures_later(
      self
  ):
    phase, step, accuracies = self._two_epochs('stopped')

    def validate(variables):
      del variables
      return {'test_top1': 0.5}

    asked = iter([False, True])
    with mock.patch.object(
        preemption.NOTICE, 'reached', lambda: next(asked)
    ):
      with self.assertRaisesRegex(preemption.Preempted, 'saved at step 2'):
        self._train(phase, None, step, validate)
    self.assertEqual(accuracies(), [])
    self._train(phase, None, step, validate)
    self.assertEqual(accuracies(), [STEPS, 2 * STEPS])
    # An accuracy that has been measured is not measured again.
    self._train(phase, None, step, validate)
    self.assertEqual(accuracies(), [STEPS, 2 * STEPS])

  def test_asked_to_stop_at_its_last_step_a_phase_is_saved_first(self):
    phase, step, accuracies = self._two_epochs('last')
    asked = iter([False] * (2 * STEPS - 1) + [True])

    def validate(variables):
      del variables
      return {'test_top1': 0.5}

    with mock.patch.object(preemption.NOTICE, 'reached', lambda: next(asked)):
      with self.assertRaisesRegex(
          preemption.Preempted, f'saved at step {2 * STEPS}'
      ):
        self._train(phase, None, step, validate)
    self.assertEqual(accuracies(), [STEPS])
    # The phase is done, and a run restores it.
    log = MetricsLog(self.workdir)
    for _ in range(2):
      loop.validate_if_missing(phase, 2 * STEPS, {}, log, validate)
      self.assertEqual(accuracies(), [STEPS, 2 * STEPS])

  def test_what_is_saved_while_it_measures_is_finite(self):
    phase, step, _ = self._two_epochs('not finite', loss=np.nan)
    self.config = self.config.copy_and_resolve_references()
    self.config.log_every_steps = self.config.checkpoint.every_steps = 500

    def validate(variables):
      raise preemption.Preempted

    with self.assertRaisesRegex(UsageError, f'loss is nan at step {STEPS}'):
      self._train(phase, None, step, validate)
    with PhaseCheckpoints(self.workdir, phase.name, keep=1) as checkpoints:
      self.assertIsNone(checkpoints.latest_step())
    self.assertFalse(any(np.isnan(row['loss']) for row in self._losses(phase)))

  def test_asked_to_stop_while_it_measures_it_logs_its_last_step(self):
    phase, step, _ = self._two_epochs('measuring')
    self.config = self.config.copy_and_resolve_references()
    self.config.log_every_steps = self.config.checkpoint.every_steps = 500

    def validate(variables):
      raise preemption.Preempted

    with self.assertRaisesRegex(preemption.Preempted, f'at step {STEPS}'):
      self._train(phase, None, step, validate)
    self.assertEqual([row['step'] for row in self._losses(phase)], [STEPS])
    with PhaseCheckpoints(self.workdir, phase.name, keep=1) as checkpoints:
      self.assertEqual(checkpoints.latest_step(), STEPS)

  def _losses(self, phase):
    rows = MetricsLog(self.workdir).read()
    return [r for r in rows if r['phase'] == phase.name and 'loss' in r]

  def test_every_phase_compares_the_weights_of_processes(self):
    phase, step, _ = self._two_epochs('compared')
    with mock.patch.object(loop, '_check_same_weights') as check:
      self._train(phase, None, step)
    (own, (state, frozen, teacher)), _ = check.call_args
    self.assertEqual((own, int(state.step)), (phase, 0))
    chex.assert_trees_all_equal(teacher, self.teacher)
    chex.assert_trees_all_equal(
        trees.merge(frozen, _host(state.trained)), self.student
    )

  def test_processes_compare_the_weights_that_they_start_from(self):
    values = []

    def check(what, value, expected):
      del what, expected
      values.append(value)

    for weight in (1.0, 1.0, 2.0):
      with (
          mock.patch.object(jax, 'process_count', lambda: 2),
          mock.patch.object(loop.processes, 'check_agreed', check),
      ):
        loop._check_same_weights(self.phases['cascade1'], {'a': weight})
    self.assertEqual(values[0], values[1])
    self.assertNotEqual(values[1], values[2])

  @parameterized.parameters(STEPS, 500)
  def test_asked_to_stop_while_it_measures_it_saves_and_measures_later(
      self, every_steps
  ):
    phase, step, accuracies = self._two_epochs(f'measured{every_steps}')
    self.config = self.config.copy_and_resolve_references()
    self.config.checkpoint.every_steps = every_steps
    asked = []

    def validate(variables):
      del variables
      if not asked:
        asked.append(True)
        raise preemption.Preempted  # As a signal would, or `check`.
      return {'test_top1': 0.5}

    with self.assertRaisesRegex(preemption.Preempted, f'at step {STEPS}'):
      self._train(phase, None, step, validate)
    self.assertEqual(accuracies(), [])
    self._train(phase, None, step, validate)
    self.assertEqual(accuracies(), [STEPS, 2 * STEPS])

  def test_waits_for_devices_that_are_too_far_behind(self):
    phase = dataclasses.replace(
        self.phases['cascade1'], name='behind', epochs=2.0
    )

    def objective(params, stats, inputs):
      grads = jax.tree.map(jax.numpy.ones_like, params)
      return grads, stats, {'loss': 1.0 * inputs.step}

    step = self._step(phase, objective)
    wait = jax.block_until_ready
    waited = []

    def recorded(tree):
      if isinstance(tree, dict) and 'loss' in tree:
        waited.append(int(tree['loss']))
      return wait(tree)

    with (
        mock.patch.object(loop, 'STEPS_AHEAD', 1),
        mock.patch.object(jax, 'block_until_ready', recorded),
    ):
      self._train(phase, objective, step)
    # It waits for each step in order, except the last.
    self.assertEqual(waited, list(range(2 * STEPS - 1)))

  def test_loss_that_is_not_finite_names_phase_step_and_metric(self):
    phase = self.phases['cascade3']
    metrics = {'loss': jax.numpy.array(1.0), 'top1': jax.numpy.array(np.nan)}
    with self.assertRaisesRegex(
        UsageError, "top1 is nan at step 7 of phase 'cascade3'.*cascade.learn"
    ):
      loop.finite_values(phase, 7, metrics)

  def test_split_and_merge_give_the_network_back(self):
    phase = self.phases['cascade4']
    trained, frozen = loop.split_variables(self.student, phase.trains)
    self.assertEqual(set(trained['params']['backbone']), {'stage4', 'head'})
    merge = functools.reduce(trees.merge, [trained, frozen])
    chex.assert_trees_all_equal(merge, self.student)

  def test_a_mistyped_part_is_refused(self):
    with self.assertRaisesRegex(ValueError, "parameters of 'backbone/stage'"):
      loop.split_variables(self.student, ('backbone/stage4', 'backbone/stage'))

  def test_a_part_without_batch_statistics_can_train(self):
    net = dataclasses.replace(NET, norm='bn')
    variables = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(net.init, jax.random.key(0)),
    )
    # The classifier of the fourth module has no norm.
    trained, frozen = loop.split_variables(
        variables, self.phases['cascade4'].trains
    )
    self.assertEqual(set(trained['batch_stats']['backbone']), {'stage4'})
    self.assertEqual(set(trained['params']['backbone']), {'stage4', 'head'})
    chex.assert_trees_all_equal(trees.merge(trained, frozen), variables)


if __name__ == '__main__':
  absltest.main()
