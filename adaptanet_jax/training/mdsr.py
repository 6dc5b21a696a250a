# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The Multi-Dimensional Sandwich Rule: which subnets a step trains (Eq. 3)."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax.models.subnet import NUM_STAGES, WIDTHS


@dataclasses.dataclass(frozen=True)
class SubnetSpace:
  """The subnets that a phase may train.

  Attributes:
    first: first stage that varies, 1 to 4.
    last: last stage that varies.
  """

  first: int
  last: int

  def __post_init__(self) -> None:
    if not 1 <= self.first <= self.last <= NUM_STAGES:
      raise ValueError(
          f'Expected 1 <= first <= last <= {NUM_STAGES}, got first='
          f'{self.first}, last={self.last}.'
      )

  @property
  def stages(self) -> range:
    """Numbers of the stages that vary."""
    return range(self.first, self.last + 1)

  def corners(self) -> np.ndarray:
    """Returns the largest and the smallest of each dimension, `int32[2, S]`.

    The dimension is width: D = {rho}, so there are 2^|D| corners, the largest
    subnet first.
    """
    return np.array(
        [[0] * len(self.stages), [len(WIDTHS) - 1] * len(self.stages)], np.int32
    )

  def others(self) -> np.ndarray:
    """Returns every subnet that is no corner, `int32[M, S]`."""
    corners = {tuple(corner) for corner in self.corners()}
    everything = itertools.product(range(len(WIDTHS)), repeat=len(self.stages))
    others = [subnet for subnet in everything if subnet not in corners]
    return np.array(others, np.int32)


def draw_subnets(
    rng: jax.Array, space: SubnetSpace, num_random: int
) -> jax.Array:
  """Draws the set eta of one step.

  Args:
    rng: key of the step, the same on every device.
    space: the subnets to draw from.
    num_random: random subnets to add to the corners, all different; fewer
      where the space has fewer.

  Returns:
    `int32[|eta|, 4]` branch indices, the largest subnet first. Stages before
    the space share one random prefix; those after it are at full width.
  """
  prefix_rng, subnet_rng = jax.random.split(rng)
  others = space.others()
  count = min(num_random, len(others))
  chosen = jax.random.choice(subnet_rng, len(others), (count,), replace=False)
  varied = jnp.concatenate([space.corners(), jnp.asarray(others)[chosen]])
  eta = varied.shape[0]
  before, after = space.first - 1, NUM_STAGES - space.last
  prefix = jax.random.randint(prefix_rng, (1, before), 0, len(WIDTHS))
  return jnp.concatenate(
      [
          jnp.broadcast_to(prefix, (eta, before)).astype(jnp.int32),
          varied,
          jnp.zeros((eta, after), jnp.int32),
      ],
      axis=1,
  )


def loss_weights(
    num_subnets: int, teacher_weight: float
) -> tuple[np.ndarray, np.ndarray]:
  """Returns each subnet's weights in Eq. 3.

  Args:
    num_subnets: |eta|; the largest subnet comes first.
    teacher_weight: v, the share of the teacher against the largest subnet.

  Returns:
    `float32[|eta|]` weights of the loss to the teacher, and of the loss to the
    largest subnet.
  """
  to_teacher = np.full(num_subnets, teacher_weight / (num_subnets - 1))
  to_largest = np.full(num_subnets, (1 - teacher_weight) / (num_subnets - 1))
  to_teacher[0], to_largest[0] = 1.0, 0.0
  return to_teacher.astype(np.float32), to_largest.astype(np.float32)
