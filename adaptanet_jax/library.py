# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A trained supernet or baseline as a function: `adaptanet_jax.load`.

Of its two back ends, 'switch' is one program for all subnets; 'stages' is one
for each choice of each stage, without a switch around it and with weights of
its own, which a CPU runs faster; see `models.stages`.
"""

import functools
import os
from typing import Any

from absl import logging
from flax import traverse_util
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from adaptanet_jax import compiler, plan, settings, trees, workspace
from adaptanet_jax.analyses import NEEDS, common
from adaptanet_jax.data import augment, sources
from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation import (
  calibration as calibration_lib,
  policies,
  results as results_lib,
)
from adaptanet_jax.evaluation.calibration import CALIBRATIONS
from adaptanet_jax.models import routing, stages, supernet
from adaptanet_jax.models.gates import GATES, GateSet
from adaptanet_jax.models.layers import BATCH_NORMS
from adaptanet_jax.models.resnet import ResNet, Variables
from adaptanet_jax.models.subnet import LARGEST, Subnet
from adaptanet_jax.training import loop
from adaptanet_jax.training.checkpoints import PhaseCheckpoints

BACKENDS = ('switch', 'stages')


class Supernet:
  """All subnets of a run as one function.

  Attributes:
    net: static half of the network.
    gates: static half of its Var Gates; None before they are trained, and of a
      baseline.
    variables: collections of both.
  """

  def __init__(
      self,
      net: ResNet,
      gates: GateSet | None,
      variables: Variables,
      *,
      subnets: list[dict[str, Any]],
      policy_table: dict[str, Any],
      calibrated: str = 'none',
      statistics: calibration_lib.Statistics = (),
      backend: str = BACKENDS[0],
  ) -> None:
    """Puts the variables on the device; `load` has them from a run.

    Args:
      net: static half of the network.
      gates: of its Var Gates, if any.
      variables: collections of both.
      subnets: rows of `subnets.csv`, for `within`.
      policy_table: contents of `policies.json`, for `route`.
      calibrated: which batch statistics it runs with, as for `load`.
      statistics: those of every subnet, unless 'none'.
      backend: one of `BACKENDS`.
    """
    self.net, self.gates = net.folded, gates
    self.variables = jax.device_put(net.fold(variables))
    self._stages = None
    if backend == 'stages':
      self._stages = stages.Stages(
          self.net, self.variables, prepare=augment.normalize
      )
    self._subnets, self._policies = subnets, policy_table
    self._calibrated, self._statistics = calibrated, statistics

  def __call__(
      self, images: np.ndarray | jax.Array, subnet: str | Subnet = LARGEST
  ) -> jax.Array:
    """Runs one subnet.

    With the back end 'switch' another one compiles nothing; with 'stages' the
    choices of a stage that were not met before, one by one.

    Args:
      images: `uint8[B, H, W, C]`, of the shape that the network was trained on.
      subnet: such as `1.0-0.5d-0.25-1.0`, width by stage, d for delta.

    Returns:
      Logits `(B, num_classes)`.

    Raises:
      UsageError: the images or the subnet do not fit the network, or it has a
        BatchNorm that was not calibrated for the subnet.
    """
    parsed = self._parse(subnet)
    images = self._checked(images)
    found: Variables | None = None
    if self._calibrated != 'none':
      found = calibration_lib.of_subnet(
          self._statistics, parsed, self._calibrated
      )
    if self._stages:
      return self._stages(images, parsed, found)
    variables = trees.merge(self.variables, found) if found else self.variables
    return _switched(self.net)(variables, images, parsed.encode())

  def within(self, madds: float) -> Subnet:
    """Returns the most accurate subnet that takes at most so many MAdds.

    Accuracies are those of the calibration examples, none of them test images.

    Args:
      madds: multiply-accumulates of an image.

    Raises:
      UsageError: no subnet is that cheap, or the run has no calibration.
    """
    if not self._subnets or 'calibration_top1' not in self._subnets[0]:
      raise UsageError(
          'The run has no calibrated accuracies; expected an AdaptaNet, no '
          'baseline, whose phases evaluation and then policies are done.'
      )
    try:
      madds = float(madds)
    except (TypeError, ValueError) as error:
      raise UsageError(f'madds = {madds!r}; expected a number.') from error
    within = [row for row in self._subnets if row['madds'] <= madds]
    if not within:
      least = min(row['madds'] for row in self._subnets)
      raise UsageError(
          f'No subnet takes at most {madds:,.0f} MAdds; expected {least:,} or '
          'more.'
      )
    # Many are equal where all examples are right: then more work is safer.
    best = max(within, key=lambda row: (row['calibration_top1'], row['madds']))
    return Subnet.parse(best['subnet'])

  def route(
      self, images: np.ndarray | jax.Array, policy: str = 'joint/budget'
  ) -> tuple[jax.Array, list[Subnet]]:
    """Lets the gates choose a subnet for each image.

    One program for each shape of a batch, whatever the back end.

    Args:
      images: as for a call.
      policy: scope and name of one of `policies`.

    Returns:
      Logits `(B, num_classes)`, and the subnet of each image.

    Raises:
      UsageError: the images do not fit, there is no such policy, or the network
        has a BatchNorm and was not loaded with `calibration='none'`.
    """
    if self._calibrated != 'none':
      raise UsageError(
          'Routing runs each image under another subnet, with the batch '
          "statistics of training; expected load(..., calibration='none')."
      )
    if policy not in self.policies:
      raise UsageError(
          f'Unknown policy {policy!r}; expected one of '
          f'{", ".join(self.policies)}.'
          if self.policies
          else 'The run has no policies; expected an AdaptaNet, no baseline, '
          'whose phase policies is done.'
      )
    scope, name = policy.split('/')
    chosen = policies.from_json(self._policies, scope, name)
    logits, subnets = _routed(self.net, self.gates)(
        self.variables, self._checked(images), chosen
    )
    return logits, [Subnet.decode(row) for row in np.asarray(subnets)]

  @property
  def policies(self) -> list[str]:
    """Scopes and names of the policies that `route` knows."""
    rules = self._policies.get('rules', {})
    return [f'{scope}/{name}' for scope in rules for name in rules[scope]]

  def _parse(self, subnet: str | Subnet) -> Subnet:
    try:
      parsed = Subnet.parse(str(subnet))
    except ValueError as error:
      raise UsageError(str(error)) from error
    if not set(parsed.stages) <= set(self.net.choices):
      raise UsageError(
          f'Subnet {subnet} has a delta stage, and the run has trained none; '
          f'expected choices among {", ".join(map(str, self.net.choices))}.'
      )
    return parsed

  def _checked(self, images: np.ndarray | jax.Array) -> jax.Array:
    expected = self.net.image_shape
    if not isinstance(images, jax.Array):
      images = np.asarray(images)
    fits = images.shape[1:] == expected and len(images)
    if images.dtype != jnp.uint8 or not fits:
      raise UsageError(
          f'Images are {images.dtype}{list(images.shape)}; expected uint8[B, '
          f'{", ".join(map(str, expected))}], B at least 1.'
      )
    return jnp.asarray(images)


def load(
    workdir: str,
    *,
    gates: str | None = None,
    calibration: str | None = None,
    backend: str = BACKENDS[0],
) -> Supernet:
  """Loads the supernet, or the baseline, that a run has trained.

  Args:
    workdir: of the run.
    gates: workdir of another run on the same backbone and deltas, whose gates
      and policies stand in for this run's own.
    calibration: which batch statistics a network with a BatchNorm runs with:
      'subnet', those of each subnet; 'uniform', those of the subnets that run
      all stages alike, and no others run; 'none', those of training. None: what
      the run was measured with. Of no consequence without a BatchNorm.
    backend: one of `BACKENDS`.

  Returns:
    A function of images.

  Raises:
    UsageError: an argument is none of its choices, a workdir is not a run's or
      has no supernet yet, the gates were trained with other settings of what
      they read, or the batch statistics were never calibrated.
  """
  for name, value, choices in (
      ('calibration', calibration, (None, *CALIBRATIONS)),
      ('backend', backend, BACKENDS),
  ):
    if value not in choices:
      raise UsageError(
          f'Unknown {name} {value!r}; expected one of '
          f'{", ".join(filter(None, choices))}.'
      )
  workdir = os.path.expanduser(workdir)
  config, variables = _restore(workdir)
  source = os.path.expanduser(gates) if gates else workdir
  if gates:
    other_config, other = _restore(source)
    differing = settings.differing_keys(
        config.to_dict(), other_config.to_dict(), up_to='delta.lock_in'
    )
    reason = '; '.join(differing)
    if not reason and GATES not in other['params']:
      reason = 'it has no trained gates'
    if not reason and not _same_weights(variables, other):
      reason = 'its backbone or its deltas have other weights'
    if reason:
      raise UsageError(
          f'The gates of {source} do not fit {workdir} ({reason}); expected '
          'gates that were trained on the same supernet, with config.reuse.'
      )
    variables = _swap(variables, other)
    config.gates = other_config.gates
  nets, gate_set = _networks(config, workdir)
  net = workspace.student_for(nets, variables)
  if net.norm not in BATCH_NORMS:
    calibration = 'none'
  calibration = calibration or _measured_calibration(config, workdir)
  policies = results_lib.policies_path(source)
  has_policies = os.path.exists(policies)
  return Supernet(
      net,
      common.routing_gates(gate_set) if GATES in variables['params'] else None,
      variables,
      subnets=results_lib.read_subnets(workdir),
      policy_table=results_lib.read_json(policies) if has_policies else {},
      calibrated=calibration,
      statistics=_statistics(workdir) if calibration != 'none' else (),
      backend=backend,
  )


def _same_weights(first: Variables, second: Variables) -> bool:
  """Returns whether two networks are equal, but for their gates."""
  params, others = (
      traverse_util.flatten_dict({p: tree[p] for p in tree if p != GATES})
      for tree in (first['params'], second['params'])
  )
  return params.keys() == others.keys() and all(
      np.array_equal(params[path], others[path]) for path in params
  )


def _measured_calibration(
    config: ml_collections.ConfigDict, workdir: str
) -> str:
  """Returns the calibration that an evaluation had; else the configured one."""
  results = results_lib.read_json(os.path.join(workdir, 'results.json'))
  for name in results_lib.NETWORKS:
    if name in results:
      return results[name]['calibration']
  return config.evaluation.calibration


def examples(
    workdir: str, count: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Returns examples that a run was tested on.

  Args:
    workdir: of the run.
    count: how many, the first of the test split; None for all.

  Returns:
    Images `uint8[B, H, W, C]`, as a `Supernet` takes them, and `int32[B]`
    labels.

  Raises:
    UsageError: the workdir is not a run's, its data are not where they were, or
      there are fewer.
  """
  workdir = os.path.expanduser(workdir)
  config = _read_config(workdir)
  described = _described(workdir)
  config.data.name = described['name']  # 'fake' where the set was missing.
  test = sources.load_test(config)
  if len(test) != described['test_examples']:
    raise UsageError(
        f'{config.data.name!r} now has {len(test)} test examples, and '
        f'{workdir} was tested on {described["test_examples"]}; expected the '
        'same data.'
    )
  count = len(test) if count is None else count
  if not 0 < count <= len(test):
    raise UsageError(
        f'count = {count}; expected 1 to {len(test)}, the test examples of '
        f'{workdir}.'
    )
  positions = np.arange(count)
  return test.gather(positions), test.subset(positions).labels


def _statistics(workdir: str) -> calibration_lib.Statistics:
  path = results_lib.statistics_path(workdir)
  if not os.path.exists(path):
    raise UsageError(
        f'The batch statistics of {workdir} were never calibrated; expected a '
        "run whose phase evaluation is done, or calibration='none' for those "
        'of training.'
    )
  return calibration_lib.load(path)


def _swap(variables: Variables, other: Variables) -> Variables:
  """Returns a network's collections with another one's gates."""
  gates = {name: {GATES: tree[GATES]} for name, tree in other.items()
           if GATES in tree}
  rest = {
      name: {part: tree[part] for part in tree if part != GATES}
      for name, tree in variables.items()
  }
  return trees.merge(rest, gates)


def _described(workdir: str) -> dict[str, Any]:
  """Returns what a run has noted about its data."""
  path = os.path.join(workdir, 'results.json')
  return results_lib.read_json(path)['dataset']


def _networks(config: ml_collections.ConfigDict, workdir: str) -> Any:
  dataset = _described(workdir)
  return workspace.networks(
      config, dataset['num_classes'], tuple(dataset['image_shape'])
  )


def _read_config(workdir: str) -> ml_collections.ConfigDict:
  for name in ('config.json', 'results.json'):
    if not os.path.exists(os.path.join(workdir, name)):
      raise UsageError(
          f'{workdir} has no {name}; expected the workdir of a run.'
      )
  values = results_lib.read_json(os.path.join(workdir, 'config.json'))
  # Older runs had no baselines; nothing else about them is different.
  values.setdefault('baseline', {'network': ''})
  if not {'delta', 'gates'} <= values.keys():
    raise UsageError(
        f'{workdir} was made by an older version; expected a newer one. Run '
        'its configuration in another workdir, with --config.reuse naming this '
        'one.'
    )
  return ml_collections.ConfigDict(values)


def _restore(workdir: str) -> tuple[ml_collections.ConfigDict, Variables]:
  """Restores the newest checkpoint of each part of a run's supernet."""
  config = _read_config(workdir)
  nets, gates = _networks(config, workdir)
  shapes = trees.merge(
      nets.student.shapes(), gates.shapes(nets.student.anchor_shapes())
  )
  config.phases = 'report'  # Nothing is to be trained.
  tasks = plan.make_plan(
      config, workdir, _described(workdir)['train_examples']
  )
  variables: Variables = {}
  for task in tasks:
    if task.phase.network == 'student' and task.action == 'restore':
      like, _ = loop.split_variables(shapes, task.phase.trains)
      with PhaseCheckpoints(task.workdir, task.phase.name, keep=1) as found:
        variables = trees.merge(variables, found.restore_variables(like))
  skipped = [task.phase.name for task in tasks if task.action == 'skip']
  for name in skipped:
    if name in NEEDS['evaluation']:
      raise UsageError(
          f'{workdir} has no checkpoint of the end of phase {name}; expected a '
          'workdir whose training is done, with its checkpoints.'
      )
  folder = os.path.join(workdir, 'checkpoints')
  if begun := [n for n in skipped if os.path.isdir(os.path.join(folder, n))]:
    logging.warning(
        '%s has begun %s and not ended what they belong to: loading the '
        'network without them.',
        workdir,
        ', '.join(begun),
    )
  return config, variables


@functools.cache
def _switched(net: ResNet) -> Any:
  def run(
      variables: Variables, images: jax.Array, choices: jax.Array
  ) -> jax.Array:
    images = augment.normalize(images)
    return supernet.forward(net, variables, images, choices)[0]

  return compiler.jit(run)


@functools.cache
def _routed(net: ResNet, gates: GateSet) -> Any:
  def run(
      variables: Variables, images: jax.Array, policy: routing.Policy
  ) -> tuple[jax.Array, jax.Array]:
    images = augment.normalize(images)
    return routing.route(net, gates, variables, images, policy)

  return compiler.jit(run)
