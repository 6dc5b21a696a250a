# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A model that is served: the queue, and what requests ask of it, without HTTP.

What stands between HTTP, or Ray, and the batcher: which entries of the menu may
answer, how long there is, what becomes of each image, and another model in
place of this one.

n = images of a request, H = height, W = width, C = colours.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
import contextlib
import functools
import threading
import time
from typing import Any

import numpy as np

from adaptanet_jax.errors import UsageError
from adaptanet_jax.serving.allowed import allowed_entries
from adaptanet_jax.serving.batcher import Batcher
from adaptanet_jax.serving.controller import Decision, Profile, choose
from adaptanet_jax.serving.engine import Engine
from adaptanet_jax.serving.items import (
  Answer,
  DeadlineError,
  Ran,
  RefusedError,
)
from adaptanet_jax.serving.metrics import Metrics
from adaptanet_jax.serving.refusals import RequestError

Images = Sequence[np.ndarray]

# How far one image's logits may be from its logits in a batch, relatively; and
# in steps of the type that they are computed in, where that is more.
_TOLERANCE, _TOLERANCE_STEPS = 1e-3, 8
# What becomes of the images of a request that ends so.
_OUTCOMES = {
    RefusedError: 'refused',
    DeadlineError: 'expired',
    asyncio.CancelledError: 'cancelled',
}


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
    self._replacing = asyncio.Lock()
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

  async def answer(
      self,
      images: Images | Callable[[], Awaitable[Images]],
      parameters: dict[str, Any],
      *,
      count: int,
      arrived: float,
      start: int = 0,
  ) -> list[Answer]:
    """Answers a request; to cancel it takes its images out of the queue.

    Args:
      images: `uint8[H, W, C]` each; or what decodes them.
      parameters: of the request, see `protocol.PARAMETERS`.
      count: of the images.
      arrived: when the request came, on the clock of `time.monotonic`: from
        then on its time runs.
      start: of `Engine.run`.

    Raises:
      RequestError: no entry of the menu is what the parameters ask for, or a
        picture is damaged.
      RefusedError: there is no time, or no room.
      DeadlineError: the deadline passed.
      BatchError: the network failed.
    """
    allowed_entries(self.profile, parameters, start)
    deadline = arrived + 1e-6 * parameters.get('timeout', 1e6 * self.seconds)
    self.metrics.arrived(count)
    try:
      if callable(images):
        with self.batcher.room(count):
          images = await _until(deadline, images())
      answers = await _all(
          self.batcher.submit(images, deadline, parameters, start=start)
      )
    except RequestError:
      raise
    except BaseException as error:
      self.metrics.outcome(_OUTCOMES.get(type(error), 'failed'), count)
      raise
    now = time.monotonic()
    for answer in answers:
      self.metrics.answered(answer, now - arrived, late=now > deadline)
    return answers

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
      RequestError: another one is being loaded.
      UsageError: it cannot be loaded, or does not fit; the old one stays.
    """
    if self._replacing.locked():
      raise RequestError(
          409, 'A model, or the rest of its menu, is being loaded already.'
      )
    async with self._replacing:
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
        ('anchors', old.anchor_shapes(), engine.anchor_shapes()),
    ):
      if ours != theirs:
        raise UsageError(f'The new model has other {what} than the old one.')
    images = np.random.default_rng(0).integers(
        0, 256, (engine.sizes[-1], *engine.image_shape), np.uint8
    )
    check(engine, profile, images)
    new_labels, old_labels = (
        each.run(images, menu.best.name).argmax(-1)
        for each, menu in ((engine, profile), (old, self.profile))
    )
    return float(np.mean(new_labels == old_labels))


async def _until(deadline: float, coming: Awaitable[Images]) -> Images:
  try:
    async with asyncio.timeout(deadline - time.monotonic()):
      return await coming
  except TimeoutError as error:
    raise DeadlineError(
        'The deadline passed before the pictures were decoded.'
    ) from error


async def _all(pending: Sequence['asyncio.Future[Answer]']) -> list[Answer]:
  """Waits for all; where one fails the others leave the queue."""
  try:
    return await asyncio.gather(*pending)
  finally:
    for future in pending:
      future.cancel()


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
  tolerance = max(_TOLERANCE, _TOLERANCE_STEPS * engine.precision)
  for entry in profile.entries:
    if entry.policy:
      continue
    together = engine.run(images, entry.name)
    alone = engine.run(images[:1], entry.name)
    if not np.isfinite(together).all():
      raise UsageError(f'Subnet {entry.name} gives what is not finite.')
    largest = np.abs(together).max()
    if np.abs(together[:1] - alone).max() > tolerance * largest:
      raise UsageError(
          f'Subnet {entry.name} gives an image other logits in a batch.'
      )
