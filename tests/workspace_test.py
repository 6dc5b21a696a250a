# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.workspace."""

import os
import pathlib
import subprocess
import tempfile
from unittest import mock

from absl.testing import absltest

from adaptanet_jax import workspace


class GitCommitTest(absltest.TestCase):

  def test_it_is_that_of_this_code_and_not_of_what_it_lies_in(self):
    root = self.enterContext(tempfile.TemporaryDirectory())
    code = pathlib.Path(root, '.venv', 'adaptanet_jax', 'workspace.py')
    code.parent.mkdir(parents=True)
    code.write_text('')

    def git(*command):
      by = ('-c', 'user.name=a', '-c', 'user.email=a@b')
      subprocess.run(
          ('git', '-C', root, *by, *command), capture_output=True, check=True
      )

    git('init')
    git('commit', '--allow-empty', '-m', 'Of another project')
    with mock.patch.object(workspace, '__file__', str(code)):
      self.assertEqual(workspace._git_commit(), 'unknown')
      git('add', os.path.relpath(code, root))
      git('commit', '-m', 'Now it is a part')
      self.assertRegex(workspace._git_commit(), '^[0-9a-f]{12}$')
      code.write_text('changed')
      self.assertRegex(workspace._git_commit(), '^[0-9a-f]{12}-dirty$')
      with mock.patch.dict(os.environ, PATH=''):
        self.assertEqual(workspace._git_commit(), 'unknown')


if __name__ == '__main__':
  absltest.main()
