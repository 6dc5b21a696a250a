# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.commands."""

import errno
import os

from absl.testing import absltest, parameterized

from adaptanet_jax import commands


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

  def test_an_error_of_ours_keeps_its_traceback(self):
    with self.assertRaises(OSError):
      with commands.one_line_errors('command'):
        raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))


if __name__ == '__main__':
  absltest.main()
