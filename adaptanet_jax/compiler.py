# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""How XLA compiles programs for a CPU; other back ends are told nothing."""

from collections.abc import Callable
import functools
import os
from typing import Any

from absl import logging
import jax

from adaptanet_jax import platforms, trees

# By default XLA hands sums, matrix products and convolutions to YNNPACK, which
# runs a convolution of 64 channels or fewer on one core. With Eigen instead,
# two cores take half the time, and products as long as before. Sums stay with
# YNNPACK: with XLA's own code a teacher's step takes 1.8 times as long (jaxlib
# 0.10.2, 2 cores, docs/performance-notes.md).
_KERNELS: dict[str, Any] = {
    'xla_cpu_experimental_ynn_fusion_type': 'LIBRARY_FUSION_TYPE_REDUCE',
}
# A fifth of the compile time for two to three times the run time (jaxlib
# 0.10.2, digits' lock-in step on 2 cores: 57 to 11 s of CPU time, 0.29 to 0.8 s
# a step). Unoptimised code is compiled in less time than it takes to split up.
# Without the second option, which JAX 0.12 has lost, it is two thirds
# (docs/performance-notes.md).
FAST_COMPILE = {
    'xla_backend_optimization_level': 0,
    'xla_cpu_use_fusion_emitters': False,
    'xla_cpu_parallel_codegen_split_count': 1,
}


def options(*, fast_compile: bool = False) -> dict[str, Any]:
  """Returns the options of a compile; none if the target is no CPU.

  Each is one that this XLA knows: names come and go with its releases, and one
  that it does not know fails the compile.

  Args:
    fast_compile: whether to compile sooner what then runs slower.
  """
  if platforms.target() != 'cpu':
    return {}
  # An option would override what a user says of the same in XLA_FLAGS.
  flags = os.environ.get('XLA_FLAGS', '').split()
  given = {flag.lstrip('-').partition('=')[0] for flag in flags}
  wanted = {**_KERNELS, **(FAST_COMPILE if fast_compile else {})}
  return {
      name: value
      for name, value in wanted.items()
      if name not in given and _is_known(name, value)
  }


def flags(*, fast_compile: bool = False) -> str:
  """Returns `options` as XLA_FLAGS would have them, for other processes.

  Args:
    fast_compile: as of `options`.
  """
  return ' '.join(
      f'--{name}={value if isinstance(value, str) else str(value).lower()}'
      for name, value in options(fast_compile=fast_compile).items()
  )


def jit(
    function: Callable[..., Any], *, fast_compile: bool = False
) -> Any:
  """Returns `jax.jit` of a function, compiled with `options`.

  What is called while another program is traced becomes a part of that one, as
  usual, and is compiled with its options: JAX takes none from within.
  """
  inner = jax.jit(function)
  outer = jax.jit(function, compiler_options=options(fast_compile=fast_compile))

  @functools.wraps(function)
  def run(*args: Any) -> Any:
    return (inner if trees.is_traced(args) else outer)(*args)

  run.lower = outer.lower  # type: ignore[attr-defined]
  return run


@functools.cache
def _is_known(name: str, value: Any) -> bool:
  try:
    jax.jit(lambda: 0).lower().compile(compiler_options={name: value})
  except jax.errors.JaxRuntimeError as error:
    # Without what is left of FAST_COMPILE a run only starts later.
    if name in _KERNELS:
      logging.warning('Convolutions may run slowly on this CPU: %s', error)
    return False
  return True
