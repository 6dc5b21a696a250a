# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Bounds on what a server can reach, even if it knows the trace in advance."""

from collections.abc import Sequence
import itertools
from typing import Any

import numpy as np
from scipy import optimize, sparse

from adaptanet_jax.serving.controller import Profile
from benchmarks import serving_simulator


def best_fixed(
    arrivals: np.ndarray, profile: Profile, *, slo: float, http: float
) -> tuple[int, dict[str, float]]:
  """Returns the subnet that is best for a whole trace, in hindsight.

  Args:
    arrivals: arrival times in seconds, `float[N]`.
    profile: subnets and their times.
    slo: seconds from a request's arrival to its deadline.
    http: see `serving_simulator.simulate`.

  Returns:
    Its position in the profile, and the summary of its outcomes.
  """
  found = []
  for entry in range(len(profile.entries)):
    outcomes = serving_simulator.simulate(
        arrivals, profile, slo=slo, http=http, allowed=(entry,)
    )
    right = profile.accuracies[outcomes.entries]
    found.append(serving_simulator.summary(outcomes, right, slo=slo))
  best = max(range(len(found)), key=lambda n: found[n]['effective'])
  return best, found[best]


def oracle(
    arrivals: np.ndarray, profile: Profile, *, slo: float, http: float
) -> float:
  """Returns an effective accuracy that no server exceeds, whatever it knows.

  The bound solves a linear program: requests are answered in order, each with
  any part of the processor's time between its arrival and its deadline; an
  image takes its share of the cheapest batch of its subnet; and subnets may be
  mixed, with mixed times and accuracies.

  Args:
    arrivals: arrival times in seconds, `float[N]`, ascending.
    profile: subnets and their times.
    slo: seconds from a request's arrival to its deadline.
    http: see `serving_simulator.simulate`.

  Raises:
    RuntimeError: the linear program was not solved.
  """
  count = len(arrivals)
  times = (profile.seconds / np.array(profile.sizes)).min(1) + http
  lines = _hull(times, profile.accuracies)
  eye, none = sparse.eye_array(count), sparse.csr_array((count, count))
  before = sparse.eye_array(count, k=-1)
  # Variables for each request: its seconds, its end time and its accuracy.
  blocks = [[eye, before - eye, none]]
  limits = [np.zeros(count)]
  for slope, offset in lines:
    blocks.append([-slope * eye, none, eye])
    limits.append(np.full(count, offset))
  # A request ends no sooner than its own seconds after its arrival.
  blocks.append([eye, -eye, none])
  limits.append(-arrivals)
  bounds: list[Any] = [(0.0, None)] * count
  bounds += [(None, arrival + slo) for arrival in arrivals]
  bounds += [(0.0, float(profile.accuracies.max()))] * count
  found = optimize.linprog(
      np.concatenate([np.zeros(2 * count), -np.ones(count)]),
      A_ub=sparse.block_array(blocks).tocsr(),
      b_ub=np.concatenate(limits),
      bounds=bounds,
      method='highs',
  )
  if not found.success:
    raise RuntimeError(found.message)
  return float(-found.fun / count)


def _hull(
    times: np.ndarray, accuracies: np.ndarray
) -> Sequence[tuple[float, float]]:
  """Returns the lines that bound the accuracy within a time.

  Args:
    times: `float[S]` seconds.
    accuracies: `float[S]`.

  Returns:
    Slope and offset of each side of the upper hull of these points and (0, 0).
  """
  points = [(0.0, 0.0)]
  for point in sorted(zip(times.tolist(), accuracies.tolist())):
    while len(points) > 1 and _slope(points[-2], point) >= _slope(
        points[-2], points[-1]
    ):
      points.pop()
    if point[1] > points[-1][1]:
      points.append(point)
  return [
      (_slope(a, b), a[1] - _slope(a, b) * a[0])
      for a, b in itertools.pairwise(points)
  ]


def _slope(a: tuple[float, float], b: tuple[float, float]) -> float:
  return (b[1] - a[1]) / (b[0] - a[0])
