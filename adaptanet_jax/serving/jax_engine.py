# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A network in this process, served by JAX."""

import functools
import hashlib
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import compiler
from adaptanet_jax.inference.network import Supernet


class JaxEngine:
  """A supernet in this process, on JAX's default device.

  Attributes:
    net: the network.
  """

  def __init__(self, net: Supernet, *, source: str = '') -> None:
    """Compiles nothing yet.

    Args:
      net: the network, with the back end that suits the device.
      source: see `Engine`.
    """
    self.net, self.source = net, source
    self.name, self.subnets = net.about.name, net.subnets
    self.policies = dict(net.mixtures)
    self.image_shape = net.net.image_shape
    self.class_names = net.about.class_names
    self.shorter_side = net.about.shorter_side
    self.precision = float(jnp.finfo(net.net.dtype).eps)
    self.runnable: tuple[str, ...] = ()
    if net.calibrated == 'uniform':
      self.runnable = tuple(map(str, net.net.uniform))

  def run(
      self, images: np.ndarray, name: str, start: int = 0
  ) -> tuple[np.ndarray, list[str]]:
    """See `Engine`."""
    policy, is_rung, share = name.partition('@')
    subnets: list[Any] = [name] * len(images)
    if is_rung:
      logits, subnets = self.net.route(images, policy, share=float(share))
    elif start:
      logits = self.net.finish(images, start, name)
    else:
      logits = self.net(images, name)
    return np.asarray(logits, np.float32), [*map(str, subnets)]

  @property
  def anchor_shapes(self) -> tuple[tuple[int, int, int], ...]:
    """See `Engine`."""
    return self.net.anchor_shapes[:-1] if self.net.can_finish else ()

  @functools.cached_property
  def weights(self) -> str:
    """See `Engine`."""
    return _digest((self.net.variables, self.net.statistics))

  @functools.cached_property
  def described(self) -> dict[str, Any]:
    """See `Engine`."""
    return {
        'device': jax.devices()[0].device_kind,
        'jax': jax.__version__,
        'flags': [
            os.environ.get(name, '')
            for name in ('XLA_FLAGS', 'GLIBC_TUNABLES', 'NPROC')
        ],
        'compiler': compiler.options(),
        'network': str(self.net.net),
        'weights': self.weights,
        'calibrated': self.net.calibrated,
        'subnets': _digest(self.net.subnets),
        'policies': self.net.policy_table,
    }


def _digest(arrays: Any) -> str:
  digest = hashlib.sha256()
  for leaf in jax.tree.leaves(arrays):
    digest.update(np.asarray(leaf).tobytes())
  return digest.hexdigest()[:16]
