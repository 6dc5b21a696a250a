# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The supernet: every sub-network in one compiled program.

Anchors have one shape whatever produced them, so each stage is a `lax.switch`
over its branches and the network is four of them. An `int32[4]` picks the
sub-network at run time, and only its own work is done.
"""

from collections.abc import Sequence
import functools

import jax
from jax import lax
import jax.numpy as jnp

from adaptanet_jax import trees
from adaptanet_jax.models.gates import GateSet, confidences, gate_name
from adaptanet_jax.models.layers import normalize
from adaptanet_jax.models.parts import Variables
from adaptanet_jax.models.resnet import (
  BACKBONE,
  DELTA,
  ResNet,
  anchor_name,
  stage_name,
  stage_numbers,
)
from adaptanet_jax.models.slimmable import MOMENTUM
from adaptanet_jax.models.subnet import StageChoice
from adaptanet_jax.models.switch import switch


def switch_stage(
    net: ResNet,
    variables: Variables,
    x: jax.Array,
    number: int,
    choice: jax.Array,
    *,
    moving: tuple[str, ...] = (),
    branches: Sequence[StageChoice] = (),
) -> tuple[jax.Array, Variables]:
  """Runs one stage as `choice` says; see `ResNet.run_stage`.

  Do not `vmap` it: that turns a switch into a select that runs every branch.

  Args:
    net: the network.
    variables: collections of the network, or of at least this stage.
    x: `(B, H, W, C)` images for stage 1, otherwise the previous anchor.
    number: 1 to 4.
    choice: `int32[]`, index into the branches.
    moving: parts that use batch statistics and update the running ones.
    branches: the choices to compile; default: `net.choices`.

  Returns:
    The stage's output and the new batch statistics of the parts `moving`.
  """
  if number == 1:  # Outside the switch, once for all branches.
    x = normalize(x)
  runs = tuple(
      functools.partial(_run_branch, net, number, stage_choice, moving)
      for stage_choice in branches or net.choices
  )
  return switch(runs, choice, stage_variables(net, variables, number), x)


def stage_variables(
    net: ResNet, variables: Variables, number: int
) -> Variables:
  """Returns the part of a network's collections that one stage reads."""
  names = [f'{BACKBONE}/{stage_name(number)}']
  if number == 1:
    names.append(f'{BACKBONE}/stem')
  if net.delta:
    names.append(f'{DELTA}/{stage_name(number)}')
  return {
      collection: trees.split(tree, names)[0]
      for collection, tree in variables.items()
  }


def _run_branch(
    net: ResNet,
    number: int,
    choice: StageChoice,
    moving: tuple[str, ...],
    variables: Variables,
    x: jax.Array,
) -> tuple[jax.Array, Variables]:
  x, stats = net.run_stage(variables, x, number, choice, moving=moving)
  # All branches return the same tree, updated or not.
  old = variables.get('batch_stats', {})
  before = {part: old[part] for part in moving if part in old}
  return x, trees.merge(before, stats)


def forward(
    net: ResNet, variables: Variables, images: jax.Array, choices: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Runs the subnet that `choices` selects.

  Args:
    net: the network.
    variables: its collections.
    images: `(B, H, W, C)`, see `layers.normalize`.
    choices: `int32[4]`, as `Subnet.encode` gives it.

  Returns:
    Logits `(B, num_classes)`, and the anchors by name.
  """
  features = {}
  x = images
  for n in stage_numbers():
    x, _ = switch_stage(net, variables, x, n, choices[n - 1])
    features[anchor_name(n)] = x
  return net.run_head(variables, x), features


def outputs_by_subnet(
    net: ResNet,
    variables: Variables,
    images: jax.Array,
    choices: tuple[jax.Array, ...],
    gates: GateSet | None = None,
    statistics: tuple[Variables, ...] = (),
) -> dict[str, jax.Array]:
  """Classifies images under every combination of the stages' choices.

  Walks the tree of prefixes, so a stage runs once for each way to reach it:
  8 + 64 + 512 + 4096 stage runs for all subnets, instead of 4 * 4096.

  Args:
    net: the network.
    variables: its collections, with those of `gates`.
    images: `(B, H, W, C)`, see `layers.normalize`.
    choices: for each stage the `int32[K_n]` branches to try.
    gates: gates to read on the way, if any.
    statistics: for each stage batch statistics `[K_1, ..., K_n, ...]` of every
      way to reach it, as `statistics_by_subnet` returns them; empty: all
      subnets use those of `variables`.

  Returns:
    `prediction`, the predicted classes, `int32[K_1, K_2, K_3, K_4, B]`; and for
    each gate its confidences after the stages up to its anchor, such as
    `gate2`, `float32[K_1, K_2, 3, B]`, in the order of `gates.CONFIDENCES`.
  """

  def walk(
      x: jax.Array, number: int, statistics: tuple[Variables, ...]
  ) -> dict[str, jax.Array]:
    if number > len(choices):
      logits = net.run_head(variables, x)
      return {'prediction': logits.argmax(-1).astype(jnp.int32)}

    def descend(
        inputs: tuple[jax.Array, tuple[Variables, ...]],
    ) -> dict[str, jax.Array]:
      choice, below = inputs
      own = trees.merge(variables, *below[:1])
      anchor, _ = switch_stage(net, own, x, number, choice)
      outputs = walk(anchor, number + 1, below[1:])
      if gates and number in gates.anchors:
        read = gates.run(variables, number, anchor)
        outputs[gate_name(number)] = confidences(*read)
      return outputs

    return lax.map(descend, (choices[number - 1], statistics))

  return walk(images, 1, statistics)


def statistics_by_subnet(
    net: ResNet,
    variables: Variables,
    images: jax.Array,
    choices: tuple[jax.Array, ...],
) -> tuple[Variables, ...]:
  """Computes batch statistics for every way to reach each stage.

  A stage's input depends on how the stages before it ran, and so do its
  statistics: two subnets with the same choice of a stage may differ in them.

  Args:
    net: the network.
    variables: its collections; every norm uses the statistics of `images`.
    images: `(B, H, W, C)`, see `layers.normalize`.
    choices: for each stage the `int32[K_n]` branches to try.

  Returns:
    For each stage a collection `{'batch_stats': ...}`, `[K_1, ..., K_n, ...]`.
  """
  parts = (BACKBONE, DELTA)
  # From zeros, one update moves a norm's statistics by a known share.
  zeros = jax.tree.map(jnp.zeros_like, variables['batch_stats'])
  start = variables | {'batch_stats': zeros}

  def walk(x: jax.Array, number: int) -> tuple[Variables, ...]:
    def descend(choice: jax.Array) -> tuple[Variables, ...]:
      y, moved = switch_stage(net, start, x, number, choice, moving=parts)
      own = jax.tree.map(lambda leaf: leaf / (1.0 - MOMENTUM), moved)
      below = walk(y, number + 1) if number < len(choices) else ()
      return {'batch_stats': own}, *below

    return lax.map(descend, choices[number - 1])

  return walk(images, 1)
