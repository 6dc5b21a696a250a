# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Measures how much a server still answers when far too much is asked of it.

  python -m benchmarks.serving_overload

The engine answers any batch of up to 32 images with zeros after half a second
in which it uses no CPU, so its capacity is 64 requests a second. Their
deadline is two seconds. `of capacity, %` is the rate of answers in time over
that capacity. Three columns are shares of all requests: `late, %`, whose answer
came too late; `expired, %`, accepted and then given up (504); and `lost, %`,
that got no response. `refusal` is the time from when a request was due until it
was refused. The client is another process. Figures are medians over rounds; `~`
is the spread of the second column, highest less lowest over the median.
"""

from absl import app
import numpy as np

from adaptanet_jax.serving.controller import choose
from benchmarks import harness, serving_load, serving_traces
from benchmarks.serving_server import Blank, Served

_LOADS = (0.8, 1.5, 3.0, 10.0)
_SECONDS, _BATCH_SECONDS, _SLO_SECONDS = 12.0, 0.5, 2.0


def _measure(load, seed):
  """Returns the columns that follow the load, without the spread."""
  engine = Blank((16, 16, 1), seconds=_BATCH_SECONDS)
  capacity = float(engine.profile.capacity.max())
  arrivals = serving_traces.arrivals(
      'steady', rate=load * capacity, seconds=_SECONDS, seed=seed, folder=None
  )
  images = np.zeros((1, 1, *engine.image_shape), np.uint8)
  with Served(engine, engine.profile, choose) as served:
    found = serving_load.replay(
        served.port, arrivals, images, {'timeout': int(1e6 * _SLO_SECONDS)}
    )
  statuses = found['statuses']
  answered = statuses == 200
  in_time = answered & (found['latencies'] <= _SLO_SECONDS)
  refused = 1e3 * found['latencies'][statuses == 503]
  return (
      100.0 * in_time.sum() / _SECONDS / capacity,
      100.0 * (answered & ~in_time).mean(),
      100.0 * (statuses == 504).mean(),
      100.0 * (statuses == 0).mean(),
      *(np.quantile(refused, (0.5, 0.99)) if len(refused) else (np.nan,) * 2),
  )


def main(argv):
  """Prints one table."""
  del argv
  report = harness.Report(
      'serving_overload',
      'a load of 1 is 64 requests/s, in batches of 32',
      [
          'load', 'of capacity, %', '~', 'late, %', 'expired, %', 'lost, %',
          'refusal p50, ms', 'p99, ms',
      ],
  )
  for load in _LOADS:
    found = np.array(
        [_measure(load, seed) for seed in range(harness.ROUNDS.value)]
    )
    share, *others = np.median(found, 0).tolist()
    spread = float(np.ptp(found[:, 0]) / share)
    report.add(
        f'{load:g}',
        [share, f'{spread:.0%}',
         *(None if np.isnan(value) else value for value in others)],
    )
  report.done()


if __name__ == '__main__':
  app.run(main)
