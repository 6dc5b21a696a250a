# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.serving.protocol: malformed requests."""

import json
import tracemalloc

from absl.testing import absltest, parameterized
import numpy as np

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
        anchors=[(1, 2, 2)],
        limits=Limits(**limits),
    )

  @parameterized.parameters(
      (16, bytes(15), None, 'binary_data_size is 16, and 15 bytes follow'),
      (15, bytes(15), None, 'images has 15 bytes; expected 16'),
      (16, bytes(16), '9' * 9, 'Content-Length is .*; expected a number up'),
      (16, bytes(16), '9' * 5000, "Content-Length is '9{20}'; expected"),
      (16, bytes(16), '-1', "Content-Length is '-1'"),
      (None, bytes(16), None, 'expected a tensor with binary_data_size'),
      (16, bytes(16), None, 'has a scale, which only anchors have', 0.5),
  )
  def test_bad_binary_tensors(self, size, binary, length, message, scale=None):
    tensor = {'name': 'images', 'datatype': 'UINT8', 'shape': [1, 4, 4, 1]}
    if size is not None:
      tensor['parameters'] = {'binary_data_size': size}
    if scale:
      tensor['parameters']['scale'] = scale
    with self.assertRaisesRegex(RequestError, message):
      self._parse(tensor, binary, length)

  def _anchor(self, datatype, values, **parameters):
    values = np.array(values, {'UINT8': 'u1', 'FP16': '<f2'}[datatype])
    binary = values.tobytes()
    parameters['binary_data_size'] = len(binary)
    return self._parse(
        {
            'name': 'anchor_1', 'datatype': datatype, 'shape': [1, 1, 2, 2],
            'parameters': parameters,
        },
        binary,
    )

  @parameterized.parameters(
      ('FP16', {}, [0.0, 1.0, 2.0, 255.0]),
      ('FP16', {'scale': 0.5}, [0.0, 0.5, 1.0, 127.5]),
      ('UINT8', {'scale': 1}, [0.0, 1.0, 2.0, 255.0]),
      ('UINT8', {'scale': 0.25}, [0.0, 0.25, 0.5, 63.75]),
  )
  def test_an_anchor_is_its_numbers_times_a_scale(
      self, datatype, parameters, expected
  ):
    asked = self._anchor(datatype, [0, 1, 2, 255], **parameters)
    self.assertEqual((asked.start, asked.images.dtype), (1, np.float16))
    np.testing.assert_array_equal(asked.images.ravel(), expected)
    # What an answer to it is worth is not known.
    self.assertNotIn('accuracy', dict(asked.outputs))

  @parameterized.parameters(
      ('UINT8', {}, 'The scale of an anchor is None; expected a number above'),
      ('UINT8', {'Scale': 0.1}, "Unknown parameter 'Scale' of an anchor; .*sc"),
      ('UINT8', {'scale': 0}, 'The scale of an anchor is 0'),
      ('UINT8', {'scale': 1e3}, 'numbers that are not finite in 16 bits'),
      ('FP16', {'scale': '1'}, "The scale of an anchor is '1'"),
  )
  def test_bad_anchors(self, datatype, parameters, message):
    with self.assertRaisesRegex(RequestError, message):
      self._anchor(datatype, [0, 1, 2, 255], **parameters)

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
