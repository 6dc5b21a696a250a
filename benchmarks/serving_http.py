# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Measures what a request costs the server besides the network.

  python -m benchmarks.serving_http [--images_per_request=1]

The engine answers each batch with zeros after a millisecond in which it uses no
CPU. `CPU, ms` is the CPU time of the server's process for each request: HTTP,
queue, the thread that runs batches, and metrics. The client is another process.
The last rows are the milliseconds of one decision with a menu of 12 subnets, by
the number of images that wait. All are medians over rounds; `~` is their
spread, highest less lowest over the median.
"""

import functools
import time

from absl import app
import numpy as np

from adaptanet_jax.serving.controller import Entry, Profile, choose
from adaptanet_jax.serving.engine import SIZES
from benchmarks import harness, serving, serving_load, serving_traces

_RATES = (50, 200, 500, 1000)
_WAITING = (1, 32, 256)
_SECONDS = 3.0
_BATCH_SECONDS = 1e-3


class _Engine:
  """Answers with zeros."""

  name, sizes, policies, subnets = 'zeros', SIZES, None, None
  image_shape, shorter_side = (16, 16, 1), 16
  class_names = tuple('0123456789')
  precision = 1e-7

  def run(self, images, name, start=0):
    del name, start
    time.sleep(_BATCH_SECONDS)
    return np.zeros((len(images), len(self.class_names)), np.float32)

  def anchor_shapes(self):
    return ()


def _profile():
  widths = ('1.0', '0.75', '0.5', '0.25')
  entries = [
      Entry(f'{first}-{rest}-{rest}-{rest}', 0.9 + 0.001 * number, 100)
      for number, (first, rest) in enumerate(
          (f, r) for f in widths for r in widths[:3]
      )
  ]
  seconds = np.full((len(entries), len(SIZES)), _BATCH_SECONDS)
  return Profile(tuple(entries), SIZES, seconds)


def _cpu_of_requests(rate, seed):
  """Returns CPU ms, images of a batch, median latency, and what is answered."""
  arrivals = serving_traces.arrivals(
      'steady', rate=rate, seconds=_SECONDS, seed=seed, folder=None
  )
  images = np.zeros((1, serving.IMAGES.value, *_Engine.image_shape), np.uint8)
  with serving.Served(_Engine(), _profile(), choose) as served:
    before = serving.cpu_seconds()
    found = serving_load.replay(served.port, arrivals, images, {})
    used = serving.cpu_seconds() - before
    batches = served.batches
  answered = found['statuses'] == 200
  return (
      1e3 * used / len(arrivals),
      answered.sum() * serving.IMAGES.value / batches,
      1e3 * float(np.median(found['latencies'][answered])),
      100.0 * float(answered.mean()),
  )


def main(argv):
  """Prints one table."""
  del argv
  rounds = harness.ROUNDS.value
  report = harness.Report(
      'serving_http',
      f'without a network, {serving.IMAGES.value} images a request',
      ['requests/s', 'CPU, ms', '~', 'images a batch', 'p50, ms', '% answered'],
  )
  for rate in _RATES:
    found = np.array([_cpu_of_requests(rate, n) for n in range(rounds)])
    cpu, batch, latency, answered = np.median(found, 0).tolist()
    spread = float(np.ptp(found[:, 0]) / cpu)
    report.add(str(rate), [cpu, f'{spread:.0%}', batch, latency, answered])
  profile = _profile()
  now = time.monotonic()
  decide = functools.partial(choose, now, profile=profile, margin=1.0)
  assert decide([now + 0.05])
  times = harness.time_in_turns({
      count: functools.partial(decide, now + np.linspace(0.05, 0.1, count))
      for count in _WAITING
  })
  for count, seconds in times.items():
    median = float(np.median(seconds))
    spread = float(np.ptp(seconds) / median)
    report.add(
        f'decision, {count} wait', [1e3 * median, f'{spread:.0%}', *[None] * 3]
    )
  report.done()


if __name__ == '__main__':
  app.run(main)
