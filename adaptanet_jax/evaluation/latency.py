# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Measured time, power and energy of networks (Table I).

Power and energy are read from NVML where there is an NVIDIA GPU, and None
elsewhere.
"""

from collections.abc import Callable, Sequence
import contextlib
import functools
import os
import time
from typing import Any

import jax
import numpy as np

from adaptanet_jax.models.subnet import LARGEST, NUM_STAGES

# Untimed runs before the timed ones.
_WARM_UP = 3
_ROUNDS = 10
# NVML updates its count of a GPU's energy only every 20 to 100 ms.
_ENERGY_SECONDS = 5.0


def measure(
    runs: Sequence[Callable[[], Any]], *, num_runs: int
) -> list[dict[str, float]]:
  """Times functions in rounds, so that the machine's load affects all equally.

  Within a round each runs several times in a row, as it would in use, or once
  if there are no more runs than rounds.

  Args:
    runs: functions that return arrays.
    num_runs: timed runs of each function.

  Returns:
    For each function, `ms_median` and `ms_p90` of all runs; and `ms_quiet`, the
    lowest median of a round, which other work on the machine affects least.
  """
  for run in runs:
    for _ in range(_WARM_UP):
      jax.block_until_ready(run())
  # Times by function, round and run.
  times: list[list[list[float]]] = [[] for _ in runs]
  for share in np.array_split(np.arange(num_runs), min(_ROUNDS, num_runs)):
    for number, run in enumerate(runs):
      times[number].append([])
      jax.block_until_ready(run())
      for _ in share:
        started = time.perf_counter()
        jax.block_until_ready(run())
        times[number][-1].append(1e3 * (time.perf_counter() - started))
  return [_summary(rounds) for rounds in times]


def _summary(rounds: list[list[float]]) -> dict[str, float]:
  times = np.concatenate(rounds)
  return {
      'ms_median': float(np.median(times)),
      'ms_p90': float(np.quantile(times, 0.9)),
      'ms_quiet': min(float(np.median(times)) for times in rounds),
  }


def measure_energy(run: Callable[[], Any]) -> dict[str, float | None]:
  """Measures the mean power of a GPU that runs a function again and again.

  The GPU does nothing else for some seconds. A reading of its power between
  short runs of several functions would be that of all: since Ampere, NVML
  averages it over a second.

  Args:
    run: function that returns arrays.

  Returns:
    `watts`, and `millijoules` of a run; None without an NVIDIA GPU.
  """
  with energy_meter() as read_joules:
    if not read_joules:
      return {'watts': None, 'millijoules': None}
    jax.block_until_ready(run())
    count, joules, started = 0, read_joules(), time.perf_counter()
    while (seconds := time.perf_counter() - started) < _ENERGY_SECONDS:
      jax.block_until_ready(run())
      count += 1
    joules = read_joules() - joules
  return {'watts': joules / seconds, 'millijoules': 1e3 * joules / count}


@contextlib.contextmanager
def energy_meter() -> Any:
  """Yields a function that reads the joules that the first NVIDIA GPU has used.

  Yields None if there is no such GPU, or if it does not count them.
  """
  if jax.default_backend() != 'gpu':
    yield None
    return
  import pynvml

  # The first one that JAX sees, by its number or its UUID.
  first = os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',')[0]
  try:
    pynvml.nvmlInit()
    if first.startswith('GPU-'):
      device = pynvml.nvmlDeviceGetHandleByUUID(first)
    else:
      device = pynvml.nvmlDeviceGetHandleByIndex(int(first or 0))
    pynvml.nvmlDeviceGetTotalEnergyConsumption(device)
  except (pynvml.NVMLError, ValueError):  # An AMD GPU, or one before Volta.
    yield None
    return
  try:
    yield lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(device) / 1e3
  finally:
    pynvml.nvmlShutdown()


def single_changes(num_choices: int) -> np.ndarray:
  """Returns the largest subnet and all that differ from it in one stage.

  Args:
    num_choices: K.

  Returns:
    `int32[1 + 4 * (K - 1), 4]`, the largest first, the others stage by stage.
  """
  largest = LARGEST.encode()
  subnets = [largest]
  for n in range(NUM_STAGES):
    for choice in range(1, num_choices):
      subnet = largest.copy()
      subnet[n] = choice
      subnets.append(subnet)
  return np.stack(subnets)


def stage_table(milliseconds: np.ndarray) -> tuple[float, np.ndarray]:
  """Returns what each choice of each stage adds to the largest subnet's time.

  Args:
    milliseconds: times of the subnets of `single_changes`.

  Returns:
    Milliseconds of the largest subnet, and `float[4, K]`, the milliseconds that
    a choice adds when it replaces x1.0; negative where it is faster.
  """
  added = (milliseconds[1:] - milliseconds[0]).reshape(NUM_STAGES, -1)
  return float(milliseconds[0]), np.pad(added, ((0, 0), (1, 0)))


def stage_sums(base: float, added: np.ndarray) -> np.ndarray:
  """Returns each subnet's estimated time, `float[K, K, K, K]`.

  Args:
    base: time of the largest subnet.
    added: `float[4, K]`, what each stage's choice adds; see `stage_table`.
  """
  return base + functools.reduce(np.add, np.ix_(*added))
