# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Is a gate worth reading? What its confidence tells, and the most it could.

Beyond the paper. A policy gains by running an image wider only where that makes
a wrong answer right, so that is what a confidence has to tell apart.

N = examples, K = choices of a stage.
"""

from collections.abc import Sequence

import numpy as np
from sklearn import metrics

from adaptanet_jax.models.gates import CONFIDENCES
from adaptanet_jax.models.subnet import NUM_STAGES, WIDTH_CHOICES


def areas(
    correct: np.ndarray, confidences: np.ndarray
) -> dict[str, float | None]:
  """Measures how well a gate tells whom a wider network would help.

  The area under the curve of low confidence, for "all stages after the gate at
  x1.0 are right, at x0.25 wrong": .5 for a gate that knows nothing, 1 for one
  that knows all.

  Args:
    correct: `bool[K, K, K, K, N]`, whether a subnet gets an example right.
    confidences: of gate n after each prefix, in each way of `CONFIDENCES`:
      `float32[K] * n + [3, N]`.

  Returns:
    For each way the mean over the four uniform prefixes; None where wide and
    narrow never differ.
  """
  gate = confidences.ndim - 2
  widest, narrowest = (WIDTH_CHOICES[n].index for n in (0, -1))
  found: dict[str, list[float]] = {name: [] for name in CONFIDENCES}
  for choice in WIDTH_CHOICES:
    prefix = (choice.index,) * gate
    wide, narrow = (
        correct[prefix + (last,) * (NUM_STAGES - gate)]
        for last in (widest, narrowest)
    )
    helped = wide & ~narrow
    if helped.all() or not helped.any():
      continue
    for name, values in zip(CONFIDENCES, confidences[prefix]):
      found[name].append(metrics.roc_auc_score(helped, -values))
  return {
      name: float(np.mean(values)) if values else None
      for name, values in found.items()
  }


def oracle(
    correct: np.ndarray, madds: Sequence[int], limit: float
) -> dict[str, float]:
  """Says what knowing each example's cheapest right subnet would bring.

  Args:
    correct: `bool[S, N]` of some subnets.
    madds: of these.
    limit: of the mean MAdds.

  Returns:
    `top1`, the share that any of them gets right, and the mean `madds` of the
    cheapest one that does (the cheapest of all, where none does); `top1_within`
    the limit, by spending on those first who need the least.
  """
  costs = np.asarray(madds, float)
  needed = np.where(correct, costs[:, None], np.inf).min(0)
  possible = np.isfinite(needed)
  spent = np.where(possible, needed, costs.min())
  extra = np.sort(spent[possible] - costs.min())
  left = (limit - costs.min()) * correct.shape[1]
  affordable = np.count_nonzero(np.cumsum(extra) <= left)
  return {
      'top1': float(possible.mean()),
      'madds': float(spent.mean()),
      'top1_within': affordable / correct.shape[1] if left >= 0.0 else 0.0,
  }
