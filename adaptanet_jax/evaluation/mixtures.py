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
    madds: Sequence[float],
    top1: Sequence[float],
    target: float,
    chosen_by: Sequence[float] | None = None,
) -> float:
  """Returns the accuracy of the best mixture of two uniform subnets.

  Each example goes to one of the two at random, in the ratio that gives the
  mean MAdds: a point on the upper concave envelope of all subnets' points.

  Args:
    madds: MAdds of each uniform subnet.
    top1: its accuracy.
    target: mean MAdds of the mixture; clipped to the range of the subnets'.
    chosen_by: accuracies that the two are chosen by; None: `top1` itself, and
      the result is an upper bound for any choice.

  Returns:
    A share of right answers.
  """
  chosen_by = top1 if chosen_by is None else chosen_by
  points = sorted(zip(madds, chosen_by, top1, strict=True))
  target = min(max(target, points[0][0]), points[-1][0])
  # Accuracies that mixtures are chosen by, and their own.
  mixed = []
  for low, *first in points:
    for high, *second in points:
      if low <= target <= high:
        share = (target - low) / (high - low) if high > low else 0.0
        mixed.append([
            a + share * (b - a) for a, b in zip(first, second, strict=True)
        ])
  return max(mixed, key=lambda pair: pair[0])[1]


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
