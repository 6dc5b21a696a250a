# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Items of the queue, their batches, and their answers."""

import asyncio
import bisect
import dataclasses
import time
from typing import Any

import numpy as np

from adaptanet_jax.serving.controller import (
  Decision,
  Entry,
  Margin,
  Profile,
)
from adaptanet_jax.serving.engine import Engine
from adaptanet_jax.serving.refusals import BatchError


@dataclasses.dataclass(frozen=True)
class Answer:
  """The answer to an image.

  Attributes:
    logits: `float32[classes]`.
    entry: name of the entry of the menu that ran.
    subnet: subnet that the answer is from: the entry, or the choice of its
      policy; for an anchor only the stages that ran here.
    accuracy: accuracy of the entry, as it was measured; None for an anchor,
      because it depends on what the device ran.
    ended: when its batch ended, on the clock of the deadlines.
  """

  logits: np.ndarray
  entry: str
  subnet: str
  accuracy: float | None
  ended: float


@dataclasses.dataclass(eq=False)
class Item:
  """An image that waits.

  Attributes:
    image: `uint8[H, W, C]`, or an anchor, `float16[H, W, C]`.
    start: number of the anchor; 0: an image.
    deadline: when its answer is due.
    parameters: parameters of its request, which say what entries may answer.
    allowed: positions in the menu of the entries that may.
    future: future of its `Answer`.
    timer: timer that ends its wait at the deadline.
  """

  image: np.ndarray
  start: int
  deadline: float
  parameters: dict[str, Any]
  allowed: tuple[int, ...]
  future: 'asyncio.Future[Answer]'
  timer: asyncio.TimerHandle | None = None


@dataclasses.dataclass(frozen=True)
class Batch:
  """A running batch, with the engine that it began on even after a swap."""

  engine: Engine
  profile: Profile
  margin: Margin
  decision: Decision
  items: list[Item]

  @property
  def entry(self) -> Entry:
    """The entry of the menu that runs."""
    return self.profile.entries[self.decision.entry]

  @property
  def seconds(self) -> float:
    """Its predicted seconds, at the size that it is padded to."""
    return self.profile.predicted(self.decision.entry, len(self.items))

  def run(self) -> list[Answer]:
    """Returns the answer of each image.

    Raises:
      BatchError: the logits are not finite.
    """
    entry, start = self.entry, self.items[0].start
    count, first = len(self.items), self.items[0].image
    # Padded to the next size, with copies of the last image: a blank one might
    # get a second look in every batch.
    sizes = self.profile.sizes
    images = np.empty(
        (sizes[bisect.bisect_left(sizes, count)], *first.shape),
        np.float32 if start else first.dtype,
    )
    for n, item in enumerate(self.items):
      images[n] = item.image
    images[count:] = images[count - 1]
    logits, subnets = self.engine.run(images, entry.name, start)
    if not np.isfinite(logits[:count]).all():
      raise BatchError('The network gave numbers that are not finite.')
    accuracy = None if start else entry.accuracy
    ended = time.monotonic()
    ran = ['-'.join(name.split('-')[start:]) for name in subnets[:count]]
    return [
        Answer(row, entry.name, subnet, accuracy, ended)
        for row, subnet in zip(logits[:count], ran, strict=True)
    ]
