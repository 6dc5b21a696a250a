# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The second back end: a program for each choice of each stage, run in turn.

Anchors fix the shapes between stages, so any program of one stage fits any of
the next, and 4 * 8 of them and a head are the same 4,096 subnets as the one
switched program. The host composes them: a stage's program is what the static
network would run, without a switch around it, and costs a dispatch. They are
compiled when a choice is first met.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax

from adaptanet_jax.models import supernet
from adaptanet_jax.models.resnet import (
  BACKBONE,
  ResNet,
  Variables,
  stage_numbers,
)
from adaptanet_jax.models.subnet import StageChoice, Subnet


def split(net: ResNet, variables: Variables) -> tuple[Variables, ...]:
  """Returns what each of the four stages reads, and the head last.

  Args:
    net: the network.
    variables: its collections.
  """
  head = {'params': {BACKBONE: {'head': variables['params'][BACKBONE]['head']}}}
  return *(
      supernet.stage_variables(net, variables, n) for n in stage_numbers()
  ), head


def forward(
    net: ResNet,
    parts: tuple[Variables, ...],
    images: jax.Array,
    subnet: Subnet,
    *,
    prepare: Callable[[jax.Array], jax.Array] | None = None,
) -> jax.Array:
  """Runs one subnet, stage by stage.

  Args:
    net: the network.
    parts: its collections, as `split` gives them.
    images: `(B, H, W, C)` images.
    subnet: the sub-network to run.
    prepare: what normalises the images first; None if they are normalised.

  Returns:
    Logits `(B, num_classes)`.
  """
  x = images
  for n, choice in zip(stage_numbers(), subnet.stages):
    program = stage_program(net, n, choice, prepare if n == 1 else None)
    x = program(parts[n - 1], x)
  return head_program(net)(parts[-1], x)


@functools.cache
def stage_program(
    net: ResNet,
    number: int,
    choice: StageChoice,
    prepare: Callable[[jax.Array], jax.Array] | None = None,
) -> Any:
  """Returns the program of a choice, of a stage's variables and its input."""

  def run(variables: Variables, x: jax.Array) -> jax.Array:
    x = prepare(x) if prepare else x
    x, _ = net.run_stage(variables, x, number, choice)
    return net.active(x, number, choice)

  return jax.jit(run)


@functools.cache
def head_program(net: ResNet) -> Any:
  """Returns the program of the head, of its variables and stage 4's output.
  """
  return jax.jit(net.run_head)
