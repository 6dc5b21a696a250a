# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Accuracies of the teacher, of networks in training and of all subnets."""

from collections.abc import Callable
import functools
from typing import Any

import jax
import numpy as np

from adaptanet_jax import workspace
from adaptanet_jax.analyses import common, gating, timing
from adaptanet_jax.evaluation import (
  calibration,
  cost,
  protocols,
  subnet_table,
)
from adaptanet_jax.models import routing
from adaptanet_jax.models.gates import GATES
from adaptanet_jax.models.layers import BATCH_NORMS, NORMS
from adaptanet_jax.models.parts import Variables
from adaptanet_jax.models.subnet import (
  EVERY_UNIFORM,
  LARGEST,
  UNIFORM,
  UNIFORM_DELTA,
  Subnet,
  all_subnets,
)
from adaptanet_jax.programs import Program
from adaptanet_jax.training import phases as phases_lib
from adaptanet_jax.training.phases import Phase
from adaptanet_jax.workdir import Paths
from adaptanet_jax.workspace import Workspace

# The subnets that are measured after each epoch of a phase.
_VALIDATED = {
    'teacher': (),
    'lock_in': UNIFORM,
    'delta_lock_in': UNIFORM_DELTA,
    'joint': EVERY_UNIFORM,
    'baseline': UNIFORM,
}
# Groups of phases that train the weights of a supernet's widths.
_OWN = ('teacher', 'cascade', 'lock_in', 'joint', 'baseline')


def validator(
    work: Workspace, phase: Phase
) -> Callable[[Variables], dict[str, float]] | None:
  """Returns a function that measures a network after each epoch of a phase.

  Args:
    work: the run.
    phase: the phase that trains.

  Returns:
    Maps the network's variables to test accuracies by name; None for a phase
    that trains a single module, for widths that share batch statistics, which
    say nothing before they are calibrated, or if `evaluation.every_epoch` is
    off.
  """
  if not _is_validated(work, phase):
    return None
  program, test = validation_program(work, phase), work.dataset.test
  assert program, phase.name
  names = [
      f'test_top1/{subnet.stages[0]}' for subnet in _VALIDATED[phase.name]
  ] or ['test_top1']

  def validate(variables: Variables) -> dict[str, float]:
    outputs = common.predict(work, program, variables, test)
    correct = np.atleast_2d(outputs['prediction'] == test.labels)
    return dict(zip(names, map(float, correct.mean(-1))))

  return validate


def _is_validated(work: Workspace, phase: Phase) -> bool:
  if not work.config.evaluation.every_epoch or phase.name not in _VALIDATED:
    return False
  kind = NORMS[work.nets.student.norm]
  widths_share = kind.family == 'batch' and not kind.own_statistics
  return phase.network == 'teacher' or not widths_share


def validation_program(work: Workspace, phase: Phase) -> Program | None:
  """Returns the program that measures a phase's network, if there is one."""
  if phase.name == 'teacher':  # Measured at its end, at least.
    return _teacher_program(work)
  if not _is_validated(work, phase):
    return None
  subnets: tuple[Subnet, ...] = _VALIDATED[phase.name]
  predictor = protocols.subnets_predictor(
      phase.network_of(work.nets), subnets
  )
  variables, _ = workspace.variable_shapes(work.nets, work.gates, phase)
  return common.program(work, predictor, variables)


def _teacher_program(work: Workspace) -> Program:
  net = work.nets.teacher
  return common.program(work, protocols.full_predictor(net), net.shapes())


def evaluate_teacher(work: Workspace) -> None:
  """Measures the teacher's accuracy and cost."""
  test, net = work.dataset.test, work.nets.teacher
  variables = work.variables['teacher']
  outputs = common.predict(work, _teacher_program(work), variables, test)
  full = cost.cost_table(net).subnet(LARGEST)
  work.results.update(
      teacher={
          'top1': float((outputs['prediction'] == test.labels).mean()),
          'madds': full.madds,
          'params': full.params,
      }
  )


def settings(work: Workspace) -> tuple[str, ...]:
  """Lists the prefixes of the settings that `evaluate` depends on."""
  found: tuple[str, ...] = ('evaluation.random_passes',)
  if work.nets.student.norm in BATCH_NORMS:
    # Calibrated statistics are means over batches.
    found += ('evaluation.calibration', 'evaluation.batch_size')
  if GATES in work.phases:
    found += ('policies.bins', 'policies.examples')
    if work.config.policies.examples == 'training':
      found += ('policies.training_share',)
  return found


def files(work: Workspace) -> list[str]:
  """Lists the paths of the files that `evaluate` writes."""
  paths = Paths(work.workdir)
  return [paths.subnets, *([paths.statistics] if _calibrates(work) else [])]


def _calibrates(work: Workspace) -> bool:
  has_statistics = work.nets.student.norm in BATCH_NORMS
  return has_statistics and work.config.evaluation.calibration != 'none'


def tree_program(
    work: Workspace, variables: Any, *statistics: Any
) -> Program:
  """Returns the program that runs all subnets.

  It reads gates although `evaluate` does not need them, because `policies` can
  then run the same program: compiling a second one would take longer.
  """
  net = workspace.student_for(work.nets, variables)
  gates = routing.routing_gates(common.gates_of(work, variables))
  predictor = protocols.tree_predictor(net, gates)
  # For 4,096 subnets of resnet26x8 on 40 images, which `policies` repeats on
  # others: 5 s to compile fast and 12 to run, against 13 and 4 (2 cores of an
  # Intel Xeon, jax 0.10.2, 2026-11-29).
  return common.program(
      work, predictor, variables, *statistics, runs_long=True
  )


def programs(work: Workspace, variables: Any) -> dict[str, Program]:
  """Returns the programs of `evaluate`, for variables or their shapes."""
  net = workspace.student_for(work.nets, variables)
  found: dict[str, Program] = {}
  statistics: Any = ()
  if _calibrates(work):
    found['calibration'] = calibration.program(
        net, variables, common.image_shapes(work)
    )
    statistics = jax.eval_shape(
        functools.partial(calibration.of_training, net), variables
    )
  found['tree'] = tree_program(work, variables, *statistics)
  if common.gates_of(work, variables):
    found['gates'] = gating.gate_program(work, variables)
  return found


def evaluate(work: Workspace) -> None:
  """Measures every subnet on the test split: Table II and `subnets.csv`.

  One pass over the images along the tree of subnet prefixes shows which images
  each subnet gets right; every protocol of the paper is read off that.
  """
  net, test = work.supernet, work.dataset.test
  variables = work.variables['student']
  runs = programs(work, variables)
  # One entry per kind of batch statistics, the configured kind first.
  correct = {
      name: common.predict(
          work,
          runs['tree'],
          variables,
          test,
          *statistics,
          keep=('evaluation', name) if name else ('evaluation',),
      )['prediction']
      == test.labels
      for name, statistics in _calibrate(work, runs).items()
  }
  costs = cost.cost_table(net)
  network = work.config.baseline.network
  found = {
      network or 'supernet': _network_results(work, costs, correct, _OWN)
  }
  if net.delta:
    found['delta'] = _network_results(
        work, costs, correct, (*_OWN, 'delta'), delta=True
    )
  top1 = next(iter(correct.values())).mean(-1)
  _write_table(work, costs, top1)
  found['subnets'] = {
      'count': int(top1.size),
      'mean': float(top1.mean()),
      'min': float(top1.min()),
      'max': float(top1.max()),
  }
  if 'gates' in runs:
    found['gates'] = gating.gate_results(work, runs['gates'])
  work.results.update(**found)


def _write_table(
    work: Workspace, costs: cost.CostTable, top1: np.ndarray
) -> None:
  """Writes `subnets.csv`, keeping columns that other analyses have added."""
  subnets = all_subnets(work.supernet.choices)
  params = [costs.subnet(subnet).params for subnet in subnets]
  table = {
      'madds': costs.madds_by_subnet(),
      'params': np.reshape(params, top1.shape),
      'top1': top1,
  }
  # Training discards the table, so an existing one is of the same weights. Its
  # other columns are kept.
  others = {
      name: column
      for name, column in subnet_table.read(work.workdir).items()
      if name not in table and column.shape == top1.shape
  }
  subnet_table.write(work.workdir, table | others)
  timing.add_column(work)


def _calibrate(
    work: Workspace, runs: dict[str, Program]
) -> dict[str, calibration.Statistics]:
  """Returns the batch statistics to evaluate with, by name, the main one first.

  Calibrates, and saves the calibrated statistics for the library. Without
  calibration the only entry is empty: a network with a BatchNorm then uses the
  statistics of training. The name of the entry is empty without a BatchNorm.
  """
  net, config = work.supernet, work.config
  variables = work.variables['student']
  if 'calibration' not in runs:
    return {'none' if net.norm in BATCH_NORMS else '': ()}
  main = config.evaluation.calibration
  found = calibration.calibrate(
      work.programs.compiled(runs['calibration']),
      variables,
      work.dataset.train,
      batch_size=config.evaluation.batch_size,
      num_examples=config.evaluation.calibration_examples,
      seed=config.seed,
  )
  calibration.save(Paths(work.workdir).statistics, found)
  every = {
      'subnet': found,
      'uniform': calibration.uniform(found),
      # In the same shapes as the others, so that one program runs them all.
      'none': calibration.of_training(net, variables),
  }
  return {main: every[main]} | every


def _network_results(
    work: Workspace,
    costs: cost.CostTable,
    correct: dict[str, np.ndarray],
    groups: tuple[str, ...],
    *,
    delta: bool = False,
) -> dict[str, Any]:
  """Returns a network's entry in results.json: accuracies and their cost."""
  config, madds = work.config, costs.madds_by_subnet()
  by_name = {
      name: protocols.summarize(
          table,
          madds,
          passes=config.evaluation.random_passes,
          seed=config.seed,
          delta=delta,
      )
      for name, table in correct.items()
  }
  best = next(iter(by_name))
  found = by_name[best] | {
      'norm': work.supernet.norm,
      'calibration': best or None,
      'training': _training(work, groups),
  }
  if len(by_name) > 1:
    found['by_calibration'] = by_name
  return found


def _training(work: Workspace, groups: tuple[str, ...]) -> dict[str, Any]:
  """Returns gradient steps, images and wall seconds of some groups of phases.
  """
  budget = {'steps': 0, 'images': 0, 'seconds': 0.0}
  for phase in phases_lib.build_phases(work.config):
    if phase.group not in groups or phase.name not in work.phases:
      continue
    steps = phase.num_steps(len(work.dataset.train))
    budget['steps'] += steps
    budget['images'] += steps * phase.settings.batch_size
    budget['seconds'] += work.results.values['seconds'][phase.name]
  return budget
