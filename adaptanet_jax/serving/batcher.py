# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The queue: requests with deadlines, and the one thread that runs batches.

The event loop puts images in; the thread takes the next batch out as soon as
the last one is done, because waiting while nothing runs gains nothing. Both
hold one lock, mostly for less than a millisecond.

All times are seconds of `time.monotonic`, the clock of asyncio's loops.
"""

import asyncio
import bisect
from collections.abc import Callable, Iterator, Sequence
import contextlib
import functools
import itertools
import logging
import operator
import threading
import time
from typing import Any

import numpy as np

from adaptanet_jax.serving.allowed import allowed_entries
from adaptanet_jax.serving.controller import (
  HORIZON,
  Decision,
  Margin,
  Profile,
  Recent,
  seconds_needed,
)
from adaptanet_jax.serving.engine import Engine
from adaptanet_jax.serving.health import Health
from adaptanet_jax.serving.items import Answer, Batch, Item
from adaptanet_jax.serving.refusals import (
  BatchError,
  DeadlineError,
  RefusedError,
  RequestError,
)

REPLACED = 'Another model took its place.'
# Once not ready, it runs a blank image after each such time without requests:
# nothing else would show that batches succeed again.
_PROBE_SECONDS = 1.0
_DEADLINE = operator.attrgetter('deadline')


class Batcher:
  """Turns single images with deadlines into batches.

  Attributes:
    engine: runs the batches.
    profile: the menu and its times.
    margin: how much longer batches take than measured.
    delay: seconds from the end of a batch until a response with its answers is
      made. Under load the event loop takes a while, and has to be in time, too.
    health: whether batches succeed, and end.
    begun: batches begun so far.
  """

  def __init__(
      self,
      engine: Engine,
      profile: Profile,
      *,
      queue_limit: int,
      choose: Callable[..., Decision | None],
      on_batch: Callable[[int, float, bool], None],
  ) -> None:
    """Does not start the thread yet.

    Args:
      engine: runs the batches.
      profile: the menu and its times.
      queue_limit: most images that wait.
      choose: the controller; others are for comparison.
      on_batch: called after each batch, in the event loop, with the number of
        its images, its seconds and whether it failed.
    """
    self.engine, self.profile = engine, profile
    self.margin, self.delay = Margin(), Recent()
    self.health, self.begun = Health(), 0
    self._limit, self._on_batch, self._choose = queue_limit, on_batch, choose
    self._changed = threading.Condition()
    self._items: list[Item] = []  # In order of their deadlines.
    self._held = 0
    self._closing = False
    self._running = 0
    self._busy_until = 0.0  # When the running batch should be done.
    self._thread = threading.Thread(
        target=self._serve, name='batches', daemon=True
    )

  def start(self, loop: asyncio.AbstractEventLoop) -> None:
    """Starts the thread; answers are delivered in this loop."""
    self._loop = loop
    self._thread.start()

  @property
  def waiting(self) -> int:
    """Number of images that wait, or are decoded before they do."""
    return len(self._items) + self._held

  @property
  def slowdown(self) -> float:
    """How much longer batches take than measured."""
    with self._changed:
      return self.margin.value(time.monotonic())

  @property
  def is_alive(self) -> bool:
    """False if the thread died or hangs, or all batches have failed for long.
    """
    lives = self._thread.ident is None or self._thread.is_alive()
    return lives and not self.health.is_lost

  def submit(
      self,
      images: Sequence[np.ndarray],
      deadline: float,
      parameters: dict[str, Any] | None = None,
      *,
      start: int = 0,
  ) -> list['asyncio.Future[Answer]']:
    """Puts all images in the queue, or none; called in the event loop.

    Args:
      images: `uint8[H, W, C]` each.
      deadline: deadline of all of them.
      parameters: parameters of the request, which say what entries may answer.
      start: see `Engine.run`.

    Returns:
      A future for each answer. Cancelling it takes its image out of the queue.
      It may raise `DeadlineError`, `BatchError`, or `RefusedError` from `swap`.

    Raises:
      RequestError: no entry of the menu may answer, or there are more images
        than may ever wait.
      RefusedError: the queue is full, or the deadline cannot be met.
    """
    now = time.monotonic()
    asked = parameters or {}
    allowed = allowed_entries(
        self.engine.weights, self.profile, asked, start
    )
    items = [
        Item(image, start, deadline, asked, allowed, self._loop.create_future())
        for image in images
    ]
    with self._changed:
      self._check(now, deadline, len(items), allowed)
      for item in items:
        bisect.insort(self._items, item, key=_DEADLINE)
      self._changed.notify()
    for item in items:
      item.timer = self._loop.call_later(deadline - now, self._expire, item)
      item.future.add_done_callback(functools.partial(self._end, item))
    return [item.future for item in items]

  @contextlib.contextmanager
  def room(
      self, count: int, deadline: float, allowed: tuple[int, ...]
  ) -> Iterator[None]:
    """Reserves places in the queue for images that are not decoded yet.

    Args:
      count: number of images.
      deadline: deadline of all of them.
      allowed: see `Item`.

    Raises:
      RequestError, RefusedError: as for `submit`.
    """
    with self._changed:
      self._check(time.monotonic(), deadline, count, allowed)
    self._held += count
    try:
      yield
    finally:
      self._held -= count

  def written(self, ended: float) -> None:
    """Notes that a response is made; its last batch ended at `ended`."""
    now = time.monotonic()
    with self._changed:
      self.delay.record(now - ended, now)

  def swap(self, engine: Engine, profile: Profile) -> None:
    """Runs all batches from the next one on another engine.

    Called in the event loop. It refuses requests that nothing on the new menu
    may answer, and anchors of other weights.

    Args:
      engine: engine for images of the same shape.
      profile: its menu and times.
    """
    lost = []
    with self._changed:
      for item in self._items:
        try:
          item.allowed = allowed_entries(
              engine.weights, profile, item.parameters, item.start
          )
        except RequestError:
          lost.append(item)
      self._leave_out(lost)
      self.engine, self.profile, self.margin = engine, profile, Margin()
      self.health.note(False)
    for item in lost:
      self._fail(item, RefusedError(REPLACED, 1.0))

  def close(self) -> None:
    """Ends the thread once no image waits."""
    with self._changed:
      self._closing = True
      self._changed.notify()

  def _check(
      self,
      now: float,
      deadline: float,
      count: int,
      allowed: tuple[int, ...],
  ) -> None:
    """Raises an error if there is no room or no time for more images."""
    if count > self._limit:
      raise RequestError(
          413,
          f'There are {count} images; expected at most {self._limit}, the '
          'length of the queue (--queue_limit).',
      )
    waiting = self.waiting
    if waiting + count > self._limit:
      raise RefusedError(
          f'{waiting} images wait, and {self._limit} is the limit.', 1.0
      )
    begins = None
    if waiting or self._running:
      begins = max(0.0, self._busy_until - now) if self._running else 0.0
    ahead = bisect.bisect_right(self._items, deadline, key=_DEADLINE)
    needed = seconds_needed(
        self.profile,
        self.margin.mean(now),
        ahead=ahead + count,
        begins=begins,
        allowed=allowed,
    )
    # An idle server tries: nothing else could show that answers are fast again.
    if begins is not None:
      needed += _left_for(self.delay.value(now), deadline - now)
    if now + needed > deadline:
      raise RefusedError(
          f'An answer would take {1e3 * needed:.0f} ms, and '
          f'{1e3 * max(0.0, deadline - now):.0f} ms are left.',
          needed,
      )

  def _end(self, item: Item, future: 'asyncio.Future[Answer]') -> None:
    """Cleans up after an image that was answered or whose client left."""
    if item.timer:
      item.timer.cancel()
    if future.cancelled():
      self._remove(item)

  def _expire(self, item: Item) -> None:
    if self._remove(item):
      self._fail(
          item, DeadlineError('The deadline passed before its turn came.')
      )

  def _remove(self, item: Item) -> bool:
    """Takes an image out of the queue, if it still is in there."""
    with self._changed:
      first = bisect.bisect_left(self._items, item.deadline, key=_DEADLINE)
      last = bisect.bisect_right(self._items, item.deadline, key=_DEADLINE)
      for place in range(first, last):
        if self._items[place] is item:
          del self._items[place]
          return True
    return False

  def _serve(self) -> None:
    """Runs batches until the batcher is closed; the thread's function."""
    while True:
      with self._changed:
        while self.health.is_healthy and not (self._items or self._closing):
          self._changed.wait()
        if not (self._items or self._closing):
          self._changed.wait(_PROBE_SECONDS)
        if self._closing and not self._items:
          return
        batch = self._take() if self._items else self._probe()
      if batch:
        self._run(batch)

  def _take(self) -> Batch | None:
    """Takes the next batch out of the queue; the lock is held."""
    now = time.monotonic()
    first = self._items[0]
    needed = set(first.allowed)
    # Each entry that may answer the first one must be allowed for all of them.
    may_join = (
        item
        for item in self._items
        if item.start == first.start
        and (item.allowed == first.allowed or needed.issubset(item.allowed))
    )
    # The controller sees no more.
    able = list(itertools.islice(may_join, HORIZON))
    deadlines = [item.deadline for item in able]
    known = self.profile, self.margin.value(now), first.allowed
    delay = self.delay.value(now)
    due = [d - _left_for(delay, d - now) for d in deadlines]
    decision = self._choose(now, due, *known)
    # Rather an answer that may be late than none.
    if not decision and due != deadlines:
      decision = self._choose(now, deadlines, *known)
    # Images that other entries, too, may answer are not given up yet.
    given_up = [
        item
        for item in (able[: decision.given_up] if decision else able)
        if item.allowed == first.allowed
    ]
    items = able[decision.given_up :][: decision.size] if decision else []
    self._leave_out([*given_up, *items])
    for item in given_up:
      self._loop.call_soon_threadsafe(
          self._fail, item,
          DeadlineError('The deadline cannot be met any more.'),
      )
    return self._begin(decision, items) if decision and items else None

  def _leave_out(self, gone: Sequence[Item]) -> None:
    ids = set(map(id, gone))
    self._items = [item for item in self._items if id(item) not in ids]

  def _probe(self) -> Batch:
    """Returns a batch of one blank image, which no client sent."""
    entry = int(self.profile.seconds[:, 0].argmin())
    image = np.zeros(self.engine.image_shape, np.uint8)
    future = self._loop.create_future()
    future.cancel()
    return self._begin(
        Decision(0, entry, 1), [Item(image, 0, 0.0, {}, (), future)]
    )

  def _begin(self, decision: Decision, items: list[Item]) -> Batch:
    """Returns a batch and notes that it runs; the lock is held."""
    batch = Batch(self.engine, self.profile, self.margin, decision, items)
    now = time.monotonic()
    self._busy_until = now + self.margin.value(now) * batch.seconds
    self.health.begin(batch.seconds)
    self._running = len(items)
    self.begun += 1
    return batch

  def _run(self, batch: Batch) -> None:
    started = time.monotonic()
    answers: list[Answer] = []
    problem = ''
    try:
      answers = batch.run()
    except BatchError as error:
      problem = str(error)
    except Exception:  # The next batch may succeed.
      logging.exception('A batch failed.')
      problem = 'The batch failed.'
    done = time.monotonic()
    with self._changed:
      ratio = (done - started) / batch.seconds
      # The times are those of whole networks, and what is left after an anchor
      # takes less. It tells something only if it took longer all the same.
      if not batch.items[0].start or ratio > batch.margin.value(done):
        batch.margin.record(ratio, done)
      self._running = 0
      self.health.end()
      if batch.engine is self.engine:
        self.health.note(bool(problem))
    if not self._loop.is_closed():  # A server that ends waits only so long.
      self._loop.call_soon_threadsafe(
          self._deliver, batch, answers, problem, done - started
      )

  def _deliver(
      self, batch: Batch, answers: list[Answer], problem: str, seconds: float
  ) -> None:
    """Answers the images of a batch; in the event loop."""
    for number, item in enumerate(batch.items):
      if problem:
        self._fail(item, BatchError(problem))
      elif not item.future.done():  # Its client is still there.
        item.future.set_result(answers[number])
    self._on_batch(len(batch.items), seconds, bool(problem))

  def _fail(self, item: Item, error: Exception) -> None:
    if not item.future.done():
      item.future.set_exception(error)


def _left_for(delay: float, seconds: float) -> float:
  """Returns how many of the seconds left are kept for making the response.

  At most half of them, or one stall would make every request look late.
  """
  return min(delay, 0.5 * max(0.0, seconds))
