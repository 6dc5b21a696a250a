# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Splits: examples by position, in memory or decoded on demand.

N = examples, B = examples of a batch, H = height, W = width, C = colours.
"""

from collections.abc import Callable, Iterator
from concurrent import futures
import dataclasses
import functools
import multiprocessing
import os
import signal
import threading
from typing import Any, Protocol, TypeVar

import numpy as np

from adaptanet_jax.data import images
from adaptanet_jax.errors import UsageError
from adaptanet_jax.machine import num_cores

Batch = dict[str, np.ndarray]
Decoded = TypeVar('Decoded')
# Seeds the random crop of one example of one batch.
Seed = tuple[int, ...]
# Returns the `int[B]` positions of a step's batch, and a seed for each.
Request = Callable[[int], tuple[np.ndarray, list[Seed]]]

# Batches that each worker keeps ready.
_BATCHES_AHEAD = 2
# More threads would wait for each other, and their batches take memory.
_MOST_THREADS = 16


class DamagedError(UsageError):
  """An example cannot be read or decoded.

  Attributes:
    where: describes which example it is.
    reason: what is wrong with it.
  """

  def __init__(self, where: str, reason: str) -> None:
    super().__init__(where, reason)  # Grain's workers pickle these.
    self.where, self.reason = where, reason

  @property
  def short(self) -> str:
    """Which example is damaged and how, without advice."""
    return f'{self.where} ({self.reason})'

  def __str__(self) -> str:
    return (
        f'{self.where} cannot be used: {self.reason}. Expected it to be mended '
        'or removed; or, in another --workdir, --config.data.damaged=skip, '
        'which looks at every example first and leaves such out.'
    )


class Source(Protocol):
  """Encoded images and their labels by position."""

  def __len__(self) -> int:
    """Returns how many examples there are."""

  def where(self, position: int, /) -> str:
    """Describes the example at a position, so that a user can find it."""

  def read(self, position: int, /) -> tuple[bytes, int]:
    """Returns an encoded image and its label; may raise `DamagedError`."""

  def labels(self, positions: np.ndarray, /) -> np.ndarray:
    """Returns the `int32[B]` labels at `int[B]` positions."""


class Split(Protocol):
  """Labelled images by position."""

  @property
  def labels(self) -> np.ndarray:
    """`int32[N]`."""

  def __len__(self) -> int:
    """Returns N."""

  def gather(self, positions: np.ndarray, /) -> np.ndarray:
    """Returns `uint8[B, H, W, C]` images, prepared for evaluation."""

  def subset(self, positions: np.ndarray) -> 'Split':
    """Returns a split of the examples at `positions`, in that order."""

  def batches(self, request: Request, steps: range) -> Iterator[Batch]:
    """Yields the `image` and `label` of each step, prepared for training."""


@dataclasses.dataclass(frozen=True)
class InMemorySplit:
  """A split of decoded images, which the training step augments.

  Attributes:
    labels: `int32[N]`.
    gather: maps `int[B]` positions to `uint8[B, H, W, C]` images.
  """

  labels: np.ndarray
  gather: Callable[[np.ndarray], np.ndarray]

  def __len__(self) -> int:
    return len(self.labels)

  def subset(self, positions: np.ndarray) -> 'InMemorySplit':
    """See `Split`."""
    return InMemorySplit(
        self.labels[positions], lambda chosen: self.gather(positions[chosen])
    )

  def batches(self, request: Request, steps: range) -> Iterator[Batch]:
    """See `Split`."""
    for step in steps:
      positions, _ = request(step)
      yield {'image': self.gather(positions), 'label': self.labels[positions]}


@dataclasses.dataclass(frozen=True, eq=False)
class StreamedSplit:
  """A split whose images are read and decoded on demand.

  Attributes:
    open_source: opens the source; every worker calls it for itself.
    positions: `int[N]` positions in that source.
    shape: `(H, W, C)` of the images.
    shorter_side: see `images.resize`; random crops ignore it.
    random_crops: whether training takes random crops; otherwise its images are
      those of evaluation.
    workers: processes that decode for training; 0: threads of this process.
  """

  open_source: Callable[[], Source]
  positions: np.ndarray
  shape: tuple[int, int, int]
  shorter_side: int = 0
  random_crops: bool = False
  workers: int = 0

  def __len__(self) -> int:
    return len(self.positions)

  @functools.cached_property
  def labels(self) -> np.ndarray:
    """`int32[N]`; reads every example unless the source stores labels apart."""
    return self._source.labels(self.positions)

  def gather(self, positions: np.ndarray) -> np.ndarray:
    """See `Split`."""

    def image(position: int) -> np.ndarray:
      return decode(self._source, position, self._decode)[0]

    return np.stack(list(self._pool.map(image, self.positions[positions])))

  def subset(self, positions: np.ndarray) -> 'StreamedSplit':
    """See `Split`."""
    return dataclasses.replace(self, positions=self.positions[positions])

  def batches(self, request: Request, steps: range) -> Iterator[Batch]:
    """See `Split`; the number of workers does not change the batches."""
    # Imported here because it loads JAX, which decoding processes do not need.
    import grain

    batches = grain.MapDataset.source(steps).map(
        functools.partial(self._batch, request)
    )
    threads = 1 if self.workers else min(num_cores(), _MOST_THREADS)
    stream = batches.to_iter_dataset(
        grain.ReadOptions(threads, threads * _BATCHES_AHEAD)
    )
    if self.workers:
      stream = stream.mp_prefetch(
          grain.MultiprocessingOptions(self.workers, _BATCHES_AHEAD),
          worker_init_fn=end_with_run,
      )
    yield from stream

  def _batch(self, request: Request, step: int) -> Batch:
    drawn = [self.draw(*one) for one in zip(*request(step))]
    decoded, labels = zip(*drawn)
    return {'image': np.stack(decoded), 'label': np.array(labels, np.int32)}

  @property
  def _source(self) -> Source:
    return _opened(self.open_source)

  def _decode(self, encoded: bytes) -> np.ndarray:
    return images.decode(encoded, self.shape, self.shorter_side)

  @functools.cached_property
  def _pool(self) -> futures.ThreadPoolExecutor:
    return futures.ThreadPoolExecutor(num_cores())

  def __getstate__(self) -> dict[str, Any]:
    """Returns the fields, without cached threads and labels, for a worker."""
    return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

  def draw(self, position: int, seed: Seed) -> tuple[np.ndarray, int]:
    """Returns an example prepared for training.

    Args:
      position: position of the example in this split.
      seed: seed of its random crop.

    Returns:
      Its image, `uint8[H, W, C]`, and its label.
    """

    def crop(encoded: bytes) -> np.ndarray:
      rng = np.random.default_rng(seed)
      return images.decode_random_crop(encoded, self.shape, rng)

    work = crop if self.random_crops else self._decode
    return decode(self._source, self.positions[position], work)


def decode(
    source: Source, position: int, work: Callable[[bytes], Decoded]
) -> tuple[Decoded, int]:
  """Reads and decodes one example.

  Args:
    source: source of the example.
    position: position of the example in the source.
    work: decodes an image; may raise `images.ImageError`.

  Returns:
    The result of `work`, and the label.

  Raises:
    DamagedError: the image cannot be read or decoded.
  """
  encoded, label = source.read(int(position))
  try:
    return work(encoded), label
  except images.ImageError as error:
    raise DamagedError(source.where(int(position)), str(error)) from error


def end_with_run(*unused: int) -> None:
  """Makes a worker end when the run does, and not before.

  Some schedulers send SIGTERM to every process of a job, and a terminal SIGINT,
  but the run may need one more batch until it has saved. A run that is killed
  ends no workers, and Grain's would wait for it for ever.
  """
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
  threading.Thread(target=_end_after_parent, daemon=True).start()


def _end_after_parent() -> None:
  parent = multiprocessing.parent_process()
  assert parent, 'Workers are started by `multiprocessing`.'
  parent.join()
  os._exit(1)


# A run has two sources; programs that open many should not keep them all.
@functools.lru_cache(maxsize=4)
def _opened(open_source: Callable[[], Source]) -> Source:
  return open_source()
