# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of replacing the model that is served."""

import asyncio
from concurrent import futures
import json
import threading
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np

from adaptanet_jax.data import images as images_lib
from adaptanet_jax.errors import UsageError
from adaptanet_jax.serving import payloads
from tests.serving import fakes


class LoadTest(parameterized.TestCase):

  def _start(self, loader):
    self.running = self.enter_context(
        fakes.Running(loader=loader, token=fakes.TOKEN, token_for_all=True)
    )

  def _load(self, model, token=fakes.TOKEN):
    return self.running.ask(
        'POST',
        '/v2/repository/models/fake/load',
        json.dumps({'parameters': {'model': model}}),
        {'Authorization': f'Bearer {token}'},
    )

  def _classify(self):
    status, _, body = self.running.ask(
        'POST', '/classify', fakes.png(np.full((4, 4), 7, np.uint8)),
        {'Authorization': f'Bearer {fakes.TOKEN}'},
    )
    return status, json.loads(body)

  def test_another_model_takes_the_place_of_this_one(self):
    other = fakes.FakeEngine(seed=1)
    asked = []

    def load(model):
      asked.append(model)
      return other, fakes.profile()

    self._start(load)
    status, _, body = self._load('/some/folder')
    self.assertEqual((status, asked), (200, ['/some/folder']), body)
    self.assertEqual(json.loads(body)['menu'], ['narrow', 'wide'])
    self.assertEqual(self._classify()[0], 200)
    self.assertEqual(other.batches[-1], ('wide', 1))

  @parameterized.parameters(
      {'model': 'x'}, {'parameters': {'modle': 'x'}},
      {'parameters': {'model': 'x', 'config': '{}'}},
  )
  def test_a_mistyped_request_loads_nothing(self, **body):
    asked = []
    self._start(asked.append)
    status, _, answer = self.running.ask(
        'POST', '/v2/repository/models/fake/load', json.dumps(body),
        {'Authorization': f'Bearer {fakes.TOKEN}'},
    )
    self.assertEqual((status, asked), (400, []))
    self.assertIn(b'Unknown parameter', answer)

  def test_its_pictures_are_scaled_as_it_has_them(self):
    other = fakes.FakeEngine(seed=1)
    other.shorter_side = 6
    self._start(lambda model: (other, fakes.profile()))
    self.assertEqual(self._load('/some/folder')[0], 200)
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12), np.uint8)
    seen = []
    other.run = lambda images, name, start=0: (
        seen.append(images) or (other.logits(images, name), [name])
    )
    status, _, _ = self.running.ask(
        'POST', '/classify', fakes.png(pixels),
        {'Authorization': f'Bearer {fakes.TOKEN}'},
    )
    self.assertEqual(status, 200)
    np.testing.assert_array_equal(
        seen[0][0], images_lib.decode(fakes.png(pixels), fakes.SHAPE, 6)
    )

  def _classify_meanwhile(self, path):
    """Asks for a picture; another model takes over while it is decoded."""
    begun, go_on = threading.Event(), threading.Event()
    read = payloads.read_picture

    def wait(*args):
      begun.set()
      go_on.wait()
      return read(*args)

    with (
        mock.patch.object(payloads, 'read_picture', wait),
        futures.ThreadPoolExecutor(1) as pool,
    ):
      self.addCleanup(go_on.set)
      first = pool.submit(self._ask_for_a_picture, path)
      self.assertTrue(begun.wait(20.0))
      self.assertEqual(self._load('x')[0], 200)
      go_on.set()
      return first.result()

  def _ask_for_a_picture(self, path):
    status, _, body = self.running.ask(
        'POST', path, fakes.png(np.zeros((300, 300), np.uint8)),
        {'Authorization': f'Bearer {fakes.TOKEN}'},
    )
    return status, body

  def test_a_picture_that_is_decoded_meanwhile_may_be_refused(self):
    narrow = fakes.Profile(
        fakes.ENTRIES[:1], fakes.SIZES, fakes.profile().seconds[:1]
    )
    self._start(lambda model: (fakes.FakeEngine(seed=1), narrow))
    path = '/classify?subnet=wide'
    status, body = self._classify_meanwhile(path)
    self.assertEqual(status, 503)
    self.assertIn(b'Another model took its place', body)
    # It is on no menu now.
    self.assertEqual(self._ask_for_a_picture(path)[0], 400)

  def test_a_picture_that_was_scaled_for_the_old_one_is_not_answered(self):
    other = fakes.FakeEngine(seed=1)
    other.shorter_side = 6
    self._start(lambda model: (other, fakes.profile()))
    status, body = self._classify_meanwhile('/classify')
    self.assertEqual(status, 503)
    self.assertIn(b'Another model took its place', body)
    self.assertEqual(self._ask_for_a_picture('/classify')[0], 200)

  def test_one_at_a_time(self):
    other, begun = fakes.FakeEngine(seed=1), threading.Event()
    go_on = threading.Event()
    self.addCleanup(go_on.set)

    def rest():
      begun.set()
      go_on.wait()
      return other, fakes.profile()

    self._start(lambda model: (fakes.FakeEngine(seed=2), fakes.profile()))
    # Replaces the model as a server does when it has measured its full menu.
    first = asyncio.run_coroutine_threadsafe(
        self.running.service.replace(rest), self.running.server._loop
    )
    self.assertTrue(begun.wait(20.0))
    status, _, body = self._load('x')
    self.assertEqual(status, 409)
    self.assertIn(b'already', body)
    go_on.set()
    first.result(20.0)
    self.assertIs(self.running.service.engine, other)

  def test_the_old_one_stays_where_the_new_one_does_not_do(self):
    other = fakes.FakeEngine(seed=1)

    def load(model):
      if model == 'missing':
        raise UsageError('/secret/place is damaged.')
      if model == 'full':
        raise OSError(28, 'No space left', '/secret/place')
      if model == 'large':  # As XLA raises.
        raise RuntimeError('RESOURCE_EXHAUSTED: /secret/place')
      if model == 'classes':
        other.class_names = ('a', 'b')
      if model == 'anchors':
        other.anchor_shapes = ((2, 2, 4),)
      return other, fakes.profile()

    self._start(load)
    for model in ('missing', 'full', 'large', 'anchors', 'classes'):
      status, _, body = self._load(model)
      self.assertEqual(status, 409)
      if model in ('anchors', 'classes'):
        self.assertIn(f'has other {model} than the old'.encode(), body)
      self.assertNotIn(b'secret', body)
      self.assertEqual(self._classify()[0], 200)
      self.assertEqual(self.running.engine.batches[-1], ('wide', 1))
      self.assertIs(self.running.service.engine, self.running.engine)

  def test_without_the_token_nothing(self):
    self._start(None)
    self.assertEqual(self._load('x', 'wrong-token-of-16')[0], 401)
    self.assertEqual(self._load('x')[0], 409)
    status, headers, _ = self.running.ask('POST', '/classify', b'')
    self.assertEqual((status, headers['WWW-Authenticate']), (401, 'Bearer'))
    self.assertEqual(self.running.ask('GET', '/v2/health/ready')[0], 200)

  def test_without_a_token_no_model_can_be_loaded(self):
    running = self.enter_context(fakes.Running())
    status, _, body = running.ask(
        'POST', '/v2/repository/models/fake/load', b'{}',
        {'Authorization': 'Bearer None'},
    )
    self.assertEqual(status, 401)
    self.assertIn(b'this server has none (--token_file)', body)

  def test_one_that_fails_can_be_replaced(self):
    other = fakes.FakeEngine(seed=1)
    self._start(lambda model: (other, fakes.profile()))
    self.running.engine.problems = [RuntimeError('broken')]
    status, _, body = self._load('x')
    self.assertEqual(status, 200, body)
    self.assertIsNone(json.loads(body)['agreement'])
    self.assertIs(self.running.service.engine, other)

  def test_requests_may_name_the_weights(self):
    self._start(lambda model: (fakes.FakeEngine(seed=1), fakes.profile()))
    running = self.running
    head = {'Authorization': f'Bearer {fakes.TOKEN}'}
    png = fakes.png(fakes.images(1)[0, ..., 0])

    def ask():
      return running.ask(
          'POST', '/classify?weights=seed+0', png, head
      )

    self.assertEqual(ask()[0], 200)
    self.assertEqual(self._load('x')[0], 200)
    status, _, body = ask()
    self.assertEqual(status, 409)
    self.assertIn(b"The weights are 'seed 0'; expected 'seed 1'", body)
    _, _, text = running.ask('GET', '/metrics')
    self.assertIn(b'model_info{name="fake",weights="seed 1"} 1.0', text)


if __name__ == '__main__':
  absltest.main()
