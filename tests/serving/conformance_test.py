# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests the protocol with a client that others have written: tritonclient."""

import base64
import io

from absl.testing import absltest, parameterized
import numpy as np
from PIL import Image
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.serving import fakes


class TritonTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.running = self.enter_context(fakes.Running())
    self.client = triton.InferenceServerClient(
        f'127.0.0.1:{self.running.port}', concurrency=4
    )
    self.addCleanup(self.client.close)
    self.images = fakes.images(3)
    self.expected = self.running.engine.logits(self.images, 'wide')

  def _input(self, *, binary=True):
    tensor = triton.InferInput('images', [3, *fakes.SHAPE], 'UINT8')
    tensor.set_data_from_numpy(self.images, binary_data=binary)
    return [tensor]

  def _check(self, result):
    np.testing.assert_allclose(
        result.as_numpy('logits'), self.expected, rtol=1e-5
    )
    labels = [fakes.CLASSES[n] for n in self.expected.argmax(-1)]
    found = [
        label.decode() if isinstance(label, bytes) else label
        for label in result.as_numpy('label').tolist()
    ]
    self.assertEqual(found, labels)
    self.assertEqual(result.as_numpy('class').dtype, np.int32)
    self.assertEqual(result.as_numpy('accuracy').dtype, np.float32)
    self.assertEqual(result.get_response()['parameters']['subnet'], 'wide')

  def test_health_and_metadata(self):
    self.assertTrue(self.client.is_server_live())
    self.assertTrue(self.client.is_server_ready())
    self.assertTrue(self.client.is_model_ready('fake'))
    self.assertTrue(self.client.is_model_ready('fake', '1'))
    self.assertFalse(self.client.is_model_ready('other'))
    self.assertEqual(
        self.client.get_server_metadata()['name'], 'adaptanet_jax'
    )
    metadata = self.client.get_model_metadata('fake')
    self.assertEqual(metadata['inputs'][0]['shape'], [-1, *fakes.SHAPE])
    (model,) = self.client.get_model_repository_index()
    self.assertEqual((model['name'], model['state']), ('fake', 'READY'))

  @parameterized.product(
      binary=(True, False),
      request=(None, 'gzip', 'deflate'),
      response=(None, 'gzip', 'deflate'),
  )
  def test_tensors(self, binary, request, response):
    outputs = [
        triton.InferRequestedOutput(name, binary_data=binary)
        for name in ('logits', 'label', 'class', 'accuracy')
    ]
    self._check(self.client.infer(
        'fake',
        self._input(binary=binary),
        outputs=outputs,
        request_compression_algorithm=request,
        response_compression_algorithm=response,
    ))

  def test_all_outputs_where_none_is_asked_for(self):
    result = self.client.infer('fake', self._input(), request_id='a')
    self._check(result)
    self.assertEqual(result.get_response()['id'], 'a')
    self.assertEqual(result.as_numpy('subnet').tolist(), [b'wide'] * 3)

  @parameterized.parameters(True, False)
  def test_pictures(self, binary):
    pictures = []
    for image in self.images:
      file = io.BytesIO()
      Image.fromarray(image[..., 0]).save(file, 'PNG')
      encoded = file.getvalue()
      pictures.append(encoded if binary else base64.b64encode(encoded))
    tensor = triton.InferInput('images', [3], 'BYTES')
    tensor.set_data_from_numpy(
        np.array(pictures, np.object_), binary_data=binary
    )
    self._check(self.client.infer('fake', [tensor]))

  def test_many_under_way(self):
    pending = [
        self.client.async_infer(
            'fake', self._input(), parameters={'min_accuracy': 0.9}
        )
        for _ in range(20)
    ]
    for one in pending:
      self._check(one.get_result())

  @parameterized.parameters(
      ({'model_name': 'other'}, '404', "no model 'other'"),
      ({'parameters': {'subnet': 'no'}}, '400', 'is not on the menu'),
      ({'timeout': 1}, '503', 'are left'),
  )
  def test_errors_have_their_status_and_sentence(
      self, arguments, status, message
  ):
    arguments = {'model_name': 'fake'} | arguments
    with self.assertRaises(InferenceServerException) as caught:
      self.client.infer(inputs=self._input(), **arguments)
    self.assertEqual(caught.exception.status(), status)
    self.assertRegex(caught.exception.message(), message)


if __name__ == '__main__':
  absltest.main()
