# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The supernet: every sub-network in one compiled program.

Anchors have one shape whatever produced them, so each stage is a `lax.switch`
over its branches and the network is four of them. An `int32[4]` picks the
sub-network at run time, and only its own work is done.
"""

from collections.abc import Sequence
import functools
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp

from adaptanet_jax import trees
from adaptanet_jax.models.resnet import (
    BACKBONE,
    ResNet,
    Variables,
    anchor_name,
    stage_name,
    stage_numbers,
)
from adaptanet_jax.models.subnet import CHOICES, WIDTHS, StageChoice

# The branches of each stage, in the order of `StageChoice.index`.
BRANCHES = CHOICES[: len(WIDTHS)]


def switch_stage(
    net: ResNet,
    variables: Variables,
    x: jax.Array,
    number: int,
    choice: jax.Array,
    *,
    train: bool = False,
) -> tuple[jax.Array, Variables]:
  """Runs one stage as `choice` says; see `ResNet.run_stage`.

  Never under `vmap`: it turns a switch into a select that runs every branch.

  Args:
    net: the network.
    variables: collections of the network, or of at least this stage.
    x: `(B, H, W, C)` images for stage 1, else the anchor before.
    number: 1 to 4.
    choice: `int32[]`, index into `BRANCHES`.
    train: whether batch statistics are used and moved.

  Returns:
    The stage's anchor and the new batch statistics.
  """

  branches = tuple(
      functools.partial(_run_branch, net, number, stage_choice, train)
      for stage_choice in BRANCHES
  )
  # Its own parts alone: the gradient has a cotangent for all that goes in.
  names = [f'{BACKBONE}/{stage_name(number)}']
  if number == 1:
    names.append(f'{BACKBONE}/stem')
  own = {c: trees.split(tree, names)[0] for c, tree in variables.items()}
  return _switch(branches, choice, own, x)


def _run_branch(
    net: ResNet,
    number: int,
    choice: StageChoice,
    train: bool,
    variables: Variables,
    x: jax.Array,
) -> tuple[jax.Array, Variables]:
  return net.run_stage(variables, x, number, choice, train=train)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _switch(branches: Sequence[Any], choice: jax.Array, *operands: Any) -> Any:
  """`lax.switch` whose gradient runs the chosen branch once more.

  JAX's own gradient of a switch keeps the activations of every branch, those
  that did not run as zeros: with four widths it takes longer to write them than
  to run a narrow stage again, and with eight branches more memory than the
  network. Here the input alone is kept.
  """
  return lax.switch(choice, branches, *operands)


def _switch_fwd(
    branches: Sequence[Any], choice: jax.Array, *operands: Any
) -> tuple[Any, Any]:
  return lax.switch(choice, branches, *operands), (choice, operands)


def _switch_bwd(
    branches: Sequence[Any], residuals: tuple[jax.Array, Any], cotangents: Any
) -> tuple[Any, ...]:
  choice, operands = residuals

  def pull_back(branch: Any, operands: Any, cotangents: Any) -> Any:
    return jax.vjp(branch, *operands)[1](cotangents)

  pulls = [functools.partial(pull_back, branch) for branch in branches]
  return None, *lax.switch(choice, pulls, operands, cotangents)


_switch.defvjp(_switch_fwd, _switch_bwd)


def forward(
    net: ResNet, variables: Variables, images: jax.Array, choices: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Runs the subnet that `choices` names.

  Args:
    net: the network.
    variables: its collections.
    images: `(B, H, W, C)` normalised images.
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


def predictions_by_subnet(
    net: ResNet,
    variables: Variables,
    images: jax.Array,
    choices: tuple[jax.Array, ...],
) -> jax.Array:
  """Classifies images under every combination of the stages' choices.

  Walks the tree of prefixes, so a stage runs once for each way to reach it:
  4 + 16 + 64 + 256 stage runs for all widths, in place of 4 * 256.

  Args:
    net: the network.
    variables: its collections.
    images: `(B, H, W, C)` normalised images.
    choices: for each stage the `int32[K_n]` branches to try.

  Returns:
    `int32[K_1, K_2, K_3, K_4, B]` predicted classes.
  """

  def walk(x: jax.Array, number: int) -> jax.Array:
    if number > len(choices):
      return net.run_head(variables, x).argmax(-1).astype(jnp.int32)

    def descend(choice: jax.Array) -> jax.Array:
      anchor, _ = switch_stage(net, variables, x, number, choice)
      return walk(anchor, number + 1)

    return lax.map(descend, choices[number - 1])

  return walk(images, 1)
