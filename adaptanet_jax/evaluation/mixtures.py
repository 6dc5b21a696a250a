# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Accuracy of subnets chosen without gates: the baseline for policies.

K = choices of a stage.
"""

from collections.abc import Sequence

import numpy as np

from adaptanet_jax.evaluation.policies import scope_indices
from adaptanet_jax.models.subnet import NUM_STAGES


def uniform_mixture(
    points: Sequence[tuple[float, float]], madds: float
) -> float:
  """Returns the best accuracy of a mixture of two uniform subnets.

  Each example goes to one of the two at random, in the ratio that gives the
  mean MAdds: a point on the upper concave envelope of all subnets' points.

  Args:
    points: MAdds and accuracy of each uniform subnet.
    madds: mean MAdds of the mixture; clipped to the range of the points.

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
    top1: np.ndarray, madds: np.ndarray, scope: str, target: float
) -> float | None:
  """Returns the mean accuracy of a scope's subnets with MAdds near a target.

  This is the expected runtime-random accuracy over these subnets.

  Args:
    top1: `float[K, K, K, K]`.
    madds: `int64[K, K, K, K]`.
    scope: one of `SCOPES`.
    target: MAdds.

  Returns:
    A share of right answers; None if no subnet is within 5 % of the target.
  """
  block = np.ix_(*[scope_indices(scope)] * NUM_STAGES)
  near = np.abs(madds[block] / target - 1.0) <= 0.05
  return float(top1[block][near].mean()) if near.any() else None
