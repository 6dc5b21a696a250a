# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.preemption."""

import contextlib
import io
import multiprocessing
import os
import signal
import sys
import time
from unittest import mock

from absl.testing import absltest, parameterized
import jax
from jax.experimental import multihost_utils

from adaptanet_jax import experiment, job, preemption, processes


class NoticeTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGINT):
      self.addCleanup(signal.signal, number, signal.getsignal(number))
    self.addCleanup(setattr, sys, 'unraisablehook', sys.unraisablehook)
    self.notice = preemption.Notice()
    self.notice.listen()

  def test_it_ends_what_has_nothing_to_save(self):
    with self.assertRaises(preemption.Preempted):
      os.kill(os.getpid(), signal.SIGTERM)

  def test_it_ends_also_what_is_ignored_by_python(self):
    class Finalized:

      def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

    told = io.StringIO()
    with contextlib.redirect_stderr(told):
      with self.assertRaises(preemption.Preempted):
        Finalized()  # Does not raise here, but soon after.
        time.sleep(60.0)
    self.assertEqual(told.getvalue(), '')

  def test_other_failures_that_python_ignores_are_told(self):
    class Finalized:

      def __del__(self):
        raise ValueError('a failure of its own')

    told = io.StringIO()
    with contextlib.redirect_stderr(told):
      Finalized()
    self.assertIn('a failure of its own', told.getvalue())

  def test_a_loop_is_told_after_the_step_that_it_is_in(self):
    told = []
    with self.assertRaisesRegex(preemption.Preempted, 'saved'):
      with self.notice.held():
        for step in range(4):
          if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
          told.append(self.notice.reached())
          if told[-1]:
            raise preemption.Preempted('saved')
    self.assertEqual(told, [False, False, True])

  def test_work_within_a_loop_leaves_the_end_to_the_loop(self):
    # A loop saves before it ends; what it measures after an epoch does not.
    told = []
    with self.assertRaisesRegex(preemption.Preempted, 'saved'):
      with self.notice.held():
        os.kill(os.getpid(), signal.SIGTERM)
        self.notice.check()
        told.append(self.notice.reached())
        raise preemption.Preempted('saved')
    self.assertEqual(told, [True])

  def test_long_work_between_two_steps_can_be_left(self):
    told = []
    with self.assertRaises(preemption.Preempted):
      with self.notice.held():
        try:
          with self.notice.released():
            os.kill(os.getpid(), signal.SIGTERM)
            self.notice.check()
        except preemption.Preempted:
          told.append('left')
        os.kill(os.getpid(), signal.SIGTERM)
        told.append('saved')
    self.assertEqual(told, ['left', 'saved'])

  def test_asked_before_long_work_it_does_not_begin_it(self):
    with self.assertRaises(preemption.Preempted):
      with self.notice.held():
        os.kill(os.getpid(), signal.SIGTERM)
        with self.notice.released():
          self.fail('It began.')

  def test_a_loop_that_ends_by_itself_is_the_last_one(self):
    done = []
    with self.assertRaises(preemption.Preempted):
      with self.notice.held():
        os.kill(os.getpid(), signal.SIGTERM)
        done.append('its last step')
    self.assertEqual(done, ['its last step'])

  def test_without_notice_nothing_happens(self):
    self.notice.check()
    with self.notice.held():
      self.assertFalse(self.notice.reached())

  def test_what_has_nothing_to_save_asks_by_itself(self):
    with self.assertRaises(preemption.Preempted):
      with self.notice.held():
        os.kill(os.getpid(), signal.SIGTERM)
        self.notice.check()  # No effect: the loop has to save first.
    with self.assertRaises(preemption.Preempted):
      self.notice.check()

  def test_of_several_processes_none_forgets_the_step_they_agreed_on(self):
    asked = []

    def reached(step):
      asked.append(step)
      return step == 2

    self.enterContext(mock.patch.object(jax, 'process_count', lambda: 2))
    self.enterContext(
        mock.patch.object(
            multihost_utils, 'reached_preemption_sync_point', reached
        )
    )
    told = [self.notice.reached() for _ in range(4)]
    self.assertEqual(told, [False, True, True, True])
    self.assertEqual(asked, [1, 2, 3, 4])
    with self.assertRaises(preemption.Preempted):
      self.notice.check()

  def test_ctrl_c_waits_for_the_step_and_a_second_one_does_not(self):
    done = []
    with mock.patch.object(os, 'write') as written:
      with self.assertRaises(preemption.Preempted):
        with self.notice.held():
          os.kill(os.getpid(), signal.SIGINT)
          done.append(self.notice.reached())
    self.assertEqual(done, [True])
    self.assertEqual(self.notice.signal, signal.SIGINT)
    ((_, text), _) = written.call_args
    self.assertIn(b'Ctrl-C again', text)
    with self.assertRaises(KeyboardInterrupt):
      with self.notice.held():
        os.kill(os.getpid(), signal.SIGINT)

  def test_ctrl_c_ends_what_has_nothing_to_save(self):
    with self.assertRaises(preemption.Preempted):
      os.kill(os.getpid(), signal.SIGINT)

  def test_a_background_job_still_ignores_ctrl_c(self):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    preemption.Notice().listen()
    self.assertIs(signal.getsignal(signal.SIGINT), signal.SIG_IGN)

  def test_it_is_no_failure_to_be_handled(self):
    self.assertFalse(issubclass(preemption.Preempted, Exception))

  @parameterized.parameters(
      (signal.SIGTERM, 'Asked to stop.', 75),
      (signal.SIGINT, 'Interrupted.', 130),
  )
  def test_asked_again_while_it_leaves_it_still_leaves_as_asked(
      self, number, why, code
  ):
    def ask(*unused):
      os.kill(os.getpid(), number)

    def ask_again():
      os.kill(os.getpid(), number)
      return []

    told = io.StringIO()
    with (
        mock.patch.object(preemption, 'NOTICE', self.notice),
        mock.patch.object(processes, 'initialize'),
        mock.patch.object(experiment, 'run', ask),
        mock.patch.object(multiprocessing, 'active_children', ask_again),
        mock.patch.object(os, '_exit', side_effect=SystemExit) as leave,
        contextlib.redirect_stderr(told),
        self.assertRaises(SystemExit),
    ):
      job.run(None, '/workdir', ())
    leave.assert_called_once_with(code)
    self.assertEqual(
        told.getvalue(),
        f'adaptanet_jax: {why} Run the same command again to resume.\n',
    )


if __name__ == '__main__':
  absltest.main()
