# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Splits of encoded images, decoded once or batch by batch."""

from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
import dataclasses
import functools
import multiprocessing
from typing import Any

from absl import logging
import ml_collections
import numpy as np

from adaptanet_jax.data import images
from adaptanet_jax.data.splits import (
  DamagedError,
  InMemorySplit,
  Source,
  Split,
  StreamedSplit,
  decode,
  end_with_run,
)
from adaptanet_jax.errors import UsageError, some
from adaptanet_jax.machine import num_cores

# Most bytes of pixels to keep; a larger split is decoded as batches need it.
MAX_BYTES_IN_MEMORY = 8 * 2**30
# Examples that one worker decodes at a time.
_CHUNK = 2048


@dataclasses.dataclass(frozen=True)
class _Chunk:
  """Result of decoding or checking some examples.

  Attributes:
    usable: positions of the usable examples.
    labels: labels of the usable examples.
    images: decoded images of the usable examples; empty after a mere check.
    damaged: what is wrong with each of the other examples.
  """

  usable: np.ndarray
  labels: np.ndarray
  images: np.ndarray
  damaged: list[str]


def make_split(
    open_source: Callable[[], Source],
    shape: tuple[int, int, int],
    data: ml_collections.ConfigDict,
    *,
    count: int,
    random_crops: bool = False,
    streamed: bool = False,
    chunk: int | None = None,
) -> Split:
  """Decodes a split now if its pixels are to be kept, otherwise on demand.

  Args:
    open_source: see `StreamedSplit`.
    shape: `(H, W, C)` of the images.
    data: section `data` of the configuration.
    count: how many examples to take, from the start; 0: all.
    random_crops: whether training takes random crops.
    streamed: whether to keep no pixels in memory and to start no other
      processes.
    chunk: examples that one worker decodes at a time; fewer suit large images.
      None: as many as suit small ones.

  Returns:
    The split, without damaged examples if `data.damaged` is 'skip'.

  Raises:
    UsageError: there is no usable example; or an example that is read now has
      an invalid label, or is damaged and `data.damaged` is not 'skip'.
  """
  source = open_source()
  count = min(count or len(source), len(source))
  if not count:
    raise UsageError('The split has no examples; expected at least one.')
  size = count * int(np.prod(shape))
  on_demand = streamed or random_crops or size > MAX_BYTES_IN_MEMORY
  make_streamed = functools.partial(
      StreamedSplit,
      open_source,
      shape=shape,
      shorter_side=data.shorter_side,
      random_crops=random_crops,
      workers=data.workers,
  )
  skip = data.damaged == 'skip'
  if on_demand and not skip:
    return make_streamed(np.arange(count))
  work = functools.partial(
      _work_through,
      open_source,
      None if on_demand else (shape, data.shorter_side),
      skip,
  )
  chunk = chunk or _CHUNK
  starts = range(0, count, chunk)
  ranges = [range(n, min(n + chunk, count)) for n in starts]
  chunks = _map(work, ranges, processes=not streamed)
  found = _joined(chunks, (0,) if on_demand else (count, *shape))
  if on_demand:
    return make_streamed(found.usable)
  return InMemorySplit(found.labels, found.images.__getitem__)


def _joined(chunks: Iterable[_Chunk], shape: tuple[int, ...]) -> _Chunk:
  """Joins chunks; raises UsageError if none has a usable example.

  Args:
    chunks: the chunks.
    shape: shape of all their images, if all examples are usable.
  """
  # Filled chunk by chunk: all chunks beside all images take twice the memory.
  pixels = np.empty(shape, np.uint8)
  usable: list[np.ndarray] = []
  labels: list[np.ndarray] = []
  damaged: list[str] = []
  end = 0
  for chunk in chunks:
    usable.append(chunk.usable)
    labels.append(chunk.labels)
    damaged += chunk.damaged
    if len(chunk.images):
      pixels[end : end + len(chunk.images)] = chunk.images
      end += len(chunk.images)
  found = _Chunk(
      np.concatenate(usable), np.concatenate(labels), pixels[:end], damaged
  )
  count = len(damaged) + len(found.usable)
  if damaged:
    logging.warning(
        'Left out %d of %d examples: %s.', len(damaged), count, some(damaged)
    )
  if not len(found.usable):
    raise UsageError(
        f'None of the {count} examples of a split can be used: '
        f'{some(damaged)}. Expected pictures.'
    )
  return found


def _map(
    work: Callable[[range], _Chunk], ranges: list[range], *, processes: bool
) -> Iterator[_Chunk]:
  if len(ranges) <= 2 or not processes:
    yield from map(work, ranges)
    return
  # Processes, not threads: with small images the interpreter lock makes two
  # threads slower than one.
  spawn = multiprocessing.get_context('spawn')
  workers = min(num_cores(), len(ranges))
  try:
    # It may hold the names of a million files: each process gets it once.
    with futures.ProcessPoolExecutor(
        workers, spawn, _start_worker, (work,)
    ) as pool:
      yield from pool.map(_work_on, ranges)
  except futures.process.BrokenProcessPool as error:
    raise UsageError(
        f'One of {workers} processes that decode was killed, most likely '
        'because memory ran out; expected more memory, a smaller '
        "config.data.image_size, or, in a script, `if __name__ == '__main__':` "
        'around its statements.'
    ) from error


# In a process of `_map`, what it does with each range.
_work: Callable[[range], _Chunk]


def _start_worker(work: Callable[[range], _Chunk]) -> None:
  global _work
  _work = work
  end_with_run()


def _work_on(positions: range) -> _Chunk:
  return _work(positions)


def _work_through(
    open_source: Callable[[], Source],
    scaled: tuple[tuple[int, int, int], int] | None,
    skip: bool,
    positions: range,
) -> _Chunk:
  """Decodes some examples, or only checks that they can be decoded.

  Args:
    open_source: see `StreamedSplit`.
    scaled: shape of the images, and their shorter side, see `images.resize`;
      None: only check them.
    skip: whether to leave out damaged examples instead of raising.
    positions: positions of the examples in the source.

  Returns:
    The usable examples, and what is wrong with the others.
  """

  def work(encoded: bytes) -> Any:
    if scaled is None:
      return images.check(encoded)
    return images.decode(encoded, *scaled)

  source = open_source()
  usable, labels, decoded, damaged = [], [], [], []
  for position in positions:
    try:
      image, label = decode(source, position, work)
    except DamagedError as error:
      if not skip:
        raise
      damaged.append(error.short)
      continue
    usable.append(position)
    labels.append(label)
    decoded.append(image)
  return _Chunk(
      np.array(usable, np.int64),
      np.array(labels, np.int32),
      np.stack(decoded) if decoded and scaled else np.empty(0, np.uint8),
      damaged,
  )
