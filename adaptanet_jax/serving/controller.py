# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The controller, which chooses the subnet and the size of the next batch.

It is a pure function of the waiting requests and the measured times. The server
calls it between two batches, when a supernet can change its subnet at no cost,
and so does `benchmarks.serving_simulator`.

S = subnets of the menu, B = batch sizes, N = requests that wait.
"""

import bisect
from collections import deque
from collections.abc import Sequence
import dataclasses
import functools
import itertools
import math

import numpy as np

# Batch sizes. For a new shape a program would be compiled, for seconds, while
# requests wait. So a batch is padded to one of these, and all programs have run
# before the server reports that it is ready.
SIZES = (1, 2, 4, 8, 16, 32)
# Bounds of the margin. With an upper bound of 3, on a machine that other work
# kept busy, a third of 400 requests a second were answered in time
# (docs/serving-results.md).
_LEAST_MARGIN, _MOST_MARGIN = 1.0, 10.0
_QUANTILE = 0.95
# Values, and seconds, that a percentile remembers.
_WINDOW, _WINDOW_SECONDS = 200, 5.0
# Most requests that a decision considers.
HORIZON = 256


@dataclasses.dataclass(frozen=True)
class Entry:
  """One way to run the network.

  Attributes:
    name: name of a subnet, such as `1.0-0.5d-0.25-1.0`, or of a rung of a
      policy, such as `joint/budget@0.50`, see `policies`.
    accuracy: share of images that it gets right, of those held out or, if
      nothing was measured on such, of the test split.
    madds: multiply-accumulates for one image.
  """

  name: str
  accuracy: float
  madds: int

  @property
  def policy(self) -> str | None:
    """The policy that it is a rung of; None: it is a subnet."""
    policy, at, _ = self.name.partition('@')
    return policy if at else None

  @property
  def share(self) -> float | None:
    """The share of images that follow its policy's first rule, if it has one.
    """
    _, at, share = self.name.partition('@')
    return float(share) if at else None


@dataclasses.dataclass(frozen=True, eq=False)
class Profile:
  """What can run, and how long it takes on this device.

  Attributes:
    entries: the menu, S of them.
    sizes: batch sizes in ascending order, from 1.
    seconds: time of a batch for each entry and size, `float[S, B]`.
  """

  entries: tuple[Entry, ...]
  sizes: tuple[int, ...]
  seconds: np.ndarray

  @functools.cached_property
  def accuracies(self) -> np.ndarray:
    """Accuracy of each entry, `float[S]`."""
    return np.array([entry.accuracy for entry in self.entries])

  @functools.cached_property
  def every(self) -> tuple[int, ...]:
    """Positions of all entries, where all may be chosen."""
    return tuple(range(len(self.entries)))

  @functools.cached_property
  def capacity(self) -> np.ndarray:
    """Images per second of each entry at its best size, `float[S]`."""
    return (np.array(self.sizes) / self.seconds).max(-1)

  @property
  def best(self) -> Entry:
    """The most accurate subnet; among equals, the one with the most MAdds."""
    subnets = [e for e in self.entries if not e.policy]
    return max(subnets, key=lambda e: (e.accuracy, e.madds))

  def predicted(self, entry: int, count: int) -> float:
    """Returns the seconds of a batch, at the size that it is padded to.

    Args:
      entry: position in the menu.
      count: number of images, at most the largest size.
    """
    column = bisect.bisect_left(self.sizes, count)
    return float(self.seconds[entry, column])


@dataclasses.dataclass(frozen=True)
class Decision:
  """What to do next.

  Attributes:
    given_up: number of requests, those with the earliest deadlines, that cannot
      be answered in time any more and would only delay the others.
    entry: position in the menu, for the remaining requests.
    size: most requests of the batch.
  """

  given_up: int
  entry: int
  size: int


def seconds_needed(
    profile: Profile,
    margin: float,
    *,
    ahead: int,
    begins: float | None,
    allowed: tuple[int, ...],
) -> float:
  """Estimates how long a request that arrives now would take at least.

  All before it run in full batches of one size, and what is left over in a
  batch of the next size that fits.

  If nothing runs or waits, the margin does not count: only a batch can show
  that it does not hold any more, and this request delays no other one.

  Args:
    profile: the menu and its times.
    margin: factor on all times, see `Margin.mean`.
    ahead: requests whose turn comes no later than its own, itself included.
    begins: seconds until the next batch can begin; None: nothing runs or waits.
    allowed: see `choose`.

  Returns:
    Seconds, by the entry and the size that take least.
  """
  if begins is None:
    margin = 1.0
  return (begins or 0.0) + margin * _least_seconds(profile, ahead, allowed)


@functools.lru_cache(maxsize=4096)
def _least_seconds(
    profile: Profile, count: int, allowed: tuple[int, ...]
) -> float:
  times = profile.seconds[list(allowed)]
  full, rest = np.divmod(count, profile.sizes)
  last = times[:, np.searchsorted(profile.sizes, rest)]
  return float((full * times + np.where(rest, last, 0.0)).min())


def choose(
    now: float,
    deadlines: Sequence[float],
    profile: Profile,
    margin: float,
    allowed: tuple[int, ...],
) -> Decision | None:
  """Chooses the subnet and the size of the next batch.

  It takes the pair that, if kept until no request waits, gives the most answers
  that are right, by the subnet's accuracy, and in time. Requests that would be
  late in its first batch are given up: answering them anyway, when more come
  than can be answered, makes those behind them late as well (docs/serving.md).
  Ties go to the higher accuracy, then to more MAdds (many subnets get all of a
  few held-out images right: then more work is safer), then to the size that
  gives up fewest, then to that with which all are answered soonest.

  If the margin leaves no time for any request, it is ignored, and only the
  fastest of the entries that can answer one in time is considered: if nothing
  ran, the margin could not fall.

  Args:
    now: seconds on the clock of the deadlines.
    deadlines: deadlines of all that wait, ascending; only the first 256 count.
    profile: the menu and its times.
    margin: factor on all times, see `Margin.value`.
    allowed: positions in the menu that may be chosen.

  Returns:
    The decision; None if no request can be answered in time, even without the
    margin.
  """
  order = _order(profile, allowed)
  # Equivalent to multiplying all times by the margin.
  left = np.array(deadlines[:HORIZON]) - now
  slack = left / margin
  count = len(slack)
  if not count or left[-1] < order.fastest:
    return None
  if slack[-1] < order.fastest:
    fastest = _fastest(profile, count, float(left[-1]), allowed)
    return choose(now, deadlines, profile, 1.0, (fastest,))
  # How many requests would be late in a pair's first batch, and are left out.
  late = slack.searchsorted(order.done[:, 0])
  done = order.done[:, :count]
  if late.any():
    # The late ones fall in the infinite part: none of them counts as in time.
    places = order.starts[:, None] + np.arange(count) - late[:, None]
    done = order.padded.take(places)
  scores = order.accuracies * (done <= slack).sum(-1, dtype=np.int16)
  first = int(scores.argmax())  # Of equals it has the best entry.
  end = first - first % len(profile.sizes) + len(profile.sizes)
  pair = min(
      (n for n in range(first, end) if scores[n] == scores[first]),
      key=lambda n: (late[n], done[n, -1]),
  )
  entry, column = order.pairs[pair]
  return Decision(int(late[pair]), entry, profile.sizes[column])


def _fastest(
    profile: Profile,
    count: int,
    left: float,
    allowed: tuple[int, ...],
) -> int:
  """Returns, of the entries in time for one, the fastest for all that wait."""
  most = min(count, profile.sizes[-1])
  return min(
      (row for row in allowed if profile.seconds[row, 0] <= left),
      key=lambda row: profile.predicted(row, most),
  )


@dataclasses.dataclass(frozen=True, eq=False)
class _Order:
  """All P pairs of an entry and a size, those of the best entry first.

  Attributes:
    pairs: positions of the entry and of the size.
    accuracies: accuracy of the entry, `float[P]`.
    padded: N infinities, then seconds until the first i + 1 requests are
      answered, `float[P, N + N]`.
    starts: places in the flattened `padded` where the seconds begin, `int[P]`.
    fastest: seconds of the fastest entry for one request.
  """

  pairs: list[tuple[int, int]]
  accuracies: np.ndarray
  padded: np.ndarray
  starts: np.ndarray
  fastest: float

  @property
  def done(self) -> np.ndarray:
    """Seconds until the first i + 1 requests are answered, `float[P, N]`."""
    return self.padded[:, HORIZON:]


@functools.lru_cache(maxsize=64)
def _order(profile: Profile, allowed: tuple[int, ...]) -> _Order:
  pairs = sorted(
      itertools.product(allowed, range(len(profile.sizes))),
      key=lambda pair: (
          -profile.entries[pair[0]].accuracy,
          -profile.entries[pair[0]].madds,
          *pair,
      ),
  )
  rows, columns = np.array(pairs).T
  sizes = np.array(profile.sizes)[columns]
  batches = -(-np.arange(1, HORIZON + 1) // sizes[:, None])
  done = profile.seconds[rows, columns][:, None] * batches
  return _Order(
      pairs,
      profile.accuracies[rows],
      np.concatenate([np.full_like(done, np.inf), done], 1),
      np.arange(len(pairs)) * 2 * HORIZON + HORIZON,
      float(profile.seconds[list(allowed), 0].min()),
  )


class Recent:
  """The 95th percentile of what was recorded of late.

  What is old is forgotten. Otherwise a margin that leaves no time for any
  request would never fall, because nothing would run to lower it.
  """

  def __init__(self) -> None:
    # When a value was recorded, and the value.
    self._recent: deque[tuple[float, float]] = deque()
    self._sorted: list[float] = []

  def record(self, value: float, now: float) -> None:
    """Records a value, on the clock of the deadlines."""
    self._recent.append((now, value))
    bisect.insort(self._sorted, value)
    if len(self._recent) > _WINDOW:
      self._forget()

  def value(self, now: float) -> float:
    """Returns the percentile; 0 if there is nothing recent."""
    values = self._values(now)
    return values[math.ceil(_QUANTILE * len(values)) - 1] if values else 0.0

  def _values(self, now: float) -> list[float]:
    """Returns what is recent, in ascending order."""
    while self._recent and self._recent[0][0] < now - _WINDOW_SECONDS:
      self._forget()
    return self._sorted

  def _forget(self) -> None:
    _, oldest = self._recent.popleft()
    del self._sorted[bisect.bisect_left(self._sorted, oldest)]


class Margin(Recent):
  """How much longer batches take than predicted, as a factor from 1 to 10.

  On a machine with other work, batches take longer than measured when the
  server started. What is recorded is actual over predicted seconds.
  """

  def record(self, value: float, now: float) -> None:
    """See `Recent`; more than the most counts as the most."""
    super().record(min(value, _MOST_MARGIN), now)

  def value(self, now: float) -> float:
    """Returns the factor for a single batch, the 95th percentile."""
    return max(super().value(now), _LEAST_MARGIN)

  def mean(self, now: float) -> float:
    """Returns the factor for many batches, of which few are slow."""
    values = self._values(now)
    mean = sum(values) / len(values) if values else 0.0
    return max(mean, _LEAST_MARGIN)
