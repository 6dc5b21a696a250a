# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Simulates a server with the real controller and times, but without HTTP.

It also has the policy that the controller is compared with.
"""

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
  """The outcomes of requests.

  Attributes:
    latencies: seconds from the arrival to the answer, `float[N]`; NaN without
      an answer.
    entries: profile entry that answered, `int[N]`; -1 without an answer.
    refused: whether a request was refused on arrival, `bool[N]`.
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
    allowed: tuple[int, ...] = (),
) -> Outcomes:
  """Simulates the requests of a trace.

  Args:
    arrivals: arrival times in seconds, `float[N]`.
    profile: the menu; batches take its times, plus `http` for each image.
    slo: seconds from a request's arrival to its deadline.
    http: seconds for the HTTP of a request, which delay its batch.
    chooser: the controller.
    allowed: see `choose`; empty: all.
  """
  allowed = allowed or profile.every
  count = len(arrivals)
  latencies, entries = np.full(count, np.nan), np.full(count, -1)
  refused = np.zeros(count, bool)
  margin = Margin()
  waiting: list[int] = []
  now, free_at, predicted_end, coming = 0.0, 0.0, 0.0, 0
  while coming < count or waiting:
    # Admit all requests that came while the last batch ran.
    now = free_at if waiting else max(free_at, arrivals[coming])
    while coming < count and arrivals[coming] <= now:
      begins = None
      if waiting or arrivals[coming] < free_at:
        begins = max(0.0, predicted_end - arrivals[coming])
      needed = seconds_needed(
          profile,
          margin.mean(arrivals[coming]),
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
    # Like the server, pad the batch to the next size, not to the decision's.
    predicted = profile.predicted(decision.entry, len(batch))
    predicted_end = now + margin.value(now) * predicted
    free_at = now + predicted + http * len(batch)
    margin.record((free_at - now) / predicted, free_at)
    latencies[batch] = free_at - arrivals[batch]
    entries[batch] = decision.entry
  return Outcomes(latencies, entries, refused)


def slack_fit(
    now: float,
    deadlines: Sequence[float],
    profile: Profile,
    margin: float,
    allowed: tuple[int, ...],
) -> Decision | None:
  """Chooses as SuperServe does: by the slack of the most urgent request.

  Pairs of a subnet and a batch size are put into classes by their time; the
  pair with the largest batch represents its class. The slowest of these pairs
  that fits the slack runs.
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
  return Decision(given_up, int(entry), profile.sizes[column])


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
    outcomes: Outcomes, right: np.ndarray, *, slo: float
) -> dict[str, float]:
  """Summarises how good a server was.

  Args:
    outcomes: outcomes of the requests.
    right: how likely each answer is correct, or whether it is, `float[N]`; what
      it says of requests that got none does not count.
    slo: seconds from a request's arrival to its deadline.

  Returns:
    `attainment`, the share of requests answered in time; `accuracy`, the mean
    accuracy of the answers; `effective`, the share answered correctly and in
    time; `p50_ms` and `p99_ms`, quantiles of the answers' latencies in
    milliseconds; `refused`, the share refused on arrival.
  """
  answered = outcomes.entries >= 0
  on_time = answered & (outcomes.latencies <= slo)
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
