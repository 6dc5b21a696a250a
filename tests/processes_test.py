# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.processes: real jobs of two processes."""

import errno
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from unittest import mock

from absl.testing import absltest, parameterized
import chex
import jax
import numpy as np
import orbax.checkpoint as ocp

from adaptanet_jax import preemption, processes
from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation import subnet_table
from adaptanet_jax.training.checkpoints import PhaseCheckpoints
from adaptanet_jax.training.step import TrainState
from tests.testing import ROOT, TINY, command, environment, run

_NUM_STEPS = 8
_TRAIN = (
    *TINY,
    '--config.phases=teacher',
    # The last of three batches of test images is not full.
    '--config.evaluation.batch_size=16',
    # Two epochs of four steps.
    '--config.teacher.epochs=2.',
    '--config.checkpoint.every_steps=2',
    # At TINY's rate, sums in another order made losses differ by 1.4e-4.
    '--config.teacher.learning_rate=0.003',
)


def _free_port() -> int:
  with socket.socket() as s:
    s.bind(('localhost', 0))
    return s.getsockname()[1]


class Job:
  """A job of two processes with two devices each."""

  def __init__(self, workdir, *flags, code=None):
    port = _free_port()
    self.processes = []
    for number in range(2):
      given = (
          f'--coordinator=localhost:{port}',
          '--num_processes=2',
          f'--process_id={number}',
      )
      arguments = command(workdir, *flags, *given)
      if code:
        arguments = [
            sys.executable, '-c', code, str(port), str(number), str(workdir)
        ]
      self.processes.append(
          subprocess.Popen(
              arguments,
              cwd=ROOT,
              env=environment(2),
              stdout=subprocess.PIPE,
              stderr=subprocess.STDOUT,
              text=True,
          )
      )

  def wait_for(self, path):
    """Waits until a file exists."""
    end = time.monotonic() + 300.0
    while not path.exists():
      if any(p.poll() is not None for p in self.processes):
        raise AssertionError(self.outputs())
      if time.monotonic() > end:
        raise AssertionError(f'{path} is not there after five minutes.')
      time.sleep(0.02)

  def kill(self):
    """Kills both processes, as a scheduler does when one has ended."""
    for process in self.processes:
      process.kill()
      process.communicate()

  def outputs(self, seconds=300):
    """Waits for the processes; returns exit status and output of each."""
    found = []
    for process in self.processes:
      text = process.communicate(timeout=seconds)[0]
      found.append((process.returncode, text))
    return found


def _rows(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def _losses(workdir):
  rows = {row['step']: row for row in _rows(workdir) if 'loss' in row}
  return [rows[step]['loss'] for step in sorted(rows)]


def _weights(workdir):
  folder = workdir / 'checkpoints' / 'teacher' / str(_NUM_STEPS)
  checkpointer = ocp.StandardCheckpointer()
  shapes = checkpointer.metadata(folder / 'variables').item_metadata.tree
  # Restored to this process's devices, whichever wrote it.
  like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
  return checkpointer.restore(folder / 'variables', like)


class JobTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = pathlib.Path(
        cls.enterClassContext(tempfile.TemporaryDirectory())
    )
    cls.workdir = cls.folder / 'two'
    cls.ends = Job(cls.workdir, *_TRAIN).outputs()

  def test_what_follows_the_teacher_runs_as_well(self):
    workdir = self.folder / 'all'
    shutil.copytree(self.workdir, workdir)
    phases = 'teacher,cascade,lock_in,evaluation,latency,report'
    flags = (*_TRAIN, f'--config.phases={phases}')
    # Compiling takes minutes beside other tests.
    (first, told), (second, silent) = Job(workdir, *flags).outputs(1800)
    self.assertEqual((first, second), (0, 0), told + silent)
    self.assertIn('Done before: teacher.', told)
    results = json.loads((workdir / 'results.json').read_text())
    self.assertContainsSubset({'supernet', 'latency'}, results)
    self.assertEqual(results['subnets']['count'], 256)
    # Each image counts once, whichever process ran it.
    top1 = 40 * subnet_table.read(str(workdir))['top1']
    np.testing.assert_allclose(top1, top1.round(), atol=1e-9)
    self.assertTrue((workdir / 'report.html').exists())

  def test_both_end_well_and_one_of_them_tells_and_writes(self):
    (first, told), (second, silent) = self.ends
    self.assertEqual((first, second), (0, 0), told + silent)
    self.assertIn('teacher: step 8/8', told)
    self.assertNotIn('teacher', silent)
    steps = [row['step'] for row in _rows(self.workdir) if 'loss' in row]
    self.assertEqual(steps, list(range(1, _NUM_STEPS + 1)))
    results = json.loads((self.workdir / 'results.json').read_text())
    self.assertEqual(results['device']['count'], 4)
    self.assertEqual(results['device']['processes'], 2)
    self.assertEqual(list(self.workdir.glob('.shared*')), [])

  def test_the_losses_are_those_of_one_process_with_as_many_devices(self):
    alone = self.folder / 'alone'
    done = run(alone, *_TRAIN, num_devices=4)
    self.assertEqual(done.returncode, 0, done.stderr)
    np.testing.assert_allclose(
        _losses(self.workdir), _losses(alone), rtol=1e-4
    )
    # Predictions on 40 images, in batches of 16, are gathered from both.
    top1 = [
        json.loads((w / 'results.json').read_text())['teacher']['top1']
        for w in (self.workdir, alone)
    ]
    self.assertEqual(*top1)

  def test_asked_to_stop_it_goes_on_to_the_same_bits(self):
    workdir = self.folder / 'stopped'
    checkpoints = workdir / 'checkpoints' / 'teacher'
    job = Job(workdir, *_TRAIN)
    job.wait_for(checkpoints / '2')
    # One process is asked to stop; both stop, at the same step.
    job.processes[1].send_signal(signal.SIGTERM)
    (first, told), (second, _) = job.outputs()
    self.assertEqual((first, second), (preemption.EXIT_CODE,) * 2, told)
    self.assertIn("Phase 'teacher' is saved at step", told)
    saved = max(int(path.name) for path in checkpoints.iterdir())
    self.assertLess(saved, _NUM_STEPS)
    ends = Job(workdir, *_TRAIN).outputs()
    self.assertEqual([status for status, _ in ends], [0, 0], ends)
    chex.assert_trees_all_equal(_weights(workdir), _weights(self.workdir))
    self.assertEqual(_losses(workdir), _losses(self.workdir))

  def test_one_device_goes_on_from_what_four_have_written(self):
    workdir = self.folder / 'moved'
    shutil.copytree(self.workdir, workdir)
    shutil.rmtree(workdir / 'checkpoints' / 'teacher' / str(_NUM_STEPS))
    done = run(workdir, *_TRAIN, '--config.fast_compile=True')
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn('step 8/8', done.stderr)
    np.testing.assert_allclose(
        _losses(workdir), _losses(self.workdir), rtol=1e-4
    )


class NoticeTest(absltest.TestCase):

  def test_one_process_leaves_with_a_code_of_its_own(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    process = subprocess.Popen(
        command(folder / 'run', *_TRAIN),
        cwd=ROOT,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 300.0
    while not (folder / 'run' / 'config.json').exists():
      self.assertLess(time.monotonic(), end)
      time.sleep(0.02)
    # It is still compiling, so there is nothing to save or to wait for.
    process.terminate()
    told = process.communicate(timeout=60)[1]
    self.assertEqual(process.returncode, preemption.EXIT_CODE, told)
    self.assertIn('Asked to stop. Run the same command again', told)
    self.assertNotIn('Traceback', told)


# Gives each process its half of a batch, a state, and its own folder.
_CODE = '''
import os, signal, sys, time
import jax, numpy as np
from adaptanet_jax import devices, preemption, processes
from adaptanet_jax.errors import UsageError
from adaptanet_jax.training.checkpoints import PhaseCheckpoints
from adaptanet_jax.training.step import TrainState

port, number, folder = sys.argv[1:]
processes.initialize(f'localhost:{port}', 2, int(number))
assert processes.here() == (int(number), 2)
mine = np.arange(6).reshape(2, 3) + 100 * int(number)
whole = processes.gather({'x': mine})['x']
print('gathered', whole.tolist())
print('any', processes.any_of(number == '1'), processes.any_of(False))
state = TrainState(
    step=np.int32(5),
    params={'kernel': np.arange(12, dtype=np.float32).reshape(4, 3)},
    batch_stats={},
    opt_state=(np.ones(3, np.float32),),
)
for _ in range(9):
  assert not preemption.NOTICE.reached()
with PhaseCheckpoints(folder, 'lock_in', keep=2) as checkpoints:
  checkpoints.save(devices.replicate(state))
# Between phases, with fewer steps in the last one than in all.
if number == '1':
  os.kill(os.getpid(), signal.SIGTERM)
time.sleep(4)  # As long as JAX takes to tell all; in a run, a compile.
for _ in range(25):
  time.sleep(0.2)
  if preemption.NOTICE.reached():
    print('stops')
    break
processes.check_shared(folder)
processes.check_agreed('numbers', 'one')
own = f'{folder}/{number}'
os.makedirs(own)
for check in (
    lambda: processes.check_shared(own),
    lambda: processes.check_agreed('numbers', number),
):
  try:
    check()
  except UsageError as error:
    print('refused:', error)
'''

# The first process does not answer; the second one fails.
_FAILS = '''
import sys, time
from adaptanet_jax import experiment, job

port, number, folder = sys.argv[1:]

def run(*unused):
  if number == '1':
    raise RuntimeError('out of device memory')
  time.sleep(600.0)

experiment.run = run
job.run(None, folder, (f'localhost:{port}', 2, int(number)))
'''


class ProcessesTest(parameterized.TestCase):

  def test_one_that_fails_does_not_wait_for_the_others(self):
    job = Job(self.enterContext(tempfile.TemporaryDirectory()), code=_FAILS)
    try:
      # JAX would let it wait for five minutes.
      told = job.processes[1].communicate(timeout=150)[0]
      self.assertEqual(job.processes[1].returncode, 1, told)
      self.assertIn('RuntimeError: out of device memory', told)
      self.assertIn('adaptanet_jax: Process 1 failed.', told)
    finally:
      job.kill()

  def test_what_two_have_is_put_together_and_saved_by_both(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    job = Job(folder, code=_CODE)
    for number, (status, told) in enumerate(job.outputs()):
      self.assertEqual(status, 0, told)
      for text in (
          'gathered [[0, 1, 2, 100, 101, 102], [3, 4, 5, 103, 104, 105]]',
          'any True False',
          'stops',
          'Processes [1] do not see what process 0 wrote to ',
          f'differ in numbers; that of process {number} is {number}.',
      ):
        self.assertIn(text, told)
    item = folder / 'checkpoints' / 'lock_in' / '5' / 'variables'
    self.assertLen(list(item.glob('ocdbt.process_*')), 2)
    like = TrainState(
        step=np.int32(0),
        params={'kernel': np.zeros((4, 3), np.float32)},
        batch_stats={},
        opt_state=(np.zeros(3, np.float32),),
    )
    with PhaseCheckpoints(folder, 'lock_in', keep=2) as checkpoints:
      state = checkpoints.restore(like)
    self.assertEqual(int(state.step), 5)
    np.testing.assert_array_equal(
        state.params['kernel'], np.arange(12.0).reshape(4, 3)
    )

  def test_one_process_gathers_and_shares_what_it_has(self):
    tree = {'x': np.arange(3)}
    self.assertIs(processes.gather(tree), tree)
    self.assertTrue(processes.is_writer())

  @parameterized.parameters(
      (('localhost:1', None, None), '--num_processes=None'),
      ((None, 2, 0), '--coordinator=None'),
      (('localhost:1', 2, 2), '--process_id=2 is not one of 2 processes'),
      (('localhost', 2, 0), '--coordinator=localhost is not an address; exp'),
      (('localhost:', 2, 0), '--coordinator=localhost: is not an address'),
      (('localhost:port', 2, 0), 'expected host:port, such as'),
      (('localhost:70000', 2, 0), 'expected host:port, such as'),
      ((':80', 2, 0), '--coordinator=:80 is not an address'),
      (('', 2, 0), '--coordinator= is not an address'),
      (('localhost:1', 2, -1), 'expected 0 to 1'),
  )
  def test_flags_that_do_not_go_together_are_refused(self, given, text):
    with self.assertRaisesRegex(UsageError, text):
      processes.initialize(*given)

  @parameterized.parameters(('w', 'new'), ('wb', b'new'))
  def test_a_file_is_replaced_when_all_of_it_is_written(self, mode, new):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    path = folder / 'file'
    path.write_text('old')
    with self.assertRaises(KeyError):
      with processes.replacing(str(path), mode) as file:
        file.write(new)
        raise KeyError
    self.assertEqual(path.read_text(), 'old')
    with processes.replacing(str(path), mode) as file:
      file.write(new)
      self.assertEqual(path.read_text(), 'old')
    self.assertEqual(path.read_text(), 'new')
    self.assertEqual(os.listdir(folder), ['file'])

  def test_a_process_that_does_not_write_leaves_files_alone(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    with mock.patch.object(jax, 'process_index', lambda: 1):
      with processes.replacing(str(folder / 'file')) as file:
        file.write('new')
      # Writing a zip file needs `tell`.
      with processes.replacing(str(folder / 'array'), 'wb') as file:
        np.savez(file, x=np.arange(3))
    self.assertEqual(os.listdir(folder), [])

  def test_a_folder_is_one_runs_at_a_time(self):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    with processes.sole_user(folder):
      with self.assertRaisesRegex(UsageError, 'in use by another run'):
        with processes.sole_user(folder):
          self.fail('Two runs have it.')
    with processes.sole_user(folder):  # The first one has ended.
      pass

  def test_a_folder_that_its_last_user_removes_meanwhile_is_made_again(self):
    folder = os.path.join(
        self.enterContext(tempfile.TemporaryDirectory()), 'runs'
    )
    take = processes._take

    def remove(file):
      if removing:
        shutil.rmtree(removing.pop())
      return take(file)

    removing = [folder]
    with (
        mock.patch.object(processes, '_take', remove),
        processes.sole_user(folder),
    ):
      self.assertEmpty(removing)
      self.assertLen(os.listdir(folder), 1)
      with self.assertRaisesRegex(UsageError, 'in use by another run'):
        with processes.sole_user(folder):
          self.fail('Two runs have it.')
    self.assertTrue(os.path.isdir(os.path.dirname(folder)))

  def test_a_folder_is_made_and_goes_again_if_nothing_came_of_it(self):
    parent = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    for kept in (False, True):
      folder = parent / f'kept_{kept}'
      with self.assertRaises(UsageError):
        with processes.sole_user(str(folder)):
          self.assertTrue(folder.is_dir())
          if kept:
            (folder / 'results.json').write_text('{}')
          raise UsageError('Whatever.')
      self.assertEqual(folder.exists(), kept)

  def test_whoever_is_refused_leaves_a_new_folder_to_the_one_that_has_it(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    folder /= 'new'
    with processes.sole_user(str(folder)):
      # The second run looked before the folder existed.
      with mock.patch('os.path.exists', lambda _: False):
        with self.assertRaises(UsageError):
          with processes.sole_user(str(folder)):
            self.fail('Two runs have it.')
      self.assertTrue(folder.is_dir())
    self.assertFalse(folder.exists())

  @parameterized.parameters(errno.EROFS, errno.EACCES)
  def test_a_folder_that_cannot_be_written_to_can_be_read(self, number):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    refused = OSError(number, os.strerror(number), folder)
    with mock.patch('builtins.open', side_effect=refused):
      with processes.sole_user(folder):
        self.assertEmpty(os.listdir(folder))

  def test_a_disk_that_is_full_is_no_such_folder(self):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with mock.patch('builtins.open', side_effect=full):
      with self.assertRaises(OSError):
        with processes.sole_user(folder):
          self.fail('Nobody may have it.')


if __name__ == '__main__':
  absltest.main()
