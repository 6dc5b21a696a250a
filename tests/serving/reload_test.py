# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of another model in place of the one that is served."""

import io
import json

from absl.testing import absltest, parameterized
import numpy as np
from PIL import Image

from adaptanet_jax.errors import UsageError
from tests.serving import fakes

_TOKEN = 'a-token-of-sixteen'


def _png(pixels):
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'PNG')
  return file.getvalue()


class LoadTest(parameterized.TestCase):

  def _start(self, loader):
    running = fakes.Running(loader=loader, token=_TOKEN, token_for_all=True)
    self.running = self.enter_context(running)

  def _load(self, model, token=_TOKEN):
    return self.running.ask(
        'POST',
        '/v2/repository/models/fake/load',
        json.dumps({'parameters': {'model': model}}),
        {'Authorization': f'Bearer {token}'},
    )

  def _classify(self):
    status, _, body = self.running.ask(
        'POST', '/classify', _png(np.full((4, 4), 7, np.uint8)),
        {'Authorization': f'Bearer {_TOKEN}'},
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

  def test_the_old_one_stays_where_the_new_one_does_not_do(self):
    other = fakes.FakeEngine(seed=1)

    def load(model):
      if model == 'missing':
        raise UsageError('/secret/place is damaged.')
      if model == 'classes':
        other.class_names = ('a', 'b')
      if model == 'nan':
        other.problems = [np.nan]
      return other, fakes.profile()

    self._start(load)
    for model in ('missing', 'nan', 'classes'):
      status, _, body = self._load(model)
      self.assertEqual(status, 409)
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


if __name__ == '__main__':
  absltest.main()
