# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.workspace."""

import io
import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized

from adaptanet_jax import workspace
from configs import common
from tests import testing


class NetworksTest(parameterized.TestCase):

  @parameterized.parameters(
      ('teacher', 'model.architecture', 'resnet26x8', 'architecture'),
      ('student', 'model.stem', 'cifar_half', 'stem'),
      ('teacher', 'teacher.norm', 'bn', 'norm'),
      ('student', 'model.norm', 'ln', 'norm'),
      ('student', 'delta.kind', 'separable', 'delta'),
      ('student', 'compute_dtype', 'bfloat16', 'dtype'),
      ('gates', 'gates.anchors', (1, 2, 3), 'anchors'),
      ('gates', 'gates.resolution', 7, 'resolution'),
      ('gates', 'policies.confidence', 'margin', 'confidence'),
  )
  def test_each_setting_reaches_what_it_is_for(self, part, key, value, name):
    def made(config):
      nets, gates = workspace.networks(config, 10, (32, 32, 3))
      parts = {
          'teacher': nets.teacher, 'student': nets.student, 'gates': gates
      }
      return {
          (p, field): getattr(net, field)
          for p, net in parts.items()
          for field in net.__dataclass_fields__
      }

    config = common.get_config()
    before = made(config)
    config.update_from_flattened_dict({key: value})
    after = made(config)
    self.assertEqual(after[part, name], value)
    # And, but for what both networks share, nothing else.
    changed = {place for place in before if before[place] != after[place]}
    self.assertIn((part, name), changed)
    self.assertEqual({field for _, field in changed}, {name})
    if key in ('teacher.norm', 'model.norm'):
      self.assertLen(changed, 1)

  def test_a_baseline_has_no_anchors_and_no_deltas(self):
    config = common.get_config()
    config.baseline.network = 'usnet'
    nets, _ = workspace.networks(config, 10, (32, 32, 3))
    self.assertFalse(nets.student.anchors)
    self.assertIsNone(nets.student.delta)


class GitCommitTest(absltest.TestCase):

  def test_it_is_that_of_this_code_and_not_of_what_it_lies_in(self):
    root = self.enterContext(tempfile.TemporaryDirectory())
    code = pathlib.Path(root, '.venv', 'adaptanet_jax', 'workspace.py')
    code.parent.mkdir(parents=True)
    code.write_text('')
    template = code.with_name('commit.txt')
    template.write_text('$Format:%H$\n')

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

  def test_an_archive_knows_its_commit(self):
    root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    for name in ('.gitattributes', 'adaptanet_jax/commit.txt'):
      (root / name).parent.mkdir(exist_ok=True)
      shutil.copy(testing.ROOT / name, root / name)

    def git(*command):
      by = ('-c', 'user.name=a', '-c', 'user.email=a@b')
      done = subprocess.run(
          ('git', '-C', root, *by, *command), capture_output=True, check=True
      )
      return done.stdout

    git('init')
    git('add', '.')
    git('commit', '-m', 'All of it')
    with tarfile.open(fileobj=io.BytesIO(git('archive', 'HEAD'))) as tar:
      commit = tar.extractfile('adaptanet_jax/commit.txt').read()
    copy = root / 'copy' / 'workspace.py'
    copy.parent.mkdir()
    copy.with_name('commit.txt').write_bytes(commit)
    expected = git('rev-parse', '--short=12', 'HEAD').decode().strip()
    with mock.patch.object(workspace, '__file__', str(copy)):
      self.assertEqual(workspace._git_commit(), expected)


if __name__ == '__main__':
  absltest.main()
