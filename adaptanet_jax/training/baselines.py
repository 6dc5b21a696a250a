# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Gradients of a step of USNet or DSNet: labels, and in-place distillation.

These networks have no anchors: their stages' outputs slim as well. Everything
else, from the operations to the evaluation, is shared with AdaptaNet.

B = batch, K = classes, R = subnets.
"""

from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import optax

from adaptanet_jax import trees
from adaptanet_jax.models import supernet
from adaptanet_jax.models.resnet import BACKBONE, ResNet
from adaptanet_jax.training import losses
from adaptanet_jax.training.baseline_methods import Method
from adaptanet_jax.training.forward import (
  run_network,
  scan_subnets,
  with_trained,
)
from adaptanet_jax.training.objectives import Gradients, StepInputs


def baseline_gradients(
    params: trees.Tree,
    stats: trees.Tree,
    inputs: StepInputs,
    *,
    net: ResNet,
    method: Method,
    label_smoothing: float,
    ensemble: str,
) -> Gradients:
  """Gradients of the summed cross-entropies of the subnets of a step.

  The first subnet learns the labels. With USNet, the others learn its
  prediction in the same step. With DSNet, they learn the moving average's
  prediction of the first subnet; with `ieb`, the last subnet learns the mean of
  the moving average's predictions of all the others.

  Args:
    params: see `Objective`.
    stats: see `Objective`.
    inputs: the teacher is the network's moving average, if the method has one.
    net: the network.
    method: which subnets to draw and what teaches them.
    label_smoothing: see `losses.smooth_targets`.
    ensemble: one of `baseline_methods.ENSEMBLES`.
  """
  subnets = method.draw(inputs.rng)
  hard = losses.smooth_targets(
      inputs.labels, net.num_classes, label_smoothing=label_smoothing
  )
  targets = None  # The first subnet's predictions, in place.
  if method.moving_average:
    soft = _bootstrapped(net, inputs, subnets, ensemble)
    targets = jnp.concatenate([hard[None], soft])

  def loss_fn(
      params: trees.Tree, stats: trees.Tree, in_place: jax.Array, subnet: Any
  ) -> tuple[jax.Array, Any]:
    choices, target = subnet
    variables = with_trained(inputs.frozen, params, stats)
    outputs, stats = run_network(
        net, variables, inputs.images, choices, moving=(BACKBONE,)
    )
    logits = outputs['logits']
    loss = optax.softmax_cross_entropy(
        logits, in_place if target is None else target
    ).mean()
    metrics = {'loss': loss, 'top1': losses.top1(logits, inputs.labels)}
    return loss, (jax.nn.softmax(logits), stats, metrics)

  grads, stats, metrics = scan_subnets(
      loss_fn,
      params,
      stats,
      hard,
      (subnets, targets),
      first_is_reference=True,
  )
  return grads, stats, {
      'loss': metrics['loss'].sum(),
      'loss_widest': metrics['loss'][0],
      'loss_narrowest': metrics['loss'][-1],
      'top1_widest': metrics['top1'][0],
      'top1_narrowest': metrics['top1'][-1],
  }


def _bootstrapped(
    net: ResNet, inputs: StepInputs, subnets: jax.Array, ensemble: str
) -> jax.Array:
  """Returns DSNet's targets for all subnets but the first, `(R - 1, B, K)`."""

  def predict(choices: jax.Array) -> jax.Array:
    logits, _ = supernet.forward(net, inputs.teacher, inputs.images, choices)
    return jax.nn.softmax(logits)

  count = len(subnets) - 1 if ensemble == 'ieb' else 1
  guides = lax.map(predict, subnets[:count])
  of_first = jnp.broadcast_to(
      guides[0], (len(subnets) - 2, *guides.shape[1:])
  )
  return jnp.concatenate([of_first, guides.mean(0, keepdims=True)])
