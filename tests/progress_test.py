# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.progress."""

import contextlib
import gc
import io
import json
import pathlib
import struct
import tempfile
import threading
from unittest import mock

from absl.testing import absltest, parameterized
from tensorboardX.proto import event_pb2

from adaptanet_jax import experiment, progress
from adaptanet_jax.errors import UsageError
from configs import digits


class _Terminal(io.StringIO):

  def isatty(self):
    return True


class _Clock:
  """Stands in for the module `time`; tests set its clock."""

  def __init__(self):
    self.now = 100.0

  def monotonic(self):
    return self.now


class MetricsLogTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.workdir = self.enterContext(tempfile.TemporaryDirectory())
    self.path = pathlib.Path(self.workdir, 'metrics.jsonl')
    self.log = progress.MetricsLog(self.workdir)

  def _write(self, *rows):
    for phase, step, seconds in rows:
      self.log.write(phase, step, seconds, {'loss': step / 10})

  def _rows(self):
    return [(row['phase'], row['step']) for row in self.log.read()]

  def test_a_line_holds_phase_step_seconds_and_values(self):
    self.log.write('teacher', 3, 1.23456, {'loss': 0.5, 'top1': 0.25})
    self.assertEqual(
        self.path.read_text(),
        '{"phase": "teacher", "step": 3, "seconds": 1.235, "loss": 0.5, '
        '"top1": 0.25}\n',
    )

  def test_lines_are_read_in_the_order_written(self):
    self._write(('teacher', 2, 1.0), ('teacher', 4, 2.0), ('cascade1', 1, 0.5))
    self.assertEqual(
        self._rows(), [('teacher', 2), ('teacher', 4), ('cascade1', 1)]
    )
    self.assertEqual(self.log.read()[1]['loss'], 0.4)

  def test_without_a_file_there_is_nothing_to_rewind(self):
    self.assertEqual(self.log.read(), [])
    self.assertEqual(self.log.seconds('teacher', 8), 0.0)
    self.assertEqual(self.log.rewind('teacher', 0), 0.0)
    self.assertEqual(self.log.read(), [])

  def test_rewind_drops_what_the_phase_will_do_again_alone(self):
    self._write(
        ('teacher', 8, 9.0),
        ('cascade1', 2, 1.0),
        ('cascade1', 4, 2.0),
        ('cascade1', 6, 3.0),
        ('lock_in', 9, 4.0),
    )
    # Step 4 ended after 2 seconds.
    self.assertEqual(self.log.rewind('cascade1', 4), 2.0)
    kept = [('teacher', 8), ('cascade1', 2), ('cascade1', 4), ('lock_in', 9)]
    self.assertEqual(self._rows(), kept)

  def test_rewind_to_the_start_has_spent_no_time(self):
    self._write(('teacher', 8, 9.0), ('cascade1', 2, 1.0))
    self.assertEqual(self.log.rewind('cascade1', 0), 0.0)
    self.assertEqual(self._rows(), [('teacher', 8)])

  def test_a_line_that_was_cut_off_is_passed_over_and_dropped(self):
    self._write(('teacher', 2, 1.0), ('teacher', 4, 2.0))
    whole = self.path.read_text()
    self.path.write_text(whole + '{"phase": "teacher", "step": 6, "sec')
    self.assertEqual(self._rows(), [('teacher', 2), ('teacher', 4)])
    self.assertEqual(self.log.rewind('teacher', 4), 2.0)
    self.assertEqual(self.path.read_text(), whole)
    # The next row starts a new line.
    self._write(('teacher', 6, 3.0))
    self.assertEqual(self._rows()[-1], ('teacher', 6))

  def test_every_line_is_json(self):
    self._write(('teacher', 2, 1.0), ('cascade1', 4, 2.0))
    self.log.rewind('cascade1', 4)
    for line in self.path.read_text().splitlines():
      self.assertIsInstance(json.loads(line), dict)


def _events(path):
  """Returns the scalars of an events file: length, checksum, event, ..."""
  data, found = path.read_bytes(), []
  while data:
    (length,) = struct.unpack('<Q', data[:8])
    event = event_pb2.Event.FromString(data[12 : 12 + length])
    data = data[16 + length :]
    for value in event.summary.value:
      found.append((event.step, value.tag, value.simple_value))
  return found


class TensorBoardTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.workdir = self.enterContext(tempfile.TemporaryDirectory())
    self.folder = pathlib.Path(self.workdir, 'tensorboard')

  def _write(self, phase, first, *steps):
    log = progress.TensorBoardLog(self.workdir)
    seconds = log.rewind(phase, first)
    for step in steps:
      log.write(phase, step, step / 2, {'loss': step / 4, 'test_top1/0.5': 0.5})
    del log
    gc.collect()  # Closes the file.
    return seconds

  def _steps(self, phase):
    (path,) = (self.folder / phase).iterdir()
    return [step for step, tag, _ in _events(path) if tag == 'loss']

  def test_each_phase_is_a_run_with_all_numbers(self):
    self._write('teacher', 0, 2, 4)
    self._write('cascade1', 0, 8)
    (path,) = (self.folder / 'teacher').iterdir()
    self.assertEqual(
        _events(path),
        [
            (2, 'seconds', 1.0), (2, 'loss', 0.5), (2, 'test_top1/0.5', 0.5),
            (4, 'seconds', 2.0), (4, 'loss', 1.0), (4, 'test_top1/0.5', 0.5),
        ],
    )
    self.assertEqual(self._steps('cascade1'), [8])

  def test_a_phase_that_goes_on_has_each_step_once(self):
    self._write('teacher', 0, 2, 4, 6)
    # Resumed after a kill between the checkpoint of step 4 and the next.
    self.assertEqual(self._write('teacher', 4, 6, 8), 2.0)
    self.assertEqual(self._steps('teacher'), [2, 4, 6, 8])

  def test_metrics_are_the_same_as_without(self):
    self._write('teacher', 0, 2, 4)
    path = pathlib.Path(self.workdir, 'metrics.jsonl')
    text = path.read_text()
    path.unlink()
    log = progress.MetricsLog(self.workdir)
    for step in (2, 4):
      log.write('teacher', step, step / 2,
                {'loss': step / 4, 'test_top1/0.5': 0.5})
    self.assertEqual(path.read_text(), text)

  def test_without_the_package_a_run_ends_before_it_writes(self):
    workdir = pathlib.Path(self.workdir, 'run')
    config = digits.get_config('smoke')
    config.tensorboard = True
    with mock.patch.object(
        progress.importlib.util, 'find_spec', return_value=None
    ):
      with self.assertRaisesRegex(
          UsageError, 'tensorboard = True needs.*tensorboardX.*pip install'
      ):
        experiment.run(config, str(workdir))
    self.assertFalse(workdir.exists())


class ProgressTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.clock = _Clock()
    self.enterContext(mock.patch.object(progress, 'time', self.clock))

  def _run(self, stderr, *seconds):
    """Runs steps from step 2 of 10 on, one at each of the times."""
    with contextlib.redirect_stderr(stderr):
      shown = progress.Progress(
          'cascade1', first_step=2, num_steps=10, batch_size=100
      )
      with shown:
        for second in seconds:
          self.clock.now = 100.0 + second
          shown.advance()
          shown.show({'loss': 0.12345, 'top1': 0.5})
    return stderr.getvalue()

  def test_without_a_terminal_it_ends_with_one_line(self):
    # Steps 3 to 6 of 100 images take two seconds: 200 images a second, and two
    # more seconds for the other four steps.
    self.assertEqual(
        self._run(io.StringIO(), 0.5, 1.0, 1.5, 2.0),
        'cascade1: step 6/10  loss 0.1235  top1 0.5  200 img/s  2 s left\n',
    )

  def test_without_a_terminal_it_prints_a_line_now_and_then(self):
    lines = self._run(io.StringIO(), 10, 25, 40, 50, 60).splitlines()
    # The first line comes after more than 20 seconds, the second after 20 more,
    # and the last at the end.
    self.assertEqual(
        [line.split('  ')[0] for line in lines],
        ['cascade1: step 4/10', 'cascade1: step 6/10', 'cascade1: step 7/10'],
    )
    # Two steps in 25 seconds are 8 images a second; 6 steps are left.
    self.assertEndsWith(lines[0], '8 img/s  75 s left')
    # Five steps in 60 seconds; 3 steps are left.
    self.assertEndsWith(lines[2], '8 img/s  36 s left')

  def test_before_its_first_step_there_is_nothing_to_say(self):
    self.assertEqual(self._run(io.StringIO()), '')

  @parameterized.parameters((0.01, 'teacher: compiling\n'), (60.0, ''))
  def test_compiling_that_takes_long_is_said(self, seconds, expected):
    told, said = io.StringIO(), threading.Event()
    with (
        mock.patch.object(progress, '_LONG_SECS', seconds),
        contextlib.redirect_stderr(told),
        progress.compiling('teacher'),
    ):
      if expected:
        while not told.getvalue():
          said.wait(0.01)
    self.assertEqual(told.getvalue(), expected)

  def test_nothing_is_said_twice(self):
    lines = self._run(io.StringIO(), 10, 25).splitlines()
    self.assertEqual(
        [line.split('  ')[0] for line in lines], ['cascade1: step 4/10']
    )

  def test_on_a_terminal_it_draws_a_bar_and_no_lines(self):
    shown = self._run(_Terminal(), 10, 25, 40)
    self.assertIn('\rcascade1', shown)
    self.assertIn('loss 0.1235', shown)
    self.assertNotIn('s left', shown)


if __name__ == '__main__':
  absltest.main()
