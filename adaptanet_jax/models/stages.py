# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The second back end: a program for each choice of each stage, run in turn.

Anchors fix the shapes between stages, so any program of one stage fits any of
the next, and 4 * 8 of them and a head are the same 4,096 subnets as the one
switched program. The host composes them. A stage's program is what a network of
that one subnet would run, with no switch around it, and it holds its weights
cut to its width and in the type that it computes in: with a batch of one it
takes longer to cut them than to use them. That is paid for with memory, all
choices together about twice the network's weights, and with a dispatch for each
stage. A choice is compiled when it is first met.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core
import jax.numpy as jnp

from adaptanet_jax.models import supernet
from adaptanet_jax.models.resnet import (
  BACKBONE,
  ResNet,
  Variables,
  stage_numbers,
)
from adaptanet_jax.models.subnet import StageChoice, Subnet


class Stages:
  """All subnets of a network, as programs of their stages."""

  def __init__(
      self,
      net: ResNet,
      variables: Variables,
      *,
      prepare: Callable[[jax.Array], jax.Array] | None = None,
  ) -> None:
    """Compiles nothing yet.

    Args:
      net: the network.
      variables: its collections.
      prepare: what normalises images; None if they come normalised.
    """
    self._net, self._prepare = net, prepare
    self._params = {
        n: supernet.stage_variables(net, variables, n)['params']
        for n in stage_numbers()
    }
    self._stats = {'batch_stats': variables.get('batch_stats', {})}
    self._weights: dict[Any, list[jax.Array]] = {}
    self._programs: dict[Any, Any] = {}
    self._head = jax.jit(net.run_head)
    head = variables['params'][BACKBONE]['head']
    self._head_variables = {'params': {BACKBONE: {'head': head}}}

  def __call__(
      self, images: jax.Array, subnet: Subnet, stats: Variables | None = None
  ) -> jax.Array:
    """Runs one subnet.

    Args:
      images: `(B, H, W, C)` images.
      subnet: the sub-network to run.
      stats: a collection `{'batch_stats': ...}` in place of the network's.

    Returns:
      Logits `(B, num_classes)`.
    """
    x = images
    for n, choice in zip(stage_numbers(), subnet.stages):
      x = self.run_stage(x, n, choice, stats)
    return self.run_head(x)

  def run_stage(
      self,
      x: jax.Array,
      number: int,
      choice: StageChoice,
      stats: Variables | None = None,
  ) -> jax.Array:
    """Runs one stage.

    Args:
      x: `(B, H, W, C)` images for stage 1, else what the stage before returned.
      number: 1 to 4.
      choice: how the stage runs.
      stats: see a call.

    Returns:
      The stage's output, the channels that it has written.
    """
    own = supernet.stage_variables(self._net, stats or self._stats, number)
    key = number, choice, x.shape
    if key not in self._programs:
      self._programs[key] = self._compile(x, number, choice, own)
    return self._programs[key](self._weights[number, choice], own, x)

  def run_head(self, x: jax.Array) -> jax.Array:
    """Returns the logits of stage 4's output."""
    return self._head(self._head_variables, x)

  def _compile(
      self, x: jax.Array, number: int, choice: StageChoice, stats: Variables
  ) -> Any:
    """Traces a choice of a stage over its weights, and takes these out of it.
    """
    net, params = self._net, self._params[number]

    def run(stats: Variables, x: jax.Array) -> jax.Array:
      if number == 1 and self._prepare:
        x = self._prepare(x)
      x, _ = net.run_stage(stats | {'params': params}, x, number, choice)
      return net.active(x, number, choice)

    traced = jax.make_jaxpr(run)(stats, x)
    # Those of another batch are the same.
    weights = [jnp.asarray(leaf) for leaf in traced.consts]
    self._weights.setdefault((number, choice), weights)

    def run_with(
        weights: list[jax.Array], stats: Variables, x: jax.Array
    ) -> jax.Array:
      closed = core.ClosedJaxpr(traced.jaxpr, weights)
      (y,) = core.jaxpr_as_fun(closed)(*jax.tree.leaves((stats, x)))
      return y

    return jax.jit(run_with)
