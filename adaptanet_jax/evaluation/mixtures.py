# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What subnets chosen without gates reach: what policies are set beside.

K = choices of a stage.
"""

from collections.abc import Sequence

import numpy as np

from adaptanet_jax.evaluation.policies import scope_indices
from adaptanet_jax.models.subnet import NUM_STAGES


def uniform_mixture(
    points: Sequence[tuple[float, float]], madds: float
) -> float:
  """Returns the best accuracy that mixing uniform subnets reaches.

  Each example goes to one of two subnets at random, so that the mean MAdds are
  as given: the upper concave envelope of the subnets' points.

  Args:
    points: MAdds and accuracy of each uniform subnet.
    madds: mean MAdds of the mixture; beyond the points, the nearest one's.

  Returns:
    A share of right answers.
  """
  ordered = sorted(points)
  costs = [cost for cost, _ in ordered]
  madds = min(max(madds, costs[0]), costs[-1])
  best = 0.0
  for low, low_top1 in ordered:
    for high, high_top1 in ordered:
      if low <= madds <= high:
        share = (madds - low) / (high - low) if high > low else 0.0
        best = max(best, low_top1 + share * (high_top1 - low_top1))
  return best


def random_at(
    top1: np.ndarray, madds: np.ndarray, scope: str, target: float,
    *, tolerance: float = 0.05,
) -> float | None:
  """Returns the mean accuracy of a scope's subnets of nearly given MAdds.

  That is runtime-random over those subnets.

  Args:
    top1: `float[K, K, K, K]`.
    madds: `int64[K, K, K, K]`.
    scope: one of `SCOPES`.
    target: MAdds.
    tolerance: relative distance that is let in.

  Returns:
    A share of right answers; None if no subnet is that near.
  """
  block = np.ix_(*[scope_indices(scope)] * NUM_STAGES)
  near = np.abs(madds[block] / target - 1.0) <= tolerance
  return float(top1[block][near].mean()) if near.any() else None
