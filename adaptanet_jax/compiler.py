# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""XLA options for compiling for a CPU; other back ends use the defaults."""

from collections.abc import Callable
import functools
import os
from typing import Any

from absl import logging
import jax

from adaptanet_jax import trees

# By default XLA uses YNNPACK for sums, matrix products and convolutions, which
# runs a convolution of 64 channels or fewer on one core. With Eigen instead, it
# takes half the time on two cores, and products as long as before. Sums stay
# with YNNPACK: with XLA's own code a teacher's step takes 1.8 times as long
# (jaxlib 0.10.2, 2 cores, docs/performance-notes.md).
_KERNELS: dict[str, Any] = {
    'xla_cpu_experimental_ynn_fusion_type': 'LIBRARY_FUSION_TYPE_REDUCE',
}
# A fifth of the compile time for two to three times the run time (jaxlib
# 0.10.2, digits' lock-in step on 2 cores: 57 to 11 s of CPU time, 0.29 to 0.8 s
# per step). Splitting unoptimised code up takes longer than compiling it.
# Without the second option, which JAX 0.12 no longer has, compiling takes two
# thirds of the usual time (docs/performance-notes.md).
FAST_COMPILE = {
    'xla_backend_optimization_level': 0,
    'xla_cpu_use_fusion_emitters': False,
    'xla_cpu_parallel_codegen_split_count': 1,
}


def options(*, fast_compile: bool = False) -> dict[str, Any]:
  """Returns the compiler options; none if the target is not a CPU.

  Only options that the installed XLA knows are returned: names come and go with
  its releases, and an unknown one makes the compile fail.

  Args:
    fast_compile: whether to compile faster at the cost of a slower program.
  """
  if jax.default_backend() != 'cpu':
    return {}
  # An option would override the same flag in the user's XLA_FLAGS.
  flags = os.environ.get('XLA_FLAGS', '').split()
  given = {flag.lstrip('-').partition('=')[0] for flag in flags}
  wanted = {**_KERNELS, **(FAST_COMPILE if fast_compile else {})}
  return {
      name: value
      for name, value in wanted.items()
      if name not in given and _is_known(name, value)
  }


def jit(
    function: Callable[..., Any], *, fast_compile: bool = False
) -> Any:
  """Returns `jax.jit` of a function, compiled with `options`.

  A call during the tracing of another program becomes a part of that program,
  as usual, and is compiled with its options: JAX allows no others inside.
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
    # Without an option of FAST_COMPILE, a run only starts later.
    if name in _KERNELS:
      logging.warning('Convolutions may run slowly on this CPU: %s', error)
    return False
  return True
