# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Measured time, power and energy of networks (Table I).

Power is read from NVML where there is an NVIDIA GPU, and None elsewhere.
"""

from collections.abc import Callable, Sequence
import contextlib
import functools
import os
import statistics
import time
from typing import Any

import jax
import numpy as np

from adaptanet_jax.models.subnet import LARGEST, NUM_STAGES

# Untimed runs before the timed ones.
_WARM_UP = 3
_ROUNDS = 10


def measure(
    runs: Sequence[Callable[[], Any]], *, num_runs: int
) -> list[dict[str, float | None]]:
  """Times functions in rounds, so that the machine's load affects all equally.

  Within a round each runs several times in a row, as it would in use.

  Args:
    runs: functions that return arrays.
    num_runs: timed runs of each function.

  Returns:
    For each function, `ms_median` and `ms_p90` of all runs; `ms_quiet`, the
    lowest median of a round, which other work on the machine affects least;
    `watts` and `millijoules`.
  """
  for run in runs:
    for _ in range(_WARM_UP):
      jax.block_until_ready(run())
  # Times by function, round and run.
  times: list[list[list[float]]] = [[] for _ in runs]
  watts: list[list[float]] = [[] for _ in runs]
  with power_meter() as read_watts:
    for share in np.array_split(np.arange(num_runs), min(_ROUNDS, num_runs)):
      for number, run in enumerate(runs):
        times[number].append([])
        jax.block_until_ready(run())
        for _ in share:
          started = time.perf_counter()
          jax.block_until_ready(run())
          times[number][-1].append(1e3 * (time.perf_counter() - started))
          if read_watts:
            watts[number].append(read_watts())
  return [_summary(*row) for row in zip(times, watts)]


def _summary(
    rounds: list[list[float]], watts: list[float]
) -> dict[str, float | None]:
  times = np.concatenate(rounds)
  mean_watts = statistics.fmean(watts) if watts else None
  mean_ms = float(times.mean())
  return {
      'ms_median': float(np.median(times)),
      'ms_p90': float(np.quantile(times, 0.9)),
      'ms_quiet': min(float(np.median(times)) for times in rounds),
      'watts': mean_watts,
      'millijoules': mean_watts * mean_ms if mean_watts else None,
  }


@contextlib.contextmanager
def power_meter() -> Any:
  """Yields a function that reads the first NVIDIA GPU's watts; None elsewhere.
  """
  if jax.default_backend() != 'gpu':
    yield None
    return
  import pynvml

  # The first one that JAX sees.
  index = os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',')[0]
  try:
    pynvml.nvmlInit()
    device = pynvml.nvmlDeviceGetHandleByIndex(int(index or 0))
    pynvml.nvmlDeviceGetPowerUsage(device)
  except (pynvml.NVMLError, ValueError):  # An AMD GPU, or no power readings.
    yield None
    return
  try:
    yield lambda: pynvml.nvmlDeviceGetPowerUsage(device) / 1e3
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
