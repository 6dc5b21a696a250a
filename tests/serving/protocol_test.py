# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.serving.protocol: malformed requests."""

import json
import tracemalloc

from absl.testing import absltest, parameterized

from adaptanet_jax.serving import protocol
from adaptanet_jax.serving.refusals import Limits, RequestError
from tests.serving import fakes


class ProtocolTest(parameterized.TestCase):

  def _parse(self, tensor, binary, length=None, **limits):
    text = json.dumps({'inputs': [tensor]}).encode()
    return protocol.parse(
        text + binary,
        str(len(text)) if length is None else length or None,
        shape=fakes.SHAPE,
        limits=Limits(**limits),
    )

  @parameterized.parameters(
      (16, bytes(15), None, 'binary_data_size is 16, and 15 bytes follow'),
      (15, bytes(15), None, 'images has 15 bytes; expected 16'),
      (16, bytes(16), '9' * 9, 'Content-Length is .*; expected a number up'),
      (16, bytes(16), '9' * 5000, "Content-Length is '9{20}'; expected"),
      (16, bytes(16), '-1', "Content-Length is '-1'"),
      (None, bytes(16), None, 'expected a tensor with binary_data_size'),
  )
  def test_bad_binary_tensors(self, size, binary, length, message):
    tensor = {'name': 'images', 'datatype': 'UINT8', 'shape': [1, 4, 4, 1]}
    if size is not None:
      tensor['parameters'] = {'binary_data_size': size}
    with self.assertRaisesRegex(RequestError, message):
      self._parse(tensor, binary, length)

  def test_what_is_no_array_takes_no_more_than_itself(self):
    # NumPy would give each of the thousand strings the space of the longest.
    tensor = {
        'name': 'images', 'datatype': 'UINT8', 'shape': [1000, 4, 4, 1],
        'data': [*['x'] * 999, 'x' * 10_000],
    }
    tracemalloc.start()
    self.addCleanup(tracemalloc.stop)
    with self.assertRaisesRegex(RequestError, 'expected 16000 numbers'):
      self._parse(tensor, b'', '', images=1000)
    self.assertLess(tracemalloc.get_traced_memory()[1], 1_000_000)

  def test_of_too_many_pictures_only_one_more_is_counted(self):
    tensor = {
        'name': 'images', 'datatype': 'BYTES', 'shape': [1],
        'parameters': {'binary_data_size': 4000},
    }
    with self.assertRaisesRegex(RequestError, 'has 2 pictures; expected 1'):
      self._parse(tensor, bytes(4000))

  @parameterized.parameters(bytes(3), b'\x05\0\0\0abc', b'\xff\xff\xff\xff')
  def test_bad_binary_pictures(self, binary):
    tensor = {
        'name': 'images', 'datatype': 'BYTES', 'shape': [1],
        'parameters': {'binary_data_size': len(binary)},
    }
    with self.assertRaisesRegex(RequestError, 'ends at byte'):
      self._parse(tensor, binary)


if __name__ == '__main__':
  absltest.main()
