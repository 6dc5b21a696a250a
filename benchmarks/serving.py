# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
r"""Compares a served supernet under changing load with other ways to serve.

  python -m benchmarks.serving --model=digits [--traces=FOLDER] [--trace=step] \
      [--images_per_request=8] [--simulated_http_ms=0.2]

For each trace and seed, over HTTP from a second process and also by the
simulator:

  x1.0, x0.25   only that subnet, in batches of the size that suits the queue
  best          the best single subnet in hindsight; simulated
  oracle        a bound that no server exceeds, even if it knows the trace
  slackfit      SuperServe's policy
  ours          the controller of `adaptanet_jax.serving`

A load of 1 is the rate that x1.0 alone answers in time over HTTP, measured
first. For a small network that is mostly HTTP, which several images in each
request share. All figures count images. A request that is served is in time or
not as a whole; the simulator and the bound treat its images one by one.
`effective` is the share of requests that were answered correctly and
within the deadline, by the labels of the test split if the model comes with
them; `expected` is the same by the subnets' held-out accuracies. Shares are per
cent; latencies are milliseconds from when a request was due.
"""

import resource
import sys
import threading
import time

from absl import app, flags
import numpy as np

import adaptanet_jax
from adaptanet_jax.serving import profile as profile_lib
from adaptanet_jax.serving.app import create_app
from adaptanet_jax.serving.controller import choose
from adaptanet_jax.serving.engine import load_engine
from adaptanet_jax.serving.server import Server
from adaptanet_jax.serving.service import Service
from benchmarks import (
  harness,
  serving_bounds,
  serving_load,
  serving_simulator,
  serving_traces,
)
from benchmarks.serving_simulator import Outcomes

_MODEL = flags.DEFINE_string('model', 'digits', 'As for serve.')
_TRACES = flags.DEFINE_string('traces', None, 'Folder of recorded traces.')
_NAMES = flags.DEFINE_multi_string('trace', [], 'Default: all but overload.')
_SECONDS = flags.DEFINE_float('seconds', 20.0, 'That a trace lasts.')
_SLO = flags.DEFINE_float('slo_ms', 50.0, 'Milliseconds of a request.')
_SEEDS = flags.DEFINE_integer('seeds', 3, 'Traces of each name.')
IMAGES = flags.DEFINE_integer('images_per_request', 1, 'Images.')
_SIMULATED_HTTP_MS = flags.DEFINE_float(
    'simulated_http_ms', None,
    'Serve nothing, simulate, with this many milliseconds of HTTP an image.',
)
_CACHE = flags.DEFINE_string('cache_dir', None, 'As for serve.')
_WIDE, _NARROW = '1.0-1.0-1.0-1.0', '0.25-0.25-0.25-0.25'
_COLUMNS = (
    'attainment', 'accuracy', 'effective', 'expected', 'p50_ms', 'p99_ms',
    'refused',
)


class Served:
  """A model's server, in a thread of this process.

  Attributes:
    profile: its menu and times.
    port: port that it listens on.
  """

  def __init__(self, engine, profile, chooser):
    self.profile = profile
    self._service = Service(
        'model', engine, profile, seconds=1e-3 * _SLO.value, choose=chooser
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
    """Plays a trace from another process; returns outcomes and classes."""
    each = IMAGES.value
    found = serving_load.replay(
        self.port, arrivals, images.reshape(-1, each, *images.shape[1:]),
        parameters,
    )
    places = {entry.name: n for n, entry in enumerate(self.profile.entries)}
    entries = np.array([places.get(n, -1) for n in found['subnets'].ravel()])
    latencies, refused = (
        np.repeat(values, each)
        for values in (found['latencies'], found['statuses'] == 503)
    )
    latencies = np.where(entries >= 0, latencies, np.nan)
    return Outcomes(latencies, entries, refused), found['classes'].ravel()


def _examples(engine):
  """Returns images and labels; without data, random images and None.

  Their number is a multiple of --images_per_request.
  """
  try:
    images, labels = adaptanet_jax.examples(_MODEL.value)
  except adaptanet_jax.UsageError:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (500, *engine.image_shape), np.uint8)
    labels = None
  whole = slice(len(images) // IMAGES.value * IMAGES.value)
  return images[whole], None if labels is None else labels[whole]


def _capacity(served, images, subnet):
  """Finds the most requests a second that a subnet answers in time over HTTP.

  The rate rises until clearly fewer are answered in time than at a lower rate.

  Returns:
    The highest rate of answers in time, and CPU seconds of a request at it.
  """
  most = served.profile.capacity.max() / IMAGES.value
  rate, best, cpu, goodput = min(100.0, 0.1 * most), 0.0, 0.0, 0.0
  while goodput >= 0.7 * best and rate < most:
    rate *= 1.4
    arrivals = serving_traces.arrivals(
        'steady', rate=rate, seconds=2.0, seed=0, folder=None
    )
    before = cpu_seconds()
    outcomes, _ = served.play(arrivals, images, {'subnet': subnet})
    used = (cpu_seconds() - before) / len(arrivals)
    in_time = outcomes.latencies <= 1e-3 * _SLO.value
    goodput = in_time.sum() / IMAGES.value / 2.0
    if goodput > best:
      best, cpu = float(goodput), used
  if not best:
    sys.exit(
        f'{subnet} answers nothing within --slo_ms={_SLO.value:g}; expected a '
        'longer deadline.'
    )
  return best, cpu


def cpu_seconds():
  """Returns the CPU seconds of this process so far."""
  used = resource.getrusage(resource.RUSAGE_SELF)
  return used.ru_utime + used.ru_stime


def _summary(outcomes, profile, classes, labels):
  slo = 1e-3 * _SLO.value
  found = serving_simulator.summary(outcomes, profile.accuracies, slo=slo)
  found['expected'] = found['effective']
  if labels is not None:
    right = classes == labels[np.arange(len(classes)) % len(labels)]
    found |= serving_simulator.summary(outcomes, right, slo=slo)
  return found


def _row(report, label, values, **more):
  cells = []
  for name in _COLUMNS:
    value = values.get(name, np.nan) * (1.0 if name.endswith('ms') else 100.0)
    cells.append(None if np.isnan(value) else value)
  report.add(label, cells, **more)


def main(argv):
  """Prints one table."""
  del argv
  folder = profile_lib.prepare(_CACHE.value)
  engine = load_engine(_MODEL.value)
  profile = profile_lib.create(engine, folder=folder)
  every = profile_lib.create(
      engine, folder=folder, names=profile_lib.front(engine)
  )
  images, labels = _examples(engine)
  names = [entry.name for entry in profile.entries]
  runs = {
      'x1.0': (choose, [names.index(_WIDE)]),
      'x0.25': (choose, [names.index(_NARROW)]),
      'slackfit': (serving_simulator.slack_fit, None),
      'ours': (choose, None),
  }
  wide = profile.capacity[names.index(_WIDE)]
  if _SIMULATED_HTTP_MS.value is None:
    with Served(engine, profile, choose) as served:
      rate, cpu = _capacity(served, images, _WIDE)
    http = max(0.0, 1.0 / (IMAGES.value * rate) - 1.0 / wide)
    what = 'of CPU, inference included,'
  else:
    http = 1e-3 * _SIMULATED_HTTP_MS.value
    cpu = IMAGES.value * http
    rate = 1.0 / (1.0 / wide + http) / IMAGES.value
    what = 'of HTTP'
  report = harness.Report(
      'serving',
      f'load 1 is {rate:.0f} requests/s of {IMAGES.value} images, x1.0 by '
      f'HTTP ({wide:.0f} images/s without); {1e3 * cpu:.2f} ms {what} each; '
      f'deadlines of {_SLO.value:g} ms; traces of {_SECONDS.value:g} s',
      ['trace, seed, who', *_COLUMNS],
  )
  for name in _NAMES.value or [
      n for n in serving_traces.NAMES
      if n not in ('overload', 'steady')
      and (_TRACES.value or n not in serving_traces.RECORDED)
  ]:
    for seed in range(_SEEDS.value):
      arrivals = serving_traces.arrivals(
          name, rate=rate, seconds=_SECONDS.value, seed=seed,
          folder=_TRACES.value,
      )
      label = f'{name} {seed}'
      _compare(report, label, arrivals, runs, http, engine, profile, images,
               labels)
      _bound(report, label, arrivals, http, every)
  report.done()


def _compare(
    report, label, arrivals, runs, http, engine, profile, images, labels
):
  """Adds the rows of a trace, served and simulated."""
  slo = 1e-3 * _SLO.value
  every = np.repeat(arrivals, IMAGES.value)
  for who, (chooser, allowed) in runs.items():
    outcomes = serving_simulator.simulate(
        every, profile, slo=slo, http=http, chooser=chooser, allowed=allowed
    )
    _row(
        report, f'{label} {who} simulated',
        _summary(outcomes, profile, None, None),
    )
    if _SIMULATED_HTTP_MS.value is not None:
      continue
    parameters = (
        {'subnet': profile.entries[allowed[0]].name} if allowed else {}
    )
    with Served(engine, profile, chooser) as served:
      outcomes, classes = served.play(arrivals, images, parameters)
      margin = served.margin
    _row(
        report, f'{label} {who}', _summary(outcomes, profile, classes, labels),
        margin=margin, count=len(arrivals),
    )


def _bound(report, label, arrivals, http, every):
  """Adds a trace's best subnet in hindsight, and its oracle bound."""
  known = {'slo': 1e-3 * _SLO.value, 'http': http}
  arrivals = np.repeat(arrivals, IMAGES.value)
  best, values = serving_bounds.best_fixed(arrivals, every, **known)
  values['expected'] = values['effective']
  _row(
      report, f'{label} best simulated', values,
      subnet=every.entries[best].name,
  )
  bound = serving_bounds.oracle(arrivals, every, **known)
  _row(report, f'{label} oracle', {'expected': bound})


if __name__ == '__main__':
  app.run(main)
