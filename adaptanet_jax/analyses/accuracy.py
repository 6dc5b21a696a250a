# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Accuracies: of the teacher, while networks train, and of all subnets."""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import numpy as np

from adaptanet_jax import workspace
from adaptanet_jax.analyses import common, gating
from adaptanet_jax.evaluation import cost, protocols, results as results_lib
from adaptanet_jax.models.resnet import Variables
from adaptanet_jax.models.subnet import (
  LARGEST,
  UNIFORM,
  UNIFORM_DELTA,
  Subnet,
  all_subnets,
)
from adaptanet_jax.training.phases import Phase
from adaptanet_jax.workspace import Workspace

# The subnets that are measured after each epoch of a phase.
_VALIDATED = {
    'teacher': (),
    'lock_in': UNIFORM,
    'delta_lock_in': UNIFORM_DELTA,
}


def validator(
    space: Workspace, phase: Phase
) -> Callable[[Variables], dict[str, float]] | None:
  """Returns what measures a network after each epoch of a phase.

  Args:
    space: the run.
    phase: the phase that trains.

  Returns:
    Maps the network's variables to test accuracies by name; None for a phase
    that trains a part of a network only, or if `evaluation.every_epoch` is off.
  """
  if not space.config.evaluation.every_epoch or phase.name not in _VALIDATED:
    return None
  predictor, names = _validation(space, phase)
  test = space.dataset.test

  def validate(variables: Variables) -> dict[str, float]:
    outputs = common.predict(space, predictor, variables, test)
    correct = np.atleast_2d(outputs['prediction'] == test.labels)
    return dict(zip(names, map(float, correct.mean(-1))))

  return validate


def compile_validator_ahead(space: Workspace, phase: Phase) -> None:
  """Has compiled what a phase's network is measured with, if it is."""
  if validator(space, phase) or phase.name == 'teacher':
    variables, _ = workspace.variable_shapes(space, phase)
    predictor, _ = _validation(space, phase)
    common.compile_ahead(space, predictor, variables)


def _validation(
    space: Workspace, phase: Phase
) -> tuple[protocols.Predictor, list[str]]:
  subnets: tuple[Subnet, ...] = _VALIDATED[phase.name]
  if not subnets:
    return protocols.full_predictor(space.nets.teacher), ['test_top1']
  student = space.nets.student
  if subnets == UNIFORM:
    student = workspace.without_delta(student)
  return protocols.subnets_predictor(student, subnets), [
      f'test_top1/{subnet.stages[0]}' for subnet in subnets
  ]


def evaluate_teacher(space: Workspace) -> None:
  """Measures the teacher's accuracy and cost."""
  test, net = space.dataset.test, space.nets.teacher
  predictor = protocols.full_predictor(net)
  outputs = common.predict(space, predictor, space.variables['teacher'], test)
  full = cost.cost_table(net).subnet(LARGEST)
  space.results.update(
      teacher={
          'top1': float((outputs['prediction'] == test.labels).mean()),
          'madds': full.madds,
          'params': full.params,
      }
  )


def predictors(space: Workspace, variables: Any) -> list[protocols.Predictor]:
  """Returns what `evaluate` runs, for variables or their shapes."""
  net = workspace.student_for(space.nets, variables)
  gates = common.gates_of(space, variables)
  tree = protocols.tree_predictor(net, common.routing_gates(gates))
  return [tree, *([gating.gate_predictor(net, gates)] if gates else [])]


def evaluate(space: Workspace) -> None:
  """Measures every subnet on the test split; makes Table II and `subnets.csv`.
  """
  config, net = space.config, space.supernet
  variables, test = space.variables['student'], space.dataset.test
  tree = predictors(space, variables)[0]
  outputs = common.predict(space, tree, variables, test)
  correct = outputs['prediction'] == test.labels
  costs = cost.cost_table(net)
  summarize = functools.partial(
      protocols.summarize,
      correct,
      costs.madds_by_subnet(),
      passes=config.evaluation.random_passes,
      seed=config.seed,
  )
  sections = {'supernet': summarize()}
  if net.delta:
    sections['delta'] = summarize(delta=True)
  top1 = correct.mean(-1)
  batches = -(-len(test) // config.evaluation.batch_size)
  runs = protocols.stage_runs(correct.shape[:-1])
  sections['subnets'] = {
      'count': int(top1.size),
      'mean': float(top1.mean()),
      'min': float(top1.min()),
      'max': float(top1.max()),
      'stage_runs': {name: batches * count for name, count in runs.items()},
  }
  rows = [
      {'subnet': str(subnet)}
      | dataclasses.asdict(costs.subnet(subnet))
      | {'top1': float(accuracy)}
      for subnet, accuracy in zip(all_subnets(net.choices), top1.ravel())
  ]
  results_lib.write_csv(common.subnets_path(space), rows)
  gates = common.gates_of(space, variables)
  if gates:
    sections['gates'] = gating.gate_section(space, gates)
  space.results.update(**sections)
