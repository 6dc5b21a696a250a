# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""How XLA compiles programs for a CPU; for other back ends it is told nothing.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax

# XLA hands sums, matrix products and convolutions to YNNPACK, which spreads a
# convolution of 64 channels or fewer over one core alone; Eigen, in its place,
# takes half the time on two. Of sums YNNPACK has the quicker ones (jaxlib
# 0.10.2, docs/performance.md).
_KERNELS: dict[str, Any] = {
    'xla_cpu_experimental_ynn_fusion_type': 'LIBRARY_FUSION_TYPE_REDUCE',
}
# A third of the compile time for twice the run time (jaxlib 0.10.2, a lock-in
# step on 2 cores: 29 to 9 s of CPU time, 65 to 140 ms a step).
FAST_COMPILE = {
    'xla_backend_optimization_level': 0,
    'xla_cpu_use_fusion_emitters': False,
}


def options(*, fast_compile: bool = False) -> dict[str, Any]:
  """Returns the options of a compile; none but on a CPU.

  Args:
    fast_compile: whether to compile sooner what then runs slower.
  """
  if jax.default_backend() != 'cpu':
    return {}
  return {**_kernels(), **(FAST_COMPILE if fast_compile else {})}


def jit(function: Callable[..., Any]) -> Any:
  """Returns `jax.jit` of a function that is not called from another's."""
  return jax.jit(function, compiler_options=options())


@functools.cache
def _kernels() -> dict[str, Any]:
  try:
    jax.jit(lambda: 0).lower().compile(compiler_options=_KERNELS)
  except jax.errors.JaxRuntimeError:  # An experimental option, by its name.
    return {}
  return _KERNELS
