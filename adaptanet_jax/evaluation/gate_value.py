# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Is a gate worth reading? What its confidence tells, and an upper bound.

Beyond the paper. Running an image at a greater width pays only if that corrects
a wrong answer, so a confidence should single out those images.

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
  """Measures how well a gate tells which examples a wider network would help.

  The area under the ROC curve of low confidence as a predictor of "right with
  all stages after the gate at x1.0, wrong with all at x0.25": 0.5 for a gate
  that knows nothing, 1 for a perfect one.

  Args:
    correct: `bool[K, K, K, K, N]`, whether a subnet gets an example right.
    confidences: confidence of gate n after each prefix, in each of the forms in
      `CONFIDENCES`: `float32[K] * n + [3, N]`.

  Returns:
    For each form, the mean area over the four uniform prefixes of widths; None
    if the area is undefined for all of them.
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
  """Measures an oracle that knows each example's cheapest right subnet.

  Args:
    correct: `bool[S, N]`, whether each of S subnets gets an example right.
    madds: MAdds of these subnets.
    limit: limit on the mean MAdds.

  Returns:
    `top1`, the share of examples that any subnet gets right; `madds`, the mean
    over examples of the cheapest subnet that does (the cheapest of all if none
    does); `top1_within`, the accuracy within the limit if MAdds are spent first
    on the examples that need the fewest.
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
