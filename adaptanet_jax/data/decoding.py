# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Splits of encoded images: decoded once, or as batches need them."""

from collections.abc import Callable
from concurrent import futures
import functools
import multiprocessing
from typing import Any

import ml_collections
import numpy as np

from adaptanet_jax.data import images
from adaptanet_jax.data.splits import (
  InMemorySplit,
  Split,
  StreamedSplit,
  num_cores,
)

# Decoded pixels kept in memory; a larger split is decoded as batches need it.
MAX_BYTES_IN_MEMORY = 8 * 2**30
# Examples that one worker decodes at a time.
_CHUNK = 2048


def make_split(
    open_source: Callable[[], Any],
    shape: tuple[int, int, int],
    data: ml_collections.ConfigDict,
    *,
    count: int,
    random_crops: bool = False,
    streamed: bool = False,
) -> Split:
  """Decodes a split once if that will do, else as batches need it.

  Args:
    open_source: see `StreamedSplit`.
    shape: `(H, W, C)` of the images.
    data: section `data` of the configuration.
    count: how many examples to take, from the start; 0: all.
    random_crops: whether training has random crops.
    streamed: whether to keep no pixels in memory, and to do without other
      processes.

  Returns:
    The split.
  """
  source = open_source()
  count = min(count or len(source), len(source))
  size = count * int(np.prod(shape))
  if streamed or random_crops or size > MAX_BYTES_IN_MEMORY:
    return StreamedSplit(
        open_source,
        np.arange(count),
        shape,
        shorter_side=data.shorter_side,
        random_crops=random_crops,
        workers=data.workers,
    )
  starts = range(0, count, _CHUNK)
  chunks = [range(n, min(n + _CHUNK, count)) for n in starts]
  work = functools.partial(
      _decode_chunk, open_source, shape, data.shorter_side
  )
  if len(chunks) <= 2:
    parts = [work(chunk) for chunk in chunks]
  else:
    # Processes, not threads: for small images the interpreter lock makes two
    # threads slower than one.
    spawn = multiprocessing.get_context('spawn')
    workers = min(num_cores(), len(chunks))
    with futures.ProcessPoolExecutor(workers, spawn) as pool:
      parts = list(pool.map(work, chunks))
  pixels, labels = (np.concatenate(column) for column in zip(*parts))
  return InMemorySplit(labels, pixels.__getitem__)


def _decode_chunk(
    open_source: Callable[[], Any],
    shape: tuple[int, int, int],
    shorter_side: int,
    chunk: range,
) -> tuple[np.ndarray, np.ndarray]:
  source = open_source()
  examples = [source[position] for position in chunk]
  decoded = [images.decode(e['image'], shape, shorter_side) for e in examples]
  return np.stack(decoded), np.array([e['label'] for e in examples], np.int32)
