# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Policies on the menu: they choose for each image, load chooses the budget.

A policy has a cheaper and a more expensive rule. Its rungs are the same policy
with other shares of the two: as load rises the controller moves to cheaper
rungs, and then to fixed subnets that are cheaper still.
"""

import numpy as np

from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation.policies import Rule
from adaptanet_jax.models.subnet import NUM_STAGES
from adaptanet_jax.serving.controller import Entry
from adaptanet_jax.serving.engine import Engine

# Shares of images that follow the cheaper rule, besides the policy's own share.
_SHARES = (0.0, 0.5, 1.0)


def rungs(
    engine: Engine, policy: str, accuracies: np.ndarray
) -> tuple[Entry, ...]:
  """Returns the rungs of a policy, such as `joint/budget@0.50`.

  One if both of its rules are the same. Of second looks, only those that are
  more accurate than cheaper ones.

  Accuracies are means over the subnets that rungs lead to, with all bins of a
  gate equally likely: what gates know is not counted. Those of second looks lie
  between their two subnets' as on the examples that the policy was made from.

  Args:
    engine: runs the network.
    policy: scope and name of the policy.
    accuracies: accuracies of all subnets, `float[K, K, K, K]`.

  Raises:
    UsageError: the network has no such policy.
  """
  if policy not in engine.policies:
    raise UsageError(
        f'Unknown policy {policy!r}; expected one of '
        f'{", ".join(engine.policies) or "none, for the model has none"}.'
    )
  mixture = engine.policies[policy]
  shares = {1.0}
  if not mixture.is_single:
    shares = {round(mixture.share, 2), *_SHARES}
  tables = accuracies, engine.subnets['madds']
  first, second = (
      [_mean(rule, table) for table in tables] for rule, _ in mixture.rules
  )
  look = mixture.look
  if look:
    shares -= {0.0}  # As accurate as the second subnet alone, and dearer.
  found: list[Entry] = []
  for share in sorted(shares, reverse=True):
    rest = 1.0 - share
    madds = (1.0 if look else share) * first[1] + rest * second[1]
    if look:
      gains = look.top1 - look.top1[0]
      if gains[-1] > 0.0:
        rest = min(1.0, max(0.0, gains[look.at(share)] / gains[-1]))
    accuracy = float(first[0] + rest * (second[0] - first[0]))
    if not look or not found or accuracy > found[-1].accuracy:
      found.append(Entry(f'{policy}@{share:.2f}', accuracy, round(madds)))
  return tuple(found[::-1])


def _mean(rule: Rule, table: np.ndarray) -> float:
  """Returns the mean of a table over the subnets that a rule leads to."""
  num_bins = len(rule.choices[0])

  def walk(codes: tuple[int, ...], path: tuple[int, ...]) -> float:
    if len(codes) == NUM_STAGES:
      return float(table[codes])
    gate = len(codes) - 1
    bins = range(num_bins) if rule.reads[gate][path] else (0,)
    return float(np.mean([
        walk((*codes, int(rule.choices[gate][(*path, b)])), (*path, b))
        for b in bins
    ]))

  return walk((rule.start,), ())
