# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Splits: examples by position, in memory or decoded as batches need them.

N = examples, B = examples of a batch, H = height, W = width, C = colours.
"""

from collections.abc import Callable, Iterator
from concurrent import futures
import dataclasses
import functools
import os
from typing import Any, Protocol

import numpy as np

from adaptanet_jax.data import images

Batch = dict[str, np.ndarray]
# Of what is random about one example of one batch.
Seed = tuple[int, ...]


class Requests(Protocol):
  """For each batch, `int[B]` positions, and a seed for each of them."""

  def __len__(self) -> int:
    """Returns the number of batches."""

  def __getitem__(self, number: int, /) -> tuple[np.ndarray, list[Seed]]:
    """Returns what a batch consists of."""


# Batches that each worker has ready.
_BATCHES_AHEAD = 2
# Beyond so many, threads wait for each other, and their batches take memory.
_MOST_THREADS = 16


def num_cores() -> int:
  """Returns the cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):  # Not on macOS.
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


class Split(Protocol):
  """Labelled images by position."""

  @property
  def labels(self) -> np.ndarray:
    """`int32[N]`."""

  def __len__(self) -> int:
    """Returns N."""

  def gather(self, positions: np.ndarray, /) -> np.ndarray:
    """Returns `uint8[B, H, W, C]` images as evaluation has them."""

  def subset(self, positions: np.ndarray) -> 'Split':
    """Returns the examples at some positions, in their order."""

  def batches(self, requests: Requests) -> Iterator[Batch]:
    """Yields `image` and `label` of each request, as training has them."""


@dataclasses.dataclass(frozen=True)
class InMemorySplit:
  """A split whose images are decoded; the step augments them.

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

  def batches(self, requests: Requests) -> Iterator[Batch]:
    """See `Split`."""
    for number in range(len(requests)):
      positions, _ = requests[number]
      yield {'image': self.gather(positions), 'label': self.labels[positions]}


@dataclasses.dataclass(frozen=True, eq=False)
class StreamedSplit:
  """A split whose images are read and decoded whenever they are needed.

  Attributes:
    open_source: opens a random-access source of `image`, encoded, and `label`;
      every worker calls it for itself.
    positions: `int[N]`, in that source.
    shape: `(H, W, C)` of the images.
    shorter_side: of evaluation's images, see `images.resize`.
    random_crops: whether training has random crops, or what evaluation has.
    workers: processes that decode for training; 0: threads of this one.
  """

  open_source: Callable[[], Any]
  positions: np.ndarray
  shape: tuple[int, int, int]
  shorter_side: int = 0
  random_crops: bool = False
  workers: int = 0

  def __len__(self) -> int:
    return len(self.positions)

  @functools.cached_property
  def labels(self) -> np.ndarray:
    """`int32[N]`; reads every example."""
    return np.array(
        list(self._pool.map(lambda n: self._read(n)['label'], self.positions)),
        np.int32,
    )

  def gather(self, positions: np.ndarray) -> np.ndarray:
    """See `Split`."""

    def image(position: int) -> np.ndarray:
      encoded = self._read(position)['image']
      return images.decode(encoded, self.shape, self.shorter_side)

    return np.stack(list(self._pool.map(image, self.positions[positions])))

  def subset(self, positions: np.ndarray) -> 'StreamedSplit':
    """See `Split`."""
    return dataclasses.replace(self, positions=self.positions[positions])

  def batches(self, requests: Requests) -> Iterator[Batch]:
    """See `Split`; the same whatever the number of workers."""
    # Here, because it loads JAX, which processes that decode do without.
    import grain

    batches = grain.MapDataset.source(_Batches(self, requests))
    threads = 1 if self.workers else min(num_cores(), _MOST_THREADS)
    stream = batches.to_iter_dataset(
        grain.ReadOptions(threads, threads * _BATCHES_AHEAD)
    )
    if self.workers:
      stream = stream.mp_prefetch(
          grain.MultiprocessingOptions(self.workers, _BATCHES_AHEAD)
      )
    yield from stream

  def _read(self, position: int) -> Any:
    return _opened(self.open_source)[int(position)]

  @functools.cached_property
  def _pool(self) -> futures.ThreadPoolExecutor:
    return futures.ThreadPoolExecutor(num_cores())

  def __getstate__(self) -> dict[str, Any]:
    """Returns what a worker needs: no threads, no labels."""
    return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

  def draw(self, position: int, seed: Seed) -> tuple[Any, int]:
    """Returns an example as training has it.

    Args:
      position: of the example.
      seed: of its random crop.

    Returns:
      Its image, `uint8[H, W, C]`, and its label.
    """
    example = self._read(self.positions[position])
    if self.random_crops:
      rng = np.random.default_rng(seed)
      image = images.decode_random_crop(example['image'], self.shape, rng)
    else:
      image = images.decode(example['image'], self.shape, self.shorter_side)
    return image, example['label']


@functools.cache
def _opened(open_source: Callable[[], Any]) -> Any:
  return open_source()


@dataclasses.dataclass(frozen=True)
class _Batches:
  """The batches of some requests, for Grain to read in any order."""

  split: StreamedSplit
  requests: Requests

  def __len__(self) -> int:
    return len(self.requests)

  def __getitem__(self, number: int) -> Batch:
    drawn = [self.split.draw(*one) for one in zip(*self.requests[number])]
    decoded, labels = zip(*drawn)
    return {'image': np.stack(decoded), 'label': np.array(labels, np.int32)}
