# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which platform a program is for: the one place that says so.

A program can be lowered and compiled on a host for a device that the host does
not have, and JAX reuses what it has traced. So no function that is traced may
ask where it runs: it gives both forms to `select`, and JAX takes the right one
when it lowers. What is decided before tracing, such as the type of activations,
uses `target`.
"""

from collections.abc import Callable, Iterator
import contextlib
import contextvars
import platform
from typing import Any

import jax
from jax import lax

# As `lowering_platforms` of JAX names them.
PLATFORMS = ('cpu', 'cuda', 'rocm', 'tpu')

_TARGET = contextvars.ContextVar[str | None]('target', default=None)


def target() -> str:
  """Returns the platform that programs are made for: by default, this one.

  Returns:
    One of `PLATFORMS`, or 'gpu' for either of the two on a machine with one.
  """
  return _TARGET.get() or jax.default_backend()


def auto_dtype() -> str:
  """Returns the type of activations that suits the target."""
  return 'float32' if target() == 'cpu' else 'bfloat16'


@contextlib.contextmanager
def made_for(platform: str) -> Iterator[None]:
  """Has programs made for a platform that this machine need not have.

  Args:
    platform: one of `PLATFORMS`.

  Raises:
    ValueError: the platform is unknown.
  """
  if platform not in PLATFORMS:
    raise ValueError(
        f'Unknown platform {platform!r}; expected one of {PLATFORMS}.'
    )
  token = _TARGET.set(platform)
  try:
    yield
  finally:
    _TARGET.reset(token)


def select(
    *args: Any, cpu: Callable[..., Any], default: Callable[..., Any]
) -> Any:
  """Runs a function in the form that suits the platform it is lowered for.

  Both are traced and one is lowered, so a trace serves every platform. Not to
  be differentiated: a switch keeps what the gradient of either form needs.

  Args:
    *args: arrays.
    cpu: the form for CPUs.
    default: the form for all others; its outputs have the same shapes.

  Returns:
    What that form returns.
  """
  return lax.platform_dependent(*args, cpu=cpu, default=default)


def processor() -> str:
  """Returns the name of this machine's CPU, empty where it is not known."""
  try:
    with open('/proc/cpuinfo', encoding='utf-8') as file:
      names = [line for line in file if line.startswith('model name')]
  except OSError:  # Not on macOS.
    names = []
  return names[0].partition(':')[2].strip() if names else platform.processor()
