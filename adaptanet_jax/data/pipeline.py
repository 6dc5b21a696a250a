# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Batches as pure functions of (seed, phase, step), sharded by process.

Every process computes the same permutation and takes its own slice, so that all
agree, and a run that resumes at a step sees the same batches.

D = local devices, B = examples of one device's batch.
"""

import collections
from collections.abc import Iterator, Mapping
from concurrent import futures
import functools
from typing import Any
import zlib

import numpy as np

from adaptanet_jax.data.splits import Batch, Seed, Split
from adaptanet_jax.errors import UsageError

# Batches that `prefetch` makes ahead.
BATCHES_AHEAD = 3
_END = object()


def check_batch_size(name: str, batch_size: int, num_devices: int) -> None:
  """Raises UsageError unless a batch splits evenly among all devices."""
  if batch_size % num_devices:
    raise UsageError(
        f'{name} = {batch_size} is not divisible by the {num_devices} devices '
        f'in use; expected a positive multiple of {num_devices}.'
    )


def check_fits(batch_sizes: Mapping[str, int], num_examples: int) -> None:
  """Raises UsageError unless a training split has a full batch of each size.

  Args:
    batch_sizes: batch sizes by the names of their settings.
    num_examples: number of examples in the split.
  """
  large = {n: size for n, size in batch_sizes.items() if size > num_examples}
  if large:
    # A power of two splits evenly among the usual numbers of devices.
    most = 1 << max(num_examples.bit_length() - 1, 0)
    flags = ' '.join(f'--{name}={most}' for name in large)
    name, size = next(iter(large.items()))
    raise UsageError(
        f'{name} = {size} is larger than the {num_examples} training examples; '
        f'expected at most {num_examples}, such as {flags}.'
    )


def positions_of_step(
    num_examples: int, batch_size: int, *, seed: int, phase: str, step: int
) -> np.ndarray:
  """Returns the `int[batch_size]` positions that a training step sees."""
  epoch, batch = divmod(step, num_examples // batch_size)
  order = _order_of_epoch(num_examples, seed, phase, epoch)
  return order[batch * batch_size : (batch + 1) * batch_size]


def phase_key(phase: str) -> int:
  """Returns the number that stands for a phase in the seeds of its data."""
  return zlib.crc32(phase.encode())


@functools.lru_cache(maxsize=2)
def _order_of_epoch(
    num_examples: int, seed: int, phase: str, epoch: int
) -> np.ndarray:
  key = (seed, phase_key(phase), epoch)
  return np.random.default_rng(key).permutation(num_examples)


def train_batches(
    split: Split,
    *,
    batch_size: int,
    seed: int,
    phase: str,
    steps: range,
    num_devices: int,
    process: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
  """Yields this process's share of the batches of `steps`.

  Args:
    split: training examples.
    batch_size: examples in a batch over all processes.
    seed: seed of the whole run.
    phase: name of the training phase.
    steps: which steps to yield, in order.
    num_devices: D.
    process: index of this process, and how many there are.

  Yields:
    `image`, `uint8[D, B, H, W, C]`, and `label`, `int32[D, B]`.
  """
  request = functools.partial(
      _request, len(split), batch_size, seed, phase, process
  )
  for batch in split.batches(request, steps):
    yield _by_device(batch, num_devices)


def _request(
    num_examples: int,
    batch_size: int,
    seed: int,
    phase: str,
    process: tuple[int, int],
    step: int,
) -> tuple[np.ndarray, list[Seed]]:
  """Returns the positions and seeds of a process's share of a step's batch."""
  positions = positions_of_step(
      num_examples, batch_size, seed=seed, phase=phase, step=step
  )
  share = _share(process, batch_size)
  # Seeds depend on an image's place in the whole batch, not on the process.
  places = range(batch_size)[share]
  key = phase_key(phase)
  # The leading 1 keeps these seeds apart from those of the permutations.
  return positions[share], [(1, seed, key, step, n) for n in places]


def _share(process: tuple[int, int], batch_size: int) -> slice:
  index, count = process
  return slice(index * batch_size // count, (index + 1) * batch_size // count)


def eval_batches(
    split: Split,
    *,
    batch_size: int,
    num_devices: int,
    process: tuple[int, int] = (0, 1),
    first: int = 0,
) -> Iterator[Batch]:
  """Yields every example of a split exactly once, in order.

  The last batch is padded with copies of its first example.

  Args:
    split: examples to evaluate.
    batch_size: examples in a batch over all processes.
    num_devices: D.
    process: index of this process, and how many there are.
    first: number of the batch to start with, from 0.

  Yields:
    `image`, `uint8[D, B, H, W, C]`, `position`, `int32[D, B]` in the split, and
    `valid`, `bool[D, B]`, false for padding.
  """
  share = _share(process, batch_size)
  for start in range(first * batch_size, len(split), batch_size):
    positions = np.arange(start, start + batch_size)
    valid = positions < len(split)
    positions = np.where(valid, positions, start)
    batch = {
        'image': split.gather(positions[share]),
        'position': positions[share].astype(np.int32),
        'valid': valid[share],
    }
    yield _by_device(batch, num_devices)


def _by_device(batch: Batch, num_devices: int) -> Batch:
  return {
      name: array.reshape(num_devices, -1, *array.shape[1:])
      for name, array in batch.items()
  }


def prefetch(batches: Iterator[Any]) -> Iterator[Any]:
  """Yields from `batches`, of which a thread makes the next few ahead.

  An exception in the thread is raised here; closing this iterator stops the
  thread.
  """
  thread = futures.ThreadPoolExecutor(1)

  def start_next() -> futures.Future[Any]:
    return thread.submit(next, batches, _END)

  ready = collections.deque(start_next() for _ in range(BATCHES_AHEAD))
  try:
    while (batch := ready.popleft().result()) is not _END:
      ready.append(start_next())
      yield batch
  finally:
    thread.shutdown(wait=False, cancel_futures=True)
