# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Measures what a request costs the server besides the network.

  python -m benchmarks.serving_http [--images_per_request=1]

The engine answers each batch with zeros after a millisecond in which it uses no
CPU. `CPU, ms` is the CPU time of the server's process for each request after
the first: HTTP, queue, the thread that runs batches, and metrics. The client is
another process.
The last rows are the milliseconds of one decision with a menu of 12 subnets, by
the number of images that wait. All are medians over rounds; `~` is their
spread, highest less lowest over the median.
"""

import functools
import resource
import time

from absl import app, flags
import numpy as np

from adaptanet_jax.serving.controller import choose
from benchmarks import harness, serving_load, serving_traces
from benchmarks.serving_server import Blank, Served

_IMAGES = flags.DEFINE_integer('images_per_request', 1, 'Images.')
_RATES = (50, 200, 500, 1000)
_WAITING = (1, 32, 256)
_SECONDS = 3.0


def _replay(arrivals):
  """Plays a trace; returns CPU seconds of the server, answers and batches."""
  engine = Blank((16, 16, 1))
  images = np.zeros((1, _IMAGES.value, *engine.image_shape), np.uint8)
  with Served(engine, engine.profile, choose) as served:
    before = _cpu_seconds()
    found = serving_load.replay(served.port, arrivals, images, {})
    return _cpu_seconds() - before, found, served.batches


def _cpu_seconds():
  """Returns the CPU seconds of this process so far."""
  used = resource.getrusage(resource.RUSAGE_SELF)
  return used.ru_utime + used.ru_stime


def _cpu_of_requests(rate, seed):
  """Returns CPU ms, images of a batch, median latency, and what is answered."""
  arrivals = serving_traces.arrivals(
      'steady', rate=rate, seconds=_SECONDS, seed=seed, folder=None
  )
  # A single request shows what the client's start and the waiting take.
  rest, _, _ = _replay(np.array([_SECONDS]))
  used, found, batches = _replay(arrivals)
  answered = found['statuses'] == 200
  return (
      1e3 * (used - rest) / (len(arrivals) - 1),
      answered.sum() * _IMAGES.value / batches,
      1e3 * float(np.median(found['latencies'][answered])),
      100.0 * float(answered.mean()),
  )


def main(argv):
  """Prints one table."""
  del argv
  rounds = harness.ROUNDS.value
  report = harness.Report(
      'serving_http',
      f'without a network, {_IMAGES.value} images a request',
      ['requests/s', 'CPU, ms', '~', 'images a batch', 'p50, ms', '% answered'],
  )
  for rate in _RATES:
    found = np.array([_cpu_of_requests(rate, n) for n in range(rounds)])
    cpu, batch, latency, answered = np.median(found, 0).tolist()
    spread = float(np.ptp(found[:, 0]) / cpu)
    report.add(str(rate), [cpu, f'{spread:.0%}', batch, latency, answered])
  profile = Blank((16, 16, 1)).profile
  now = time.monotonic()
  decide = functools.partial(
      choose, now, profile=profile, margin=1.0, allowed=profile.every
  )
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
