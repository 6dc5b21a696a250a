# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests that bad input ends in one clear line, with nothing half-written."""

import errno
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized

from adaptanet_jax import experiment, job, settings
from adaptanet_jax.data import sources
from adaptanet_jax.errors import UsageError
from tests import bad_inputs, testing

TEACHER = (*testing.TINY, '--config.phases=teacher')


class BadInputTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = pathlib.Path(tempfile.mkdtemp())
    cls.addClassCleanup(shutil.rmtree, cls.folder)
    cls.trained = cls.folder / 'trained'
    done = testing.run(cls.trained, *TEACHER)
    assert not done.returncode, done.stderr

  def assert_refused(self, done, *texts):
    self.assertNotEqual(done.returncode, 0)
    self.assertNotIn('Traceback', done.stderr)
    for text in texts:
      self.assertIn(text, done.stderr)

  @parameterized.named_parameters(
      (
          'file',
          ['--config=configs/mnist.py'],
          ["No such file or directory: 'configs/mnist.py'; expected a file such"
           ' as configs/baselines.py, configs/cifar100.py, configs/digits.py, ',
           '--config=configs'],
      ),
      (
          'key',
          ['--config.model.depth=3'],
          ['config.model.depth'],
      ),
      (
          'similar_key',
          ['--config.model.norms=gn'],
          ['config.model.norms', 'such as norm'],
      ),
      (
          'section',
          ['--config.modle.norm=gn'],
          ['config.modle.norm', 'configs/common.py'],
      ),
      (
          'type',
          ['--config.teacher.batch_size=many'],
          ['config.teacher.batch_size', 'many'],
      ),
      (
          'data_folder',
          ['--config.data.name=cifar100', '--config.data.dir=/nowhere'],
          ["'cifar100'", '/nowhere', 'download_and_prepare', 'data.dir'],
      ),
  )
  def test_the_program_ends_with_one_line(self, flags, texts):
    workdir = self.folder / 'refused'
    done = testing.run(
        workdir, *testing.TINY, '--noconfig.data.fake_if_missing', *flags
    )
    self.assert_refused(done, *texts)
    self.assertLen(done.stderr.splitlines(), 1)
    self.assertFalse(workdir.exists())

  @parameterized.named_parameters(
      (
          'value',
          ['--config.model.norm=batchnorm'],
          ['config.model.norm', "'batchnorm'", 'gn, gn_ws, ln, bn, bn_private'],
      ),
      (
          'phase',
          ['--config.phases=teacher,lockin'],
          ["'lockin'", 'teacher, cascade, lock_in, delta, joint, gates'],
      ),
      (
          'order',
          ['--config.phases=lock_in'],
          ["'lock_in' needs 'teacher'", '--config.phases'],
      ),
      (
          'data_set',
          ['--config.data.name=no_such_set'],
          ["'no_such_set'", 'cifar100'],
      ),
      (
          'large_batch',
          ['--config.teacher.batch_size=128'],
          ['128', '64 training examples'],
      ),
      (
          'large_batch_of_a_later_phase',
          ['--config.lock_in.batch_size=128'],
          ['128', '64 training examples'],
      ),
      (
          'missing_gates',
          ['--config.phases=policies'],
          ["'policies' needs 'teacher'", '--config.phases'],
      ),
      (
          'start',
          ['--config.policies.start=0.6'],
          ['config.policies.start', '0.6', '1.0, 0.75, 0.5, 0.25'],
      ),
      (
          'gates',
          ['--config.gates.anchors=(2,5)'],
          ['config.gates.anchors', '(2, 5)', '1, 2, 3, 4'],
      ),
      (
          'gates_of_policies',
          ['--config.gates.anchors=(2,3)'],
          ['config.gates.anchors', '(2, 3)', '(1, 2, 3)', 'without policies'],
      ),
      (
          'delta_kind',
          ['--config.delta.kind=conv5x5'],
          ['config.delta.kind', "'conv5x5'", 'conv3x3, separable'],
      ),
      (
          'reuse',
          ['--config.reuse=/nowhere'],
          ['config.reuse', '/nowhere', 'config.json'],
      ),
      (
          'weights',
          ['--config.teacher.weights=/nowhere/teacher.safetensors'],
          ['/nowhere/teacher.safetensors'],
      ),
      (
          'warm_up',
          ['--config.teacher.warmup_epochs=3.'],
          ['config.teacher.warmup_epochs = 3.0', 'less than the 2.0 epochs'],
      ),
      (
          'nothing_to_report',
          ['--config.phases=report'],
          ['refused has no config.json', 'nothing to report'],
      ),
      (
          'gap',
          ['--config.phases=teacher,lock_in'],
          ["'lock_in' needs 'cascade1'"],
      ),
  )
  def test_a_setting_that_cannot_be_is_named_with_choices(self, flags, texts):
    workdir = self.folder / 'refused'
    with self.assertRaises(UsageError) as caught:
      experiment.run(testing.config(*testing.TINY, *flags), str(workdir))
    for text in texts:
      self.assertIn(text, str(caught.exception))
    self.assertFalse(workdir.exists())

  def test_what_has_to_be_given(self):
    for flags in (['--config=configs/digits.py', '--workdir='], []):
      done = testing.run(self.folder / 'x', *flags)
      self.assertStartsWith(
          done.stderr,
          'adaptanet_jax: Both --config and --workdir have to be given. Usage',
      )

  def test_unknown_variant_of_a_config(self):
    done = testing.run(self.folder / 'x', '--config=configs/digits.py:tiny')
    self.assertNotEqual(done.returncode, 0)
    self.assertIn("no variant 'tiny'", done.stderr)
    self.assertIn(':smoke', done.stderr)

  def test_batch_that_devices_cannot_share(self):
    done = testing.run(
        self.folder / 'x',
        *testing.TINY,
        '--config.cascade.batch_size=18',
        num_devices=4,
    )
    self.assert_refused(done, 'config.cascade.batch_size = 18', '4 devices')

  def test_workdir_of_another_config(self):
    before = sorted(self.trained.rglob('*'))
    done = testing.run(self.trained, *TEACHER, '--config.seed=7')
    self.assert_refused(done, 'another configuration', 'seed: 0 -> 7')
    self.assertEqual(sorted(self.trained.rglob('*')), before)

  def _refused_reuse(self, place, *flags):
    """Returns the error of a run that is to reuse another run's phases."""
    workdir = self.folder / 'y'
    config = testing.config(*TEACHER, f'--config.reuse={place}', *flags)
    with self.assertRaises(UsageError) as caught:
      experiment.run(config, str(workdir))
    self.assertFalse(workdir.exists())
    return str(caught.exception)

  def test_reuse_of_another_teacher(self):
    error = self._refused_reuse(self.trained, '--config.teacher.momentum=0.5')
    self.assertIn('Nothing of config.reuse', error)
    self.assertIn('teacher.momentum: 0.9 -> 0.5', error)

  def test_reuse_of_a_teacher_of_other_data(self):
    # All settings agree, as when a data set was missing and is found now.
    place = self.folder / 'other_data'
    shutil.copytree(self.trained, place)
    results = json.loads((place / 'results.json').read_text())
    results['dataset']['num_classes'] = 7
    (place / 'results.json').write_text(json.dumps(results))
    error = self._refused_reuse(place)
    self.assertIn(f'{place}, which was made with other data', error)
    self.assertIn('(num_classes: 7 -> 10); expected the same data.', error)

  def test_reuse_of_a_run_of_more_images(self):
    # It has as many steps as this run would not have.
    place = self.folder / 'more_data'
    shutil.copytree(self.trained, place)
    results = json.loads((place / 'results.json').read_text())
    results['dataset']['train_examples'] += 100
    (place / 'results.json').write_text(json.dumps(results))
    for name in ('teacher', 'nothing'):
      if name == 'nothing':
        shutil.rmtree(place / 'checkpoints')
      error = self._refused_reuse(place)
      self.assertRegex(error, r'other data .*train_examples: \d+ -> \d+')

  def test_reuse_of_a_run_that_has_trained_nothing(self):
    place = self.folder / 'nothing'
    shutil.copytree(self.trained, place)
    shutil.rmtree(place / 'checkpoints')
    error = self._refused_reuse(place)
    self.assertIn(f"'teacher' is not done in config.reuse = '{place}'", error)

  def test_a_workdir_of_fewer_images(self):
    # As when pictures were added after a run: nothing is wrong with its phases.
    place = self.folder / 'fewer_data'
    shutil.copytree(self.trained, place)
    results = json.loads((place / 'results.json').read_text())
    results['dataset']['train_examples'] -= 64
    (place / 'results.json').write_text(json.dumps(results))
    with self.assertRaisesRegex(
        UsageError, f'{place} was made with other data .*train_examples: '
    ):
      experiment.run(testing.config(*TEACHER), str(place))

  def test_a_shorter_side_below_that_of_the_images(self):
    config = testing.config(
        *TEACHER, '--config.data.image_size=0', '--config.data.shorter_side=7'
    )
    with self.assertRaisesRegex(
        UsageError, 'shorter_side = 7; expected 0 or at least 8, the side'
    ):
      experiment.run(config, str(self.folder / 'y'))

  def test_damaged_checkpoint(self):
    workdir = self.folder / 'damaged'
    shutil.copytree(self.trained, workdir)
    newest = workdir / 'checkpoints' / 'teacher' / '8'
    for file in newest.rglob('*'):
      # Without this file the checkpoint would count as cut off and be skipped.
      if file.is_file() and file.name != '_CHECKPOINT_METADATA':
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    done = testing.run(workdir, *TEACHER)
    self.assert_refused(done, str(newest), 'Delete that folder')

    shutil.rmtree(newest)
    again = testing.run(workdir, *TEACHER, '--config.compute_dtype=bfloat16')
    self.assertEqual(again.returncode, 0, again.stderr)
    self.assertIn('resumes in bfloat16 and was in float32', again.stderr)


class OneLineTest(parameterized.TestCase):
  """Tests of what is refused before anything is compiled or written."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.files = pathlib.Path(tempfile.mkdtemp())
    cls.addClassCleanup(shutil.rmtree, cls.files)
    bad_inputs.write(cls.files)

  @parameterized.parameters(*bad_inputs.CASES)
  def test_it_is_refused_in_one_line(self, title):
    line = bad_inputs.refuse(title, self.files)
    self.assertIn(bad_inputs.CASES[title][1], line)
    self.assertNotIn('\n', line)
    self.assertNotIn('\x1b', line)
    self.assertLess(len(line), 700)

  def test_what_the_others_change_passes(self):
    """Asserts that the base of the bad cases is good by itself."""
    flags = ('--config.data.name=folder', '--config.data.train_examples=0',
             f'--config.data.dir={self.files}/good')
    config = testing.config(*TEACHER, *flags)
    self.assertIsNone(settings.check(config))
    dataset = sources.load(config)
    self.assertLen(dataset.train, 2)
    self.assertLen(dataset.test, 1)


class FlagsTest(absltest.TestCase):

  def _run(self, *given):
    done = subprocess.run(
        [sys.executable, '-m', 'adaptanet_jax.main', *given],
        # Not the repository, as for an installed package.
        cwd=self.enter_context(tempfile.TemporaryDirectory()),
        env=testing.environment() | {'PYTHONPATH': str(testing.ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    self.assertNotEqual(done.returncode, 0)
    return done.stderr

  def test_all_that_is_missing_is_named(self):
    self.assertRegex(self._run(), '--config and --workdir.*Usage')

  def test_configurations_that_were_installed_are_found_from_anywhere(self):
    told = self._run('--config=configs/digits.py:huge', '--workdir=w')
    self.assertRegex(told, "huge.*expected.*smoke")

  def test_one_that_is_nowhere_is_named(self):
    told = self._run('--config=configs/nothing.py', '--workdir=w')
    self.assertRegex(told, "configs/nothing.py.*Usage")


# A run that is refused while it has a semaphore, as it has with data.workers.
_REFUSED = """
import multiprocessing
from unittest import mock
from adaptanet_jax import errors, job

def refuse(*unused):
  global semaphore
  semaphore = multiprocessing.get_context('spawn').Semaphore()
  raise errors.UsageError('refused')

with mock.patch('adaptanet_jax.experiment.run', refuse):
  job.run(None, '', (None, None, None))
"""


class LeavingTest(absltest.TestCase):

  def test_what_workers_share_makes_no_lines_of_its_own(self):
    done = subprocess.run(
        [sys.executable, '-c', _REFUSED], capture_output=True, text=True,
        check=False, env=testing.environment(), cwd=testing.ROOT,
    )
    self.assertEqual(done.stderr, 'adaptanet_jax: refused\n')
    self.assertEqual(done.returncode, 1)


class OutOfDiskTest(parameterized.TestCase):

  @parameterized.parameters(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
  def test_says_so_and_how_to_go_on(self, number):
    full = OSError(number, os.strerror(number))
    with (
        mock.patch('adaptanet_jax.processes.initialize'),
        mock.patch('adaptanet_jax.preemption.NOTICE'),
        mock.patch('adaptanet_jax.experiment.run', side_effect=full),
        # `_leave` would end the process.
        mock.patch.object(job, '_leave', side_effect=SystemExit) as leave,
        self.assertRaises(SystemExit),
    ):
      job.run(testing.config(*testing.TINY), '/somewhere', (None, None, None))
    reason, code = leave.call_args.args
    told = re.escape(f'/somewhere: {os.strerror(number)}.')
    self.assertRegex(reason, f'{told}.*resumes')
    self.assertEqual(code, 1)


if __name__ == '__main__':
  absltest.main()
