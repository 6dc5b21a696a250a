# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A server in a few lines: the same controller and times, no network, no HTTP.

And the policies that a controller is held against.
"""

import bisect
from collections.abc import Callable, Sequence
import dataclasses
import functools

import numpy as np

from adaptanet_jax.serving.controller import (
  Decision,
  Margin,
  Profile,
  choose,
  seconds_needed,
)

Chooser = Callable[..., Decision | None]
_QUEUE_LIMIT = 256
# SlackFit's classes of latency (SuperServe, NSDI 2025, Sec. 4.2).
_BUCKETS = 16


@dataclasses.dataclass(frozen=True)
class Outcomes:
  """What became of requests.

  Attributes:
    latencies: seconds from the arrival to the answer, `float[N]`; not a number
      where there was none.
    entries: that answered, `int[N]`, -1 for none.
    refused: whether it was refused at once, `bool[N]`.
  """

  latencies: np.ndarray
  entries: np.ndarray
  refused: np.ndarray


def simulate(
    arrivals: np.ndarray,
    profile: Profile,
    *,
    slo: float,
    http: float = 0.0,
    chooser: Chooser = choose,
    allowed: Sequence[int] | None = None,
) -> Outcomes:
  """Plays a trace through.

  Args:
    arrivals: seconds, `float[N]`.
    profile: the menu; batches take its times, and `http` for each image.
    slo: seconds that each request has.
    http: seconds of HTTP for each request that a batch's core loses.
    chooser: the controller.
    allowed: see `choose`.
  """
  count = len(arrivals)
  latencies, entries = np.full(count, np.nan), np.full(count, -1)
  refused = np.zeros(count, bool)
  margin = Margin()
  waiting: list[int] = []
  now, free_at, predicted_end, coming = 0.0, 0.0, 0.0, 0
  while coming < count or waiting:
    # All that came while the last batch ran.
    now = free_at if waiting else max(free_at, arrivals[coming])
    while coming < count and arrivals[coming] <= now:
      begins = max(0.0, predicted_end - arrivals[coming])
      needed = seconds_needed(
          profile,
          margin.value(arrivals[coming]),
          ahead=len(waiting) + 1,
          begins=begins,
          allowed=allowed,
      )
      refused[coming] = needed > slo or len(waiting) >= _QUEUE_LIMIT
      if not refused[coming]:
        waiting.append(coming)
      coming += 1
    if not waiting:
      continue
    deadlines = arrivals[waiting] + slo
    decision = chooser(now, deadlines, profile, margin.value(now), allowed)
    if decision is None:
      waiting = []
      continue
    waiting = waiting[decision.given_up :]
    batch, waiting = waiting[: decision.size], waiting[decision.size :]
    # As the server: filled up to the next size, not to that of the decision.
    column = bisect.bisect_left(profile.sizes, len(batch))
    predicted = float(profile.seconds[decision.entry, column])
    predicted_end = now + margin.value(now) * predicted
    free_at = now + predicted + http * len(batch)
    margin.record(predicted, free_at - now, free_at)
    latencies[batch] = free_at - arrivals[batch]
    entries[batch] = decision.entry
  return Outcomes(latencies, entries, refused)


def slack_fit(
    now: float,
    deadlines: Sequence[float],
    profile: Profile,
    margin: float,
    allowed: Sequence[int] | None = None,
) -> Decision | None:
  """SuperServe's policy: by the slack of the most urgent request.

  Pairs of a subnet and a batch size are classes by their time; of each class
  that with the largest batch stands for it. The slowest one runs that the
  slack admits.
  """
  del allowed
  seconds = margin * profile.seconds
  slack = np.asarray(deadlines) - now
  given_up = int(np.searchsorted(slack, seconds.min()))
  if given_up == len(slack):
    return None
  entry, column = max(
      (pair for pair in _classes(profile)
       if seconds[pair] <= slack[given_up]),
      key=lambda pair: seconds[pair],
      default=np.unravel_index(seconds.argmin(), seconds.shape),
  )
  return Decision(
      given_up, int(entry), profile.sizes[column],
      float(profile.seconds[entry, column]),
  )


@functools.lru_cache
def _classes(profile: Profile) -> list[tuple[int, int]]:
  seconds = profile.seconds
  edges = np.linspace(seconds.min(), seconds.max(), _BUCKETS + 1)[1:-1]
  buckets = np.searchsorted(edges, seconds)
  found = []
  for bucket in np.unique(buckets):
    pairs = [(s, b) for s, b in np.argwhere(buckets == bucket).tolist()]
    found.append(max(
        pairs, key=lambda p: (p[1], profile.entries[p[0]].accuracy)
    ))
  return found


def summary(
    outcomes: Outcomes, accuracies: np.ndarray, *, slo: float
) -> dict[str, float]:
  """Says how good a server was.

  Args:
    outcomes: of each request.
    accuracies: of each entry, `float[S]`; or of each answer, `float[N]`, where
      it is known whether it is right.
    slo: seconds.

  Returns:
    `attainment`, the share that was answered in time; `accuracy`, the mean of
    those that were answered; `effective`, the share that was answered both
    right and in time; `p50` and `p99` of the latencies in milliseconds, of
    those that were answered; `refused`, the share that was refused at once.
  """
  answered = outcomes.entries >= 0
  on_time = answered & (outcomes.latencies <= slo)
  right = np.zeros(len(answered))
  if len(accuracies) == len(answered):
    right[answered] = accuracies[answered]
  else:
    right[answered] = accuracies[outcomes.entries[answered]]
  latencies = outcomes.latencies[answered]
  p50, p99 = (
      1e3 * np.quantile(latencies, (0.5, 0.99)) if len(latencies)
      else (np.nan, np.nan)
  )
  return {
      'attainment': float(on_time.mean()),
      'accuracy': float(right[answered].mean()) if answered.any() else 0.0,
      'effective': float((right * on_time).mean()),
      'p50_ms': float(p50),
      'p99_ms': float(p99),
      'refused': float(outcomes.refused.mean()),
  }
