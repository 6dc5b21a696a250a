# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
r"""Compares a served supernet under changing load with other ways to serve.

  python -m benchmarks.serving --model=digits [--traces=FOLDER] [--trace=step] \
      [--images_per_request=8] [--simulated_http_ms=0.2]

For each trace and seed, over HTTP from a second process and also by the
simulator:

  x1.0, x0.25   only that subnet, in batches of the size that suits the queue
  best          the best single subnet in hindsight; simulated
  oracle        what a server that knows the trace would reach at most
  slackfit      SuperServe's policy
  ours          the controller of `adaptanet_jax.serving`

Those that are served run one after another, each trace beginning with another
one. A load of 1 is the rate that x1.0 alone answers in time over HTTP, measured
first. So is how many requests HTTP alone can answer: the simulator and the
oracle add the time that an image takes of it to every batch, although on
several cores HTTP and a batch may run side by side, and slow each other down.
For a small network HTTP is most of the work, which several images in each
request share.

All figures count images. A request that is served is in time or not as a whole;
the simulator and the oracle treat its images one by one. `expected` is the
share of images that were answered within the deadline, times the held-out
accuracies of the subnets that answered them; `effective` is the same by
the labels of the images, if the model comes with labelled images. Shares are
per cent; latencies are milliseconds from when a request was due.
"""

import dataclasses
import sys

from absl import app, flags
import numpy as np

import adaptanet_jax
from adaptanet_jax.serving import profile as profile_lib
from adaptanet_jax.serving.controller import Profile, choose
from adaptanet_jax.serving.engines import load_engine
from benchmarks import (
  harness,
  serving_bounds,
  serving_simulator,
  serving_traces,
)
from benchmarks.serving_server import Blank, Served

_MODEL = flags.DEFINE_string('model', 'digits', 'As for serve.')
_TRACES = flags.DEFINE_string('traces', None, 'Folder of recorded traces.')
_NAMES = flags.DEFINE_multi_string(
    'trace', [], 'Default: all but overload and steady.'
)
_SECONDS = flags.DEFINE_float('seconds', 20.0, 'That a trace lasts.')
_SLO = flags.DEFINE_float('slo_ms', 50.0, 'Milliseconds of a request.')
_SEEDS = flags.DEFINE_integer('seeds', 3, 'Traces of each name.')
_IMAGES = flags.DEFINE_integer('images_per_request', 1, 'Images.')
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


def _examples(engine):
  """Returns the images of each request, and the labels of all of them.

  Without data, they are random images and None.
  """
  try:
    images, labels = adaptanet_jax.examples(_MODEL.value)
  except adaptanet_jax.UsageError:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (500, *engine.image_shape), np.uint8)
    labels = None
  count = len(images) // _IMAGES.value
  whole = slice(count * _IMAGES.value)
  grouped = images[whole].reshape(count, _IMAGES.value, *images.shape[1:])
  return grouped, None if labels is None else labels[whole]


def _capacity(served, images, subnet):
  """Finds the most requests a second that a subnet answers in time over HTTP.

  The rate rises until clearly fewer are answered in time than at a lower rate.
  """
  most = served.profile.capacity.max() / _IMAGES.value
  rate, best, goodput = min(100.0, 0.1 * most), 0.0, 0.0
  while goodput >= 0.7 * best and rate < most:
    rate *= 1.4
    arrivals = serving_traces.arrivals(
        'steady', rate=rate, seconds=2.0, seed=0, folder=None
    )
    outcomes, _ = served.play(arrivals, images, {'subnet': subnet})
    in_time = outcomes.latencies <= 1e-3 * _SLO.value
    goodput = float(in_time.sum()) / _IMAGES.value / 2.0
    best = max(best, goodput)
  if not best:
    sys.exit(
        f'{subnet} answers nothing within --slo_ms={_SLO.value:g}; expected a '
        'longer deadline.'
    )
  return best


def _summary(outcomes, profile, classes, labels):
  slo = 1e-3 * _SLO.value
  found = serving_simulator.summary(
      outcomes, profile.accuracies[outcomes.entries], slo=slo
  )
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
  asked = profile_lib.Asked(folder)
  kept = profile_lib.create(engine, asked)
  names = [entry.name for entry in kept.entries]
  count = len(names)
  names += [n for n in profile_lib.front(engine) if n not in names]
  # One measurement of all: the menu must not seem faster than what bounds it.
  every = profile_lib.create(
      engine, dataclasses.replace(asked, names=tuple(names))
  )
  profile = Profile(every.entries[:count], every.sizes, every.seconds[:count])
  images, labels = _examples(engine)
  runs = {
      'x1.0': (choose, (names.index(_WIDE),)),
      'x0.25': (choose, (names.index(_NARROW),)),
      'slackfit': (serving_simulator.slack_fit, ()),
      'ours': (choose, ()),
  }
  slo = 1e-3 * _SLO.value
  wide = profile.capacity[names.index(_WIDE)]
  if _SIMULATED_HTTP_MS.value is None:
    with Served(engine, profile, choose, slo=slo) as served:
      rate = _capacity(served, images, _WIDE)
    blank = Blank(engine.image_shape)
    with Served(blank, blank.profile, choose, slo=slo) as served:
      http = 1.0 / (_IMAGES.value * _capacity(served, images, _WIDE))
  else:
    http = 1e-3 * _SIMULATED_HTTP_MS.value
    rate = 1.0 / (1.0 / wide + http) / _IMAGES.value
  report = harness.Report(
      'serving',
      f'load 1 is {rate:.0f} requests/s of {_IMAGES.value} images, x1.0 by '
      f'HTTP ({wide:.0f} images/s without); HTTP alone answers '
      f'{1.0 / (_IMAGES.value * http):.0f} requests/s; deadlines of '
      f'{_SLO.value:g} ms; traces of {_SECONDS.value:g} s',
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
      first, *others = runs.items()
      runs = dict([*others, first])
      _bound(report, label, arrivals, http, every)
  report.done()


def _compare(
    report, label, arrivals, runs, http, engine, profile, images, labels
):
  """Adds the rows of a trace, served and simulated."""
  slo = 1e-3 * _SLO.value
  every = np.repeat(arrivals, _IMAGES.value)
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
    with Served(engine, profile, chooser, slo=slo) as served:
      outcomes, classes = served.play(arrivals, images, parameters)
      margin = served.margin
    _row(
        report, f'{label} {who}', _summary(outcomes, profile, classes, labels),
        margin=margin, count=len(arrivals),
    )


def _bound(report, label, arrivals, http, every):
  """Adds a trace's best subnet in hindsight, and its oracle bound."""
  known = {'slo': 1e-3 * _SLO.value, 'http': http}
  arrivals = np.repeat(arrivals, _IMAGES.value)
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
