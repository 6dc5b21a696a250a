# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the server requires of an engine, which runs the entries of a menu.

n = images of a batch, H = height, W = width, C = colours.
"""

from typing import Any, Protocol

import numpy as np

from adaptanet_jax.evaluation.policies import Mixture
from adaptanet_jax.evaluation.subnet_table import SubnetTable


class Engine(Protocol):
  """What the server requires of an object that runs the network.

  Attributes:
    name: name of the model.
    subnets: figures of all its subnets.
    policies: the policies by name, such as 'joint/budget'.
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
  policies: dict[str, Mixture]
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
