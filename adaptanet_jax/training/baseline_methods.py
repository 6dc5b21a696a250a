# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which subnets a step of a baseline trains, and who teaches them (Sec. IV-B).

USNet (Yu and Huang, ICCV 2019) trains by the sandwich rule: the largest, the
smallest and two random uniform widths; the largest learns the labels, the
others learn its predictions in the same step. DSNet (Li et al., CVPR 2021)
trains the same four, and an exponential moving average of the network teaches
them. The starred variants of Table II draw any three of the 256 subnets.

R = subnets of a step.
"""

from collections.abc import Callable
import dataclasses

import jax
import jax.numpy as jnp

from adaptanet_jax.models.subnet import (
  NUM_STAGES,
  UNIFORM,
  WIDTHS,
)

# What DSNet's smallest subnet learns, predicted by the moving average. ieb
# (in-place ensemble bootstrapping): the mean prediction of the other subnets.
# ib (in-place bootstrapping): the prediction of the largest subnet.
ENSEMBLES = ('ieb', 'ib')


def draw_sandwich(rng: jax.Array) -> jax.Array:
  """Draws the largest, two random and the smallest uniform width.

  The paper of USNet draws any width between the bounds. Here only four widths
  exist, so the random ones are the two in between, in random order.

  Args:
    rng: key of the step, the same on every device.

  Returns:
    `int32[4, 4]` branch indices, a row for each subnet.
  """
  uniform = jnp.stack([jnp.asarray(subnet.encode()) for subnet in UNIFORM])
  between = jax.random.permutation(rng, uniform[1:-1])
  return jnp.concatenate([uniform[:1], between, uniform[-1:]])


def draw_any(rng: jax.Array) -> jax.Array:
  """Draws three different subnets of all 256, in order of falling total width.

  The paper does not say which subnet learns the labels if the largest is not
  drawn. Here the widest of the three takes the place of the largest.

  Args:
    rng: key of the step, the same on every device.

  Returns:
    `int32[3, 4]` branch indices, a row for each subnet.
  """
  shape = (len(WIDTHS),) * NUM_STAGES
  drawn = jax.random.choice(rng, len(WIDTHS) ** NUM_STAGES, (3,), replace=False)
  subnets = jnp.stack(jnp.unravel_index(drawn, shape), axis=1)
  # A higher index is a narrower width.
  widest_first = jnp.argsort(subnets.sum(1))
  return subnets[widest_first].astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class Method:
  """How a baseline trains.

  Attributes:
    title: name in tables.
    draw: maps a key to the subnets of a step, `int32[R, 4]`; the first one
      learns the labels.
    moving_average: whether a moving average of the network teaches the others;
      otherwise the first subnet of the step does.
  """

  title: str
  draw: Callable[[jax.Array], jax.Array]
  moving_average: bool


METHODS = {
    'usnet': Method('USNet', draw_sandwich, moving_average=False),
    'usnet_random': Method('USNet*', draw_any, moving_average=False),
    'dsnet': Method('DSNet', draw_sandwich, moving_average=True),
    'dsnet_random': Method('DSNet*', draw_any, moving_average=True),
}
# The sections of results.json with rows of Table II, and their names in tables.
NETWORKS = {'supernet': 'ours', 'delta': 'ours, delta'} | {
    name: method.title for name, method in METHODS.items()
}
