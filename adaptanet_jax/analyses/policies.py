# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The policies, made from held-out images and measured on the test split.

The paper's Table III.
"""

from collections.abc import Callable
import functools
import time
from typing import Any

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import processes, workspace
from adaptanet_jax.analyses import accuracy, common, gating
from adaptanet_jax.evaluation import (
  budget,
  cost,
  gate_value,
  mixtures,
  policies,
  protocols,
  subnet_table,
)
from adaptanet_jax.models import routing
from adaptanet_jax.models.gates import CONFIDENCES, GateSet, gate_name
from adaptanet_jax.models.parts import Variables
from adaptanet_jax.models.resnet import ResNet
from adaptanet_jax.models.subnet import EVERY_UNIFORM, LARGEST, UNIFORM
from adaptanet_jax.programs import Program
from adaptanet_jax.workdir import Paths, write_json
from adaptanet_jax.workspace import Workspace

# How often each policy is timed.
_ROUNDS = 3


@functools.cache
def routed_predictor(net: ResNet, gates: GateSet) -> protocols.Predictor:
  """Returns a predictor that routes images as a policy says.

  It returns `prediction`, the `subnet` of each image and whether it `reads`
  each gate. The policy is an argument, so all policies share one program.
  """

  def predict(
      folded: ResNet,
      variables: Variables,
      images: jax.Array,
      policy: routing.Policy,
  ) -> dict[str, jax.Array]:
    logits, subnets, reads = routing.route(
        folded, gates, variables, images, policy
    )
    prediction = logits.argmax(-1).astype(jnp.int32)
    return {'prediction': prediction, 'subnet': subnets.T, 'reads': reads.T}

  return protocols.map_predictor(net, predict)


def programs(work: Workspace, variables: Any) -> dict[str, Program]:
  """Returns the programs of `measure_policies`, for variables or shapes."""
  gates = routing.routing_gates(common.gates_of(work, variables))
  if not gates:
    return {}
  net = workspace.student_for(work.nets, variables)
  shapes = policies.policy_shapes(len(net.choices), work.config.policies.bins)
  return {
      'tree': accuracy.tree_program(work, variables),
      'routed': common.program(
          work, routed_predictor(net, gates), variables, shapes
      ),
      # The program of the evaluation; what it reads of gates is not used.
      'uniform': gating.gate_program(work, variables),
  }


def measure_policies(work: Workspace) -> None:
  """Makes all policies, runs them, and writes `policies.json`."""
  config = work.config
  gates = routing.routing_gates(work.gates)
  # The settings were checked, and the plan includes training the gates.
  assert gates is not None, config.gates.anchors
  runs = programs(work, work.variables['student'])
  uniform = _run_uniform(work, runs['uniform'])
  margins = uniform[config.policies.examples]['margin']
  observed, value = _observe(work, gates, runs['tree'], margins)
  made, found = _make_policies(work, observed)
  runners = {
      (scope, name): _runner(work, runs['routed'], observed, mixture)
      for scope, by_name in made.items()
      for name, mixture in by_name.items()
      if mixture.reads_gate
  }
  outputs = {key: run() for key, run in runners.items()}
  seconds = _median_seconds(runners)
  table = subnet_table.read(work.workdir)
  measured: dict[str, Any] = {scope: {} for scope in made}
  for scope, by_name in made.items():
    for name, mixture in by_name.items():
      key = scope, name
      if mixture.reads_gate:
        entry = _policy_entry(work, observed, outputs[key])
        entry['seconds'] = seconds[key]
      else:
        entry = _entry_without_gates(
            work, runs['routed'], observed, mixture, **uniform['test']
        )
      entry |= _at_equal_madds(table, scope, entry)
      if name == 'budget':
        entry |= found[scope]
      measured[scope][name] = entry
  write_json(
      Paths(work.workdir).policies,
      policies.to_json(made, observed.edges, gates.confidence),
  )
  work.results.update(
      policies=measured,
      gate_value=value,
      calibration_bias=_calibration_bias(uniform),
  )


def _make_policies(
    work: Workspace, observed: policies.Observed
) -> tuple[dict[str, dict[str, policies.Mixture]], dict[str, dict[str, Any]]]:
  """Returns the policies of each scope, and details of each `budget`."""
  config = work.config
  largest = cost.cost_table(work.supernet).subnet(LARGEST).madds
  made: dict[str, dict[str, policies.Mixture]] = {}
  found: dict[str, dict[str, Any]] = {}
  for scope in policies.SCOPES:
    ranked = functools.partial(
        policies.ranked,
        observed,
        scope,
        start=policies.start_choice(scope, config.policies.start),
    )
    made[scope] = {
        'pull_up': ranked(pull_up=True),
        'pull_down': ranked(pull_up=False),
    }
    limit = config.policies.budget * largest
    best = budget.budget(observed, scope, limit)
    if best:
      made[scope]['budget'] = best.mixture
      found[scope] = {
          'kind': best.kind,
          'gain': best.gain,
          'gain_error': best.gain_error,
      }
    elif processes.is_writer():
      logging.warning(
          "Scope %s has no policy 'budget': even its cheapest subnet takes "
          "more than config.policies.budget = %s of the largest one's MAdds.",
          scope,
          config.policies.budget,
      )
  return made, found


def _observe(
    work: Workspace, gates: GateSet, program: Program, margins: np.ndarray
) -> tuple[policies.Observed, dict[str, Any]]:
  """Runs the policies' examples under every subnet.

  Args:
    work: the run.
    gates: gates that policies read.
    program: `tree` of `programs`.
    margins: margins of the uniform subnets on these examples, `float32[K, N]`.

  Returns:
    The observations for policies, and the entry `gate_value` of results.json.
  """
  net, split = work.supernet, common.policy_split(work)
  outputs = common.predict(
      work,
      program,
      work.variables['student'],
      split,
      keep=('policies',),
  )
  correct = outputs['prediction'] == split.labels
  subnet_table.add_column(
      work.workdir, 'calibration_top1', correct.mean(-1)
  )
  subnet_table.add_column(
      work.workdir, 'expected_top1', budget.expected_top1(correct)
  )
  costs = cost.cost_table(net)
  stage_madds = costs.stage_madds()
  stage_madds[-1] += costs.head[0].madds
  gate_madds = cost.gate_madds(gates, net)
  every = {n: outputs[gate_name(n)] for n in gates.anchors}
  own = CONFIDENCES.index(gates.confidence)
  observed = policies.Observed.create(
      correct,
      [confidences[..., own, :] for confidences in every.values()],
      stage_madds,
      np.array([gate_madds[n] for n in gates.anchors]),
      margins,
      num_bins=work.config.policies.bins,
  )
  value = {
      'confidence': gates.confidence,
      'areas': {
          str(n): gate_value.areas(correct, confidences)
          for n, confidences in every.items()
      },
      # Only among uniform widths, as the paper's policies.
      'oracle': {'width': _oracle(work, correct)},
  }
  return observed, value


def _oracle(work: Workspace, correct: np.ndarray) -> dict[str, float]:
  """Measures an oracle that picks a uniform width for each example."""
  costs = cost.cost_table(work.supernet)
  return gate_value.oracle(
      np.stack([correct[tuple(subnet.encode())] for subnet in UNIFORM]),
      [costs.subnet(subnet).madds for subnet in UNIFORM],
      work.config.policies.budget * costs.subnet(LARGEST).madds,
  )


def _run_uniform(
    work: Workspace, program: Program
) -> dict[str, dict[str, np.ndarray]]:
  """Runs all uniform subnets on training images and on others.

  Returns:
    By split, whether answers are `right`, `bool[K, N]`, and their `margin`,
    `float32[K, N]`.
  """
  splits = {'training': common.training_share(work)}
  if work.dataset.held_out:
    splits['held_out'] = work.dataset.held_out
  splits['test'] = work.dataset.test
  found = {}
  for name, split in splits.items():
    outputs = common.predict(
        work,
        program,
        work.variables['student'],
        split,
        keep=('policies', f'uniform-{name}'),
    )
    found[name] = {
        'right': outputs['prediction'] == split.labels,
        'margin': outputs['margin'],
    }
  return found


def _calibration_bias(
    uniform: dict[str, dict[str, np.ndarray]]
) -> dict[str, dict[str, float]]:
  """Returns the accuracies of uniform subnets on training images and on others.

  The difference is the bias of choosing among subnets by training images, as
  the paper does.
  """
  return {
      str(subnet): {
          name: float(outputs['right'][place].mean())
          for name, outputs in uniform.items()
      }
      for place, subnet in enumerate(EVERY_UNIFORM)
  }


def _runner(
    work: Workspace,
    program: Program,
    observed: policies.Observed,
    mixture: policies.Mixture,
) -> Callable[[], dict[str, np.ndarray]]:
  """Returns a function that runs a policy on the test split."""
  return functools.partial(
      common.predict,
      work,
      program,
      work.variables['student'],
      work.dataset.test,
      policies.to_policy(mixture, observed.edges),
  )


def _median_seconds(
    runners: dict[Any, Callable[[], Any]]
) -> dict[Any, float]:
  """Times functions in rounds, so that other work affects all of them equally.

  Each has run before, so no one-time work is timed.
  """
  times: dict[Any, list[float]] = {key: [] for key in runners}
  for _ in range(_ROUNDS):
    for key, run in runners.items():
      started = time.monotonic()
      run()
      times[key].append(time.monotonic() - started)
  return {key: float(np.median(values)) for key, values in times.items()}


def _policy_entry(
    work: Workspace, observed: policies.Observed, outputs: dict[str, np.ndarray]
) -> dict[str, Any]:
  """Returns the accuracy and the cost of a policy, by its outputs."""
  test, batch_size = work.dataset.test, work.config.evaluation.batch_size
  subnets, reads = outputs['subnet'].T, outputs['reads'].T
  # A stage runs padded chunks. A gate runs for all images of a device if one of
  # them reads it. The head runs once per image.
  costs = cost.cost_table(work.supernet)
  share = batch_size // jax.device_count()
  executed = len(test) * costs.head[0].madds
  for start in range(0, len(test), share):
    part = slice(start, start + share)
    executed += routing.executed(
        costs.stage_madds(), subnets[part], batch_size=share
    )
    read = reads[part].any(0) @ observed.gate_madds
    executed += len(reads[part]) * int(read)
  madds = policies.madds_of(observed, subnets, reads)
  return {
      'top1': float((outputs['prediction'] == test.labels).mean()),
      'madds': round(float(madds.mean())),
      'madds_gates': round(float((reads @ observed.gate_madds).mean())),
      'madds_executed': round(executed / len(test)),
  }


def _entry_without_gates(
    work: Workspace,
    program: Program,
    observed: policies.Observed,
    mixture: policies.Mixture,
    *,
    right: np.ndarray,
    margin: np.ndarray,
) -> dict[str, Any]:
  """Returns the accuracy and the cost of a policy that reads no gate.

  It runs at most two subnets, so both figures are known exactly, without
  drawing which image runs under which.

  Args:
    work: the run.
    program: `routed` of `programs`, for subnets that are not uniform.
    observed: has the MAdds of stages.
    mixture: the policy; reads no gate.
    right: whether the answers of uniform subnets are right, `bool[K, N]`.
    margin: their margins, `float32[K, N]`.
  """

  def follow(rule: policies.Rule) -> tuple[np.ndarray, np.ndarray]:
    first, *others = rule.subnet
    answers = right[first]
    if set(others) != {first}:
      run = _runner(work, program, observed, policies.Mixture.of(rule))
      answers = run()['prediction'] == work.dataset.test.labels
    unread = np.zeros((1, len(observed.gate_madds)))
    return answers, policies.madds_of(observed, rule.subnet[None], unread)

  margins = margin[mixture.first.start]
  top1, madds = policies.mixed(mixture, follow, margins)
  entry = {
      'top1': float(top1.mean()),
      'madds': round(float(madds.mean())),
      'madds_gates': 0,
  }
  if mixture.look:
    entry['again'] = float((margins < mixture.margin).mean())
  return entry


def _at_equal_madds(
    table: subnet_table.SubnetTable, scope: str, entry: dict[str, Any]
) -> dict[str, float | None]:
  """Returns the accuracy of subnets chosen without gates at the same MAdds.

  Args:
    table: the table of all subnets; empty before the evaluation.
    scope: one of `policies.SCOPES`.
    entry: MAdds of the policy.

  Returns:
    At all MAdds of the policy: `mixture_top1`, of two uniform subnets chosen by
    the images that the policy was made from, which is the fair comparison;
    `uniform_top1`, of two chosen by the test split, an upper bound; and
    `random_top1`, of random subnets. The last two with the suffix
    `_free_gates` are at the MAdds of the stages alone, which shows the value
    of gates if they were free.
  """
  if not table:
    return {}
  costs, top1 = table['madds'], table['top1']
  uniform = tuple(policies.uniform_subnets(scope).T)

  def mixture(madds: float, chosen_by: np.ndarray) -> float:
    return mixtures.uniform_mixture(
        costs[uniform].tolist(),
        top1[uniform].tolist(),
        madds,
        chosen_by[uniform].tolist(),
    )

  found: dict[str, float | None] = {
      'mixture_top1': mixture(entry['madds'], table['calibration_top1'])
  }
  for suffix, madds in (
      ('', entry['madds']),
      ('_free_gates', entry['madds'] - entry['madds_gates']),
  ):
    found[f'uniform_top1{suffix}'] = mixture(madds, top1)
    found[f'random_top1{suffix}'] = mixtures.random_at(
        top1, costs, scope, madds
    )
  return found
