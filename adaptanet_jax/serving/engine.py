# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Engines, which run a network at a few fixed batch sizes.

For a new shape a program would be compiled, for seconds, while requests wait.
So a batch is padded to one of a few sizes, and all programs have run before the
server reports that it is ready.

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

SIZES = (1, 2, 4, 8, 16, 32)

# A rule of a policy, in the form of `evaluation.policies.to_json`.
Rule = dict[str, Any]


class Engine(Protocol):
  """What the server requires of an object that runs the network.

  Attributes:
    name: name of the model.
    subnets: figures of all its subnets.
    policies: the two rules of each policy by its name, such as 'joint/budget'.
    sizes: batch sizes in ascending order, from 1.
    image_shape: `(H, W, C)`.
    class_names: names of the classes, by label.
    shorter_side: pixels that the shorter side is scaled to, see `About`.
    precision: relative step (epsilon) of the type that it computes in.
    runnable: names of the subnets that it can run; empty: all.
    source: what `load_engine` was given.
  """

  name: str
  subnets: SubnetTable
  policies: dict[str, list[Rule]]
  sizes: tuple[int, ...]
  image_shape: tuple[int, int, int]
  class_names: tuple[str, ...]
  shorter_side: int
  precision: float
  runnable: tuple[str, ...]
  source: str

  def run(
      self, images: np.ndarray, name: str, start: int = 0
  ) -> np.ndarray:
    """Runs a subnet.

    Args:
      images: `uint8[n, H, W, C]`, n at most the largest size; or `float32`
        anchors.
      name: name of the subnet.
      start: number of the anchor that `images` holds; 0: images.

    Returns:
      Logits, `float32[n, classes]`.
    """

  def route(
      self, images: np.ndarray, name: str
  ) -> tuple[np.ndarray, list[str]]:
    """Runs a rung of a policy, see `policies`.

    Args:
      images: as for `run`.
      name: name of the rung.

    Returns:
      Logits, `float32[n, classes]`, and the subnet of each image.
    """

  def anchor_shapes(self) -> tuple[tuple[int, int, int], ...]:
    """Returns the shapes of the anchors that `run` may start at."""

  @property
  def described(self) -> dict[str, Any]:
    """What its times and answers depend on, besides CPU and batch sizes."""


def padded(images: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
  """Pads a batch with zeros to the next size.

  Args:
    images: `uint8[n, H, W, C]`, or `float32` anchors.
    sizes: batch sizes in ascending order.

  Raises:
    ValueError: there are more images than the largest size.
  """
  count = len(images)
  size = next((size for size in sizes if size >= count), None)
  if size is None:
    raise ValueError(
        f'A batch has {count} images; expected at most {sizes[-1]}.'
    )
  if size == count:
    return images
  return np.concatenate(
      [images, np.zeros((size - count, *images.shape[1:]), images.dtype)]
  )


class JaxEngine:
  """A supernet in this process, on JAX's default device.

  Attributes:
    net: the network.
  """

  def __init__(
      self,
      net: Supernet,
      *,
      sizes: tuple[int, ...] = SIZES,
      source: str = '',
  ) -> None:
    """Compiles nothing yet.

    Args:
      net: the network, with the back end that suits the device.
      sizes: batch sizes in ascending order, from 1.
      source: see `Engine`.
    """
    self.net, self.sizes, self.source = net, sizes, source
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
  ) -> np.ndarray:
    """See `Engine`."""
    full = padded(images, self.sizes)
    logits = self.net.finish(full, start, name) if start else (
        self.net(full, name)
    )
    return np.asarray(logits, np.float32)[: len(images)]

  def route(
      self, images: np.ndarray, name: str
  ) -> tuple[np.ndarray, list[str]]:
    """See `Engine`."""
    policy, _, share = name.partition('@')
    logits, subnets = self.net.route(
        padded(images, self.sizes), policy, share=float(share)
    )
    count = len(images)
    return np.asarray(logits, np.float32)[:count], [*map(str, subnets[:count])]

  def anchor_shapes(self) -> tuple[tuple[int, int, int], ...]:
    """See `Engine`."""
    return self.net.anchor_shapes[:-1] if self.net.can_finish else ()

  @functools.cached_property
  def described(self) -> dict[str, Any]:
    """See `Engine`."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves((self.net.variables, self.net.subnets)):
      digest.update(np.asarray(leaf).tobytes())
    return {
        'device': jax.devices()[0].device_kind,
        'jax': jax.__version__,
        'flags': [
            os.environ.get(name, '')
            for name in ('XLA_FLAGS', 'GLIBC_TUNABLES', 'NPROC')
        ],
        'compiler': compiler.options(),
        'network': str(self.net.net),
        'weights': digest.hexdigest(),
        'policies': self.net.policy_table,
    }


def load_engine(model: str, most: int = SIZES[-1]) -> Engine:
  """Loads a model to serve on this device.

  Args:
    model: what `adaptanet_jax.load` takes, or an exported folder, which runs in
      ONNX Runtime.
    most: most images of a batch: it has the sizes of `SIZES` up to this one.

  Raises:
    UsageError: there is no such model, or it is damaged.
  """
  from adaptanet_jax.serving import onnx_engine  # It imports this module.

  sizes = tuple(n for n in SIZES if n <= most)
  folder = os.path.expanduser(model)
  if runtime_models.is_export(folder):
    return onnx_engine.OnnxEngine(folder, sizes=sizes)
  return JaxEngine(load(model), sizes=sizes, source=model)
