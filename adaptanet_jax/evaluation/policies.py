# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Policies: which choice follows which confidence (Sec. V-C); second looks.

All are made from observations on some examples: which subnets got each of them
right, how confident the gates were, and how clear the answers. From these, the
outcome of a policy can be computed exactly, without running the network.

N = examples, K = choices of a stage, b = bins; gate n reads anchor n and
chooses for stage n + 1.
"""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

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
# Steps, from none to all, of the share of examples that get a second look.
_STEPS = 100


@dataclasses.dataclass(frozen=True)
class Observed:
  """Observations that policies are made from.

  Attributes:
    correct: `bool[K, K, K, K, N]`, whether a subnet gets an example right.
    confidences: confidences of gates 1 to 3 after each prefix: `float32[K, N]`,
      `float32[K, K, N]`, `float32[K, K, K, N]`.
    edges: for each gate n, the inner borders of the equal-frequency bins of its
      confidence after each prefix, `float32[K ** n, b - 1]`.
    stage_madds: `int64[4, K]`, MAdds of each stage's choices; stage 4 includes
      the head.
    gate_madds: `int64[3]`, MAdds of the gates.
    margins: `gates.margin` of the answers of uniform subnets, by their choice,
      `float32[K, N]`.
  """

  correct: np.ndarray
  confidences: tuple[np.ndarray, ...]
  edges: tuple[np.ndarray, ...]
  stage_madds: np.ndarray
  gate_madds: np.ndarray
  margins: np.ndarray

  @classmethod
  def create(
      cls,
      correct: np.ndarray,
      confidences: Sequence[np.ndarray],
      stage_madds: np.ndarray,
      gate_madds: np.ndarray,
      margins: np.ndarray,
      *,
      num_bins: int,
  ) -> 'Observed':
    """Computes the bins of each gate and prefix from the confidences."""
    quantiles = np.arange(1, num_bins) / num_bins
    edges = tuple(
        np.quantile(
            values.reshape(-1, values.shape[-1]), quantiles, axis=-1
        ).T.astype(np.float32)
        for values in confidences
    )
    return cls(
        correct, tuple(confidences), edges, stage_madds, gate_madds, margins
    )

  def __len__(self) -> int:
    """Returns N."""
    return self.correct.shape[-1]

  @property
  def num_bins(self) -> int:
    """The number of bins of a gate, b."""
    return self.edges[0].shape[1] + 1

  def take(self, examples: np.ndarray) -> 'Observed':
    """Selects some examples; the borders of the bins stay those of all."""
    return dataclasses.replace(
        self,
        correct=self.correct[..., examples],
        confidences=tuple(c[..., examples] for c in self.confidences),
        margins=self.margins[..., examples],
    )

  def bins(self, gate: int, prefix: np.ndarray) -> np.ndarray:
    """Returns the bin of each example at a gate.

    Args:
      gate: 1 to 3.
      prefix: `int[N]`, the choices so far as one number in base K.

    Returns:
      `int[N]`.
    """
    values = self.confidences[gate - 1]
    flat = values.reshape(-1, values.shape[-1])
    confident = flat[prefix, np.arange(flat.shape[1])]
    return (confident[:, None] > self.edges[gate - 1][prefix]).sum(-1)


@dataclasses.dataclass(frozen=True)
class Rule:
  """A decision tree: each stage's choice by the bins of the gates before it.

  If a gate is not read, every example counts as in its bin 0 at no cost.

  Attributes:
    start: choice of stage 1.
    reads: whether gates 1 to 3 are read, indexed by the bins of the gates
      before: `bool[]`, `bool[b]`, `bool[b, b]`.
    choices: choices of stages 2 to 4, indexed by the bins so far: `int[b]`,
      `int[b, b]`, `int[b, b, b]`.
  """

  start: int
  reads: tuple[np.ndarray, ...]
  choices: tuple[np.ndarray, ...]

  @property
  def reads_gate(self) -> bool:
    """Whether it reads a gate, for any example."""
    # Of a gate that is not read, every example is in bin 0.
    return any(bool(reads.flat[0]) for reads in self.reads)

  @property
  def subnet(self) -> np.ndarray:
    """Choices of the subnet that it runs if it reads no gate, `int[4]`."""
    return np.array([self.start, *(table.flat[0] for table in self.choices)])

  @classmethod
  def fixed(cls, subnet: Sequence[int], num_bins: int) -> 'Rule':
    """Returns the rule that runs one subnet, `int[4]`, and reads no gate."""
    start, *rest = (int(choice) for choice in subnet)
    return cls(
        start,
        tuple(np.zeros((num_bins,) * n, bool) for n in range(len(rest))),
        tuple(
            np.full((num_bins,) * (n + 1), choice)
            for n, choice in enumerate(rest)
        ),
    )

  @classmethod
  def by_bin(cls, start: int, table: np.ndarray) -> 'Rule':
    """Returns the rule that reads every gate and chooses by its bin alone.

    Args:
      start: choice of stage 1.
      table: `int[3, b]`, the next choice by gate and bin.
    """
    num_bins = table.shape[1]
    return cls(
        start,
        tuple(np.ones((num_bins,) * n, bool) for n in range(len(table))),
        tuple(
            np.broadcast_to(row, (num_bins,) * (n + 1)).copy()
            for n, row in enumerate(table)
        ),
    )


@dataclasses.dataclass(frozen=True)
class SecondLook:
  """Which examples are run once more: those whose first answer is least clear.

  s = steps, in which the share of these examples grows from none to all.

  Attributes:
    margins: `float[s + 1]`: examples whose `gates.margin` is below are run once
      more.
    top1: `float[s + 1]`, the accuracy that this gives.
  """

  margins: np.ndarray
  top1: np.ndarray

  def at(self, share: float) -> int:
    """Returns the last step that runs at most 1 - share once more."""
    return int((1.0 - share) * (len(self.margins) - 1) + 1e-9)


@dataclasses.dataclass(frozen=True)
class Mixture:
  """A policy: two rules, each for a share of the examples.

  Without a second look, the rule that an example follows is drawn independently
  of its content; see `routing.draw`. The mean MAdds can thus be any value
  between those of the two. With a second look, all examples follow the first
  rule, and some then the second one, whose answer counts.

  Attributes:
    first: the rule of a share of the examples.
    second: the rule of the rest.
    share: share of the examples that follow the first rule (alone).
    look: how the rest is found; None: drawn. If given, each rule runs one
      uniform subnet.
  """

  first: Rule
  second: Rule
  share: float = 1.0
  look: SecondLook | None = None

  @classmethod
  def of(cls, rule: Rule) -> 'Mixture':
    """Returns the mixture in which all examples follow one rule."""
    return cls(rule, rule)

  @property
  def rules(self) -> tuple[tuple[Rule, float], ...]:
    """The two rules with their shares."""
    return (self.first, self.share), (self.second, 1.0 - self.share)

  @property
  def reads_gate(self) -> bool:
    """Whether one of its rules reads a gate."""
    return any(rule.reads_gate for rule, _ in self.rules)

  @property
  def is_single(self) -> bool:
    """Whether both rules are the same."""
    first, second = self.first, self.second
    tables = zip(
        first.reads + first.choices, second.reads + second.choices, strict=True
    )
    return first.start == second.start and all(
        np.array_equal(own, other) for own, other in tables
    )

  @property
  def margin(self) -> float:
    """The margin below which an answer leads to a second look; 0: none does."""
    if self.look is None:
      return 0.0
    return float(self.look.margins[self.look.at(self.share)])


def second_look(
    observed: Observed,
    first: int,
    second: int,
    limit: float,
) -> Mixture | None:
  """Returns a policy that runs unclear examples once more.

  Args:
    observed: examples to find its margins on.
    first: choice of the uniform subnet that all examples run under.
    second: choice of the uniform subnet for a second look.
    limit: largest mean MAdds; it decides how many examples get one.

  Returns:
    The policy; None if the first subnet alone takes more than the limit.
  """
  least, more = observed.stage_madds.sum(0)[[first, second]].tolist()
  if least > limit:
    return None
  margins = observed.margins[first]
  counts = np.arange(_STEPS + 1) * len(margins) // _STEPS
  # With the margin of an example, fewer than its place in the order are below.
  # No margin exceeds 1.
  borders = np.append(np.sort(margins), 2.0)[counts]
  borders[0] = 0.0
  again = margins < borders[:, None]
  right = np.where(
      again,
      observed.correct[(second,) * NUM_STAGES],
      observed.correct[(first,) * NUM_STAGES],
  )
  share = 1.0 - int(min(1.0, (limit - least) / more) * _STEPS + 1e-9) / _STEPS
  return Mixture(
      Rule.fixed((first,) * NUM_STAGES, observed.num_bins),
      Rule.fixed((second,) * NUM_STAGES, observed.num_bins),
      share,
      SecondLook(borders, right.mean(-1)),
  )


def play(
    observed: Observed, rule: Rule
) -> tuple[np.ndarray, np.ndarray]:
  """Applies a rule to observed examples.

  Args:
    observed: the examples.
    rule: the rule.

  Returns:
    `int[N, 4]`, the subnet of each example, and `bool[N, 3]`, whether each gate
    is read for it.
  """
  num_choices = observed.correct.shape[0]
  choice = np.full(len(observed), rule.start)
  prefix = choice
  taken, read = [choice], []
  path: tuple[np.ndarray, ...] = ()
  for gate in ROUTING_GATES:
    reads = np.broadcast_to(rule.reads[gate - 1][path], choice.shape)
    bins = np.zeros_like(choice)
    if reads.any():
      bins = np.where(reads, observed.bins(gate, prefix), bins)
    path = (*path, bins)
    choice = rule.choices[gate - 1][path]
    taken.append(choice)
    read.append(reads)
    prefix = prefix * num_choices + choice
  return np.stack(taken, 1), np.stack(read, 1)


def outcome(
    observed: Observed, mixture: Mixture
) -> tuple[np.ndarray, np.ndarray]:
  """Computes the expected accuracy and cost of each example under a policy.

  Args:
    observed: the examples.
    mixture: the policy.

  Returns:
    `float[N]`, the chance that each example is classified correctly, and
    `float[N]`, its mean MAdds, including those of the gates that are read.
  """
  def follow(rule: Rule) -> tuple[np.ndarray, np.ndarray]:
    subnets, reads = play(observed, rule)
    right = observed.correct[(*subnets.T, np.arange(len(observed)))]
    return right, madds_of(observed, subnets, reads)

  return mixed(mixture, follow, observed.margins[mixture.first.start])


def mixed(
    mixture: Mixture,
    follow: Callable[[Rule], tuple[np.ndarray, np.ndarray]],
    margins: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """Computes `outcome` from what each of the two rules gives on its own.

  Args:
    mixture: the policy.
    follow: returns whether a rule gets each example right, and its MAdds.
    margins: margins of the first rule's answers, for a second look.

  Returns:
    As `outcome` does.
  """
  right, madds = other_right, other_madds = follow(mixture.first)
  if not mixture.is_single:
    other_right, other_madds = follow(mixture.second)
  if mixture.look:
    again = margins < mixture.margin
    right = np.where(again, other_right, right).astype(float)
    return right, (madds + again * other_madds).astype(float)
  share, rest = mixture.share, 1.0 - mixture.share
  return share * right + rest * other_right, share * madds + rest * other_madds


def madds_of(
    observed: Observed, subnets: np.ndarray, reads: np.ndarray
) -> np.ndarray:
  """Returns the MAdds of examples.

  Args:
    observed: has the MAdds of stages and gates.
    subnets: `int[N, 4]`, the subnet that runs each example.
    reads: `bool[N, 3]`, whether each gate is read for it.

  Returns:
    `int64[N]`.
  """
  stages = observed.stage_madds[np.arange(NUM_STAGES), subnets].sum(-1)
  return stages + reads @ observed.gate_madds


def start_choice(scope: str, rho: float) -> int:
  """Returns the choice of stage 1 at width `rho` in a scope."""
  return StageChoice(rho, delta=scope == 'depth').index


def ranked(
    observed: Observed, scope: str, *, start: int, pull_up: bool
) -> Mixture:
  """Maps a gate's bins to the next stage's choices in order of accuracy.

  A choice's accuracy at a gate is the mean over all subnets of the scope that
  make it at the next stage.

  Args:
    observed: examples to measure accuracies on.
    scope: one of `SCOPES`.
    start: choice of stage 1.
    pull_up: whether the lowest confidence gets the most accurate choice (or the
      least accurate one).

  Returns:
    The policy `pull_up` or `pull_down`.
  """
  indices = scope_indices(scope)
  top1 = observed.correct.mean(-1)[np.ix_(*[indices] * NUM_STAGES)]
  rows = []
  for gate in ROUTING_GATES:
    others = tuple(axis for axis in range(NUM_STAGES) if axis != gate)
    accuracies = top1.mean(others)
    # Of equally accurate choices, the one with more MAdds ranks higher.
    madds = observed.stage_madds[gate][indices]
    best_first = indices[np.lexsort((-madds, -accuracies))]
    if not pull_up:
      best_first = best_first[::-1]
    num_bins = observed.num_bins
    rows.append(best_first[np.arange(num_bins) * len(indices) // num_bins])
  return Mixture.of(Rule.by_bin(start, np.stack(rows)))


def scope_indices(scope: str) -> np.ndarray:
  """Returns the branch indices of the choices of a scope, `int[k]`."""
  return np.array([choice.index for choice in SCOPES[scope]])


def uniform_subnets(scope: str) -> np.ndarray:
  """Returns the branch indices of a scope's uniform subnets, `int[k, 4]`."""
  return np.repeat(scope_indices(scope)[:, None], NUM_STAGES, 1)


def to_policy(mixture: Mixture, edges: Sequence[np.ndarray]) -> Policy:
  """Converts a mixture and the borders of bins for use by `routing.route`.

  Of a second look, this is the first one.
  """
  first, second = mixture.first, mixture.second

  def both(ones: Any, others: Any, dtype: Any) -> tuple[jax.Array, ...]:
    return tuple(
        jnp.asarray(np.stack(pair), dtype) for pair in zip(ones, others)
    )

  return Policy(
      # Nothing is drawn before a second look.
      share=jnp.asarray(1.0 if mixture.look else mixture.share, jnp.float32),
      start=jnp.asarray([first.start, second.start], jnp.int32),
      edges=tuple(jnp.asarray(e, jnp.float32) for e in edges),
      reads=both(first.reads, second.reads, bool),
      choices=both(first.choices, second.choices, jnp.int32),
  )


def policy_shapes(num_choices: int, num_bins: int) -> Policy:
  """Returns the shapes of the arrays of any `Policy`."""
  rule = Rule.fixed((0,) * NUM_STAGES, num_bins)
  edges = [
      np.zeros((num_choices**gate, num_bins - 1)) for gate in ROUTING_GATES
  ]
  return jax.eval_shape(lambda: to_policy(Mixture.of(rule), edges))


def to_json(
    mixtures: dict[str, dict[str, Mixture]],
    edges: Sequence[np.ndarray],
    confidence: str,
) -> dict[str, Any]:
  """Returns policies, by scope and name, as JSON values.

  Args:
    mixtures: the policies.
    edges: borders of the bins of each gate's confidence.
    confidence: the form of confidence in these bins, of `gates.CONFIDENCES`.
  """
  return {
      'confidence': confidence,
      'edges': [e.tolist() for e in edges],
      'rules': {
          scope: {name: _mixture_json(m) for name, m in by_name.items()}
          for scope, by_name in mixtures.items()
      },
  }


def _mixture_json(mixture: Mixture) -> list[dict[str, Any]]:
  rules = [
      {'share': share} | _rule_json(rule) for rule, share in mixture.rules
  ]
  if mixture.look:
    rules[0]['second_look'] = {
        name: values.tolist()
        for name, values in dataclasses.asdict(mixture.look).items()
    }
  return rules[:1] if mixture.is_single else rules


def _rule_json(rule: Rule) -> dict[str, Any]:
  if not rule.reads_gate:
    return {'subnet': rule.subnet.tolist()}
  return {
      'start': rule.start,
      'reads': [r.tolist() for r in rule.reads],
      'choices': [c.tolist() for c in rule.choices],
  }


def _rule_from_json(values: dict[str, Any], num_bins: int) -> Rule:
  if 'subnet' in values:
    return Rule.fixed(values['subnet'], num_bins)
  return Rule(
      values['start'],
      tuple(np.array(r, bool) for r in values['reads']),
      tuple(np.array(c) for c in values['choices']),
  )


def from_json(values: dict[str, Any], scope: str, name: str) -> Mixture:
  """Returns a policy that `to_json` wrote; its edges are `values['edges']`."""
  rules = values['rules'][scope][name]
  num_bins = len(values['edges'][0][0]) + 1
  # A single one if both are the same.
  first, *others = (_rule_from_json(rule, num_bins) for rule in rules)
  second = others[0] if others else first
  look = rules[0].get('second_look')  # Not in files of before there were any.
  return Mixture(
      first,
      second,
      rules[0]['share'],
      look and SecondLook(**{key: np.array(look[key]) for key in look}),
  )
