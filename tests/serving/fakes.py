# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A fake engine without a network, and a server of it, for tests."""

import contextlib
import http.client
import io
import json
import threading
import time

from absl.testing import parameterized
import numpy as np
from PIL import Image

from adaptanet_jax.serving.app import create_app
from adaptanet_jax.serving.controller import Entry, Profile
from adaptanet_jax.serving.refusals import Limits
from adaptanet_jax.serving.server import Server
from adaptanet_jax.serving.service import Service

SHAPE = (4, 4, 1)
SIZES = (1, 2, 4, 8)
ENTRIES = (Entry('narrow', 0.6, 10), Entry('wide', 0.9, 40))
CLASSES = tuple('zero one two three four'.split())
TOKEN = 'a-token-of-sixteen'


def profile(seconds=1e-3):
  """Returns times of the menu; narrow takes a quarter of wide's."""
  row = seconds * np.array([1.0, 1.5, 2.0, 3.0])
  return Profile(ENTRIES, SIZES, np.stack([row / 4.0, row]))


def png(pixels):
  """Returns a picture encoded as PNG."""
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'PNG')
  return file.getvalue()


def until(condition):
  """Waits until a condition holds."""
  end = time.monotonic() + 20.0
  while not condition():
    assert time.monotonic() < end
    time.sleep(0.01)


def images(count, seed=0):
  return np.random.default_rng(seed).integers(
      0, 256, (count, *SHAPE), np.uint8
  )


def body(images, **more):
  """Returns the JSON body of a request to classify images."""
  return json.dumps({
      'inputs': [{
          'name': 'images',
          'datatype': 'UINT8',
          'shape': list(images.shape),
          'data': images.ravel().tolist(),
      }],
      **more,
  })


class FakeEngine:
  """An engine of linear classifiers that can be made to wait or to fail.

  Attributes:
    batches: name of the entry and number of images of each batch that ran,
      without blank ones and copies.
    gate: event that batches wait for.
    problems: raised, or returned in place of logits, by the next batches.
  """

  def __init__(self, seed=0):
    rng = np.random.default_rng(seed)
    self.image_shape, self.class_names = SHAPE, CLASSES
    self.shorter_side, self.precision = 0, 1e-7
    self.runnable, self.source, self.weights = (), 'fake', f'seed {seed}'
    self.anchor_shapes = ()
    self._kernels = {
        entry.name: rng.standard_normal((16, 5)).astype(np.float32)
        for entry in ENTRIES
    }
    self.batches, self.problems = [], []
    self.gate = threading.Event()
    self.gate.set()

  def logits(self, images, name):
    return images.reshape(len(images), -1) @ self._kernels[name]

  def run(self, images, name, start=0):
    rows = images.reshape(len(images), -1)
    self.batches.append((name, len(np.unique(rows[rows.any(1)], axis=0))))
    self.gate.wait()
    if self.problems:
      problem = self.problems.pop(0)
      if isinstance(problem, BaseException):
        raise problem
      return np.full((len(images), 5), problem, np.float32), [name]
    if '@' in name:
      return self._route(images)
    return self.logits(images, name), [name] * len(images)

  def _route(self, images):
    names = [ENTRIES[int(image.sum()) % 2].name for image in images]
    return np.concatenate([
        self.logits(image[None], own) for image, own in zip(images, names)
    ]), names


class Running:
  """A server on a port of its own, in a thread.

  Attributes:
    service, engine, server: the parts of the server.
    port: the port that it listens on.
  """

  def __init__(
      self, engine=None, *, seconds=1e-3, service=None, drain_seconds=0.3,
      of_server=None, **options,
  ):
    self.engine = engine or FakeEngine()
    self.service = service or Service(
        'fake', self.engine, profile(seconds), seconds=5.0
    )
    self.server = Server(
        self.service,
        create_app(self.service, **options),
        drain_seconds=drain_seconds,
        host='127.0.0.1',
        port=0,
        **(of_server or {}),
    )
    self._thread = threading.Thread(target=self.server.run, daemon=True)

  def __enter__(self):
    self._thread.start()
    until(lambda: self.server.started or not self._thread.is_alive())
    assert self.server.started
    (listening,) = self.server.servers[0].sockets
    self.port = listening.getsockname()[1]
    return self

  def __exit__(self, *unused):
    if isinstance(self.engine, FakeEngine):
      self.engine.gate.set()
    self.server.should_exit = True
    self._thread.join(20.0)
    assert not self._thread.is_alive()

  def ask(self, method, path, content=None, headers=None):
    """Sends a request; returns status, headers and body of the answer."""
    with contextlib.closing(
        http.client.HTTPConnection('127.0.0.1', self.port, timeout=20)
    ) as connection:
      connection.request(method, path, content, headers or {})
      response = connection.getresponse()
      return response.status, response.headers, response.read()

  def infer(self, images, parameters=None, **more):
    """Asks for images to be classified; returns status and values."""
    more |= {'parameters': parameters} if parameters else {}
    status, _, answer = self.ask(
        'POST', '/v2/models/fake/infer', body(images, **more)
    )
    return status, json.loads(answer)


def outputs(values):
  """Returns the outputs of an answer by name."""
  return {output['name']: output['data'] for output in values['outputs']}


class HttpTest(parameterized.TestCase):
  """Tests of a server with low limits."""

  def setUp(self):
    super().setUp()
    limits = Limits(body=10_000, pixels=10_000, images=8)
    self.running = self.enter_context(Running(token=TOKEN, limits=limits))

  def refused(self, answer, status, message):
    """Checks that an answer is an error of one sentence."""
    got, _, content = answer
    self.assertEqual(got, status, content)
    values = json.loads(content)
    self.assertEqual(list(values), ['error'])
    self.assertRegex(values['error'], message)
    self.assertLen(values['error'].splitlines(), 1)
    self.assertNotRegex(values['error'], r'/srv|/usr|/home|Traceback|\.py')
