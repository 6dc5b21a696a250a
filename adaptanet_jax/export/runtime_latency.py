# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times of subnets on a device; a part of runtime.py, in the same folder.

`latency.json` keeps the times and what they are valid for: an export, a machine
and how it runs the network.
"""

from __future__ import annotations  # Devices have older Pythons.

from collections.abc import Callable
import json
import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np

if __package__:
  from adaptanet_jax import machine
else:  # In an exported folder.
  import runtime_machine as machine  # type: ignore[no-redef]

_FILE = 'latency.json'
# Number of subnets on which sums are checked, and the median error allowed.
_NUM_CHECKED = 16
_MOST_ERROR = 0.2
if TYPE_CHECKING:  # Devices have older Pythons.
  _Codes = tuple[int, ...]


def measure(
    run: Callable[[_Codes], Any], codes: dict[str, _Codes], rounds: int,
    runs: int,
) -> dict[str, float]:
  """Times subnets.

  If there are many, it times one and those that differ from it in one stage;
  the times of all others are sums of the differences.

  Args:
    run: runs a subnet, given its codes.
    codes: codes of all subnets, by name.
    rounds: passes over all subnets, so that changes of the device affect all.
    runs: timed runs of each subnet in a round, after one that is not timed.

  Returns:
    Milliseconds by subnet.

  Raises:
    ValueError: the sums are far from the measured times of random subnets.
  """
  start = next(iter(codes.values()))
  singles = [start]
  for n in range(len(start)):
    for code in sorted({code[n] for code in codes.values()} - {start[n]}):
      singles.append((*start[:n], code, *start[n + 1 :]))
  if len(codes) <= len(singles):
    times = _times(run, list(codes.values()), rounds, runs)
    return {name: times[own] for name, own in codes.items()}
  every = list(codes.values())
  drawn = np.random.default_rng(0).integers(len(every), size=_NUM_CHECKED)
  checked = [every[n] for n in drawn]
  times = _times(run, [*singles, *checked], rounds, runs)

  def total(own: _Codes) -> float:
    return times[start] + sum(
        times[(*start[:n], own[n], *start[n + 1 :])] - times[start]
        for n in range(len(start))
    )

  advice = (
      'Had the device other work? Measure again without it, or export fewer '
      'subnets, which are timed one by one.'
  )
  errors = [abs(total(own) / times[own] - 1.0) for own in checked]
  error = float(np.median(errors))
  found = {name: total(own) for name, own in codes.items()}
  if error > _MOST_ERROR:
    raise ValueError(
        'The times of single stages do not add up: sums are off by '
        f'{100.0 * error:.0f} % (median of {_NUM_CHECKED} random subnets; '
        f'expected at most {100.0 * _MOST_ERROR:.0f} %). {advice}'
    )
  name = min(found, key=lambda name: found[name])
  if found[name] <= 0.0:
    raise ValueError(
        f'The times of single stages add up to {found[name]:.3f} ms for '
        f'{name}; expected more than 0. {advice}'
    )
  return found


def _times(
    run: Callable[[_Codes], Any], subnets: list[_Codes], rounds: int, runs: int
) -> dict[_Codes, float]:
  """Returns each subnet's lowest median of a round, in milliseconds."""
  medians: dict[_Codes, list[float]] = {own: [] for own in subnets}
  for _ in range(rounds):
    for own in subnets:
      run(own)
      times = []
      for _ in range(runs):
        started = time.perf_counter()
        run(own)
        times.append(1e3 * (time.perf_counter() - started))
      medians[own].append(float(np.median(times)))
  return {own: min(values) for own, values in medians.items()}


def write(
    folder: str, surroundings: dict[str, str], milliseconds: dict[str, float]
) -> None:
  """Writes times to a folder, in place of all old ones.

  Args:
    folder: folder of the export.
    surroundings: how the network runs.
    milliseconds: times by subnet.
  """
  kept = {'device': _device(surroundings), 'milliseconds': milliseconds}
  path = os.path.join(folder, _FILE)
  with open(f'{path}.tmp', 'w', encoding='utf-8') as file:
    json.dump(kept, file, indent=1)
  os.replace(f'{path}.tmp', path)


def read(
    folder: str, surroundings: dict[str, str]
) -> tuple[dict[str, float], str]:
  """Reads the times that a folder has for this device.

  Args:
    folder: folder of the export.
    surroundings: how the network runs.

  Returns:
    Milliseconds by subnet, and ''; if they are not known, `{}` and the reason.
  """
  path = os.path.join(folder, _FILE)
  if not os.path.exists(path):
    return {}, 'Times are not known here; expected measure() to have run.'
  again = (
      'expected net.measure(save=True) on a network that was loaded with the '
      'same options; --measure uses the default ones.'
  )
  try:
    with open(path, encoding='utf-8') as file:
      kept = json.load(file)
    device, times = dict(kept['device']), dict(kept['milliseconds'])
  except (ValueError, TypeError, KeyError) as error:
    return {}, f'{path} is damaged ({error!r}); {again}'
  differing = [
      f'{name} was {device.get(name)!r} and is {value!r}'
      for name, value in _device(surroundings).items()
      if device.get(name) != value
  ]
  if differing:
    return {}, (
        f'The times in {path} do not hold here: {", ".join(differing)}; {again}'
    )
  return times, ''


def _device(surroundings: dict[str, str]) -> dict[str, str]:
  """Describes the device that times are valid for."""
  return {
      'processor': machine.processor(),
      'cores': str(machine.num_cores()),
      **surroundings,
  }
