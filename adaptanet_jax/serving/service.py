# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A model that is served, with its queue, but without HTTP.

A service stands between HTTP, or Ray, and the batcher: it checks which entries
of the menu may answer, sets deadlines, counts what becomes of each image, and
replaces the model with another one.

n = images of a request, H = height, W = width, C = colours.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent import futures
import functools
import logging
import threading
import time
from typing import Any

import numpy as np

from adaptanet_jax.serving.allowed import allowed_entries
from adaptanet_jax.serving.batcher import REPLACED, Batcher
from adaptanet_jax.serving.check import fixed_images
from adaptanet_jax.serving.controller import Decision, Profile, choose
from adaptanet_jax.serving.engine import Engine
from adaptanet_jax.serving.items import Answer
from adaptanet_jax.serving.metrics import Metrics
from adaptanet_jax.serving.refusals import (
  DeadlineError,
  NotAnsweredError,
  RefusedError,
  RequestError,
)

Images = Sequence[np.ndarray]


class Service:
  """A model with its menu, behind a queue.

  Attributes:
    name: name of the model.
    batcher: its queue.
    metrics: its metrics.
    seconds: seconds that a request without a timeout gets.
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
    """Does not start the queue's thread yet.

    Args:
      name: name of the model.
      engine: runs the model.
      profile: the menu and its times.
      seconds: seconds that a request without a timeout gets.
      queue_limit: most images that wait.
      choose: the controller; others are for comparison.
    """
    self.name, self.seconds, self.draining = name, seconds, False
    self.metrics = Metrics()
    self.metrics.describe(name, engine.weights, profile)
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
    return batcher.is_alive and batcher.health.is_healthy and not self.draining

  async def answer(
      self,
      images: Images | Callable[[], Awaitable[Images]],
      parameters: dict[str, Any],
      *,
      count: int,
      arrived: float,
      start: int = 0,
  ) -> list[Answer]:
    """Answers a request; cancelling it takes its images out of the queue.

    Args:
      images: `uint8[H, W, C]` each; or a function that decodes them.
      parameters: parameters of the request, see `protocol.PARAMETERS`.
      count: number of images.
      arrived: when the request arrived, on the clock of `time.monotonic`; its
        timeout starts then.
      start: see `Engine.run`.

    Raises:
      RequestError: no entry of the menu meets the parameters, or a picture is
        damaged.
      RefusedError: there is no time, or no room.
      DeadlineError: the deadline passed.
      BatchError: the network failed.
    """
    engine, profile = self.engine, self.profile
    allowed = allowed_entries(engine.weights, profile, parameters, start)
    deadline = arrived + 1e-6 * parameters.get('timeout', 1e6 * self.seconds)
    self.metrics.arrived(count)
    try:
      if callable(images):
        with self.batcher.room(count, deadline, allowed):
          images = await _until(deadline, images())
        if self.engine.shorter_side != engine.shorter_side:
          raise RefusedError(REPLACED, 1.0)  # They are scaled for the old one.
      answers = await _all(
          self._submit(images, deadline, parameters, start, profile)
      )
    except NotAnsweredError as error:
      if error.outcome:
        self.metrics.outcome(error.outcome, count)
      raise
    except asyncio.CancelledError:
      self.metrics.outcome('cancelled', count)
      raise
    except Exception:
      self.metrics.outcome('failed', count)
      raise
    now = time.monotonic()
    for answer in answers:
      self.metrics.answered(answer, now - arrived, late=now > deadline)
    return answers

  def _submit(
      self,
      images: Images,
      deadline: float,
      parameters: dict[str, Any],
      start: int,
      checked: Profile,
  ) -> list['asyncio.Future[Answer]']:
    """Puts images in the queue whose parameters were checked before."""
    try:
      return self.batcher.submit(images, deadline, parameters, start=start)
    except RequestError as error:
      if self.profile is checked:
        raise
      # The menu changed while the pictures were decoded.
      raise RefusedError(REPLACED, 1.0) from error

  def written(self, answers: Sequence[Answer]) -> None:
    """Notes that a response with these answers is made."""
    self.batcher.written(max(answer.ended for answer in answers))

  def _on_batch(self, count: int, seconds: float, failed: bool) -> None:
    self.metrics.batch(count, seconds, failed, waiting=self.batcher.waiting)

  async def replace(
      self, load: Callable[[], tuple[Engine, Profile]]
  ) -> dict[str, Any]:
    """Replaces the model with another one, between two batches.

    Requests are answered while the other one loads.

    Args:
      load: returns the other model, warm and checked, as `profile.create`
        leaves it; runs in a thread.

    Returns:
      `agreement`, the share of some fixed images that the most accurate subnets
      of both models give the same class, None if the old one fails; and `menu`.

    Raises:
      RequestError: another one is being loaded, or it takes or gives something
        else than the old one, which stays.
      UsageError: it cannot be loaded; the old one stays.
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
      self.metrics.describe(self.name, engine.weights, profile)
    return {
        'agreement': agreement,
        'menu': [entry.name for entry in profile.entries],
    }

  def _compare(self, engine: Engine, profile: Profile) -> float | None:
    old = self.engine
    for what, ours, theirs in (
        ('images', old.image_shape, engine.image_shape),
        ('classes', old.class_names, engine.class_names),
        ('anchors', old.anchor_shapes, engine.anchor_shapes),
    ):
      if ours != theirs:
        raise RequestError(
            409, f'The new model has other {what} than the old one, which '
            f'stays; expected the same {what}.'
        )
    images = fixed_images(engine, profile.sizes[-1])
    labels, _ = engine.run(images, profile.best.name)
    try:
      old_labels, _ = old.run(images, self.profile.best.name)
    except Exception as error:  # One that fails is a reason to replace it.
      logging.warning('The old model cannot be compared: %s', error)
      return None
    return float(np.mean(labels.argmax(-1) == old_labels.argmax(-1)))


async def _until(deadline: float, coming: Awaitable[Images]) -> Images:
  try:
    async with asyncio.timeout(deadline - time.monotonic()):
      return await coming
  except TimeoutError as error:
    raise DeadlineError(
        'The deadline passed before the pictures were decoded; expected a '
        'longer timeout (in microseconds), or smaller pictures.'
    ) from error


async def _all(pending: Sequence['asyncio.Future[Answer]']) -> list[Answer]:
  """Waits for all answers; if one fails, the others leave the queue."""
  try:
    return await asyncio.gather(*pending)
  finally:
    for future in pending:
      future.cancel()


async def _in_thread(function: Callable[[], Any]) -> Any:
  """Runs a function in a thread that may outlive the event loop.

  At its end a process waits for the threads of asyncio: with one of these, a
  server that is loading a model would take minutes to end.
  """
  future: futures.Future[Any] = futures.Future()
  future.set_running_or_notify_cancel()  # Nothing can cancel it from here on.

  def run() -> None:
    try:
      future.set_result(function())
    except Exception as error:  # Raised again where the result is awaited.
      future.set_exception(error)

  threading.Thread(target=run, daemon=True).start()
  return await asyncio.wrap_future(future)
