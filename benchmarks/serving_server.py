# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A server in a thread of a benchmark's process, and an engine for it."""

import threading
import time

import numpy as np

from adaptanet_jax.serving.app import create_app
from adaptanet_jax.serving.controller import SIZES, Entry, Profile
from adaptanet_jax.serving.server import Server
from adaptanet_jax.serving.service import Service
from benchmarks import serving_load
from benchmarks.serving_simulator import Outcomes


class Blank:
  """An engine that answers with zeros and uses no CPU.

  Attributes:
    profile: a menu of 12 subnets that take equally long for any batch.
  """

  name, policies, subnets, weights = 'blank', None, None, ''
  shorter_side, precision, runnable, source = 0, 1e-7, (), ''
  anchor_shapes = ()
  class_names = tuple('0123456789')

  def __init__(self, image_shape, *, seconds=1e-3):
    self.image_shape, self._seconds = image_shape, seconds
    widths = ('1.0', '0.75', '0.5', '0.25')
    entries = tuple(
        Entry(f'{first}-{rest}-{rest}-{rest}', 0.9 + 0.001 * number, 100)
        for number, (first, rest) in enumerate(
            (f, r) for f in widths for r in widths[:3]
        )
    )
    times = np.full((len(entries), len(SIZES)), seconds)
    self.profile = Profile(entries, SIZES, times)

  def run(self, images, name, start=0):
    del start
    time.sleep(self._seconds)
    logits = np.zeros((len(images), len(self.class_names)), np.float32)
    return logits, [name] * len(images)


class Served:
  """A model's server, in a thread of this process.

  Attributes:
    profile: its menu and times.
    port: port that it listens on.
  """

  def __init__(self, engine, profile, chooser, *, slo=0.05):
    self.profile = profile
    self._service = Service(
        'model', engine, profile, seconds=slo, choose=chooser
    )
    self._server = Server(
        self._service, create_app(self._service), drain_seconds=0.0,
        host='127.0.0.1', port=0,
    )
    self._thread = threading.Thread(target=self._server.run, daemon=True)

  def __enter__(self):
    self._thread.start()
    while not self._server.started:
      time.sleep(0.01)
    (listening,) = self._server.servers[0].sockets
    self.port = listening.getsockname()[1]
    return self

  def __exit__(self, *unused):
    self._server.should_exit = True
    self._thread.join()

  @property
  def batches(self):
    """Number of batches begun so far."""
    return self._service.batcher.begun

  @property
  def margin(self):
    """How much longer than measured batches take."""
    return self._service.batcher.slowdown

  def play(self, arrivals, images, parameters):
    """Plays a trace from another process; returns outcomes and classes.

    Images are `uint8[requests, images of a request, H, W, C]`.
    """
    each = images.shape[1]
    found = serving_load.replay(self.port, arrivals, images, parameters)
    places = {entry.name: n for n, entry in enumerate(self.profile.entries)}
    entries = np.array([places.get(n, -1) for n in found['subnets'].ravel()])
    latencies, refused = (
        np.repeat(values, each)
        for values in (found['latencies'], found['statuses'] == 503)
    )
    latencies = np.where(entries >= 0, latencies, np.nan)
    return Outcomes(latencies, entries, refused), found['classes'].ravel()
