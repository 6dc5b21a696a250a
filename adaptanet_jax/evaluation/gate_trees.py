# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Exact search for the decision tree over gates that is best at a price.

N = examples, k = choices of a scope, b = bins of a gate, c = merged bins.
"""

from collections.abc import Callable

import numpy as np

from adaptanet_jax.evaluation.policies import Observed, Rule, scope_indices
from adaptanet_jax.models.routing import ROUTING_GATES
from adaptanet_jax.models.subnet import NUM_STAGES


def fit(
    observed: Observed, *, scope: str, gates: tuple[int, ...], count: int
) -> Callable[[float], Rule]:
  """Prepares the search for the best decision tree over some gates.

  Right answers are counted once for every path of choices and bins. Given a
  price, dynamic programming then runs backwards: for every path it finds the
  best choice after the last gate, then whether reading that gate is worth its
  MAdds there, then the best choice before it, and so on to the start.

  Args:
    observed: examples to make the trees from.
    scope: one of `policies.SCOPES`.
    gates: the gates that a tree may read.
    count: c, the number of bins that neighbouring bins are merged into.

  Returns:
    Maps a price, in right answers per MAdd, to the rule that is best at it.
  """
  indices = scope_indices(scope)
  joined = np.arange(observed.num_bins) * count // observed.num_bins
  right, examples = _tallies(observed, indices, joined)
  costs = observed.stage_madds[:, indices].astype(float)

  def solve(price: float) -> Rule:
    # Axes: choices of stages 1 to n, then bins of the gates so far.
    value, picks, reads = right, [], []
    for gate in reversed(ROUTING_GATES):
      axis = gate  # The axis of the choice after the gate.
      shape = [1] * value.ndim
      shape[axis] = len(indices)
      number = examples[gate]
      value = value - price * costs[gate].reshape(shape) * np.expand_dims(
          number, axis
      )
      picks.append(value.argmax(axis))
      value = value.max(axis)
      unread, bins = value[..., -1], value[..., :-1]
      if gate in gates:
        cost = price * float(observed.gate_madds[gate - 1])
        gain = bins.sum(-1) - cost * number[..., -1] - unread
        reads.append(gain > 0.0)
        value = unread + np.maximum(gain, 0.0)
      else:
        reads.append(np.zeros(unread.shape, bool))
        value = unread
    value = value - price * costs[0] * len(observed)
    return _tree(
        int(value.argmax()), picks[::-1], reads[::-1], indices, joined
    )

  return solve


def _tallies(
    observed: Observed, indices: np.ndarray, joined: np.ndarray
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
  """Counts right answers and examples for every path of choices and bins.

  Every axis of bins has one more entry, the last, for a gate that is not read:
  the total of all its bins.

  Args:
    observed: examples.
    indices: `int[k]`, choices of the scope.
    joined: `int[b]`, the merged bin of each bin, 0 to c - 1.

  Returns:
    `float[k, k, k, k, c + 1, c + 1, c + 1]` right answers; for each gate n the
    number of examples, `float[k] * n + [c + 1] * n`.
  """
  num_choices, num_bins = observed.correct.shape[0], joined[-1] + 1
  right = np.zeros((len(indices),) * NUM_STAGES + (num_bins,) * 3)
  count = {
      gate: np.zeros((len(indices),) * gate + (num_bins,) * gate)
      for gate in ROUTING_GATES
  }

  def descend(path: tuple[int, ...], code: np.ndarray) -> None:
    """Counts for a path of choices and all that follow; `code`: bins so far."""
    gate = len(path)
    chosen = tuple(indices[list(path)])
    prefix = int(np.ravel_multi_index(chosen, (num_choices,) * gate))
    bins = observed.bins(gate, np.full(len(observed), prefix))
    code = code * num_bins + joined[bins]
    shape = (num_bins,) * gate
    size = num_bins**gate
    count[gate][path] = np.bincount(code, minlength=size).reshape(shape)
    for position in range(len(indices)):
      if gate < ROUTING_GATES[-1]:
        descend((*path, position), code)
      else:
        answers = observed.correct[(*chosen, indices[position])]
        right[(*path, position)] = np.bincount(code, answers, size).reshape(
            shape
        )

  for position in range(len(indices)):
    descend((position,), np.zeros(len(observed), int))
  count = {
      gate: _with_totals(table, range(gate, table.ndim))
      for gate, table in count.items()
  }
  return _with_totals(right, range(NUM_STAGES, right.ndim)), count


def _with_totals(table: np.ndarray, axes: range) -> np.ndarray:
  for axis in axes:
    total = table.sum(axis, keepdims=True)
    table = np.concatenate([table, total], axis)
  return table


def _tree(
    start: int,
    picks: list[np.ndarray],
    reads: list[np.ndarray],
    indices: np.ndarray,
    joined: np.ndarray,
) -> Rule:
  """Builds a rule by following the best choices from a start.

  Args:
    start: position of stage 1's choice in `indices`.
    picks: for each gate the position of the best choice after it, indexed by
      the choices before it and the bins up to it.
    reads: for each gate whether it is read, indexed by the choices and bins
      before it.
    indices: choices of the scope.
    joined: `int[b]`, the merged bin of each bin.
  """
  unread = joined[-1] + 1
  # The choices and merged bins of all paths so far, with an axis for each gate:
  # at a gate, those before it get one more axis.
  chosen: list[np.ndarray] = [np.array(start)]
  bins: list[np.ndarray] = []
  read, choices = [], []
  for pick, is_read in zip(picks, reads, strict=True):
    read.append(np.asarray(is_read[(*chosen, *bins)]))
    own = np.where(read[-1][..., None], joined, unread)
    chosen, bins = ([x[..., None] for x in xs] for xs in (chosen, bins))
    bins.append(own)
    chosen.append(pick[(*chosen, *bins)])
    choices.append(indices[chosen[-1]])
  return Rule(int(indices[start]), tuple(read), tuple(choices))
