# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Ways to run networks in a step: at full width, by module, by subnet.

B = batch, H = height, W = width, C = channels.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp

from adaptanet_jax import trees
from adaptanet_jax.models import supernet
from adaptanet_jax.models.parts import Variables
from adaptanet_jax.models.resnet import ResNet, anchor_name
from adaptanet_jax.models.subnet import NUM_STAGES, StageChoice
from adaptanet_jax.training import losses

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

  def student_with(self, *, delta: bool) -> ResNet:
    """Returns the student with or without delta substitutes."""
    return self.student if delta else self.student.without_delta


def run_network(
    net: ResNet,
    variables: Variables,
    x: jax.Array,
    choices: jax.Array | None = None,
    *,
    first: int = 1,
    moving: tuple[str, ...] = (),
) -> tuple[losses.Outputs, Variables]:
  """Runs a network from one stage to the logits.

  Args:
    net: the network.
    variables: its collections.
    x: `(B, H, W, C)` images if `first` is 1, otherwise the previous anchor.
    choices: `int32[4]` branch indices; None for the largest subnet.
    first: first stage to run; 5 runs the head alone.
    moving: parts that use batch statistics and update the running ones.

  Returns:
    Anchors `first` to 4 and logits, by name; new batch statistics.
  """
  stages = range(first, NUM_STAGES + 1)
  x, outputs, stats = _run_stages(net, variables, x, choices, stages, moving)
  return outputs | {'logits': net.run_head(variables, x)}, stats


def run_module(
    nets: Networks,
    student: Variables,
    teacher: Variables,
    x: jax.Array,
    choices: jax.Array | None,
    *,
    stages: range,
    moving: tuple[str, ...],
) -> tuple[losses.Outputs, Variables]:
  """Runs stages of the student, then the rest of the teacher (Eq. 2).

  Args:
    nets: both networks.
    student: collections of the student.
    teacher: collections of the teacher.
    x: `(B, H, W, C)` images if `stages` starts at 1, otherwise the previous
      anchor.
    choices: `int32[4]` branch indices; None for the largest subnet.
    stages: numbers of the student's stages to run.
    moving: parts that use batch statistics and update the running ones.

  Returns:
    Anchors from the first of `stages` on and logits, by name; the student's
    new batch statistics.
  """
  x, outputs, stats = _run_stages(
      nets.student, student, x, choices, stages, moving
  )
  if stages[-1] == NUM_STAGES:
    rest = {'logits': nets.student.run_head(student, x)}
  else:
    # The teacher may have BatchNorm and the student GroupNorm, so the student's
    # code with the teacher's parameters would not do.
    rest, _ = run_network(nets.teacher, teacher, x, first=stages[-1] + 1)
  return outputs | rest, stats


def _run_stages(
    net: ResNet,
    variables: Variables,
    x: jax.Array,
    choices: jax.Array | None,
    stages: range,
    moving: tuple[str, ...],
) -> tuple[jax.Array, losses.Outputs, Variables]:
  """Returns the last anchor, all anchors by name, and new batch statistics."""
  outputs: losses.Outputs = {}
  stats: Variables = {}
  for n in stages:
    if choices is None:
      x, new = net.run_stage(variables, x, n, StageChoice(), moving=moving)
    else:
      x, new = supernet.switch_stage(
          net, variables, x, n, choices[n - 1], moving=moving
      )
    stats = trees.merge(stats, new)
    outputs[anchor_name(n)] = x
  return x, outputs, stats


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

  The subnets run one after the other through one traced body, so a step needs
  the activations of only one subnet at a time.

  Args:
    loss_fn: maps (params, stats, reference, subnet) to a loss and (the subnet's
      outputs, its batch statistics, metrics).
    params: the trained parameters.
    stats: batch statistics before the first subnet.
    reference: outputs with which the loss of the first subnet compares its own.
    subnets: arrays with one entry for each subnet, in order.
    first_is_reference: whether the outputs of the first subnet become the
      reference of the rest.

  Returns:
    The sum of gradients, batch statistics after the last subnet, metrics as
    arrays with one entry for each subnet.
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


def collections_of(params: trees.Tree, stats: trees.Tree) -> Variables:
  """Returns parameters and batch statistics, if any, as collections."""
  return {'params': params} | ({'batch_stats': stats} if stats else {})


def with_trained(
    frozen: Variables, params: trees.Tree, stats: trees.Tree
) -> Variables:
  """Merges a network's frozen collections with its trained ones."""
  return trees.merge(frozen, collections_of(params, stats))
