# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.plan: where phases were trained, what is missing."""

import os
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest
import numpy as np

from adaptanet_jax import experiment, plan, processes
from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation.results import Results
from adaptanet_jax.progress import MetricsLog
from adaptanet_jax.training import phases
from adaptanet_jax.workdir import Paths, write_json
from configs import digits

_NUM_EXAMPLES = 1000
_CASCADE = [f'cascade{n}' for n in (1, 2, 3, 4)]


class PlanTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = self.enterContext(tempfile.TemporaryDirectory())
    self.trained = {}
    self.enterContext(
        mock.patch.object(
            plan,
            'is_complete',
            lambda workdir, phase, step: phase in self.trained[workdir],
        )
    )

  def _workdir(self, name, *trained, reuse='', **changes):
    config = digits.get_config('smoke')
    config.reuse = reuse
    config.update_from_flattened_dict(changes)
    workdir = os.path.join(self.folder, name)
    os.makedirs(workdir)
    write_json(Paths(workdir).config, config.to_dict())
    self.trained[workdir] = trained
    return workdir, config

  def _save(self, workdir, phase):
    """Makes what says that a checkpoint is whole."""
    folder = os.path.join(Paths(workdir).checkpoints(phase), '7')
    os.makedirs(folder)
    write_json(
        os.path.join(folder, '_CHECKPOINT_METADATA'),
        {'commit_timestamp_nsecs': 1},
    )

  def _plan(self, config, workdir, num_devices=1):
    return plan.make_plan(
        config, workdir, _NUM_EXAMPLES, needs={}, num_devices=num_devices
    )

  def _found(self, workdir, config):
    return plan.find_trained(config, workdir, _NUM_EXAMPLES)

  def test_what_stands_on_other_weights_is_not_taken_over(self):
    first, _ = self._workdir(
        'first', 'teacher', *_CASCADE, 'lock_in', 'delta_cascade1'
    )
    # It trained its lock-in before the first one did.
    second, config = self._workdir('second', 'lock_in', reuse=first)
    self.assertEqual(
        self._found(second, config),
        dict.fromkeys(['teacher', *_CASCADE], first) | {'lock_in': second},
    )
    # A third one does not combine that lock-in with the first one's deltas.
    third, config = self._workdir('third', reuse=second)
    self.assertEqual(
        self._found(third, config),
        dict.fromkeys(['teacher', *_CASCADE], first) | {'lock_in': second},
    )

  def test_what_has_other_settings_is_not_taken_over(self):
    first, _ = self._workdir('first', 'teacher', *_CASCADE, 'lock_in')
    second, config = self._workdir(
        'second', reuse=first, **{'cascade.learning_rate': 0.5}
    )
    self.assertEqual(self._found(second, config), {'teacher': first})

  def test_workdirs_that_are_not_needed_may_be_gone(self):
    gone = os.path.join(self.folder, 'gone')
    first, _ = self._workdir('first', 'teacher', *_CASCADE, reuse=gone)
    second, config = self._workdir('second', 'lock_in', reuse=first)
    self.assertLen(self._found(second, config), 6)
    # It trained all of its student, but only another one has the teacher.
    third, config = self._workdir('third', *_CASCADE, 'lock_in', reuse=gone)
    with self.assertRaisesRegex(UsageError, "reuse = .*gone', which has no"):
      self._found(third, config)
    found = plan.find_trained(config, third, _NUM_EXAMPLES, network='student')
    self.assertEqual(found, dict.fromkeys([*_CASCADE, 'lock_in'], third))
    # The first module of this one is nowhere.
    fourth, config = self._workdir('fourth', 'lock_in', reuse=third)
    self.trained[third] = ()
    with self.assertRaisesRegex(UsageError, "reuse leads to .*gone'"):
      plan.find_trained(config, fourth, _NUM_EXAMPLES, network='student')

  def test_a_workdir_stays_with_the_one_whose_phases_it_trained_on(self):
    first, _ = self._workdir('first', 'teacher', *_CASCADE)
    other, _ = self._workdir('other', 'teacher', *_CASCADE)
    own, config = self._workdir('own', 'lock_in', reuse=first)
    old = config.to_dict()
    config.reuse = other
    with self.assertRaisesRegex(UsageError, 'other.*stands on.*first'):
      plan.check_same(old, config, own)
    config.reuse = os.path.join(self.folder, 'link')
    os.symlink(first, config.reuse)
    plan.check_same(old, config, own)
    os.remove(config.reuse)
    os.rename(first, config.reuse)  # The same one in another place.
    plan.check_same(old, config, own)

  def test_a_workdir_with_a_teacher_of_its_own_reuses_no_other(self):
    first, _ = self._workdir('first', 'teacher', *_CASCADE)
    own, config = self._workdir('own', 'teacher')
    old = config.to_dict()
    plan.check_same(old, config, own)
    config.reuse = first
    plan.check_same(old, config, own)  # Nothing was saved yet.
    self._save(own, 'teacher')
    with self.assertRaisesRegex(UsageError, "own has a 'teacher' of its own"):
      plan.check_same(old, config, own)

  def test_what_other_phases_stand_on_is_not_trained_again(self):
    workdir, config = self._workdir('own', 'teacher', 'cascade1', 'lock_in')
    # Modules 2 and 4 are gone, and the gates have stopped halfway. The deltas
    # were stopped before they had anything to save.
    for name in ('teacher', 'cascade1', 'cascade3', 'lock_in', 'gates'):
      self._save(workdir, name)
    os.makedirs(Paths(workdir).checkpoints('delta_cascade1'))
    for groups in ('all', 'cascade'):
      config.phases = groups
      with self.assertRaisesRegex(
          UsageError,
          "'cascade2' would.*cascade3, lock_in, gates learnt.*own/checkpoints,",
      ):
        self._plan(config, workdir)
    for name in ('cascade3', 'lock_in', 'gates'):
      shutil.rmtree(Paths(workdir).checkpoints(name))
    tasks = self._plan(config, workdir)
    actions = {task.phase.name: task.action for task in tasks}
    self.assertEqual(actions['cascade1'], 'restore')
    self.assertEqual(actions['cascade2'], 'train')
    self.assertEqual(actions['lock_in'], 'skip')

  def test_only_what_is_trained_or_measured_has_to_suit_the_devices(self):
    done = {'teacher.batch_size': 64, 'cascade.batch_size': 64}
    workdir, config = self._workdir(
        'devices', 'teacher', *_CASCADE, **done, **{'evaluation.batch_size': 64}
    )
    config.phases = 'cascade,latency'
    self._plan(config, workdir, num_devices=6)
    config.phases = 'cascade,evaluation'
    with self.assertRaisesRegex(UsageError, 'evaluation.batch_size = 64 is'):
      self._plan(config, workdir, num_devices=6)
    config.evaluation.batch_size = 6
    self._plan(config, workdir, num_devices=6)
    config.phases = 'cascade,lock_in,evaluation'
    with self.assertRaisesRegex(
        UsageError, r'config.lock_in.batch_size = \d+ is not divisible'
    ):
      self._plan(config, workdir, num_devices=6)

  def test_what_needs_no_training_is_found_whatever_its_batches(self):
    large = {'teacher.batch_size': _NUM_EXAMPLES + 1}
    workdir, config = self._workdir('trained', 'teacher', **large)
    self.assertEqual(self._found(workdir, config), {})
    imported = {'teacher.weights': '/weights', 'teacher.epochs': 0.0}
    workdir, config = self._workdir('imported', 'teacher', **large, **imported)
    self.assertEqual(self._found(workdir, config), {'teacher': workdir})

  def test_a_teacher_that_was_not_yet_measured_when_killed_is_now(self):
    workdir, config = self._workdir('own', 'teacher')
    task = plan.Task(phases.build_phases(config)[0], 'restore', workdir)
    found = Results(workdir)
    work = mock.Mock(workdir=workdir, config=config, results=found)
    work.variables = {'teacher': {}}
    checkpoints = mock.MagicMock()
    checkpoints.__enter__().latest_step.return_value = 5
    checkpoints.__enter__().restore_variables.return_value = {}
    measured = []

    def measure(work):
      measured.append(work)
      found.update(teacher={'top1': 0.5})

    with (
        mock.patch.object(
            experiment.workspace, 'variable_shapes', return_value=({}, {})
        ),
        mock.patch.object(
            experiment.loop, 'split_variables', return_value=({}, {})
        ),
        mock.patch.object(experiment.workspace, 'keep_trained'),
        mock.patch.object(
            experiment, '_checkpoints', return_value=checkpoints
        ),
        mock.patch.object(experiment.accuracy, 'evaluate_teacher', measure),
        mock.patch.object(
            experiment.accuracy,
            'validator',
            return_value=lambda variables: {'test_top1': 0.5},
        ),
    ):
      MetricsLog(workdir).write('teacher', 5, 12.5, {'loss': 0.5})
      for _ in range(2):
        experiment._restore_phase(work, task)
    self.assertEqual(measured, [work])
    self.assertEqual(found.values['seconds'], {'teacher': 12.5})
    # Nor did it get the accuracy after its last epoch.
    _, *rows = MetricsLog(workdir).read()
    self.assertEqual(
        rows,
        [{'phase': 'teacher', 'step': 5, 'seconds': 12.5, 'test_top1': 0.5}],
    )

  def test_a_teacher_that_has_begun_does_not_need_its_file(self):
    workdir, config = self._workdir('begun')
    config.teacher.weights = '/nowhere/resnet50.pth'
    task = plan.Task(phases.build_phases(config)[0], 'train', workdir)
    load = self.enterContext(
        mock.patch.object(
            experiment.torch_resnet, 'load', return_value=({}, ['adapted'])
        )
    )
    dataset = mock.Mock(num_classes=10, image_shape=(16, 16, 1))
    for step in (None, 7):
      if step:
        self._save(workdir, 'teacher')
      experiment._import_weights(config, workdir, dataset, [task])
      load.assert_called_once()

  def test_seconds_of_an_older_training_do_not_outlive_it(self):
    workdir, config = self._workdir('own')
    phase = phases.build_phases(config)[1]
    found = Results(workdir)
    found.add_seconds(phase.name, 5.0)
    work = mock.Mock(workdir=workdir, config=config, results=found)
    work.variables = {'teacher': {}}
    with (
        mock.patch.object(experiment.workspace, 'first_variables'),
        mock.patch.object(experiment.accuracy, 'validator'),
        mock.patch.object(
            experiment.loop, 'train_phase', side_effect=KeyboardInterrupt
        ),
    ):
      with self.assertRaises(KeyboardInterrupt):
        experiment._train_phase(work, phase, mock.Mock())
    self.assertEqual(found.values['seconds'], {})

  def test_the_phase_that_is_missing_is_named(self):
    names = [p.name for p in phases.build_phases(digits.get_config('smoke'))]
    done = names[: names.index('delta_cascade3')]
    workdir, config = self._workdir('own', *done)
    config.phases = 'gates'
    with self.assertRaisesRegex(UsageError, "needs 'delta_cascade3'"):
      self._plan(config, workdir)

  def test_an_evaluation_that_cannot_read_the_gates_is_refused_at_once(self):
    workdir, config = self._workdir('own')
    gates = {p.name: p for p in phases.build_phases(config)}['gates']
    config.phases = 'evaluation'
    dataset = mock.Mock(train=range(_NUM_EXAMPLES), held_out=None)

    def make(action, **changes):
      now = config.copy_and_resolve_references()
      now.update_from_flattened_dict(changes)
      tasks = [plan.Task(gates, action, workdir)]
      with (
          mock.patch.object(plan, 'make_plan', lambda *_, **__: tasks),
          mock.patch.object(experiment, 'describe', lambda _: {}),
      ):
        return experiment._plan(now, workdir, dataset)

    norms = {'model.norm': 'bn', 'evaluation.calibration': 'subnet'}
    with self.assertRaisesRegex(UsageError, "'evaluation' runs.*calibrated"):
      make('restore', **norms)
    with self.assertRaisesRegex(UsageError, 'holds out none'):
      make('restore', **{'data.held_out': 0.0})
    # If gates are skipped, the evaluation does not read them.
    self.assertLen(make('skip', **norms, **{'data.held_out': 0.0}), 1)

  def test_a_process_that_finds_other_data_is_refused(self):
    workdir, config = self._workdir('own')
    config.phases = 'teacher'
    seen = []

    def make(num_examples, gather):
      dataset = mock.Mock(train=range(num_examples))
      with (
          mock.patch.object(processes, 'gather', gather),
          mock.patch.object(
              experiment, 'describe', lambda data: {'count': len(data.train)}
          ),
      ):
        experiment._plan(config, workdir, dataset)

    make(_NUM_EXAMPLES, lambda own: seen.append(own) or own)
    # As many batches, but of other images: only the data tell.
    with self.assertRaisesRegex(UsageError, "the data; that.*'count': 1001"):
      make(
          _NUM_EXAMPLES + 1,
          lambda own: np.concatenate([seen.pop(0), own]),
      )


if __name__ == '__main__':
  absltest.main()
