# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Compiles programs ahead of their use, while others run.

Compiling keeps one core of the host busy and the accelerators idle, so a run
compiles its later programs while it trains.
"""

from collections.abc import Callable, Mapping
from concurrent import futures
import threading
from typing import Any

import jax
import numpy as np

from adaptanet_jax import compiler
from adaptanet_jax.data.splits import Split

# A function that `over_devices` or `jax.jit` returned, and its arguments: trees
# of arrays, or of shapes with their layout if it is not the default one (see
# `devices.replicated_shapes`). The same tuple serves to compile a program ahead
# and to get the compiled one.
Program = tuple[Any, ...]

# XLA keeps about one core busy for each program.
_NUM_THREADS = 2
# Programs share the traces of their parts, and two threads that differentiate
# the same part at once sometimes fail ("Store empty"; jax 0.10.2).
_TRACING = threading.Lock()


class Programs:
  """Programs by function and shapes, each compiled once; a context manager.
  """

  def __init__(self, *, fast_compile: bool = False) -> None:
    self._options = compiler.options(fast_compile=fast_compile)
    # In the order in which they will be needed.
    self._executor = futures.ThreadPoolExecutor(_NUM_THREADS)
    self._futures: dict[Any, futures.Future[Any]] = {}

  def __enter__(self) -> 'Programs':
    return self

  def __exit__(self, *unused: Any) -> None:
    self._executor.shutdown(wait=False, cancel_futures=True)

  def ahead(self, function: Any, *args: Any) -> None:
    """Starts compiling a `Program` in the background, unless already done."""
    key, shapes = _key(function, args)
    if key not in self._futures:
      self._futures[key] = self._executor.submit(
          _compile, function, shapes, self._options
      )

  def compiled(self, function: Any, *args: Any) -> Callable[..., Any]:
    """Returns a compiled `Program`; waits until it is compiled."""
    self.ahead(function, *args)
    return self._futures[_key(function, args)[0]].result()


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


def _key(function: Any, args: Any) -> tuple[Any, Any]:
  shapes = jax.tree.map(_shape_of, args)
  leaves, treedef = jax.tree.flatten(shapes)
  return (function, treedef, tuple((x.shape, x.dtype) for x in leaves)), shapes


def _shape_of(array: Any) -> jax.ShapeDtypeStruct:
  sharding = getattr(array, 'sharding', None)
  return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)


def _compile(
    function: Any, shapes: Any, options: Mapping[str, Any]
) -> Callable[..., Any]:
  with _TRACING:
    lowered = function.lower(*shapes)
  return lowered.compile(compiler_options=dict(options))
