# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Policies: which choice follows which confidence (Sec. V-C).

All are made from one calibration: examples run under every subnet, their right
answers and the gates' confidences kept. A policy can be played through on such
a table exactly, without running anything.

N = examples, K = choices of a stage, b = bins; gate n stands at anchor n and
chooses for stage n + 1.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from adaptanet_jax.models.routing import ROUTING_GATES, Policy
from adaptanet_jax.models.subnet import (
  CHOICES,
  DELTA_CHOICES,
  NUM_STAGES,
  WIDTH_CHOICES,
  StageChoice,
)

# The choices that a policy may make.
SCOPES = {'joint': CHOICES, 'width': WIDTH_CHOICES, 'depth': DELTA_CHOICES}
# Improvements of `budget` on its first solution; it settles in fewer.
_ROUNDS = 8


@dataclasses.dataclass(frozen=True)
class Calibration:
  """What the policies are made from.

  Attributes:
    correct: `bool[K, K, K, K, N]`, whether a subnet gets an example right.
    confidences: of gates 1 to 3 after each prefix: `float32[K, N]`,
      `float32[K, K, N]`, `float32[K, K, K, N]`.
    edges: inner borders of the equal-frequency bins of each of them,
      `float32[K ** n, b - 1]`.
    stage_madds: `int64[4, K]`, each stage's choices; a gate's MAdds are part
      of the stage before it, the head's of the last one.
  """

  correct: np.ndarray
  confidences: tuple[np.ndarray, ...]
  edges: tuple[np.ndarray, ...]
  stage_madds: np.ndarray

  @classmethod
  def create(
      cls,
      correct: np.ndarray,
      confidences: Sequence[np.ndarray],
      stage_madds: np.ndarray,
      num_bins: int,
  ) -> 'Calibration':
    """Cuts the confidences of each gate and prefix into bins."""
    quantiles = np.arange(1, num_bins) / num_bins
    edges = tuple(
        np.quantile(
            values.reshape(-1, values.shape[-1]), quantiles, axis=-1
        ).T.astype(np.float32)
        for values in confidences
    )
    return cls(correct, tuple(confidences), edges, stage_madds)

  @property
  def num_bins(self) -> int:
    """b."""
    return self.edges[0].shape[1] + 1

  def bins(self, gate: int, prefix: np.ndarray) -> np.ndarray:
    """Returns the bin of each example at a gate.

    Args:
      gate: 1 to 3.
      prefix: `int[N]`, the choices so far as one number to the base K.

    Returns:
      `int[N]`.
    """
    values = self.confidences[gate - 1]
    flat = values.reshape(-1, values.shape[-1])
    confident = flat[prefix, np.arange(flat.shape[1])]
    return (confident[:, None] > self.edges[gate - 1][prefix]).sum(-1)


@dataclasses.dataclass(frozen=True)
class Rule:
  """A policy without its bins.

  Attributes:
    start: choice of stage 1.
    choices: `int[3, b]`, next choice by gate and bin.
  """

  start: int
  choices: np.ndarray


def to_policy(rule: Rule, edges: Sequence[np.ndarray]) -> Policy:
  """Returns what `routing.route` takes: a rule, and the borders of its bins."""
  return Policy(
      start=jnp.asarray(rule.start, jnp.int32),
      edges=tuple(jnp.asarray(e, jnp.float32) for e in edges),
      choices=jnp.asarray(rule.choices, jnp.int32),
  )


def policy_shapes(num_choices: int, num_bins: int) -> Policy:
  """Returns the shapes of what `to_policy` returns."""
  shape: Any = jax.ShapeDtypeStruct
  return Policy(
      start=shape((), jnp.int32),
      edges=tuple(
          shape((num_choices**gate, num_bins - 1), jnp.float32)
          for gate in ROUTING_GATES
      ),
      choices=shape((len(ROUTING_GATES), num_bins), jnp.int32),
  )


def play(
    calibration: Calibration,
    rule: Rule,
    *,
    deviation: tuple[int, int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Plays a policy through on the examples of a calibration.

  Args:
    calibration: what each subnet and gate said.
    rule: the policy.
    deviation: a gate and the choice that it makes for every example, instead.

  Returns:
    `int[N, 4]`, the subnet of each example, and `int[N, 3]`, its bins.
  """
  num_examples = calibration.correct.shape[-1]
  num_choices = calibration.correct.shape[0]
  choice = np.full(num_examples, rule.start)
  prefix = choice
  taken, bins = [choice], []
  for gate in ROUTING_GATES:
    bins.append(calibration.bins(gate, prefix))
    choice = rule.choices[gate - 1][bins[-1]]
    if deviation and deviation[0] == gate:
      choice = np.full(num_examples, deviation[1])
    taken.append(choice)
    prefix = prefix * num_choices + choice
  return np.stack(taken, 1), np.stack(bins, 1)


def outcome(
    calibration: Calibration, subnets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Returns which examples are right under their subnets, and the MAdds.

  Args:
    calibration: what each subnet said.
    subnets: `int[N, 4]`.

  Returns:
    `bool[N]` and `int64[N]`.
  """
  correct = calibration.correct[(*subnets.T, np.arange(len(subnets)))]
  return correct, madds_of(calibration.stage_madds, subnets)


def madds_of(stage_madds: np.ndarray, subnets: np.ndarray) -> np.ndarray:
  """Returns the MAdds `int64[N]` of subnets `int[N, 4]`."""
  return stage_madds[np.arange(NUM_STAGES), subnets].sum(-1)


def start_choice(scope: str, rho: float) -> int:
  """Returns the choice of stage 1 at a width, in a scope."""
  return StageChoice(rho, delta=scope == 'depth').index


def ranked(
    calibration: Calibration, scope: str, *, start: int, pull_up: bool
) -> Rule:
  """Maps a gate's bins to the next stage's choices in order of accuracy.

  A choice's accuracy at a gate is the mean over all subnets of the scope that
  make it at the next stage.

  Args:
    calibration: what it is measured on.
    scope: one of `SCOPES`.
    start: choice of stage 1.
    pull_up: the lowest confidence gets the most accurate choice, rather than
      the least.

  Returns:
    The policy `pull_up` or `pull_down`.
  """
  indices = np.array([choice.index for choice in SCOPES[scope]])
  top1 = calibration.correct.mean(-1)[np.ix_(*[indices] * NUM_STAGES)]
  rows = []
  for gate in ROUTING_GATES:
    others = tuple(axis for axis in range(NUM_STAGES) if axis != gate)
    accuracies = top1.mean(others)
    # Where two are equally accurate, the dearer one counts as better.
    madds = calibration.stage_madds[gate][indices]
    best_first = indices[np.lexsort((-madds, -accuracies))]
    if not pull_up:
      best_first = best_first[::-1]
    num_bins = calibration.num_bins
    rows.append(best_first[np.arange(num_bins) * len(indices) // num_bins])
  return Rule(start, np.stack(rows))


def budget(calibration: Calibration, scope: str, limit: float) -> Rule | None:
  """Finds the policy of best accuracy whose mean MAdds keep to a limit.

  Beyond the paper. For each gate and bin a linear program picks the choice that
  maximises the expected share of right answers. Its gains suppose that all
  other choices stay as they are, so the first solution, where those are drawn
  evenly from the scope, is followed by some more about the newest one; what is
  returned is the best of all of them, played through.

  Args:
    calibration: what it is measured on.
    scope: one of `SCOPES`.
    limit: of the mean MAdds, those of the gates included.

  Returns:
    The policy, its own start included; None if even the cheapest choices of
    the scope exceed the limit.
  """
  indices = np.array([choice.index for choice in SCOPES[scope]])
  best: tuple[float, float, Rule] | None = None
  for start in indices:
    gains, weights = _first_gains(calibration, indices, start)
    for _ in range(_ROUNDS):
      table = _solve(calibration, indices, start, gains, weights, limit)
      if table is None:
        break
      rule = Rule(int(start), table)
      subnets, _ = play(calibration, rule)
      correct, madds = outcome(calibration, subnets)
      score = (float(correct.mean()), -float(madds.mean()))
      if madds.mean() <= limit and (best is None or score > best[:2]):
        best = (*score, rule)
      gains, weights = _gains(calibration, indices, rule)
  return best[2] if best else None


def _first_gains(
    calibration: Calibration, indices: np.ndarray, start: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns `_gains` about choices that are drawn evenly from the scope."""
  num_bins = calibration.num_bins
  correct = calibration.correct[np.ix_(np.array([start]), *[indices] * 3)][0]
  gains = np.zeros((len(ROUTING_GATES), num_bins, len(indices)))
  for gate in ROUTING_GATES:
    suffix = tuple(range(gate, NUM_STAGES - 1))
    # Choices of stages 2 to gate, then those of stage gate + 1, examples last.
    by_choice = correct.mean(suffix).reshape(
        -1, len(indices), correct.shape[-1]
    )
    prefixes = _prefixes(calibration, indices, start, gate)
    for prefix, values in zip(prefixes, by_choice):
      bins = calibration.bins(gate, np.full(correct.shape[-1], prefix))
      for number in range(num_bins):
        inside = bins == number
        gains[gate - 1, number] += values[:, inside].sum(-1)
    gains[gate - 1] /= len(prefixes) * correct.shape[-1]
  return gains, np.full(gains.shape[:2], 1.0 / num_bins)


def _prefixes(
    calibration: Calibration, indices: np.ndarray, start: int, gate: int
) -> np.ndarray:
  """Returns the prefixes that lead from a start to a gate, as numbers."""
  prefixes = np.array([start])
  for _ in range(1, gate):
    longer = prefixes[:, None] * calibration.correct.shape[0] + indices[None]
    prefixes = longer.ravel()
  return prefixes


def _gains(
    calibration: Calibration, indices: np.ndarray, rule: Rule
) -> tuple[np.ndarray, np.ndarray]:
  """Says what each choice at each gate and bin would bring, all else as it is.

  Args:
    calibration: what it is measured on.
    indices: choices of the scope.
    rule: the policy that is deviated from.

  Returns:
    `float[3, b, len(indices)]`, shares of all examples that are in the bin and
    right; `float[3, b]`, shares that are in the bin.
  """
  num_bins, num_examples = calibration.num_bins, calibration.correct.shape[-1]
  _, bins = play(calibration, rule)
  gains = np.zeros((len(ROUTING_GATES), num_bins, len(indices)))
  weights = np.zeros(gains.shape[:2])
  for gate in ROUTING_GATES:
    own = bins[:, gate - 1]
    weights[gate - 1] = np.bincount(own, minlength=num_bins) / num_examples
    for position, index in enumerate(indices):
      subnets, _ = play(calibration, rule, deviation=(gate, index))
      correct, _ = outcome(calibration, subnets)
      gains[gate - 1, :, position] = (
          np.bincount(own, weights=correct, minlength=num_bins) / num_examples
      )
  return gains, weights


def _solve(
    calibration: Calibration,
    indices: np.ndarray,
    start: int,
    gains: np.ndarray,
    weights: np.ndarray,
    limit: float,
) -> np.ndarray | None:
  """Picks a choice for each gate and bin by a linear program.

  One limit couples all bins, so at most one of them comes out divided between
  two choices; it gets the cheaper one.

  Returns:
    `int[3, b]` choices, or None if none keep to the limit.
  """
  madds = calibration.stage_madds[1:, indices].astype(float)
  costs = weights[:, :, None] * madds[:, None, :]
  rest = limit - calibration.stage_madds[0, start]
  num_bins, num_choices = weights.size, len(indices)
  unit = max(limit, 1.0)
  solution = optimize.linprog(
      -gains.ravel(),
      A_ub=costs.reshape(1, -1) / unit,
      b_ub=[rest / unit],
      A_eq=np.kron(np.eye(num_bins), np.ones(num_choices)),
      b_eq=np.ones(num_bins),
  )
  if solution.status != 0:
    return None
  shares = solution.x.reshape(gains.shape)
  dear = np.where(shares > 1e-6, madds[:, None, :], np.inf)
  return indices[dear.argmin(-1)]


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
  block = np.ix_(*[[c.index for c in SCOPES[scope]]] * NUM_STAGES)
  near = np.abs(madds[block] / target - 1.0) <= tolerance
  return float(top1[block][near].mean()) if near.any() else None


def to_json(
    rules: dict[str, dict[str, Rule]], edges: Sequence[np.ndarray]
) -> dict[str, Any]:
  """Returns policies, by scope and name, as JSON values."""
  return {
      'edges': [e.tolist() for e in edges],
      'rules': {
          scope: {
              name: {'start': rule.start, 'choices': rule.choices.tolist()}
              for name, rule in by_name.items()
          }
          for scope, by_name in rules.items()
      },
  }


def from_json(values: dict[str, Any], scope: str, name: str) -> Policy:
  """Returns a policy that `to_json` wrote."""
  rule = values['rules'][scope][name]
  edges = [np.array(e, np.float32) for e in values['edges']]
  return to_policy(Rule(rule['start'], np.array(rule['choices'])), edges)
