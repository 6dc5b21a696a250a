# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Engines, which run the entries of a menu on batches.

n = images of a batch, H = height, W = width, C = colours.
"""

import functools
import hashlib
import os
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import compiler
from adaptanet_jax.evaluation.subnet_table import SubnetTable
from adaptanet_jax.export import runtime_models
from adaptanet_jax.inference.load import load
from adaptanet_jax.inference.network import Supernet
from adaptanet_jax.models.subnet import UNIFORM, UNIFORM_DELTA
from adaptanet_jax.serving.onnx_engine import OnnxEngine

# A rule of a policy, in the form of `evaluation.policies.to_json`.
Rule = dict[str, Any]


class Engine(Protocol):
  """What the server requires of an object that runs the network.

  Attributes:
    name: name of the model.
    subnets: figures of all its subnets.
    policies: the two rules of each policy by its name, such as 'joint/budget'.
    image_shape: `(H, W, C)`.
    class_names: names of the classes, by label.
    shorter_side: pixels that the shorter side is scaled to, see `About`.
    precision: relative step (epsilon) of the type that it computes in.
    runnable: names of the subnets that it can run; empty: all.
    source: what `load_engine` was given.
    weights: identifies the weights: other weights have another one.
  """

  name: str
  subnets: SubnetTable
  policies: dict[str, list[Rule]]
  image_shape: tuple[int, int, int]
  class_names: tuple[str, ...]
  shorter_side: int
  precision: float
  runnable: tuple[str, ...]
  source: str

  @property
  def weights(self) -> str:
    """See the attributes."""

  def run(
      self, images: np.ndarray, name: str, start: int = 0
  ) -> tuple[np.ndarray, list[str]]:
    """Runs an entry of a menu. A new batch size may take seconds to compile.

    Args:
      images: `uint8[n, H, W, C]`; or `float32` anchors, for a subnet.
      name: name of a subnet, or of a rung of a policy, see `policies`.
      start: number of the anchor that `images` holds; 0: images.

    Returns:
      Logits, `float32[n, classes]`, and the subnet of each image.
    """

  @property
  def anchor_shapes(self) -> tuple[tuple[int, int, int], ...]:
    """`(H, W, C)` of the anchors that `run` may start at."""

  @property
  def described(self) -> dict[str, Any]:
    """What its times and answers depend on, besides CPU and batch sizes."""


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
    self.policies = {
        name: net.policy_table['rules'][scope][own]
        for name in net.policies
        for scope, own in [name.split('/')]
    }
    self.image_shape = net.net.image_shape
    self.class_names = net.about.class_names
    self.shorter_side = net.about.shorter_side
    self.precision = float(jnp.finfo(net.net.dtype).eps)
    self.runnable: tuple[str, ...] = ()
    if net.calibrated == 'uniform':
      runs_delta = UNIFORM_DELTA if net.net.delta else ()
      self.runnable = tuple(map(str, UNIFORM + runs_delta))

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


def load_engine(model: str) -> Engine:
  """Loads a model to serve on this device.

  Args:
    model: what `adaptanet_jax.load` takes, or an exported folder, which runs in
      ONNX Runtime.

  Raises:
    UsageError: there is no such model, or it is damaged.
  """
  folder = os.path.expanduser(model)
  if runtime_models.is_export(folder):
    return OnnxEngine(folder)
  return JaxEngine(load(model), source=model)
