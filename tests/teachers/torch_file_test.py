# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.teachers.torch_file, with files from PyTorch."""

import io
import json
import os
import pathlib
import pickle
import tempfile
import zipfile

from absl.testing import absltest, parameterized
from hypothesis import strategies as st
import numpy as np
from safetensors.numpy import save

from adaptanet_jax.errors import UsageError
from adaptanet_jax.teachers import torch_file, torch_resnet
from tests import fuzz
from tests.teachers import originals


class ReadTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.path = pathlib.Path(folder, 'file')

  def _read(self, data):
    self.path.write_bytes(data)
    return torch_file.read(str(self.path))

  def assert_saved(self, state):
    for name, expected in originals.saved().items():
      np.testing.assert_array_equal(state[name], expected, name)
      self.assertEqual(state[name].dtype, expected.dtype, name)
    # bfloat16 has 8 bits of precision.
    self.assertEqual(state['bfloat16'].dtype.name, 'bfloat16')
    np.testing.assert_allclose(
        state['bfloat16'].astype(np.float32), state['plain'], rtol=2**-8
    )

  @parameterized.parameters('zip.pth', 'before_1_6.pth')
  def test_tensors_are_read_whatever_is_beside_them(self, name):
    found = torch_file.read(str(originals.SAVED / name))
    self.assert_saved(found['state_dict'])
    self.assertEqual(found['epoch'], 3)
    for key in {'args', 'best', 'running', 'device', 'module'} & {*found}:
      self.assertIsInstance(found[key], torch_file.Other)

  def test_tensors_that_are_no_arrays_are_others(self):
    found = torch_file.read(str(originals.SAVED / 'other_kinds.pth'))
    self.assert_saved(found)
    for key in ('sparse', 'complex', 'uint16'):
      self.assertIsInstance(found[key], torch_file.Other)

  def test_a_whole_network_is_an_other_by_its_name(self):
    found = torch_file.read(str(originals.SAVED / 'module.pth'))
    self.assertIsInstance(found, torch_file.Other)
    self.assertEqual(type(found).__name__, 'Linear')

  def test_safetensors_are_read_whatever_the_name(self):
    arrays = {'a': np.arange(6, dtype=np.float32).reshape(2, 3)}
    np.testing.assert_array_equal(self._read(save(arrays))['a'], arrays['a'])

  @parameterized.parameters(
      *(('F16', 'float16'), ('BF16', 'bfloat16'), ('F64', 'float64')),
      *(('I8', 'int8'), ('I64', 'int64'), ('U8', 'uint8'), ('BOOL', 'bool')),
      ('F8_E4M3', None),
  )
  def test_safetensors_have_arrays_of_other_types(self, kind, dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype or 'uint8')
    entry = {
        'dtype': kind, 'shape': [2, 3], 'data_offsets': [0, array.nbytes]
    }
    head = json.dumps({'a': entry, '__metadata__': {'format': 'pt'}}).encode()
    found = self._read(
        len(head).to_bytes(8, 'little') + head + array.tobytes()
    )['a']
    if dtype is None:
      self.assertIsInstance(found, torch_file.Other)
    else:
      np.testing.assert_array_equal(found, array)
      self.assertEqual(found.dtype, array.dtype)

  def test_nothing_of_a_pickle_runs(self):
    victim = self.path.with_name('victim')

    class Evil:

      def __reduce__(self):
        return os.mkdir, (str(victim),)

    evil = pickle.dumps(Evil(), 2)
    found = io.BytesIO()
    with zipfile.ZipFile(found, 'w') as archive:
      archive.writestr('archive/data.pkl', evil)
    self.assertIsInstance(self._read(found.getvalue()), torch_file.Other)
    legacy = [pickle.dumps(n, 2) for n in (0x1950A86A20F9469CFC6C, 1001, {})]
    legacy += [evil, pickle.dumps([], 2)]
    self.assertIsInstance(self._read(b''.join(legacy)), torch_file.Other)
    self.assertFalse(victim.exists())

  def test_a_few_bytes_ask_for_no_memory(self):
    # Index 2**31 of the unpickler's memo, which would take 32 GB.
    data = b'\x80\x02]r\xff\xff\xff\x7f.'
    with self.assertRaisesRegex(ValueError, 'pickle is damaged'):
      self._read(data)

  def test_a_packed_file_is_refused(self):
    found = io.BytesIO()
    with zipfile.ZipFile(found, 'w', zipfile.ZIP_DEFLATED) as archive:
      archive.writestr('archive/data.pkl', pickle.dumps({}, 2))
    with self.assertRaisesRegex(ValueError, 'data.pkl in it is compressed'):
      self._read(found.getvalue())

  @parameterized.parameters('zip.pth', 'before_1_6.pth')
  def test_a_file_that_is_cut_off_is_refused(self, name):
    data = (originals.SAVED / name).read_bytes()
    for size in range(0, len(data) - 1, 37):
      with self.assertRaises(Exception) as caught:
        self._read(data[:size])
      self.assertNotIsInstance(caught.exception, MemoryError)

  def test_a_tensor_beyond_its_storage_is_refused(self):
    storage = np.zeros(6, np.float32)
    for offset, size, stride in (
        *((0, (7,), (1,)), (1, (2, 3), (3, 1)), (-1, (2,), (1,))),
        *((0, (-2,), (1,)), (5, (2,), (-1,)), (0, (10**12, 2), (0, 9))),
    ):
      with self.assertRaisesRegex(ValueError, 'beyond its storage'):
        torch_file._tensor(storage, offset, size, stride)
    self.assertEqual(torch_file._tensor(storage, 0, (), ()).shape, ())

  @parameterized.parameters(
      (b'', 'it is empty'),
      (b'<!DOCTYPE html><html>', "starts with b'<!DOCTYPE html>"),
      (b'version https://git-lfs.github.com/spec/v1', "b'version https://"),
      (pickle.dumps([1, 2]), 'not one of PyTorch'),
  )
  def test_what_is_no_such_file_is_refused(self, data, text):
    with self.assertRaisesRegex(ValueError, text):
      self._read(data)

  def test_another_zip_file_is_refused(self):
    found = io.BytesIO()
    with zipfile.ZipFile(found, 'w') as archive:
      archive.writestr('a.txt', 'x')
    with self.assertRaisesRegex(ValueError, 'without one data.pkl'):
      self._read(found.getvalue())


def _saved():
  return [path.read_bytes() for path in sorted(originals.SAVED.iterdir())]


def _pickles():
  """Returns the pickles of the saved files that are zip files."""
  found = []
  for data in _saved():
    if data.startswith(b'PK'):
      with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith('/data.pkl')]
        found.append(archive.read(name))
  return found


class FuzzTest(absltest.TestCase):
  """Tests that damaged files give arrays, or an error of one line."""

  def assert_read_or_refused(self, data):
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder, 'file')
      path.write_bytes(data)
      try:
        found = torch_resnet._read(str(path))
      except UsageError as error:
        self.assertNotIn('\n', str(error))
        self.assertIn('config.teacher.weights = ', str(error))
      else:
        for array in found.values():
          self.assertIsInstance(array, np.ndarray)

  @fuzz.given(fuzz.damaged(_saved()))
  def test_a_damaged_file_is_read_or_refused(self, data):
    self.assert_read_or_refused(data)

  @fuzz.given(fuzz.damaged(_pickles()))
  def test_a_damaged_pickle_is_read_or_refused(self, pickled):
    # Packed into an intact zip file, whose checksum does not reveal it.
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(_saved()[-1])) as whole,
        zipfile.ZipFile(packed, 'w') as archive,
    ):
      for name in whole.namelist():
        is_pickle = name.endswith('/data.pkl')
        archive.writestr(name, pickled if is_pickle else whole.read(name))
    self.assert_read_or_refused(packed.getvalue())

  @fuzz.given(
      fuzz.damaged([
          save({
              'conv1.weight': np.ones((2, 3), np.float32),
              'fc.bias': np.zeros(4, np.float16),
          })
      ])
  )
  def test_damaged_safetensors_are_read_or_refused(self, data):
    self.assert_read_or_refused(data)

  @fuzz.given(
      st.sampled_from((b'', b'PK\x03\x04', b'\x80\x02', bytes(8) + b'{')),
      st.binary(max_size=200),
  )
  def test_bytes_are_read_or_refused(self, start, rest):
    self.assert_read_or_refused(start + rest)


if __name__ == '__main__':
  absltest.main()
