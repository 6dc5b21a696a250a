# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The queue: requests with deadlines, and the one thread that runs batches.

The event loop puts images in; the thread takes the next batch out as soon as
the last one is done, for there is nothing to be gained from waiting while
nothing runs. Both hold one lock, for microseconds.

All times are seconds of `time.monotonic`, the clock of asyncio's loops.
"""

import asyncio
import bisect
from collections.abc import Callable, Sequence
import functools
import logging
import threading
import time

import numpy as np

from adaptanet_jax.serving.controller import (
  Decision,
  Margin,
  Profile,
  choose,
  seconds_needed,
)
from adaptanet_jax.serving.engine import Engine
from adaptanet_jax.serving.items import (
  Answer,
  Batch,
  BatchError,
  DeadlineError,
  Item,
  Ran,
  RefusedError,
)

# Failures of batches in a row after which the server is not ready.
_MOST_FAILURES = 3
# A batch hangs that takes so many times what was predicted, and this long.
_HANG_FACTOR, _HANG_SECONDS = 10.0, 10.0


class Batcher:
  """Turns single images with deadlines into batches.

  Attributes:
    engine: what runs them.
    profile: the menu and its times.
    margin: how much longer batches take than was measured.
    failures: batches that failed, since the last one that did not.
  """

  def __init__(
      self,
      engine: Engine,
      profile: Profile,
      *,
      queue_limit: int = 256,
      choose: Callable[..., Decision | None] = choose,
      on_batch: Callable[[Ran], None] = lambda ran: None,
      clock: Callable[[], float] = time.monotonic,
  ) -> None:
    """Starts nothing yet.

    Args:
      engine: what runs batches.
      profile: the menu and its times.
      queue_limit: most images that wait.
      choose: the controller; others are for comparison.
      on_batch: told of each batch, in the event loop.
      clock: gives seconds.
    """
    self.engine, self.profile = engine, profile
    self.margin, self.failures = Margin(), 0
    self._limit, self._on_batch, self._clock = queue_limit, on_batch, clock
    self._choose = choose
    self._changed = threading.Condition()
    self._items: list[Item] = []  # By deadline.
    self._closing = False
    # Of the batch that runs: when it was to be done, when it is overdue.
    self._busy_until = self._overdue = 0.0
    self._running = 0
    self._thread = threading.Thread(
        target=self._serve, name='batches', daemon=True
    )

  def start(self, loop: asyncio.AbstractEventLoop) -> None:
    """Starts the thread; answers are given in this loop."""
    self._loop = loop
    self._thread.start()

  @property
  def waiting(self) -> int:
    """Images that wait."""
    return len(self._items)

  @property
  def slowdown(self) -> float:
    """How much longer batches take than was measured."""
    with self._changed:
      return self.margin.value(self._clock())

  @property
  def is_idle(self) -> bool:
    """Whether nothing waits and nothing runs."""
    return not self._items and not self._running

  @property
  def is_alive(self) -> bool:
    """Whether the thread lives and its batch is not long overdue."""
    hangs = self._running and self._clock() > self._overdue
    not_started = self._thread.ident is None
    return (not_started or self._thread.is_alive()) and not hangs

  @property
  def is_healthy(self) -> bool:
    """Whether batches succeed."""
    return self.failures < _MOST_FAILURES

  def submit(
      self,
      images: Sequence[np.ndarray],
      deadline: float,
      allowed: tuple[int, ...] | None = None,
      *,
      start: int = 0,
  ) -> list['asyncio.Future[Answer]']:
    """Puts images in the queue, all or none; in the event loop.

    Args:
      images: `uint8[H, W, C]` each.
      deadline: of all of them.
      allowed: entries of the menu that may answer, ascending; None: all.
      start: of `Engine.run`.

    Returns:
      A future of each answer. To cancel it takes its image out of the queue.
      Otherwise they raise `DeadlineError` or `BatchError`.

    Raises:
      RefusedError: the queue is full, or the deadline cannot be met.
    """
    now = self._clock()
    items = [
        Item(image, start, now, deadline, allowed, self._loop.create_future())
        for image in images
    ]
    with self._changed:
      self._check_admission(now, deadline, len(items), allowed)
      for item in items:
        bisect.insort(self._items, item, key=_deadline)
      self._changed.notify()
    for item in items:
      item.timer = self._loop.call_at(
          self._loop.time() + deadline - now, self._expire, item
      )
      item.future.add_done_callback(functools.partial(self._end, item))
    return [item.future for item in items]

  def swap(self, engine: Engine, profile: Profile) -> None:
    """Has batches from the next one on run on another engine.

    In the event loop. Requests that only entries may answer which the new menu
    has not are given up.

    Args:
      engine: of images of the same shape.
      profile: its menu and times.
    """
    with self._changed:
      names = [entry.name for entry in self.profile.entries]
      places = {entry.name: n for n, entry in enumerate(profile.entries)}
      for item in self._items:
        if item.allowed is not None:
          kept = {places[names[n]] for n in item.allowed if names[n] in places}
          item.allowed = tuple(sorted(kept))
      lost = [item for item in self._items if item.allowed == ()]
      self._items = [item for item in self._items if item.allowed != ()]
      self.engine, self.profile, self.margin = engine, profile, Margin()
      self.failures = 0
    for item in lost:
      self._give_up(item)

  def close(self) -> None:
    """Ends the thread after what it runs."""
    with self._changed:
      self._closing = True
      self._changed.notify()

  def _check_admission(
      self,
      now: float,
      deadline: float,
      count: int,
      allowed: tuple[int, ...] | None,
  ) -> None:
    """Raises RefusedError if even the fastest subnet would come too late."""
    ahead = bisect.bisect_right(self._items, deadline, key=_deadline)
    needed = seconds_needed(
        self.profile,
        self.margin.value(now),
        ahead=ahead + count,
        begins=max(0.0, self._busy_until - now) if self._running else 0.0,
        allowed=allowed,
    )
    if len(self._items) + count > self._limit:
      raise RefusedError(
          f'{len(self._items)} images wait, and {self._limit} is the limit.',
          needed,
      )
    if now + needed > deadline:
      raise RefusedError(
          f'An answer would take {1e3 * needed:.0f} ms, and '
          f'{1e3 * (deadline - now):.0f} ms are left.',
          needed,
      )

  def _end(self, item: Item, future: 'asyncio.Future[Answer]') -> None:
    """Ends the waiting of an image: it was answered, or its client left."""
    if item.timer:
      item.timer.cancel()
    if future.cancelled():
      self._remove(item)

  def _expire(self, item: Item) -> None:
    if self._remove(item) and not item.future.done():
      item.future.set_exception(
          DeadlineError('The deadline passed before its turn came.')
      )

  def _remove(self, item: Item) -> bool:
    """Takes an image out of the queue, if it still is in there."""
    with self._changed:
      first = bisect.bisect_left(self._items, item.deadline, key=_deadline)
      for position in range(first, len(self._items)):
        found = self._items[position]
        if found is item:
          del self._items[position]
          return True
        if found.deadline > item.deadline:
          break
    return False

  def _serve(self) -> None:
    """What the thread does."""
    while True:
      with self._changed:
        while not (self._items or self._closing):
          self._changed.wait()
        if not self._items:
          return
        batch = self._take()
      if batch:
        self._run(batch)

  def _take(self) -> Batch | None:
    """Takes the next batch out of the queue; the lock is held."""
    now = self._clock()
    first = self._items[0]
    able = [
        item
        for item in self._items
        if item.start == first.start
        and _may_share(item.allowed, first.allowed)
    ]
    decision = self._choose(
        now,
        [item.deadline for item in able],
        self.profile,
        self.margin.value(now),
        first.allowed,
    )
    given_up = able if decision is None else able[: decision.given_up]
    items = []
    if decision:
      items = able[decision.given_up :][: decision.size]
    gone = set(map(id, (*given_up, *items)))
    self._items = [item for item in self._items if id(item) not in gone]
    for item in given_up:
      self._call(self._give_up, item)
    if not decision:
      return None
    self._running = len(items)
    self._busy_until = now + self.margin.value(now) * decision.seconds
    self._overdue = now + max(_HANG_FACTOR * decision.seconds, _HANG_SECONDS)
    return Batch(self.engine, self.profile, self.margin, decision, items)

  def _run(self, batch: Batch) -> None:
    started = self._clock()
    logits: np.ndarray | None = None
    subnets: list[str] = []
    problem = ''
    try:
      logits, subnets = batch.run()
      if not np.isfinite(logits).all():
        problem = 'The network gave numbers that are not finite.'
    except Exception:  # Whatever it is, the next batch may do.
      logging.exception('A batch failed.')
      problem = 'The batch failed.'
    done = self._clock()
    with self._changed:
      batch.margin.record(batch.decision.seconds, done - started, done)
      self._running = 0
    self._call(
        self._deliver, batch, logits, subnets, problem, started, done
    )

  def _deliver(
      self,
      batch: Batch,
      logits: np.ndarray | None,
      subnets: list[str],
      problem: str,
      started: float,
      done: float,
  ) -> None:
    """Answers the images of a batch; in the event loop."""
    self.failures = self.failures + 1 if problem else 0
    entry, count = batch.entry, len(batch.items)
    for number, item in enumerate(batch.items):
      if item.future.done():  # Its client went away.
        continue
      if problem or logits is None:
        item.future.set_exception(BatchError(problem))
        continue
      item.future.set_result(Answer(
          logits[number],
          entry.name,
          subnets[number],
          entry.accuracy,
          count,
          started - item.arrived,
          done - started,
      ))
    self._on_batch(Ran(entry.name, count, done - started, bool(problem)))

  def _give_up(self, item: Item) -> None:
    if not item.future.done():
      item.future.set_exception(
          DeadlineError('The deadline cannot be met any more.')
      )

  def _call(self, function: Callable[..., None], *args: object) -> None:
    self._loop.call_soon_threadsafe(function, *args)


def _deadline(item: Item) -> float:
  return item.deadline


def _may_share(
    others: tuple[int, ...] | None, allowed: tuple[int, ...] | None
) -> bool:
  """Returns whether all that may answer the one may answer the other."""
  if others is None or others == allowed:
    return True
  return allowed is not None and set(allowed) <= set(others)
