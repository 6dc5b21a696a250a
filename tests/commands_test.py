# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.commands."""

import contextlib
import errno
import io
import os
import pathlib
import tempfile

from absl.testing import absltest, parameterized

from adaptanet_jax import classify, commands, serve
from tests import testing


class OneLineErrorsTest(parameterized.TestCase):

  @parameterized.parameters(
      ((errno.ENOENT, 'No file', 'a.png'), 'command: a.png: No file.'),
      ((errno.ENOSPC, 'No space left'), 'command: No space left.'),
      ((errno.EIO, 'Input/output error'), 'command: Input/output error.'),
      ((errno.EROFS, 'Read-only file'), 'command: Read-only file.'),
  )
  def test_what_a_disk_says_is_one_line(self, args, line):
    with self.assertRaises(SystemExit) as stop:
      with commands.one_line_errors('command'):
        raise OSError(*args)
    self.assertEqual(stop.exception.code, line)

  def test_an_interrupt_is_one_line(self):
    told = io.StringIO()
    with self.assertRaises(SystemExit) as stop:
      with contextlib.redirect_stderr(told):
        with commands.one_line_errors('command'):
          raise KeyboardInterrupt
    self.assertEqual(stop.exception.code, 130)
    self.assertEqual(told.getvalue(), 'command: Interrupted.\n')

  def test_an_error_of_ours_keeps_its_traceback(self):
    with self.assertRaises(OSError):
      with commands.one_line_errors('command'):
        raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))


class ParseFlagsTest(parameterized.TestCase):

  @parameterized.parameters(
      ('cascade.epochs[0]=2.', 'sets a part of a setting; expected all of it'),
      ('data={}', '--config.data is a section; expected one of its settings'),
      ('teacher.epochs.x=1', 'Unknown setting --config.teacher.epochs.x=1;'),
  )
  def test_what_is_no_setting_is_named_on_one_line(self, setting, text):
    done = testing.run(
        '/no/such/folder',
        '--config=configs/digits.py:smoke',
        f'--config.{setting}',
    )
    self.assertEqual(done.returncode, 1)
    self.assertIn(text, done.stderr)
    self.assertLen(done.stderr.splitlines(), 1)


  def test_a_configuration_that_mistypes_a_setting_is_refused(self):
    folder = self.enter_context(tempfile.TemporaryDirectory())
    path = pathlib.Path(folder, 'mine.py')
    path.write_text(
        'from configs import digits\n\n'
        'def get_config():\n'
        '  c = digits.get_config()\n'
        '  c.lock_in.epoch = 3.0\n'
        '  return c\n'
    )
    done = testing.run('/no/such/folder', f'--config={path}')
    self.assertEqual(done.returncode, 1)
    self.assertEqual(
        done.stderr,
        'adaptanet_jax: Unknown setting epoch; expected one that '
        'configs/common.py declares, such as epochs.\n',
    )


class HelpTest(parameterized.TestCase):

  @parameterized.parameters(classify, serve)
  def test_it_explains_every_flag_and_tells_no_default_twice(self, module):
    parser = module._parser()
    for action in parser._actions:
      self.assertTrue(action.help, action)
    self.assertNotIn('None', parser.format_help())

  def test_it_tells_defaults(self):
    self.assertIn('default: 127.0.0.1', serve._parser().format_help())


if __name__ == '__main__':
  absltest.main()
