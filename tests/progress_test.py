# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.progress."""

import contextlib
import io
import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized

from adaptanet_jax import progress


class _Terminal(io.StringIO):

  def isatty(self):
    return True


class _Clock:
  """Stands in for the module `time`; moved by hand."""

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
    # Of the steps up to 4, the last one ended after 2 seconds.
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
    # What is written next is a line of its own.
    self._write(('teacher', 6, 3.0))
    self.assertEqual(self._rows()[-1], ('teacher', 6))

  def test_every_line_is_json(self):
    self._write(('teacher', 2, 1.0), ('cascade1', 4, 2.0))
    self.log.rewind('cascade1', 4)
    for line in self.path.read_text().splitlines():
      self.assertIsInstance(json.loads(line), dict)


class ProgressTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.clock = _Clock()
    self.enterContext(mock.patch.object(progress, 'time', self.clock))

  def _run(self, stderr, *seconds):
    """Goes from step 2 of 10 on, one step at each of some seconds."""
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
    # Four steps, 3 to 6, of 100 images in two seconds: 200 images a second,
    # and two seconds more for the other four.
    self.assertEqual(
        self._run(io.StringIO(), 0.5, 1.0, 1.5, 2.0),
        'cascade1: step 6/10  loss 0.1235  top1 0.5  200 img/s  2 s left\n',
    )

  def test_without_a_terminal_it_prints_a_line_now_and_then(self):
    lines = self._run(io.StringIO(), 10, 25, 40, 50, 60).splitlines()
    # The first line after more than 20 seconds, the second after 20 more; and
    # the last at the end.
    self.assertEqual(
        [line.split('  ')[0] for line in lines],
        ['cascade1: step 4/10', 'cascade1: step 6/10', 'cascade1: step 7/10'],
    )
    # Two steps in 25 seconds are 8 images a second; 6 steps are left.
    self.assertEndsWith(lines[0], '8 img/s  75 s left')
    # Five steps in 60 seconds; 3 steps are left.
    self.assertEndsWith(lines[2], '8 img/s  36 s left')

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
