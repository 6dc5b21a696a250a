# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What waits in the queue, and what becomes of it."""

import asyncio
import dataclasses

import numpy as np

from adaptanet_jax.serving.controller import (
  Decision,
  Entry,
  Margin,
  Profile,
)
from adaptanet_jax.serving.engine import Engine


class RefusedError(Exception):
  """The request cannot be taken now; `retry_after` seconds later it may be."""

  def __init__(self, message: str, retry_after: float) -> None:
    super().__init__(message)
    self.retry_after = retry_after


class DeadlineError(Exception):
  """The deadline passed, or is sure to pass, before the request's turn."""


class BatchError(Exception):
  """The batch that the request was part of failed."""


@dataclasses.dataclass(frozen=True)
class Answer:
  """What became of an image.

  Attributes:
    logits: `float32[classes]`.
    entry: of the menu, that ran.
    subnet: that ran; the entry, unless that is a policy.
    accuracy: the entry's share of right answers on held-out images.
    size: images of its batch, before it was filled up.
    queued: seconds that it waited.
    ran: seconds that its batch took.
  """

  logits: np.ndarray
  entry: str
  subnet: str
  accuracy: float
  size: int
  queued: float
  ran: float


@dataclasses.dataclass(eq=False)
class Item:
  """An image that waits.

  Attributes:
    image: `uint8[H, W, C]`, or an anchor.
    start: number of the anchor; 0: an image.
    arrived: when.
    deadline: when its answer has to be there.
    allowed: entries that may answer it; None: all.
    future: of its `Answer`.
    timer: that ends its waiting.
  """

  image: np.ndarray
  start: int
  arrived: float
  deadline: float
  allowed: tuple[int, ...] | None
  future: 'asyncio.Future[Answer]'
  timer: asyncio.TimerHandle | None = None


@dataclasses.dataclass(frozen=True)
class Ran:
  """A batch that is done, for metrics.

  Attributes:
    name: of the entry that ran.
    count: images.
    seconds: that it took.
    failed: whether it raised, or gave numbers that are not finite.
  """

  name: str
  count: int
  seconds: float
  failed: bool


@dataclasses.dataclass(frozen=True)
class Batch:
  """A batch that runs, and what it runs on, whatever is swapped meanwhile."""

  engine: Engine
  profile: Profile
  margin: Margin
  decision: Decision
  items: list[Item]

  @property
  def entry(self) -> Entry:
    """What runs."""
    return self.profile.entries[self.decision.entry]

  def run(self) -> tuple[np.ndarray, list[str]]:
    """Returns logits, and the subnet of each image."""
    images = np.stack([item.image for item in self.items])
    if self.entry.policy:
      return self.engine.route(images, self.entry.name)
    logits = self.engine.run(images, self.entry.name, self.items[0].start)
    return logits, [self.entry.name] * len(images)
