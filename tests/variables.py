# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Random variables of a network, without compiling its initialisation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax.models.resnet import ResNet, Variables


def draw(net: ResNet, *, seed: int = 0) -> Variables:
  """Draws variables of a network; none is a constant, as they start out."""
  shapes = jax.eval_shape(net.init, jax.random.key(0))
  return draw_like(shapes, seed=seed)


def draw_like(shapes: Any, *, seed: int = 0) -> Any:
  """Draws leaves by name: kernels by fan-in, scales and variances about 1."""
  rng = np.random.default_rng(seed)

  def draw_leaf(path: Any, leaf: Any) -> jax.Array:
    noise = rng.standard_normal(leaf.shape, np.float32)
    name = path[-1].key
    if name == 'kernel':
      return jnp.array(noise * np.sqrt(2.0 / np.prod(leaf.shape[:-1])))
    return jnp.array(0.1 * noise + (name in ('scale', 'var')), jnp.float32)

  return jax.tree_util.tree_map_with_path(draw_leaf, shapes)
