# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The policy `budget`: the most accurate one found within a limit on MAdds.

Beyond the paper. Measured on a few hundred examples, many of the 4,096 subnets,
and even more decision trees over gates, look better than they are. A policy
therefore starts as the simplest use of a budget, a mixture of two uniform
subnets. A richer kind of policy replaces it only if its paired, cross-validated
gain exceeds the standard error of that gain, or two of them if it reads gates;
otherwise gates are not read and cost nothing.

Second looks run all examples under one uniform subnet, and those whose answer
is least clear once more under another, as many as the budget allows. Every
other kind returns, given a price per MAdd, the rule that maximises the expected
share of right answers minus the price of its MAdds. Two rules at nearly the
same price, one within the budget and one beyond, are mixed to use it exactly.

N = examples, k = choices of a scope, b = bins of a gate.
"""

from collections.abc import Callable
import dataclasses
import functools
import itertools
from typing import Any

import numpy as np

from adaptanet_jax.evaluation import gate_trees
from adaptanet_jax.evaluation.policies import (
  Mixture,
  Observed,
  Rule,
  outcome,
  scope_indices,
  second_look,
  uniform_subnets,
)
from adaptanet_jax.models.routing import ROUTING_GATES
from adaptanet_jax.models.subnet import NUM_STAGES

# Folds of the cross-validation: rules made from the others are judged on each.
FOLDS = 5
# Steps of the bisection over prices.
_HALVINGS = 24
# Numbers of bins that the observed bins of a gate may be merged into.
_JOINED_BINS = (2, 4)
# Examples that a leaf of a tree must have for its best choice to be known.
_EXAMPLES_OF_A_LEAF = 50

# Standard errors that the gain of a kind that reads gates has to exceed. Up to
# eight such kinds are tried: with one error, gates that know nothing would be
# read by chance now and then.
_ERRORS_OF_GATES = 2.0

# Maps a price, in right answers per MAdd, to the rule that is best at it.
Solver = Callable[[float], Rule]


@dataclasses.dataclass(frozen=True)
class Kind:
  """A kind of policy.

  Attributes:
    make: makes one from observed examples, within a limit on the mean MAdds;
      None if there is none.
    errors: standard errors that its gain has to exceed.
  """

  make: Callable[[Observed, float], Mixture | None]
  errors: float = 1.0


@dataclasses.dataclass(frozen=True)
class Found:
  """The result of `budget`.

  Attributes:
    mixture: the policy.
    kind: what it consists of: 'uniform' or 'fixed' subnets; or the kind of
      policy that it was made as, if it reads a gate or looks twice.
    gain: cross-validated gain in accuracy, as a share of right answers, of the
      kind that it was made as, which may read gates, over mixtures of uniform
      subnets; 0 if it consists of these. As the best of several kinds was
      taken, it is rather too high.
    gain_error: the standard error of the gain of one kind.
  """

  mixture: Mixture
  kind: str
  gain: float
  gain_error: float


def budget(
    observed: Observed, scope: str, limit: float
) -> Found | None:
  """Finds the most accurate policy within a limit on the mean MAdds.

  Args:
    observed: examples to make the policy from.
    scope: one of `policies.SCOPES`.
    limit: largest mean MAdds, including those of the gates that are read.

  Returns:
    The policy; None if even the cheapest subnet of the scope exceeds the limit.
  """
  by_name = kinds(scope, observed.num_bins, len(observed))
  start, *richer = by_name
  policy = by_name[start].make(observed, limit)
  if policy is None:
    return None
  if len(observed) < 2:  # None is left to judge other kinds on.
    return Found(policy, start, 0.0, 0.0)
  uniform = cross_validated(by_name[start], observed, limit)
  chosen, best, gain, error = start, uniform, 0.0, 0.0
  for name in richer:
    values = cross_validated(by_name[name], observed, limit)
    advantage, doubt = _mean_and_error(values - best)
    if advantage > by_name[name].errors * doubt:
      chosen, best = name, values
      gain, error = _mean_and_error(values - uniform)
  if chosen != start:
    policy = by_name[chosen].make(observed, limit)
    assert policy is not None, chosen  # Includes uniform subnets.
  made_of = _made_of(policy) or chosen
  if made_of == start:
    gain = error = 0.0
  if made_of in ('uniform', 'fixed'):
    policy = dataclasses.replace(policy, look=None)
    if policy.share == 1.0:
      policy = Mixture.of(policy.first)
  return Found(policy, made_of, gain, error)


def _made_of(mixture: Mixture) -> str | None:
  """Names the subnets of a policy; None if it reads a gate or looks twice.

  A kind of policy may do so, or run subnets that are not uniform, but what it
  gives at a budget need not.
  """
  rules = [rule for rule, share in mixture.rules if share]
  if mixture.margin or any(rule.reads_gate for rule in rules):
    return None
  is_uniform = all(len(set(rule.subnet)) == 1 for rule in rules)
  return 'uniform' if is_uniform else 'fixed'


def _mean_and_error(values: np.ndarray) -> tuple[float, float]:
  error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
  return float(values.mean()), float(error)


def kinds(scope: str, num_bins: int, num_examples: int) -> dict[str, Kind]:
  """Returns the kinds of policies to try by name, the simplest first.

  Args:
    scope: one of `policies.SCOPES`.
    num_bins: b.
    num_examples: N.
  """
  def priced(fit: Callable[..., Solver], **how: Any) -> Any:
    fit = functools.partial(fit, scope=scope, **how)
    return lambda observed, limit: at_budget(fit(observed), observed, limit)

  look = functools.partial(_look_twice, scope=scope)
  found = {
      'uniform': Kind(priced(_fit_uniform)),
      'second look': Kind(functools.partial(look, ends=True)),
      'any second look': Kind(functools.partial(look, ends=False)),
      'fixed': Kind(priced(_fit_fixed)),
  }
  gates = [(gate,) for gate in ROUTING_GATES] + [ROUTING_GATES]
  for read, count in itertools.product(gates, _JOINED_BINS):
    leaves = count ** len(read)
    if count > num_bins or num_examples < leaves * _EXAMPLES_OF_A_LEAF:
      continue
    gate = f'gates {read[0]}-{read[-1]}' if len(read) > 1 else f'gate {read[0]}'
    found[f'{gate}, {count} bins'] = Kind(
        priced(gate_trees.fit, gates=read, count=count), _ERRORS_OF_GATES
    )
  return found


def cross_validated(
    kind: Kind, observed: Observed, limit: float
) -> np.ndarray:
  """Judges a kind of policy by cross-validation.

  Args:
    kind: the kind to judge.
    observed: examples.
    limit: limit on the mean MAdds.

  Returns:
    `float[N]`, the chance that each example is classified correctly, corrected
    for its cost: MAdds beyond what the policy takes on the examples that it was
    made from are charged at the price at which the policy turns MAdds into
    right answers, and MAdds below that are credited. A policy of a single rule,
    which has no such price, is not corrected.
  """
  num_examples = len(observed)
  order = np.random.default_rng(0).permutation(num_examples)
  values = np.zeros(num_examples)
  for fold in range(FOLDS):
    apart = order[fold::FOLDS]
    rest = observed.take(np.delete(order, np.s_[fold::FOLDS]))
    policy = kind.make(rest, limit)
    assert policy is not None, kind
    right, madds = outcome(observed.take(apart), policy)
    price, taken = _price(policy, rest)
    values[apart] = right - price * (madds - taken)
  return values


def at_budget(
    solver: Solver, observed: Observed, limit: float
) -> Mixture | None:
  """Mixes two rules of a solver so that their mean MAdds equal a limit.

  Args:
    solver: maps a price to a rule.
    observed: examples over which the mean MAdds are taken.
    limit: the mean MAdds to reach; less if the most accurate rule needs less.

  Returns:
    The mixture; None if even the cheapest rule exceeds the limit.
  """
  def spends(rule: Rule) -> float:
    return float(outcome(observed, Mixture.of(rule))[1].mean())

  high = 2.0 / max(1.0, float(observed.stage_madds.min()))
  # Too low to give up a right answer; of equal rules it chooses the cheapest.
  low = 1e-12 * high
  dear, cheap = solver(low), solver(high)
  if spends(dear) <= limit:
    return Mixture.of(dear)
  # At this price, MAdds cost more than any right answers are worth.
  while spends(cheap) > limit:
    if high > 1e6:
      return None
    high *= 1e3
    cheap = solver(high)
  for _ in range(_HALVINGS):
    # The geometric mean: prices range over many orders of magnitude.
    middle = np.sqrt(high * low)
    rule = solver(middle)
    if spends(rule) <= limit:
      high, cheap = middle, rule
    else:
      low, dear = middle, rule
  most, least = spends(dear), spends(cheap)
  return Mixture(cheap, dear, (most - limit) / (most - least))


def _price(mixture: Mixture, observed: Observed) -> tuple[float, float]:
  """Returns the price of a MAdd under a policy, and the mean MAdds of it.

  The price is what it gains over its first rule, in right answers per MAdd.
  """
  (right, madds), (more, taken) = (
      (
          float(values.mean())
          for values in outcome(
              observed, dataclasses.replace(mixture, share=share)
          )
      )
      for share in (1.0, mixture.share)
  )
  if taken <= madds:  # A single rule.
    return 0.0, taken
  return max(0.0, (more - right) / (taken - madds)), taken


def _look_twice(
    observed: Observed, limit: float, *, scope: str, ends: bool
) -> Mixture | None:
  """Returns the most accurate policy with a second look.

  Args:
    observed: examples to make it from.
    limit: limit on the mean MAdds.
    scope: one of `policies.SCOPES`.
    ends: whether to try only the cheapest subnet first and the largest second,
      so that nothing is chosen by accuracies; otherwise all pairs.
  """
  indices = scope_indices(scope)
  madds = observed.stage_madds.sum(0)[indices]
  by_madds = indices[np.argsort(madds, kind='stable')].tolist()
  tried = [by_madds[0], by_madds[-1]] if ends else by_madds
  best, most = None, -1.0
  for first, second in itertools.combinations(tried, 2):
    policy = second_look(observed, first, second, limit)
    if policy and (right := outcome(observed, policy)[0].mean()) > most:
      best, most = policy, right
  return best


def _fit_uniform(observed: Observed, *, scope: str) -> Solver:
  """Chooses among uniform subnets: few, so their accuracies are reliable."""
  subnets = uniform_subnets(scope)
  right = observed.correct[tuple(subnets.T)].mean(-1)
  return _best_of(observed, subnets, right)


def _fit_fixed(observed: Observed, *, scope: str) -> Solver:
  """Chooses among all subnets of a scope by `expected_top1`."""
  indices = scope_indices(scope)
  block = np.ix_(*[indices] * NUM_STAGES)
  subnets = np.array(list(itertools.product(indices, repeat=NUM_STAGES)))
  expected = expected_top1(observed.correct[block]).ravel()
  return _best_of(observed, subnets, expected)


def _best_of(
    observed: Observed, subnets: np.ndarray, right: np.ndarray
) -> Solver:
  costs = observed.stage_madds[np.arange(NUM_STAGES), subnets].sum(-1)

  def solve(price: float) -> Rule:
    best = subnets[np.argmax(right - price * costs)]
    return Rule.fixed(best, observed.num_bins)

  return solve


def expected_top1(correct: np.ndarray) -> np.ndarray:
  """Estimates accuracies of many subnets from few examples.

  The highest of many measured accuracies is too high: some of it is luck.
  Accuracies are therefore decomposed into effects of single stages, of pairs,
  of triples and of all four. The effects of each order are then shrunk as far
  as two halves of the examples disagree about them.

  Args:
    correct: `bool[k, k, k, k, N]`.

  Returns:
    `float[k, k, k, k]`.
  """
  num_examples = correct.shape[-1]
  if num_examples < 2:
    return correct.mean(-1)
  order = np.random.default_rng(0).permutation(num_examples)
  halves = [correct[..., order[n::2]].mean(-1) for n in (0, 1)]
  total = np.zeros(correct.shape[:-1])
  whole, first, second = map(_effects, (correct.mean(-1), *halves))
  for order_of, effect in whole.items():
    total += effect * (
        1.0
        if order_of == 0
        else _reliability(first[order_of], second[order_of])
    )
  return total


def _effects(table: np.ndarray) -> dict[int, np.ndarray]:
  """Returns the sums of a table's effects by the number of axes involved."""
  by_axes: dict[tuple[int, ...], np.ndarray] = {}
  by_order = {n: np.zeros(table.shape) for n in range(table.ndim + 1)}
  for count in range(table.ndim + 1):
    for axes in itertools.combinations(range(table.ndim), count):
      others = tuple(a for a in range(table.ndim) if a not in axes)
      effect = table.mean(others, keepdims=True)
      for fewer, known in by_axes.items():
        if set(fewer) < set(axes):
          effect = effect - known
      by_axes[axes] = effect
      by_order[count] = by_order[count] + effect
  return by_order


def _reliability(first: np.ndarray, second: np.ndarray) -> float:
  """Returns the share of the effects' variance that is not due to chance.

  The reliability of two halves, stepped up to that of all examples (Spearman
  and Brown, 1910).
  """
  variance = (np.square(first).mean() + np.square(second).mean()) / 2.0
  if variance == 0.0:
    return 0.0
  half = max(0.0, float((first * second).mean() / variance))
  return 2.0 * half / (1.0 + half)
