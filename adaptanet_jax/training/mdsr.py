# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The Multi-Dimensional Sandwich Rule: which subnets a step trains (Eq. 3)."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax.models.subnet import (
  CHOICES,
  DELTA_CHOICES,
  NUM_STAGES,
  WIDTH_CHOICES,
)

_WIDTHS = (WIDTH_CHOICES[0], WIDTH_CHOICES[-1])
_DELTAS = (DELTA_CHOICES[0], DELTA_CHOICES[-1])
# By what varies: the corners that every step trains, the largest and the
# smallest choice of each dimension.
_CORNERS = {'width': _WIDTHS, 'delta': _DELTAS, 'joint': _WIDTHS + _DELTAS}


@dataclasses.dataclass(frozen=True)
class SubnetSpace:
  """The subnets that a phase may use.

  Attributes:
    first: first stage that varies, 1 to 4.
    last: last stage that varies.
    vary: 'width', D = {rho}; 'joint', D = {rho, delta}; or 'delta', the subnets
      of 'joint' with at least one delta substitute. Subnets without one have no
      gradient if only the substitutes train, so 'delta' does not draw them.
  """

  first: int
  last: int
  vary: str = 'width'

  @property
  def numbers(self) -> range:
    """Numbers of the stages that vary."""
    return range(self.first, self.last + 1)

  @property
  def num_choices(self) -> int:
    """How many choices of a stage are drawn from: the first of `CHOICES`."""
    return len(WIDTH_CHOICES if self.vary == 'width' else CHOICES)

  @property
  def has_largest(self) -> bool:
    """Whether the largest subnet is the first corner."""
    return _CORNERS[self.vary][0] == CHOICES[0]

  def corners(self) -> np.ndarray:
    """Returns the corners, `int32[C, S]`: one choice for all stages that vary.

    For each dimension the largest comes before the smallest.
    """
    indices = [choice.index for choice in _CORNERS[self.vary]]
    return np.repeat(np.array(indices, np.int32)[:, None], len(self.numbers), 1)

  def others(self) -> np.ndarray:
    """Returns every subnet that is not a corner, `int32[M, S]`."""
    corners = {tuple(corner) for corner in self.corners()}
    everything = itertools.product(
        range(self.num_choices), repeat=len(self.numbers)
    )
    lowest = len(WIDTH_CHOICES) if self.vary == 'delta' else 0
    others = [
        subnet
        for subnet in everything
        if subnet not in corners and max(subnet) >= lowest
    ]
    return np.array(others, np.int32)


def draw_subnets(
    rng: jax.Array, space: SubnetSpace, num_random: int
) -> jax.Array:
  """Draws the set eta of one step.

  Args:
    rng: key of the step, the same on every device.
    space: the subnets to draw from.
    num_random: number of random subnets to add to the corners, all different;
      fewer if the space has fewer.

  Returns:
    `int32[|eta|, 4]` branch indices, the corners first. Stages before the space
    share one random prefix; those after it are at full width.
  """
  prefix_rng, subnet_rng = jax.random.split(rng)
  others = space.others()
  count = min(num_random, len(others))
  chosen = jax.random.choice(subnet_rng, len(others), (count,), replace=False)
  varied = jnp.concatenate([space.corners(), jnp.asarray(others)[chosen]])
  eta = varied.shape[0]
  before, after = space.first - 1, NUM_STAGES - space.last
  prefix = jax.random.randint(prefix_rng, (1, before), 0, space.num_choices)
  return jnp.concatenate(
      [
          jnp.broadcast_to(prefix, (eta, before)).astype(jnp.int32),
          varied,
          jnp.zeros((eta, after), jnp.int32),
      ],
      axis=1,
  )


@dataclasses.dataclass(frozen=True)
class Weighting:
  """How the terms of a step's loss are weighted.

  Attributes:
    teacher_weight: v of Eq. 3, the share of the teacher against the largest
      subnet.
    soft_weight: share of a soft cross-entropy to the teacher against Eq. 3, its
      mean over the subnets. Paper (Sec. V-B): without the largest. Here: with
      it, because it then loses less accuracy (CIFAR-100, one seed;
      docs/results-notes.md).
    soft_from: the step from which the soft cross-entropy counts.
  """

  teacher_weight: float
  _: dataclasses.KW_ONLY
  soft_weight: float = 0.0
  soft_from: int = 0

  def at(
      self, step: jax.Array | int, num_subnets: int, *, has_largest: bool
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns each subnet's weights in Eq. 3, and in the soft cross-entropy.

    Args:
      step: number of the step, from 0.
      num_subnets: number of subnets of the step.
      has_largest: whether the first of these is the largest subnet.

    Returns:
      `float32[num_subnets]` weights of the loss to the teacher, of the loss to
      the largest subnet, and of the soft cross-entropy to the teacher.
    """
    v, share = self.teacher_weight, 1.0 / (num_subnets - has_largest)
    to_teacher = np.full(num_subnets, v * share, np.float32)
    to_largest = np.full(num_subnets, (1 - v) * share, np.float32)
    if has_largest:
      to_teacher[0], to_largest[0] = 1.0, 0.0
    soft = jnp.where(step < self.soft_from, 0.0, self.soft_weight)
    to_soft = jnp.full(num_subnets, soft / num_subnets, jnp.float32)
    return (1.0 - soft) * to_teacher, (1.0 - soft) * to_largest, to_soft
