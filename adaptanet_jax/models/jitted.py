# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Jitted forms of a whole network, each traced once in a process."""

import functools
from typing import Any

import jax

from adaptanet_jax import compiler
from adaptanet_jax.models import routing, supernet
from adaptanet_jax.models.gates import GateSet
from adaptanet_jax.models.parts import Variables
from adaptanet_jax.models.resnet import ResNet
from adaptanet_jax.models.subnet import Subnet


@functools.cache
def static(net: ResNet, subnet: Subnet) -> Any:
  """Returns one fixed subnet as a function (variables, images) -> logits."""

  def run(variables: Variables, images: jax.Array) -> jax.Array:
    return net.forward(variables, images, subnet)[0]

  return compiler.jit(run)


@functools.cache
def switched(net: ResNet) -> Any:
  """Returns the supernet as (variables, images, int32[4]) -> logits."""

  def run(
      variables: Variables, images: jax.Array, choices: jax.Array
  ) -> jax.Array:
    return supernet.forward(net, variables, images, choices)[0]

  return compiler.jit(run)


@functools.cache
def routed(
    net: ResNet,
    gates: GateSet,
    used: routing.Used,
    *,
    fast_compile: bool = False,
) -> Any:
  """Returns `routing.route` as a function of (variables, images, policy).

  Args:
    net: the network.
    gates: its gates.
    used: `Policy.used` of the policies that it is for. Most policies need few
      of the choices and gates, and others would only have to be compiled.
    fast_compile: see `compiler.options`.
  """

  def run(
      variables: Variables, images: jax.Array, policy: routing.Policy
  ) -> tuple[jax.Array, ...]:
    return routing.route(net, gates, variables, images, policy, used=used)

  return compiler.jit(run, fast_compile=fast_compile)
