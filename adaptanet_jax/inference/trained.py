# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Loads a run's network, and its test examples, from its workdir."""

import dataclasses
import os
from typing import Any

from absl import logging
from flax import traverse_util
import ml_collections
import numpy as np

from adaptanet_jax import plan, settings, trees, workspace
from adaptanet_jax.data import sources
from adaptanet_jax.errors import UsageError, check_count, some
from adaptanet_jax.evaluation import (
  calibration as calibration_lib,
  subnet_table,
)
from adaptanet_jax.evaluation.calibration import CALIBRATIONS
from adaptanet_jax.inference.about import About
from adaptanet_jax.inference.network import Supernet
from adaptanet_jax.models.gates import GATES
from adaptanet_jax.models.layers import BATCH_NORMS
from adaptanet_jax.models.parts import Variables
from adaptanet_jax.models.resnet import BACKBONE, ResNet
from adaptanet_jax.models.routing import routing_gates
from adaptanet_jax.training import loop, phases
from adaptanet_jax.training.baseline_methods import NETWORKS
from adaptanet_jax.training.checkpoints import PhaseCheckpoints
from adaptanet_jax.workdir import Paths, read_json


def load(
    workdir: str,
    *,
    gates: str | None = None,
    calibration: str | None = None,
    backend: str,
) -> Supernet:
  """Loads the supernet, or the baseline, that a run has trained.

  Args:
    workdir: workdir of the run.
    gates: see `load.load`.
    calibration: see `load.load`.
    backend: one of `network.BACKENDS`.

  Returns:
    The network.

  Raises:
    UsageError: an argument is invalid, a workdir is not that of a run or has no
      trained network yet, the gates were trained on another supernet, or the
      batch statistics were never calibrated.
  """
  if calibration not in (None, *CALIBRATIONS):
    raise UsageError(
        f'Unknown calibration {calibration!r}; expected one of '
        f'{", ".join(CALIBRATIONS)}.'
    )
  workdir = os.path.expanduser(workdir)
  config, results, variables = _restore(workdir)
  if not isinstance(gates, str | os.PathLike | None):
    raise UsageError(f'gates = {gates!r}; expected the workdir of a run.')
  source = workdir
  if gates:
    source = os.path.expanduser(os.fspath(gates))
    variables = _with_gates(source, workdir, config, variables)
  nets, gate_set = _networks(config, results)
  net = workspace.student_for(nets, variables)
  measured = _measured_calibration(net, config, results)
  if calibration is None or net.norm not in BATCH_NORMS:
    calibration = measured
  table = subnet_table.read(workdir)
  if not calibration_lib.has_accuracies_of(calibration, measured):
    table = subnet_table.without_accuracies(table)
  routed = routing_gates(gate_set) if GATES in variables['params'] else None
  policies: dict[str, Any] = {}
  if routed and os.path.exists(Paths(source).policies):
    policies = read_json(Paths(source).policies)
    # A later command may have changed the setting; policies keep their own.
    confidence = policies.get('confidence', routed.confidence)
    routed = dataclasses.replace(routed, confidence=confidence)
  return Supernet(
      net,
      routed,
      variables,
      subnets=table,
      policy_table=policies,
      calibrated=calibration,
      statistics=_statistics(workdir) if calibration != 'none' else (),
      backend=backend,
      about=_about(config, results, calibration),
  )


def _with_gates(
    source: str,
    workdir: str,
    config: ml_collections.ConfigDict,
    variables: Variables,
) -> Variables:
  """Returns a network's variables with the gates of another run.

  Args:
    source: workdir of the other run.
    workdir: workdir of the network's run.
    config: configuration of the network's run; its settings of gates and
      policies become those of the other run.
    variables: variables of the network.

  Raises:
    UsageError: the gates were trained on another supernet.
  """
  other_config, _, other = _restore(source)
  reason = '; '.join(settings.differences(
      config.to_dict(), other_config.to_dict(), up_to='joint'
  ))
  if not reason and GATES not in other['params']:
    reason = 'it has no trained gates'
  if not reason and not _same_weights(variables, other):
    reason = 'its backbone or its deltas have other weights'
  if reason:
    raise UsageError(
        f'The gates of {source} do not fit {workdir} ({reason}); expected '
        'gates that were trained on the same supernet, with config.reuse.'
    )
  config.gates, config.policies = other_config.gates, other_config.policies
  gates = {
      name: {GATES: tree[GATES]} for name, tree in other.items()
      if GATES in tree
  }
  rest = {
      name: {part: tree[part] for part in tree if part != GATES}
      for name, tree in variables.items()
  }
  return trees.merge(rest, gates)


def _about(
    config: ml_collections.ConfigDict, results: dict[str, Any], calibration: str
) -> About:
  """Returns the description of a run's network under a calibration."""
  data = results['dataset']
  keys = ('config', 'git', 'seed', 'dataset', 'device', 'augmentation')
  accuracies = {}
  for part in NETWORKS:
    own = results.get(part, {})
    # A network with a BatchNorm was measured with each calibration.
    own = own.get('by_calibration', {}).get(calibration, own)
    for width, entry in own.get('uniform', {}).items():
      name = f'all {"delta " if part == "delta" else ""}x{width}'
      accuracies[name] = entry
  return About(
      name=config.name,
      class_names=tuple(
          data.get('class_names') or map(str, range(data['num_classes']))
      ),
      shorter_side=config.data.shorter_side,
      dtype_is_auto=config.compute_dtype == 'auto',
      trained={key: results.get(key, 'not recorded') for key in keys},
      accuracies=accuracies,
  )


def _same_weights(first: Variables, second: Variables) -> bool:
  """Returns whether two networks have the same weights, gates aside."""
  params, others = (
      traverse_util.flatten_dict({p: tree[p] for p in tree if p != GATES})
      for tree in (first['params'], second['params'])
  )
  return params.keys() == others.keys() and all(
      np.array_equal(params[path], others[path]) for path in params
  )


def _measured_calibration(
    net: ResNet, config: ml_collections.ConfigDict, results: dict[str, Any]
) -> str:
  """Returns the calibration of the evaluation; without one, the configured one.
  """
  if net.norm not in BATCH_NORMS:
    return 'none'
  for name in NETWORKS:
    if name in results:
      return results[name]['calibration']
  return config.evaluation.calibration


def examples(
    workdir: str, count: int | None
) -> tuple[np.ndarray, np.ndarray]:
  """Returns examples that a run was tested on; see `load.examples`."""
  config, results = _read(workdir)
  described = results['dataset']
  config.data.name = described['name']  # 'fake' if the set was missing.
  class_names, test = sources.load_test(config)
  # Runs that are older than this entry do not know.
  known = tuple(described.get('class_names', class_names))
  if class_names != known:
    changed = sorted({*class_names} ^ {*known}) or ['their order']
    raise UsageError(
        f'{config.data.name!r} now has other classes than {workdir} was tested '
        f'on: {some(changed)} differ; expected the same data.'
    )
  if len(test) != described['test_examples']:
    raise UsageError(
        f'{config.data.name!r} now has {len(test)} test examples, and '
        f'{workdir} was tested on {described["test_examples"]}; expected the '
        'same data.'
    )
  positions = np.arange(check_count(count, len(test), workdir))
  return test.gather(positions), test.subset(positions).labels


def _statistics(workdir: str) -> calibration_lib.Statistics:
  path = Paths(workdir).statistics
  if not os.path.exists(path):
    raise UsageError(
        f'The batch statistics of {workdir} were never calibrated; expected a '
        'run whose phase evaluation is done; or, in Python, '
        "load(..., calibration='none') for those of training."
    )
  return calibration_lib.load(path)


def _networks(
    config: ml_collections.ConfigDict, results: dict[str, Any]
) -> Any:
  dataset = results['dataset']
  return workspace.networks(
      config, dataset['num_classes'], tuple(dataset['image_shape'])
  )


def _read(workdir: str) -> tuple[ml_collections.ConfigDict, dict[str, Any]]:
  """Returns the configuration and the results of a run."""
  paths = Paths(workdir)
  for path in (paths.config, paths.results):
    if not os.path.exists(path):
      raise UsageError(
          f'{workdir} has no {os.path.basename(path)}; expected the workdir of '
          'a run.'
      )
  return settings.completed(read_json(paths.config)), read_json(paths.results)


def _restore(
    workdir: str,
) -> tuple[ml_collections.ConfigDict, dict[str, Any], Variables]:
  """Returns a run's configuration and results, and its network's variables.

  The variables of each part come from its newest checkpoint.
  """
  config, results = _read(workdir)
  nets, gates = _networks(config, results)
  shapes = trees.merge(
      nets.student.shapes(), gates.shapes(nets.student.anchor_shapes)
  )
  trained = plan.find_trained(
      config, workdir, results['dataset']['train_examples'], network='student'
  )
  if not phases.can_run(BACKBONE, trained):
    raise UsageError(
        f'{workdir} has no network that can run yet; expected one whose phase '
        f'{" or ".join(phases.RUNS_AFTER[BACKBONE])} has ended, with its '
        'checkpoint. Run the command that trains it again.'
    )
  variables: Variables = {}
  unfinished = []
  for phase in phases.build_phases(config):
    name = phase.name
    if name not in trained:
      if os.path.isdir(Paths(workdir).checkpoints(name)):
        unfinished.append(name)
    elif phase.network == 'student' and plan.is_usable(phase, trained):
      like, _ = loop.split_variables(shapes, phase.trains)
      with PhaseCheckpoints(trained[name], name, keep=1) as found:
        variables = trees.merge(variables, found.restore_variables(like))
  if unfinished:
    logging.warning(
        'The training of %s has not ended in %s: the network is loaded '
        'without it.',
        ', '.join(unfinished),
        workdir,
    )
  return config, results, variables
