# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.workdir."""

import errno
import os
import pathlib
import re
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized

from adaptanet_jax import workdir
from adaptanet_jax.errors import UsageError


class PathsTest(parameterized.TestCase):

  def test_every_file_is_one_of_its_own_inside_the_workdir(self):
    paths = workdir.Paths('/runs/one')
    found = [path for name, path in vars(paths).items() if name[0] != '_']
    found += [paths.unfinished('evaluation'), paths.unfinished('policies')]
    self.assertLen(set(found), len(found))
    for path in found:
      self.assertEqual(os.path.dirname(path), '/runs/one')

  @parameterized.parameters('/runs/[1]/x', '/runs/lr[0-9]', 'own[ab]')
  def test_a_path_that_orbax_takes_for_another_is_refused(self, path):
    with self.assertRaisesRegex(UsageError, re.escape(f'--workdir={path}, or')):
      workdir.check_path(path)

  @parameterized.parameters('/runs/a b', 'ün?ï', "/runs/it's*", '/runs/[x')
  def test_other_paths_pass(self, path):
    workdir.check_path(path)

  def test_a_file_is_refused(self):
    with self.assertRaisesRegex(UsageError, 'workdir_test.py is a file; expec'):
      workdir.check_path(__file__)

  @parameterized.parameters(
      'policies.json', 'subnets.csv', 'report.html', 'tensorboard',
      'checkpoints', 'figures',
  )
  def test_what_no_run_has_made_is_not_replaced(self, name):
    folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    (folder / 'notes.txt').write_text('mine')
    workdir.check_own(str(folder))
    (folder / name).mkdir()
    with self.assertRaisesRegex(UsageError, f'of a run, but {name}; expected'):
      workdir.check_own(str(folder))
    (folder / 'config.json').write_text('{}')
    workdir.check_own(str(folder))


class JsonTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.path = os.path.join(
        self.enterContext(tempfile.TemporaryDirectory()), 'values.json'
    )

  def test_what_was_written_is_read(self):
    values = {'schema': 1, 'nested': {'list': [1, 0.1, None, 'text']}}
    workdir.write_json(self.path, values)
    self.assertEqual(workdir.read_json(self.path), values)
    self.assertEqual(os.listdir(os.path.dirname(self.path)), ['values.json'])

  def test_a_value_that_is_no_json_leaves_the_old_file(self):
    workdir.write_json(self.path, {'old': 1})
    with self.assertRaises(TypeError):
      workdir.write_json(self.path, {'new': 2, 'then': object()})
    self.assertEqual(workdir.read_json(self.path), {'old': 1})

  def test_a_full_disk_leaves_the_old_file(self):
    workdir.write_json(self.path, {'old': 1})
    full = OSError(errno.ENOSPC, 'No space left on device')
    with mock.patch.object(os, 'fsync', side_effect=full):
      with self.assertRaisesRegex(OSError, 'No space left'):
        workdir.write_json(self.path, {'new': 2})
    self.assertEqual(workdir.read_json(self.path), {'old': 1})
    self.assertEqual(os.listdir(os.path.dirname(self.path)), ['values.json'])

  @parameterized.parameters('', '{"schema": 1, "seco', 'no json at all')
  def test_a_broken_file_is_refused_by_name(self, text):
    pathlib.Path(self.path).write_text(text)
    with self.assertRaisesRegex(
        UsageError, rf'{self.path} is not JSON .*a whole copy'
    ):
      workdir.read_json(self.path)

  def test_what_is_no_object_is_refused_by_name(self):
    pathlib.Path(self.path).write_text('[1, 2]')
    with self.assertRaisesRegex(UsageError, re.escape(
        f'{self.path} holds [1, 2]; expected an object'
    )):
      workdir.read_json(self.path)

  def test_a_file_that_would_not_change_is_left_alone(self):
    workdir.write_text(self.path, 'one\r\ntwo\n')
    before = os.stat(self.path).st_ino  # A replaced file has another inode.
    workdir.write_text(self.path, 'one\r\ntwo\n')
    self.assertEqual(os.stat(self.path).st_ino, before)
    workdir.write_text(self.path, 'one\ntwo\n')
    self.assertEqual(pathlib.Path(self.path).read_bytes(), b'one\ntwo\n')


class NewFolderTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory())
    ).resolve()

  def _write(self, folder):
    with workdir.new_folder(str(folder), index='index') as partial:
      for name in ('a', 'index', 'z'):
        pathlib.Path(partial, name).write_text(name)

  def test_a_file_is_not_taken_for_a_folder(self):
    (self.root / 'new').write_text('mine')
    with self.assertRaisesRegex(UsageError, 'new is a file; expected a new'):
      self._write(self.root / 'new')
    self.assertEqual((self.root / 'new').read_text(), 'mine')

  def test_what_others_have_stays(self):
    theirs = self.root / 'new.partial'
    theirs.mkdir()
    (theirs / 'mine.txt').write_text('mine')
    with self.assertRaisesRegex(UsageError, 'new is not empty; expected'):
      with workdir.new_folder(str(self.root / 'new'), index='a'):
        self._write(self.root / 'new')  # As another process may do meanwhile.
    self.assertCountEqual(os.listdir(self.root), ['new', 'new.partial'])
    self.assertLen(os.listdir(self.root / 'new'), 3)
    self.assertEqual(os.listdir(theirs), ['mine.txt'])

  def test_an_empty_folder_stays_and_takes_the_files_the_index_last(self):
    folder, link = self.root / 'empty', self.root / 'link'
    folder.mkdir()
    link.symlink_to(folder)
    before = folder.stat().st_ino
    with mock.patch.object(os, 'rename', wraps=os.rename) as rename:
      self._write(link)
    self.assertCountEqual(os.listdir(folder), ['a', 'index', 'z'])
    self.assertEqual(folder.stat().st_ino, before)
    self.assertTrue(link.is_symlink())
    moved = [os.path.basename(call.args[1]) for call in rename.mock_calls]
    self.assertCountEqual(moved, ['a', 'z', 'index'])
    self.assertEqual(moved[-1], 'index')

  def test_what_fails_leaves_nothing(self):
    folder = self.root / 'empty'
    folder.mkdir()
    for path in (folder, self.root / 'new'):
      with self.assertRaisesRegex(OSError, 'full'):
        with workdir.new_folder(str(path), index='a') as partial:
          pathlib.Path(partial, 'a').write_text('a')
          raise OSError('full')
    self.assertEqual(os.listdir(self.root), ['empty'])
    self.assertEmpty(os.listdir(folder))


if __name__ == '__main__':
  absltest.main()
