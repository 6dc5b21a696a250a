# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Gradients of a step: with labels (teacher) or with anchors (Eq. 1 to 3).

B = batch, H = height, W = width, C = channels, K = classes.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp

from adaptanet_jax import trees
from adaptanet_jax.models import supernet
from adaptanet_jax.models.gates import GateSet, gate_name
from adaptanet_jax.models.resnet import (
  BACKBONE,
  ResNet,
  Variables,
  anchor_name,
)
from adaptanet_jax.models.subnet import NUM_STAGES, StageChoice
from adaptanet_jax.training import losses, mdsr

Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Networks:
  """The static halves of the two networks.

  Attributes:
    teacher: run at full width only.
    student: the supernet.
  """

  teacher: ResNet
  student: ResNet


def run_full(
    net: ResNet, variables: Variables, x: jax.Array, *, first: int = 1,
    train: tuple[str, ...] = (),
) -> tuple[losses.Outputs, Variables]:
  """Runs a network at full width from one stage to the logits.

  Args:
    net: the network.
    variables: its collections.
    x: `(B, H, W, C)` images if `first` is 1, else the anchor before it.
    first: first stage to run; 5 runs the head alone.
    train: parts whose batch statistics are used and moved.

  Returns:
    Anchors `first` to 4 and logits, by name; new batch statistics.
  """
  outputs = {}
  stats: Variables = {}
  for n in range(first, NUM_STAGES + 1):
    x, new = net.run_stage(variables, x, n, StageChoice(), train=train)
    stats = trees.merge(stats, new)
    outputs[anchor_name(n)] = x
  outputs['logits'] = net.run_head(variables, x)
  return outputs, stats


def run_module(
    nets: Networks,
    student: Variables,
    teacher: Variables,
    x: jax.Array,
    choices: jax.Array | None,
    *,
    stages: range,
    train: tuple[str, ...],
) -> tuple[losses.Outputs, Variables]:
  """Runs student stages, then the teacher's from there on (Eq. 2).

  Args:
    nets: both networks.
    student: collections of the student.
    teacher: collections of the teacher.
    x: `(B, H, W, C)` images if `stages` starts at 1, else the anchor before.
    choices: `int32[4]` branch indices; None for the largest subnet.
    stages: numbers of the student's stages to run.
    train: parts whose batch statistics are used and moved.

  Returns:
    Anchors from the first of `stages` on and logits, by name; the student's
    new batch statistics.
  """
  outputs = {}
  stats: Variables = {}
  for n in stages:
    if choices is None:
      x, new = nets.student.run_stage(
          student, x, n, StageChoice(), train=train
      )
    else:
      x, new = supernet.switch_stage(
          nets.student, student, x, n, choices[n - 1], train=train
      )
    stats = trees.merge(stats, new)
    outputs[anchor_name(n)] = x
  if stages[-1] == NUM_STAGES:
    rest = {'logits': nets.student.run_head(student, x)}
  else:
    # A GroupNorm student may stand before a BatchNorm teacher, so this cannot
    # be the student's own code with other parameters.
    rest, _ = run_full(nets.teacher, teacher, x, first=stages[-1] + 1)
  return outputs | rest, stats


def label_gradients(
    params: trees.Tree,
    stats: trees.Tree,
    frozen: Variables,
    teacher: Variables,
    images: jax.Array,
    labels: jax.Array,
    rng: jax.Array,
    step: jax.Array,
    *,
    net: ResNet,
    label_smoothing: float,
) -> tuple[trees.Tree, trees.Tree, Metrics]:
  """Gradients of a full network's cross-entropy to the labels.

  Args:
    params: the trained parameters.
    stats: their batch statistics, `{}` if there are none.
    frozen: collections that do not train; differentiated by nothing.
    teacher: unused, so that all objectives have one signature.
    images: `uint8[B, H, W, C]`, augmented.
    labels: `int32[B]`.
    rng: unused.
    step: unused.
    net: the network.
    label_smoothing: see `losses.cross_entropy`.

  Returns:
    Gradients by `params`, new batch statistics, metrics.
  """
  del teacher, rng, step

  def loss_fn(params: trees.Tree) -> tuple[jax.Array, Any]:
    variables = with_trained(frozen, params, stats)
    outputs, new_stats = run_full(net, variables, images, train=(BACKBONE,))
    logits = outputs['logits']
    loss = losses.cross_entropy(
        logits, labels, label_smoothing=label_smoothing
    )
    return loss, (new_stats, losses.top1(logits, labels))

  (loss, (stats, top1)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
      params
  )
  return grads, stats, {'loss': loss, 'top1': top1}


def anchor_gradients(
    params: trees.Tree,
    stats: trees.Tree,
    frozen: Variables,
    teacher: Variables,
    images: jax.Array,
    labels: jax.Array,
    rng: jax.Array,
    step: jax.Array,
    *,
    nets: Networks,
    space: mdsr.SubnetSpace,
    prefix: str,
    num_random: int,
    teacher_weight: float,
    soft_from: int | None = None,
) -> tuple[trees.Tree, trees.Tree, Metrics]:
  """Gradients of Eq. 3 for the subnets that this step draws.

  Args:
    params: the trained parameters.
    stats: their batch statistics, `{}` if there are none.
    frozen: the rest of the student; differentiated by nothing.
    teacher: collections of the teacher; gradients pass through its layers to
      the student's anchor, but it has none itself.
    images: `uint8[B, H, W, C]`, augmented.
    labels: `int32[B]`, for the metrics alone.
    rng: key of the step, the same on every device.
    step: steps done in this phase, `int32[]`.
    nets: both networks.
    space: the subnets to draw from.
    prefix: what feeds the first trained stage, 'student' or 'teacher'.
    num_random: random subnets beside the corners.
    teacher_weight: v of Eq. 3.
    soft_from: the step from which the loss is averaged with a cross-entropy to
      the teacher's probabilities, over all subnets but the largest (Sec. V-B);
      None: never.

  Returns:
    Gradients by `params`, new batch statistics, metrics.
  """
  subnets = mdsr.draw_subnets(rng, space, num_random)
  targets, _ = run_full(nets.teacher, teacher, images)
  x = images
  if space.first > 1 and prefix == 'teacher':
    x = targets[anchor_name(space.first - 1)]
  elif space.first > 1:
    for n in range(1, space.first):
      choice = subnets[0, n - 1]
      x, _ = supernet.switch_stage(nets.student, frozen, x, n, choice)
  targets = {
      name: target
      for name, target in targets.items()
      if name not in map(anchor_name, range(1, space.first))
  }
  run = functools.partial(run_module, nets, stages=space.stages)
  if space.has_largest:  # Filled in when it has run.
    largest = jax.tree.map(jnp.zeros_like, targets)
  else:
    variables = with_trained(frozen, params, stats)
    largest, _ = run(variables, teacher, x, None, train=())

  def loss_fn(
      params: trees.Tree,
      stats: trees.Tree,
      largest: losses.Outputs,
      subnet: Any,
  ) -> tuple[jax.Array, Any]:
    choices, to_teacher, to_largest, to_soft = subnet
    variables = with_trained(frozen, params, stats)
    # A part of a network is trained with its own batch statistics only.
    outputs, stats = run(variables, teacher, x, choices, train=tuple(params))
    teacher_loss = losses.anchor_loss(outputs, targets)
    # `largest` enters the scan as data: no gradient flows into it (Eq. 3).
    loss = to_teacher * teacher_loss + to_largest * losses.anchor_loss(
        outputs, largest
    )
    if soft_from is not None:
      soft = losses.soft_cross_entropy(outputs['logits'], targets['logits'])
      is_soft = step >= soft_from
      loss = jnp.where(is_soft, (loss + to_soft * soft) / 2.0, loss)
    metrics = {
        'loss': loss,
        'teacher_loss': teacher_loss,
        'top1': losses.top1(outputs['logits'], labels),
    }
    return loss, (outputs, stats, metrics)

  weights = mdsr.loss_weights(
      len(subnets), teacher_weight, has_largest=space.has_largest
  )
  grads, stats, metrics = scan_subnets(
      loss_fn,
      params,
      stats,
      largest,
      (subnets, *map(jnp.asarray, weights)),
      first_is_reference=space.has_largest,
  )
  # Corners come first: the largest that trains, then the smallest.
  return grads, stats, {
      'loss': metrics['loss'].sum(),
      'loss_largest': metrics['teacher_loss'][0],
      'loss_smallest': metrics['teacher_loss'][1],
      'top1_largest': metrics['top1'][0],
      'top1_smallest': metrics['top1'][1],
  }


def scan_subnets(
    loss_fn: Callable[..., tuple[jax.Array, Any]],
    params: trees.Tree,
    stats: trees.Tree,
    reference: Any,
    subnets: Any,
    *,
    first_is_reference: bool,
) -> tuple[trees.Tree, trees.Tree, Metrics]:
  """Adds up the gradients of the subnets of a step.

  They run one after the other through one traced body, so a step needs the
  activations of one subnet at a time.

  Args:
    loss_fn: maps (params, stats, reference, subnet) to a loss and (what the
      subnet puts out, its batch statistics, metrics).
    params: the trained parameters.
    stats: batch statistics before the first subnet.
    reference: what the first subnet is set beside.
    subnets: arrays of one entry for each subnet, in order.
    first_is_reference: whether what the first one puts out is the reference of
      the rest.

  Returns:
    The sum of gradients, batch statistics after the last subnet, metrics as
    arrays of one entry for each subnet.
  """

  def body(carry: Any, subnet: Any) -> tuple[Any, Metrics]:
    grads, stats, reference, is_reference = carry
    new_grads, (outputs, stats, metrics) = jax.grad(loss_fn, has_aux=True)(
        params, stats, reference, subnet
    )
    grads = jax.tree.map(jnp.add, grads, new_grads)
    reference = lax.cond(is_reference, lambda: outputs, lambda: reference)
    return (grads, stats, reference, jnp.array(False)), metrics

  zeros = jax.tree.map(jnp.zeros_like, params)
  start = (zeros, stats, reference, jnp.array(first_is_reference))
  (grads, stats, _, _), metrics = lax.scan(body, start, subnets)
  return grads, stats, metrics


def gate_gradients(
    params: trees.Tree,
    stats: trees.Tree,
    frozen: Variables,
    teacher: Variables,
    images: jax.Array,
    labels: jax.Array,
    rng: jax.Array,
    step: jax.Array,
    *,
    net: ResNet,
    gates: GateSet,
    space: mdsr.SubnetSpace,
    num_random: int,
    divergence: str,
) -> tuple[trees.Tree, trees.Tree, Metrics]:
  """Gradients of Eq. 4 for all gates, on the anchors of the drawn subnets.

  No gate reads what another one puts out, so each trains as if it were alone;
  they share the runs of the network.

  Args:
    params: parameters of the gates.
    stats: their batch statistics.
    frozen: the network; differentiated by nothing.
    teacher: unused, so that all objectives have one signature.
    images: `uint8[B, H, W, C]`, augmented.
    labels: `int32[B]`, for the metrics alone.
    rng: key of the step, the same on every device.
    step: unused.
    net: the network.
    gates: its gates.
    space: the subnets to draw from, the largest first.
    num_random: random subnets beside the corners.
    divergence: see `losses.gate_loss`.

  Returns:
    Gradients by `params`, new batch statistics, metrics.
  """
  del teacher, step
  subnets = mdsr.draw_subnets(rng, space, num_random)
  logits, features = lax.map(
      functools.partial(supernet.forward, net, frozen, images), subnets
  )
  # `(R, B, ...)` to `(R * B, ...)`: a gate sees all subnets as one batch.
  features = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), features)
  target = jnp.tile(logits[0], (len(subnets), 1))
  labels = jnp.tile(labels, len(subnets))

  def loss_fn(params: trees.Tree) -> tuple[jax.Array, Any]:
    variables = {'params': params, 'batch_stats': stats}
    outputs, new_stats = gates.train(variables, features)
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


def with_trained(
    frozen: Variables, params: trees.Tree, stats: trees.Tree
) -> Variables:
  """Returns a network's collections from those that train and the rest."""
  trained = {'params': params} | ({'batch_stats': stats} if stats else {})
  return trees.merge(frozen, trained)


def folding(
    objective: 'Objective', net: ResNet, teacher: ResNet
) -> 'Objective':
  """Has kernels standardised once a step, where a network's norm has them so.

  Args:
    objective: of the networks as `ResNet.folded` has them.
    net: the network that trains.
    teacher: whose collections the objective gets as the teacher's.

  Returns:
    The same objective, of the networks' own parameters; itself where no kernels
    are standardised.
  """
  if net.folded == net and teacher.folded == teacher:
    return objective

  def run(
      params: trees.Tree,
      stats: trees.Tree,
      frozen: Variables,
      teacher_variables: Variables,
      *rest: Any,
  ) -> tuple[trees.Tree, trees.Tree, Metrics]:
    folded, pull_back = jax.vjp(net.fold, {'params': params})
    grads, stats, metrics = objective(
        folded['params'],
        stats,
        net.fold(frozen),
        teacher.fold(teacher_variables),
        *rest,
    )
    (own,) = pull_back({'params': grads})
    return own['params'], stats, metrics

  return run


# (params, stats, frozen, teacher, images, labels, rng, step)
# -> (grads, stats, metrics)
Objective = Callable[..., tuple[trees.Tree, trees.Tree, Metrics]]
