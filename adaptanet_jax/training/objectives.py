# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Gradients of a step: with labels, with anchors (Eq. 1 to 3), or of gates.

The first train a teacher, the last Var Gates (Eq. 4).

B = batch, H = height, W = width, C = channels.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import flax.struct
import jax
from jax import lax
import jax.numpy as jnp
import optax

from adaptanet_jax import trees
from adaptanet_jax.models import supernet
from adaptanet_jax.models.gates import GateSet, gate_name
from adaptanet_jax.models.parts import Variables
from adaptanet_jax.models.resnet import BACKBONE, ResNet, anchor_name
from adaptanet_jax.training import losses, mdsr
from adaptanet_jax.training.forward import (
  Metrics,
  Networks,
  run_module,
  run_network,
  scan_subnets,
  with_trained,
)


@flax.struct.dataclass
class StepInputs:
  """Inputs of a step other than what it trains.

  Attributes:
    frozen: the untrained part of the network that trains; gets no gradients.
    teacher: collections of the teacher, which for DSNet is the network's moving
      average; `{}` if there is none. Gradients pass through its layers, but its
      own parameters get none.
    images: `uint8[B, H, W, C]`, augmented.
    labels: `int32[B]`.
    rng: key of the step, the same on every device.
    step: steps done in this phase, `int32[]`.
  """

  frozen: Variables
  teacher: Variables
  images: jax.Array
  labels: jax.Array
  rng: jax.Array
  step: jax.Array


# Gradients of the trained parameters, new batch statistics, metrics.
Gradients = tuple[trees.Tree, trees.Tree, Metrics]
# Takes the trained parameters, their batch statistics (`{}` if there are none)
# and the other inputs.
Objective = Callable[[trees.Tree, trees.Tree, StepInputs], Gradients]


def label_gradients(
    params: trees.Tree,
    stats: trees.Tree,
    inputs: StepInputs,
    *,
    net: ResNet,
    label_smoothing: float,
) -> Gradients:
  """Gradients of a full network's cross-entropy to the labels.

  Args:
    params: see `Objective`.
    stats: see `Objective`.
    inputs: teacher, key and step are not used.
    net: the network.
    label_smoothing: see `losses.smooth_targets`.
  """
  targets = losses.smooth_targets(
      inputs.labels, net.num_classes, label_smoothing=label_smoothing
  )

  def loss_fn(params: trees.Tree) -> tuple[jax.Array, Any]:
    variables = with_trained(inputs.frozen, params, stats)
    outputs, new_stats = run_network(
        net, variables, inputs.images, moving=(BACKBONE,)
    )
    logits = outputs['logits']
    loss = optax.softmax_cross_entropy(logits, targets).mean()
    return loss, (new_stats, losses.top1(logits, inputs.labels))

  (loss, (stats, top1)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
      params
  )
  return grads, stats, {'loss': loss, 'top1': top1}


def anchor_gradients(
    params: trees.Tree,
    stats: trees.Tree,
    inputs: StepInputs,
    *,
    nets: Networks,
    space: mdsr.SubnetSpace,
    input_from: str,
    num_random: int,
    weighting: mdsr.Weighting,
) -> Gradients:
  """Gradients of Eq. 3 for the subnets that this step draws.

  Args:
    params: see `Objective`.
    stats: see `Objective`.
    inputs: labels are used for the metrics only.
    nets: both networks.
    space: the subnets to draw from.
    input_from: see `phases.Phase`.
    num_random: number of random subnets besides the corners.
    weighting: weights of its terms.
  """
  subnets = mdsr.draw_subnets(inputs.rng, space, num_random)
  x, targets = _module_data(inputs, nets, space, input_from, subnets)
  run = functools.partial(run_module, nets, stages=space.numbers)
  if space.has_largest:  # Filled in once the largest subnet has run.
    largest = jax.tree.map(jnp.zeros_like, targets)
  else:
    variables = with_trained(inputs.frozen, params, stats)
    largest, _ = run(variables, inputs.teacher, x, None, moving=())

  def loss_fn(
      params: trees.Tree,
      stats: trees.Tree,
      largest: losses.Outputs,
      subnet: Any,
  ) -> tuple[jax.Array, Any]:
    choices, weights = subnet
    variables = with_trained(inputs.frozen, params, stats)
    # Only the parts that train use batch statistics and update the running
    # ones; the keys of `params` are the names of these parts.
    outputs, stats = run(
        variables, inputs.teacher, x, choices, moving=tuple(params)
    )
    loss, metrics = _module_loss(
        outputs, targets, largest, weights, has_soft=weighting.soft_weight > 0
    )
    metrics['top1'] = losses.top1(outputs['logits'], inputs.labels)
    return loss, (outputs, stats, metrics)

  weights = weighting.at(
      inputs.step, len(subnets), has_largest=space.has_largest
  )
  grads, stats, metrics = scan_subnets(
      loss_fn,
      params,
      stats,
      largest,
      (subnets, weights),
      first_is_reference=space.has_largest,
  )
  # Corners come first, from the largest that trains to the smallest.
  smallest = len(space.corners()) - 1
  return grads, stats, {
      'loss': metrics['loss'].sum(),
      'loss_largest': metrics['teacher_loss'][0],
      'loss_smallest': metrics['teacher_loss'][smallest],
      'top1_largest': metrics['top1'][0],
      'top1_smallest': metrics['top1'][smallest],
  }


def _module_data(
    inputs: StepInputs,
    nets: Networks,
    space: mdsr.SubnetSpace,
    input_from: str,
    subnets: jax.Array,
) -> tuple[jax.Array, losses.Outputs]:
  """Returns the input of the stages of a space, and the teacher's outputs.

  The outputs, by name, are those of these stages and of all later ones.
  """
  targets, _ = run_network(nets.teacher, inputs.teacher, inputs.images)
  x = inputs.images
  if space.first > 1 and input_from == 'teacher':
    x = targets[anchor_name(space.first - 1)]
  elif space.first > 1:
    for n in range(1, space.first):
      choice = subnets[0, n - 1]
      x, _ = supernet.switch_stage(nets.student, inputs.frozen, x, n, choice)
  before = {anchor_name(n) for n in range(1, space.first)}
  return x, {name: y for name, y in targets.items() if name not in before}


def _module_loss(
    outputs: losses.Outputs,
    targets: losses.Outputs,
    largest: losses.Outputs,
    weights: tuple[jax.Array, jax.Array, jax.Array],
    *,
    has_soft: bool,
) -> tuple[jax.Array, Metrics]:
  """Returns one subnet's term of Eq. 3, and its metrics.

  `largest` enters the scan as data, so no gradient flows into it.
  """
  to_teacher, to_largest, to_soft = weights
  teacher_loss = losses.anchor_loss(outputs, targets)
  loss = to_teacher * teacher_loss + to_largest * losses.anchor_loss(
      outputs, largest
  )
  if has_soft:
    loss += to_soft * losses.soft_cross_entropy(
        outputs['logits'], targets['logits']
    )
  return loss, {'loss': loss, 'teacher_loss': teacher_loss}


def gate_gradients(
    params: trees.Tree,
    stats: trees.Tree,
    inputs: StepInputs,
    *,
    net: ResNet,
    gates: GateSet,
    space: mdsr.SubnetSpace,
    num_random: int,
    divergence: str,
) -> Gradients:
  """Gradients of Eq. 4 for all gates, on the anchors of the drawn subnets.

  No gate reads another gate's output, so each trains as if it were alone; all
  share the runs of the network.

  Args:
    params: parameters of the gates; see `Objective`.
    stats: see `Objective`.
    inputs: teacher and step are not used, and labels for the metrics only.
    net: the network.
    gates: its gates.
    space: the subnets to draw from, the largest first.
    num_random: number of random subnets besides the corners.
    divergence: see `losses.gate_loss`.
  """
  subnets = mdsr.draw_subnets(inputs.rng, space, num_random)
  logits, features = lax.map(
      functools.partial(supernet.forward, net, inputs.frozen, inputs.images),
      subnets,
  )
  # `(R, B, ...)` to `(R * B, ...)`: a gate sees all subnets as one batch.
  features = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), features)
  target = jnp.tile(logits[0], (len(subnets), 1))
  labels = jnp.tile(inputs.labels, len(subnets))

  def loss_fn(params: trees.Tree) -> tuple[jax.Array, Any]:
    variables = {'params': params, 'batch_stats': stats}
    outputs, new_stats = gates.run_all(variables, features)
    by_gate = {
        gate_name(n): losses.gate_loss(*output, target, divergence)
        for n, output in outputs.items()
    }
    metrics = {f'loss/{name}': loss for name, loss in by_gate.items()}
    metrics |= {
        f'top1/{gate_name(n)}': losses.top1(detection, labels)
        for n, (detection, _) in outputs.items()
    }
    loss = sum(by_gate.values(), jnp.zeros(()))
    return loss, (new_stats, metrics | {'loss': loss})

  grads, (stats, metrics) = jax.grad(loss_fn, has_aux=True)(params)
  return grads, stats, metrics


def folding(objective: Objective, net: ResNet, teacher: ResNet) -> Objective:
  """Wraps an objective so that kernels are standardised once per step.

  The objective runs on standardised kernels, and its gradients are pulled back
  through the standardisation.

  Args:
    objective: objective of the networks that `ResNet.folded` returns.
    net: the network that trains.
    teacher: the network of the collections that are passed as the teacher's.

  Returns:
    The same objective of the networks' own parameters; `objective` itself if no
    kernels are standardised.
  """
  if net.folded == net and teacher.folded == teacher:
    return objective

  def run(
      params: trees.Tree, stats: trees.Tree, inputs: StepInputs
  ) -> Gradients:
    folded, pull_back = jax.vjp(net.fold, {'params': params})
    inputs = dataclasses.replace(
        inputs,
        frozen=net.fold(inputs.frozen),
        teacher=teacher.fold(inputs.teacher),
    )
    grads, stats, metrics = objective(folded['params'], stats, inputs)
    (own,) = pull_back({'params': grads})
    return own['params'], stats, metrics

  return run
