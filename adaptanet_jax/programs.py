# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Compiles programs ahead of their use, while others run.

Compiling keeps one core of the host busy and the accelerators idle, so a run
compiles its later programs while it trains.
"""

from collections.abc import Callable, Mapping
from concurrent import futures
import threading
from typing import Any, NamedTuple

import jax
import numpy as np

from adaptanet_jax import compiler
from adaptanet_jax.data.splits import Split

# XLA keeps about one core busy for each program.
_NUM_THREADS = 2
# Programs share the traces of their parts, and two threads that differentiate
# the same part at once sometimes fail ("Store empty"; jax 0.10.2).
_TRACING = threading.Lock()


class Program(NamedTuple):
  """What is compiled; serves to do so ahead, and to get the compiled function.

  Attributes:
    function: what `over_devices` or `jax.jit` returned.
    arguments: trees of arrays, or of shapes with their layout if it is not the
      default one (see `devices.replicated_shapes`).
    runs_long: whether it runs for so long that compiling it fast does not pay.
  """

  function: Any
  arguments: tuple[Any, ...]
  runs_long: bool = False


class Programs:
  """Programs by function and shapes, each compiled once; a context manager.
  """

  def __init__(self, *, fast_compile: bool = False) -> None:
    self._fast_compile = fast_compile
    # First in, first out: submit programs in the order they are needed in.
    self._executor = futures.ThreadPoolExecutor(_NUM_THREADS)
    self._futures: dict[Any, futures.Future[Any]] = {}

  def __enter__(self) -> 'Programs':
    return self

  def __exit__(self, *unused: Any) -> None:
    self._executor.shutdown(wait=False, cancel_futures=True)

  def ahead(self, program: Program) -> None:
    """Starts compiling a program in the background, unless already done."""
    key, shapes = _key(program)
    if key not in self._futures:
      fast = self._fast_compile and not program.runs_long
      self._futures[key] = self._executor.submit(
          _compile,
          program.function,
          shapes,
          compiler.options(fast_compile=fast),
      )

  def compiled(self, program: Program) -> Callable[..., Any]:
    """Returns a compiled program; waits until it is compiled."""
    self.ahead(program)
    return self._futures[_key(program)[0]].result()


def image_shapes(split: Split, batch_size: int) -> jax.ShapeDtypeStruct:
  """Returns the shape of a batch's images on the devices of all processes.

  Args:
    split: the split that the images are from.
    batch_size: images in a batch over all of these devices.

  Returns:
    Shape and type of an array `(all devices, B, H, W, C)`.
  """
  image = split.gather(np.zeros(1, np.int64))
  leading = (jax.device_count(), batch_size // jax.device_count())
  return jax.ShapeDtypeStruct(leading + image.shape[1:], image.dtype)


def _key(program: Program) -> tuple[Any, Any]:
  shapes = jax.tree.map(_shape_of, program.arguments)
  leaves, treedef = jax.tree.flatten(shapes)
  types = tuple((x.shape, x.dtype) for x in leaves)
  return (program.function, treedef, types, program.runs_long), shapes


def _shape_of(array: Any) -> jax.ShapeDtypeStruct:
  sharding = getattr(array, 'sharding', None)
  return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)


def _compile(
    function: Any, shapes: Any, options: Mapping[str, Any]
) -> Callable[..., Any]:
  with _TRACING:
    lowered = function.lower(*shapes)
  return lowered.compile(compiler_options=dict(options))
