# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.serving.app: requests and their responses."""

import asyncio
import base64
import concurrent.futures
import json
import shutil
import socket
import struct
import subprocess
import time
import unittest
from unittest import mock
import zlib

from absl.testing import absltest, parameterized
import numpy as np

from adaptanet_jax.data import images as images_lib
from adaptanet_jax.serving import app as app_lib, payloads
from adaptanet_jax.serving.controller import Entry, Profile
from adaptanet_jax.serving.items import Answer
from adaptanet_jax.serving.service import Service
from tests.serving import fakes

_PATH = '/v2/models/fake/infer'


def _bomb():
  """Returns a PNG whose header claims 50,000 x 50,000 pixels."""
  head = struct.pack('>IIBBBBB', 50_000, 50_000, 8, 0, 0, 0, 0)
  chunk = b'IHDR' + head
  return (
      b'\x89PNG\r\n\x1a\n' + struct.pack('>I', 13) + chunk
      + struct.pack('>I', zlib.crc32(chunk))
      + struct.pack('>I', 0) + b'IDAT' + struct.pack('>I', zlib.crc32(b'IDAT'))
  )


def _body(**changes):
  tensor = {
      'name': 'images',
      'datatype': 'UINT8',
      'shape': [1, *fakes.SHAPE],
      'data': [0] * 16,
  }
  return json.dumps({'inputs': [tensor | changes]})


def _outputs(*outputs):
  return json.dumps(json.loads(_body()) | {'outputs': outputs})


class AppTest(fakes.HttpTest):

  def test_an_answer_has_all_that_was_promised(self):
    images = fakes.images(3)
    status, values = self.running.infer(images, id='seven')
    self.assertEqual(status, 200)
    self.assertEqual(
        [values[name] for name in ('id', 'model_name', 'model_version')],
        ['seven', 'fake', '1'],
    )
    outputs = fakes.outputs(values)
    expected = self.running.engine.logits(images, 'wide')
    np.testing.assert_allclose(
        np.reshape(outputs['logits'], (3, 5)), expected, rtol=1e-5
    )
    classes = expected.argmax(-1)
    self.assertEqual(outputs['class'], classes.tolist())
    self.assertEqual(outputs['label'], [fakes.CLASSES[n] for n in classes])
    shares = np.exp(expected - expected.max(-1, keepdims=True))
    np.testing.assert_allclose(
        outputs['confidence'], 1.0 / shares.sum(-1), rtol=1e-5
    )
    self.assertEqual(outputs['subnet'], ['wide'] * 3)
    self.assertEqual(outputs['accuracy'], [0.9] * 3)
    self.assertEqual(
        values['parameters'], {'subnet': 'wide', 'accuracy': 0.9}
    )

  def test_many_images_are_as_accurate_as_each(self):
    status, values = self.running.infer(
        fakes.images(7), {'min_accuracy': 0.9}, id=None
    )
    self.assertEqual(status, 200, values)
    self.assertEqual(values['parameters']['accuracy'], 0.9)
    self.assertNotIn('id', values)

  @parameterized.parameters(
      ({'subnet': 'narrow'}, 'narrow'),
      ({'min_accuracy': 0.7}, 'wide'),
      ({'min_accuracy': 0.6, 'subnet': 'narrow'}, 'narrow'),
  )
  def test_parameters_choose_who_answers(self, parameters, expected):
    _, values = self.running.infer(fakes.images(2), parameters)
    self.assertEqual(fakes.outputs(values)['subnet'], [expected] * 2)

  @parameterized.parameters(
      ('{', 400, r'is not JSON'),
      (b'\xff', 400, 'is not JSON'),
      ('[' * 5000, 400, 'is not JSON'),
      ('[1]', 400, r'is \[1\]; expected a JSON object'),
      ('{}', 400, 'inputs is None; expected a list of one tensor'),
      ('{"inputs": [3]}', 400, 'is 3; expected an object'),
      (_body(name='x'), 400, r"The inputs are \['x'\]; expected images"),
      (_body(name='\ud800'), 400, r"The inputs are \['.ud800'\]; exp"),
      (_body(name='\ud800', datatype=3), 400, r"datatype of '.ud800' is 3"),
      (_body(datatype='F' * 5000), 400, r"is 'F+\.\.\.F+'; expected UINT8"),
      (_body(shape=[1] * 9), 400, '9 in all.; expected a list of up to 8'),
      (_body(shape=[1, 2**31]), 400, '2147483648.; expected a list of up to'),
      (_body(datatype='FP32'), 400, "is 'FP32'; expected UINT8, or BYTES"),
      (_body(shape=[1, 4, 4]), 400, r'\[1, 4, 4\]; expected \[n, 4, 4, 1\]'),
      (_body(shape=[0, 4, 4, 1]), 400, 'expected an image'),
      (_body(shape=[-1, 4, 4, 1]), 400, 'expected a list of up to 8 numbers'),
      (_body(shape='x'), 400, "shape of 'images' is 'x'; expected a list"),
      (_body(data=[1] * 15), 400, r'15 in all\]; expected 16 numbers'),
      (_body(data=[256] * 16), 400, 'expected 16 numbers from 0 to 255'),
      (_body(data=[0.5] * 16), 400, 'expected 16 numbers from 0 to 255'),
      (_body(data=[[1], [2, 3]]), 400, 'expected 16 numbers from 0 to 255'),
      (_body(data=[True] * 16), 400, 'expected 16 numbers from 0 to 255'),
      (_body(data=None), 400, 'The data of images is None'),
      (_body(data=['x'] * 16), 400, 'expected 16 numbers from 0 to 255'),
      (_body(data=[10**30] * 16), 400, 'expected 16 numbers from 0 to 255'),
      (_body(shape=[9, 4, 4, 1]), 413, '9 images; expected at most 8'),
      (_body(datatype='BYTES', shape=[1], data=['%']), 400, 'not base64'),
      (_body(datatype='BYTES', shape=[1], data=[1]), 400, 'expected strings'),
      (_body(datatype='BYTES', shape=[2], data=['']), 400, '1 pictures; exp'),
      (_body(datatype='BYTES', shape=[1], data=['AAAA']), 400, 'starts with'),
      (_outputs('label'), 400, "An output is 'label'; expected an object"),
      (_outputs({'name': [[]]}), 400, r'Unknown output \[\[\]\]; expected'),
      (_body(datatype='BYTES', shape=[1, 1], data=[['', '']]), 400,
       '2 pictures; expected 1'),
      (_outputs({'name': 'logits', 'parameters': {'binary_data': 'false'}}),
       400, "binary_data is 'false'; expected true or false"),
      (_outputs({'name': 'logits', 'parameters': {'classification': 3}}), 400,
       r"parameters of logits are \['classification'\]; expected binary_data"),
      (_outputs(*[{'name': 'logits'}] * 2), 400, 'logits is asked for twice'),
      ('[' + '[],' * 1128 + '[]]', 413, '1,129 values; expected at most 1,128'),
      (' ' * 10_001, 413, '10001 bytes; expected at most 10,000'),
  )
  def test_a_bad_body_is_refused(self, body, status, message):
    self.refused(self.running.ask('POST', _PATH, body), status, message)
    self.assertEqual(self.running.engine.batches, [])

  @parameterized.parameters(
      ({'timeout': -1}, 'timeout is -1; expected microseconds'),
      ({'timeout': '9'}, "timeout is '9'; expected microseconds"),
      ({'min_accuracy': 2}, 'min_accuracy is 2; expected a share'),
      ({'min_accuracy': 0.95}, 'has an accuracy of 0.95; the best .* 0.9000'),
      ({'subnet': 'huge'}, "'huge' is not on the menu; expected one of narr"),
      ({'subnet': 3}, 'subnet is 3; expected a string'),
      ({'binary_data_output': 0}, 'output is 0; expected true or false'),
      ({'subnett': 'wide'}, "Unknown parameter 'subnett'; expected some of"),
  )
  def test_a_bad_parameter_is_refused(self, parameters, message):
    status, values = self.running.infer(fakes.images(1), parameters)
    self.assertEqual(status, 400)
    self.assertRegex(values['error'], message)

  @parameterized.parameters(
      ('GET', '/nowhere', 404, 'Not Found'),
      ('GET', '/v2/', 404, 'Not Found'),
      ('GET', _PATH, 405, 'Method Not Allowed'),
      ('POST', '/v2/models/other/infer', 404, "no model 'other'"),
      ('POST', '/v2/models/fake/versions/2/infer', 404, "of version '2'"),
      ('POST', '/v2/repository/models/fake/load', 401, 'The token is missing'),
      ('POST', '/classify?timeout=x', 400, "timeout is 'x'; expected micro"),
  )
  def test_what_there_is_not(self, method, path, status, message):
    self.refused(self.running.ask(method, path), status, message)

  def test_sizes_are_known_before_anything_is_read(self):
    ask = self.running.ask
    self.refused(
        ask('POST', '/classify', _bomb()), 413, '50000 x 50000|too large'
    )
    large = fakes.png(np.zeros((200, 200), np.uint8))
    self.refused(ask('POST', '/classify', large), 413, '200 x 200 pixels')
    # Each of the two alone would be accepted.
    half = base64.b64encode(fakes.png(np.zeros((90, 90), np.uint8))).decode()
    two = _body(datatype='BYTES', shape=[2], data=[half, half])
    self.refused(ask('POST', _PATH, two), 413, 'have 16,200 pixels')
    bomb = zlib.compress(bytes(10**7))
    self.refused(
        ask('POST', _PATH, bomb, {'Content-Encoding': 'deflate'}),
        413,
        'more than 10,000 bytes when it is inflated',
    )
    for body, message in ((b'no', 'is not gzip'), (b'', 'was cut off')):
      self.refused(
          ask('POST', _PATH, body, {'Content-Encoding': 'gzip'}), 400, message
      )
    self.refused(
        ask('POST', _PATH, b'', {'Content-Encoding': 'br'}), 415, "is 'br'"
    )
    twice = 2 * zlib.compress(b'{}')
    self.refused(
        ask('POST', _PATH, twice, {'Content-Encoding': 'deflate'}),
        400,
        'bytes follow the deflate',
    )
    # A chunked body, whose length is not known in advance.
    parts = (bytes(5000) for _ in range(3))
    self.refused(ask('POST', _PATH, parts), 413, 'more than 10,000 bytes')

  def test_a_policy_and_its_rungs(self):
    rungs = [
        Entry(f'joint/budget@{share}', accuracy, 20)
        for share, accuracy in (('0.00', 0.8), ('1.00', 0.7))
    ]
    row = np.array([1.0, 1.5, 2.0, 3.0])
    menu = Profile(
        (*fakes.ENTRIES, *rungs),
        fakes.SIZES,
        # Narrow, wide, the slow rung and the fast one.
        1e-3 * np.stack([100.0 * row, 40.0 * row, 400.0 * row, 200.0 * row]),
    )
    engine = fakes.FakeEngine()
    service = Service('fake', engine, menu)
    running = self.enter_context(
        fakes.Running(engine, service=service)
    )
    images = fakes.images(2)
    expected, names = engine.run(images, 'joint/budget@1.00')
    for seconds, accuracy in ((5.0, 0.8), (0.35, 0.7)):
      status, values = running.infer(
          images[:1], {'policy': 'joint/budget', 'timeout': int(1e6 * seconds)}
      )
      self.assertEqual(status, 200, values)
      outputs = fakes.outputs(values)
      self.assertEqual(outputs['accuracy'], [accuracy])
      self.assertEqual(outputs['subnet'], names[:1])
      np.testing.assert_allclose(outputs['logits'], expected[0], rtol=1e-5)
    # Without the time for a rung, a subnet of fewer MAdds than the rungs runs.
    _, values = running.infer(
        images[:1], {'policy': 'joint/budget', 'timeout': 150_000}
    )
    self.assertEqual(fakes.outputs(values)['accuracy'], [0.6])
    # Without the parameter `policy`, no policy runs.
    _, values = running.infer(images[:1], {'timeout': 5_000_000})
    self.assertEqual(fakes.outputs(values)['subnet'], ['wide'])
    for parameters in (
        {'policy': 'x'}, {'policy': 'joint/budget', 'subnet': 'wide'}
    ):
      self.assertEqual(running.infer(images[:1], parameters)[0], 400)

  def test_a_picture_is_scaled_as_in_evaluation(self):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12), np.uint8)
    encoded = fakes.png(pixels)
    expected = images_lib.decode(encoded, fakes.SHAPE)[None]
    logits = self.running.engine.logits(expected, 'wide')
    status, _, body = self.running.ask('POST', '/classify', encoded)
    values = json.loads(body)
    self.assertEqual(status, 200)
    self.assertEqual(values['label'], fakes.CLASSES[logits.argmax()])
    self.assertEqual((values['subnet'], values['accuracy']), ('wide', 0.9))
    status, _, body = self.running.ask('POST', _PATH, _body(
        datatype='BYTES', shape=[1], data=[base64.b64encode(encoded).decode()]
    ))
    outputs = fakes.outputs(json.loads(body))
    np.testing.assert_allclose(outputs['logits'], logits[0], rtol=1e-5)

  def test_two_hundred_at_once_get_their_own(self):
    images = fakes.images(200)
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
      answers = list(pool.map(self.running.infer, np.split(images, 200)))
    for image, (status, values) in zip(images, answers):
      self.assertEqual(status, 200)
      outputs = fakes.outputs(values)
      np.testing.assert_allclose(
          outputs['logits'],
          self.running.engine.logits(image[None], outputs['subnet'][0])[0],
          rtol=1e-5,
      )

  def test_too_little_time_is_refused_at_once(self):
    with (
        fakes.Running(seconds=1.0) as slow,
        mock.patch.object(payloads, 'read_picture') as read,
    ):
      started = time.monotonic()
      status, headers, body = slow.ask(
          'POST',
          '/classify?timeout=100000',
          fakes.png(np.zeros((4, 4), np.uint8)),
      )
      self.assertLess(time.monotonic() - started, 1.0)
      self.refused((status, headers, body), 503, 'would take 250 ms')
      read.assert_not_called()
      self.assertEqual(headers['Retry-After'], '1')

  def test_images_are_counted_by_how_their_request_ends(self):
    # The first image fails, and the others are then no longer needed.
    self.running.engine.problems = [np.nan]
    self.assertEqual(self.running.infer(fakes.images(3))[0], 500)
    self.assertEqual(self._outcomes(), {'failed': 3})

  def test_parameters_of_infer_are_not_in_the_address(self):
    answer = self.running.ask('POST', f'{_PATH}?timeout=1', _body())
    self.refused(answer, 400, r'address has parameters \(timeout=1\); expected')

  def test_a_late_answer_is_counted_as_late(self):
    slow = time.monotonic() - 10.0
    # Its request arrived so long ago that its deadline has passed by its end.
    with (
        mock.patch.object(app_lib, '_arrived', return_value=slow),
        mock.patch.object(self.running.service.batcher, 'submit') as submit,
    ):
      submit.side_effect = self._answered_at_once
      status, _ = self.running.infer(fakes.images(2))
    self.assertEqual(status, 200)
    self.assertEqual(self._outcomes(), {'late': 2})

  def _answered_at_once(self, images, *unused, **more):
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in images]
    for future in futures:
      future.set_result(
          Answer(np.zeros(5, np.float32), 'wide', 'wide', 0.9, time.monotonic())
      )
    return futures

  def test_whose_client_left_is_counted_as_cancelled(self):
    engine, batcher = self.running.engine, self.running.service.batcher
    engine.gate.clear()
    self.addCleanup(engine.gate.set)
    body = _body().encode()
    with socket.create_connection(('127.0.0.1', self.running.port)) as gone:
      gone.sendall(
          f'POST {_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}'
          '\r\n\r\n'.encode() + body
      )
      fakes.until(lambda: batcher.begun)
    fakes.until(lambda: self._outcomes() == {'cancelled': 1})

  def test_what_making_a_response_takes_is_noted(self):
    batcher = self.running.service.batcher
    self.assertEqual(batcher.delay.value(time.monotonic()), 0.0)
    self.running.infer(fakes.images(1))
    self.assertGreater(batcher.delay.value(time.monotonic()), 0.0)
    with mock.patch.object(batcher, 'written') as written:
      picture = fakes.png(fakes.images(1)[0, ..., 0])
      self.running.ask('POST', '/classify', picture)
    written.assert_called_once()

  def test_what_waits_is_reported(self):
    engine, batcher = self.running.engine, self.running.service.batcher
    engine.gate.clear()
    self.addCleanup(engine.gate.set)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
      first = pool.submit(self.running.infer, fakes.images(1))
      fakes.until(lambda: batcher.begun)
      batcher._busy_until = 0.0
      second = pool.submit(self.running.infer, fakes.images(3))
      fakes.until(lambda: batcher.waiting == 3)
      lines = self._metrics()
      engine.gate.set()
      self.assertEqual((first.result()[0], second.result()[0]), (200, 200))
    self.assertIn('adaptanet_queued_images 3.0', lines)
    minute = json.loads(self.running.ask('GET', '/last_minute')[2])
    self.assertEqual(sum(part['arrived'] for part in minute['parts']), 4)

  def _outcomes(self):
    minute = json.loads(self.running.ask('GET', '/last_minute')[2])
    return {name: n for name, n in minute['outcomes'].items() if n}

  def _metrics(self):
    return self.running.ask('GET', '/metrics')[2].decode().splitlines()

  @parameterized.parameters(
      ('gzip;q=0', None), ('br, GZIP;q=0.5', 'gzip'), ('gzip;q=0, deflate',
       'deflate'), ('xgzip', None),
  )
  def test_answers_are_compressed_as_the_client_has_it(self, header, expected):
    status, headers, _ = self.running.ask(
        'POST', _PATH, _body(), {'Accept-Encoding': header}
    )
    self.assertEqual(status, 200)
    self.assertEqual(headers['Content-Encoding'], expected)

  def test_the_live_page_is_whole(self):
    status, headers, page = self.running.ask('GET', '/')
    self.assertEqual(status, 200)
    self.assertIn('text/html', headers['Content-Type'])
    self.assertIn(b'const model = "fake";', page)
    # It loads nothing from elsewhere.
    self.assertNotRegex(page, rb'(src|href)="(?!data:)')

  def test_failed_batches(self):
    error = ValueError('/srv/secret.py')
    self.running.engine.problems = [error, *[np.nan] * 10_000]
    for _ in range(3):
      self.assertEqual(self.running.ask('GET', '/v2/health/ready')[0], 200)
      answer = self.running.ask('POST', _PATH, _body())
      self.refused(answer, 500, 'The batch failed|not finite')
    self.assertEqual(self.running.ask('GET', '/v2/health/ready')[0], 503)
    self.assertEqual(self.running.ask('GET', '/v2/health/live')[0], 200)
    # The server probes itself, because a server that is not ready gets no
    # requests.
    self.running.engine.problems = []
    fakes.until(
        lambda: self.running.ask('GET', '/v2/health/ready')[0] == 200
    )

  def test_metrics_are_what_prometheus_reads(self):
    self.running.infer(fakes.images(3))
    self.running.infer(fakes.images(1), {'subnet': 'narrow'})
    self.running.infer(fakes.images(1), {'timeout': 1})
    batcher = self.running.service.batcher
    with mock.patch.object(type(batcher), 'slowdown', 2.5):
      lines = self._metrics()
    for line in (
        'adaptanet_margin_ratio 2.5',
        # Eight images in 3 ms, and in 0.75.
        'adaptanet_capacity_images_per_second{subnet="wide"} '
        '2666.6666666666665',
        'adaptanet_answered_images_total{subnet="wide"} 3.0',
        'adaptanet_answered_images_total{subnet="narrow"} 1.0',
        'adaptanet_images_total{outcome="on_time"} 4.0',
        'adaptanet_images_total{outcome="refused"} 1.0',
        'adaptanet_batch_images_sum 4.0',
        'adaptanet_ready 1.0',
        # Deadlines of up to a minute are told apart.
        'adaptanet_latency_seconds_bucket{le="60.0"} 4.0',
        'adaptanet_requests_total{route="/v2/models/{model}/infer",'
        'status="503"} 1.0',
    ):
      self.assertIn(line, lines)
    minute = json.loads(self.running.ask('GET', '/last_minute')[2])
    self.assertEqual(minute['attainment'], 0.8)
    self.assertAlmostEqual(minute['accuracy'], (3 * 0.9 + 0.6) / 4)

  @unittest.skipUnless(shutil.which('promtool'), 'promtool is not installed')
  def test_metrics_are_as_promtool_has_them(self):
    self.running.infer(fakes.images(1))
    checked = subprocess.run(
        ['promtool', 'check', 'metrics'],
        input=self.running.ask('GET', '/metrics')[2],
        check=False,
        capture_output=True,
    )
    self.assertEqual((checked.returncode, checked.stderr), (0, b''))


if __name__ == '__main__':
  absltest.main()
