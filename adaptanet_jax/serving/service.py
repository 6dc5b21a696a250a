# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A model that is served: the queue, and what requests ask of it, without HTTP.

What stands between HTTP, or Ray, and the batcher: which entries of the menu may
answer, how long there is, what becomes of each image, and another model in
place of this one.

n = images of a request, H = height, W = width, C = colours.
"""

import asyncio
from collections.abc import Callable, Sequence
import contextlib
import functools
import threading
import time
from typing import Any

import numpy as np

from adaptanet_jax.errors import UsageError
from adaptanet_jax.serving.batcher import Batcher
from adaptanet_jax.serving.controller import Decision, Profile, choose
from adaptanet_jax.serving.engine import Engine
from adaptanet_jax.serving.items import (
  Answer,
  BatchError,
  DeadlineError,
  Ran,
  RefusedError,
)
from adaptanet_jax.serving.metrics import Metrics
from adaptanet_jax.serving.refusals import RequestError

# How far one image's logits may be from its logits in a batch.
_TOLERANCE = 1e-3


class Service:
  """A model with its menu, behind a queue.

  Attributes:
    name: of the model.
    batcher: its queue.
    metrics: what it counts.
    seconds: that a request without a timeout has.
    draining: whether it was asked to stop.
  """

  def __init__(
      self,
      name: str,
      engine: Engine,
      profile: Profile,
      *,
      seconds: float = 0.05,
      queue_limit: int = 256,
      choose: Callable[..., Decision | None] = choose,
  ) -> None:
    """Starts nothing yet.

    Args:
      name: of the model.
      engine: what runs it.
      profile: the menu and its times.
      seconds: that a request without a timeout has.
      queue_limit: most images that wait.
      choose: the controller; others are for comparison.
    """
    self.name, self.seconds, self.draining = name, seconds, False
    self.metrics = Metrics()
    self.metrics.describe(profile)
    self.batcher = Batcher(
        engine,
        profile,
        queue_limit=queue_limit,
        choose=choose,
        on_batch=self._on_batch,
    )

  def start(self) -> None:
    """Starts the thread that runs batches; in the event loop."""
    self.batcher.start(asyncio.get_running_loop())

  @property
  def engine(self) -> Engine:
    """What runs the model."""
    return self.batcher.engine

  @property
  def profile(self) -> Profile:
    """The menu and its times."""
    return self.batcher.profile

  @property
  def is_live(self) -> bool:
    """Whether it works at all."""
    return self.batcher.is_alive

  @property
  def is_ready(self) -> bool:
    """Whether requests should be sent here."""
    batcher = self.batcher
    return batcher.is_alive and batcher.is_healthy and not self.draining

  def submit(
      self,
      images: Sequence[np.ndarray],
      parameters: dict[str, Any],
      *,
      start: int = 0,
  ) -> list['asyncio.Future[Answer]']:
    """Puts the images of a request in the queue.

    Args:
      images: `uint8[H, W, C]` each.
      parameters: of the request, see `protocol.PARAMETERS`.
      start: of `Engine.run`.

    Returns:
      A future of each answer, to be cancelled if its client goes away.

    Raises:
      RequestError: no entry of the menu is what the parameters ask for.
      RefusedError: there is no time, or no room.
    """
    allowed = self._allowed(parameters, start)
    self.metrics.arrived(len(images))
    now = time.monotonic()
    seconds = 1e-6 * parameters.get('timeout', 1e6 * self.seconds)
    deadline = now + seconds
    try:
      futures = self.batcher.submit(
          images, deadline, allowed, start=start
      )
    except RefusedError:
      self.metrics.outcome('refused', len(images))
      raise
    for future in futures:
      future.add_done_callback(
          lambda future: self._count(future, now, deadline)
      )
    return futures

  def _allowed(
      self, parameters: dict[str, Any], start: int
  ) -> tuple[int, ...] | None:
    """Returns the entries that may answer; None for all."""
    entries = self.profile.entries
    allowed = [n for n, e in enumerate(entries) if not e.policy]
    if 'policy' in parameters:
      if start or 'subnet' in parameters:
        raise RequestError(
            400, 'A policy chooses subnets of images; expected no subnet and '
            'no anchor with it.'
        )
      allowed = self._policy(parameters['policy'], allowed)
    if 'subnet' in parameters:
      name = parameters['subnet']
      names = ', '.join(entries[n].name for n in allowed)
      allowed = [n for n in allowed if entries[n].name == name]
      if not allowed:
        raise RequestError(
            400, f'{name[:60]!r} is not on the menu; expected one of {names}.'
        )
    if 'min_accuracy' in parameters:
      least = parameters['min_accuracy']
      allowed = [n for n in allowed if entries[n].accuracy >= least]
      if not allowed:
        best = max(entry.accuracy for entry in entries)
        raise RequestError(
            400,
            f'Nothing that may answer has an accuracy of {least}; the best of '
            f'the menu has {best:.4f}.',
        )
    return None if len(allowed) == len(entries) else tuple(allowed)

  def _policy(self, policy: str, fixed: list[int]) -> list[int]:
    """Returns the rungs of a policy, and what is cheaper than all of them."""
    entries = self.profile.entries
    rungs = [n for n, e in enumerate(entries) if e.policy == policy]
    if not rungs:
      names = {e.policy for e in entries if e.policy}
      raise RequestError(
          400,
          f'{policy[:60]!r} is no policy of this server; expected '
          f'{" or ".join(sorted(names)) or "one that it was started with"}.',
      )
    least = min(entries[n].madds for n in rungs)
    return sorted([n for n in fixed if entries[n].madds < least] + rungs)

  def _count(
      self, future: 'asyncio.Future[Answer]', arrived: float, deadline: float
  ) -> None:
    if future.cancelled():
      self.metrics.outcome('cancelled')
      return
    error = future.exception()
    if isinstance(error, DeadlineError):
      self.metrics.outcome('expired')
    elif isinstance(error, BatchError):
      self.metrics.outcome('failed')
    elif error is None:
      answer, now = future.result(), time.monotonic()
      self.metrics.answered(
          answer.entry, answer.accuracy, now - arrived, late=now > deadline
      )

  def _on_batch(self, ran: Ran) -> None:
    self.metrics.batch(ran, self.batcher.waiting)

  async def replace(
      self, load: Callable[[], tuple[Engine, Profile]]
  ) -> dict[str, Any]:
    """Puts another model in place of this one, between two batches.

    Requests are answered meanwhile.

    Args:
      load: returns the other one, every program of it warm; in a thread.

    Returns:
      `agreement`, the share of some fixed images that both models, at their
      largest, give the same class; and `menu`.

    Raises:
      UsageError: it cannot be loaded, or does not fit; the old one stays.
    """
    engine, profile = await _in_thread(load)
    agreement = await _in_thread(
        functools.partial(self._compare, engine, profile)
    )
    self.batcher.swap(engine, profile)
    self.metrics.describe(profile)
    return {
        'agreement': agreement,
        'menu': [entry.name for entry in profile.entries],
    }

  def _compare(self, engine: Engine, profile: Profile) -> float:
    old = self.engine
    for what, ours, theirs in (
        ('images', old.image_shape, engine.image_shape),
        ('classes', old.class_names, engine.class_names),
    ):
      if ours != theirs:
        raise UsageError(f'The new model has other {what} than the old one.')
    images = np.random.default_rng(0).integers(
        0, 256, (engine.sizes[-1], *engine.image_shape), np.uint8
    )
    check(engine, profile, images)
    theirs, ours = (
        each.run(images, menu.best.name).argmax(-1)
        for each, menu in ((engine, profile), (old, self.profile))
    )
    return float((theirs == ours).mean())


async def _in_thread(function: Callable[[], Any]) -> Any:
  """Runs a function beside the event loop, which may end before it does.

  The threads of asyncio are waited for when a process ends: a server that is
  loading a model would take minutes to.
  """
  loop = asyncio.get_running_loop()
  future = loop.create_future()

  def settle(result: Any, error: Exception | None) -> None:
    if future.done():
      return
    if error:
      future.set_exception(error)
    else:
      future.set_result(result)

  def run() -> None:
    result, error = None, None
    try:
      result = function()
    except Exception as raised:  # It is raised where it is waited for.
      error = raised
    with contextlib.suppress(RuntimeError):  # The loop has ended.
      loop.call_soon_threadsafe(settle, result, error)

  threading.Thread(target=run, daemon=True).start()
  return await future


def check(engine: Engine, profile: Profile, images: np.ndarray) -> None:
  """Runs every entry on fixed images, one by one and all at once.

  Args:
    engine: what runs them.
    profile: the menu.
    images: `uint8[n, H, W, C]`, no more than the largest size.

  Raises:
    UsageError: an entry gives what is not finite, or another answer in a batch.
  """
  for entry in profile.entries:
    if entry.policy:
      continue
    together = engine.run(images, entry.name)
    alone = engine.run(images[:1], entry.name)
    if not np.isfinite(together).all():
      raise UsageError(f'Subnet {entry.name} gives what is not finite.')
    largest = np.abs(together).max()
    if np.abs(together[:1] - alone).max() > _TOLERANCE * largest:
      raise UsageError(
          f'Subnet {entry.name} gives an image other logits in a batch.'
      )
