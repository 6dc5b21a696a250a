# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The platform that a program is made for.

A program can be lowered and compiled on a host for a device that the host does
not have, and JAX reuses traces. A traced function must therefore not depend on
the platform: it passes both forms to `select`, and JAX picks one when it
lowers. What is decided before tracing goes by this machine.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from adaptanet_jax import machine


def device_kind() -> str:
  """Returns the name of this machine's devices; JAX calls all CPUs 'cpu'."""
  device = jax.devices()[0]
  if device.platform == 'cpu':
    return machine.processor()
  return device.device_kind


def auto_dtype() -> str:
  """Returns the type of activations that suits this machine."""
  return 'float32' if jax.default_backend() == 'cpu' else 'bfloat16'


def select(
    *args: Any, cpu: Callable[..., Any], default: Callable[..., Any]
) -> Any:
  """Runs the form of a function that suits the platform it is lowered for.

  Both forms are traced and one is lowered, so a trace serves every platform.
  Do not differentiate it: the switch would keep the residuals of both forms.

  Args:
    *args: arrays.
    cpu: the form for CPUs.
    default: the form for all others; its outputs have the same shapes.

  Returns:
    The outputs of that form.
  """
  return lax.platform_dependent(*args, cpu=cpu, default=default)
