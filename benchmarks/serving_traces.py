# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Arrival times of requests, generated or recorded, at a given load.

A load of 1 is what x1.0 can just serve. Every trace is scaled to it, so that it
represents a changing load, not the rate at which it was recorded.
"""

import csv
import os

import numpy as np

# Recorded by Microsoft Azure in 2023: AzurePublicDataset, CC-BY 4.0. The gaps
# of `conversation` vary as in a Poisson process; `code` comes in bursts.
RECORDED = {'conversation': 'azure_conv.csv', 'code': 'azure_code.csv'}
# Loads in parts of equal length.
_SHAPES = {
    'step': (0.4, 1.6, 0.6),
    'spikes': (0.5, 0.5, 3.0, 0.5, 0.5, 0.5, 2.0, 0.5),
    # Like a day, with a night and two peaks.
    'day': (0.3, 0.25, 0.5, 1.0, 1.3, 1.2, 1.5, 1.7, 1.2, 0.7),
    'steady': (1.0,),
    'overload': (10.0,),
}
# Squared coefficient of variation of gamma-distributed gaps, and load.
_GAMMA = {'gamma_low': (4.0, 0.8), 'gamma_high': (4.0, 1.2)}
NAMES = (*_GAMMA, *_SHAPES, *RECORDED)


def arrivals(
    name: str, *, rate: float, seconds: float, seed: int, folder: str | None
) -> np.ndarray:
  """Returns the arrival times of a trace.

  Args:
    name: one of `NAMES`.
    rate: requests a second at a load of 1.
    seconds: length of the trace.
    seed: random seed of a generated trace; selects the part of a recorded one.
    folder: folder of recorded traces.

  Returns:
    `float[N]`, seconds from the start, ascending.

  Raises:
    ValueError: there is no such trace, or no folder for it.
  """
  rng = np.random.default_rng(seed)
  if name in _GAMMA:
    spread, load = _GAMMA[name]
    count = int(2 * rate * load * seconds) + 100
    gaps = rng.gamma(1.0 / spread, spread / (rate * load), count)
    times = np.cumsum(gaps)
    return times[times < seconds]
  if name in _SHAPES:
    return _poisson(np.array(_SHAPES[name]) * rate, seconds, rng)
  if name not in RECORDED or not folder:
    raise ValueError(
        f'Unknown trace {name!r}; expected one of {", ".join(NAMES)}, those '
        f'of {", ".join(RECORDED)} with --traces.'
    )
  return _recorded(
      os.path.join(folder, RECORDED[name]), rate * seconds, seconds, seed
  )


def _poisson(
    rates: np.ndarray, seconds: float, rng: np.random.Generator
) -> np.ndarray:
  part = seconds / len(rates)
  times = [
      number * part + part * rng.random(rng.poisson(rate * part))
      for number, rate in enumerate(rates)
  ]
  return np.sort(np.concatenate(times))


def _recorded(
    path: str, count: float, seconds: float, seed: int
) -> np.ndarray:
  """Returns `count` arrivals, scaled to a mean load of 1; each seed selects
  another part of the file.
  """
  with open(path, encoding='utf-8', newline='') as file:
    _, *rows = csv.reader(file)
  times = np.array([float(row[0]) for row in rows])
  wanted = min(int(count), len(times))
  start = (seed * wanted) % max(1, len(times) - wanted)
  part = times[start : start + wanted]
  part = part - part[0]
  return part * (seconds * wanted / count) / part[-1]
