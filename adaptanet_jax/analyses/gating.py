# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The confidence of Var Gates (Fig. 4)."""

import functools
from typing import Any

import numpy as np
from scipy import stats

from adaptanet_jax import workspace
from adaptanet_jax.analyses import common
from adaptanet_jax.evaluation import (
  cost,
  protocols,
)
from adaptanet_jax.models.subnet import EVERY_UNIFORM, Subnet
from adaptanet_jax.programs import Program
from adaptanet_jax.workspace import Workspace


def gate_program(work: Workspace, variables: Any) -> Program:
  """Returns the program that runs all uniform subnets and reads all gates."""
  net = workspace.student_for(work.nets, variables)
  predictor = protocols.subnets_predictor(net, EVERY_UNIFORM, work.gates)
  return common.program(work, predictor, variables)


def gate_results(work: Workspace, program: Program) -> dict[str, Any]:
  """Measures each gate on the uniform subnets.

  Args:
    work: the run.
    program: `gate_program` of the run.

  Returns:
    The entry `gates` of results.json. `bins` has the policies' examples, as in
    the paper, and `bins_test` the test split.
  """
  read = functools.partial(
      common.predict, work, program, work.variables['student']
  )
  splits = {
      'bins': common.policy_split(work),
      'bins_test': work.dataset.test,
  }
  outputs = {name: read(split) for name, split in splits.items()}
  detected = outputs['bins_test']['detected'] == work.dataset.test.labels
  madds = cost.gate_madds(work.gates, work.supernet)
  found: dict[str, Any] = {}
  for n, anchor in enumerate(work.gates.anchors):
    bins = {
        name: _bins_of_subnets(
            outputs[name]['confidence'][:, n],
            outputs[name]['prediction'] == split.labels,
            work.config.policies.bins,
        )
        for name, split in splits.items()
    }
    found[str(anchor)] = {
        # Accuracy of the gate's own classes, reading the largest subnet.
        'top1': float(detected[0, n].mean()),
        'madds': madds[anchor],
        'rank_correlation': rank_correlation(bins['bins']),
        'rank_correlation_test': rank_correlation(bins['bins_test']),
    } | bins
  return found


def _bins_of_subnets(
    confident: np.ndarray, correct: np.ndarray, num_bins: int
) -> list[dict[str, Any]]:
  return [
      row
      for subnet, *values in zip(EVERY_UNIFORM, confident, correct)
      for row in bin_rows(subnet, *values, num_bins=num_bins)
  ]


def bin_rows(
    subnet: Subnet, confident: np.ndarray, correct: np.ndarray, *, num_bins: int
) -> list[dict[str, Any]]:
  """Cuts examples into equal-frequency bins of confidence.

  Args:
    subnet: the subnet that they ran under.
    confident: `float[N]`.
    correct: `bool[N]`.
    num_bins: number of bins; fewer are returned if there are fewer examples.

  Returns:
    A row for each bin, the least confident first.
  """
  order = np.argsort(confident, kind='stable')
  return [
      {
          'subnet': str(subnet),
          'confidence': float(confident[part].mean()),
          'top1': float(correct[part].mean()),
      }
      for part in np.array_split(order, num_bins)
      if part.size
  ]


def rank_correlation(rows: list[dict[str, Any]]) -> float | None:
  """Returns Spearman's rank correlation of confidence and accuracy over bins.

  The mean over all subnets whose confidence and accuracy both vary across bins;
  None if there is no such subnet.
  """
  by_subnet: dict[str, list[tuple[float, float]]] = {}
  for row in rows:
    pair = row['confidence'], row['top1']
    by_subnet.setdefault(row['subnet'], []).append(pair)
  found = [
      stats.spearmanr(*zip(*pairs)).statistic
      for pairs in by_subnet.values()
      if all(len(set(values)) > 1 for values in zip(*pairs))
  ]
  return float(np.mean(found)) if found else None
