# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A trained supernet or baseline as a function of images.

Of its two back ends, 'switch' is one program for all subnets; 'stages' is one
for each choice of each stage, without a switch around it and with weights of
its own, which a CPU runs faster; see `models.stages`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import compiler, trees
from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation import calibration as calibration_lib, policies
from adaptanet_jax.evaluation.subnet_table import SubnetTable
from adaptanet_jax.models import routing, stages, supernet
from adaptanet_jax.models.gates import GateSet
from adaptanet_jax.models.resnet import ResNet, Variables
from adaptanet_jax.models.subnet import LARGEST, Subnet

BACKENDS = ('switch', 'stages')


class Supernet:
  """All subnets of a run as one function.

  Attributes:
    net: static half of the network.
    gates: static half of its Var Gates; None before they are trained, and of a
      baseline.
    variables: collections of both.
  """

  def __init__(
      self,
      net: ResNet,
      gates: GateSet | None,
      variables: Variables,
      *,
      subnets: SubnetTable,
      policy_table: dict[str, Any],
      calibrated: str = 'none',
      statistics: calibration_lib.Statistics = (),
      backend: str = BACKENDS[0],
  ) -> None:
    """Puts the variables on the device; `load` has them from a run.

    Args:
      net: static half of the network.
      gates: of its Var Gates, if any.
      variables: collections of both.
      subnets: the table of all subnets, for `within`.
      policy_table: contents of `policies.json`, for `route`.
      calibrated: which batch statistics it runs with, as for `load`.
      statistics: those of every subnet, unless 'none'.
      backend: one of `BACKENDS`.
    """
    self.net, self.gates = net.folded, gates
    self.variables = jax.device_put(net.fold(variables))
    self._stages = None
    if backend == 'stages':
      self._stages = stages.Stages(self.net, self.variables)
    self._subnets, self._policies = subnets, policy_table
    self._calibrated, self._statistics = calibrated, statistics

  def __call__(
      self, images: np.ndarray | jax.Array, subnet: str | Subnet = LARGEST
  ) -> jax.Array:
    """Runs one subnet.

    With the back end 'switch' another one compiles nothing; with 'stages' the
    choices of a stage that were not met before, one by one.

    Args:
      images: `uint8[B, H, W, C]`, of the shape that the network was trained on.
      subnet: such as `1.0-0.5d-0.25-1.0`, width by stage, d for delta.

    Returns:
      Logits `(B, num_classes)`.

    Raises:
      UsageError: the images or the subnet do not fit the network, or it has a
        BatchNorm that was not calibrated for the subnet.
    """
    parsed = self._parse(subnet)
    images = self._checked(images)
    found: Variables | None = None
    if self._calibrated != 'none':
      found = calibration_lib.of_subnet(
          self._statistics, parsed, self._calibrated
      )
    if self._stages:
      return self._stages(images, parsed, found)
    variables = trees.merge(self.variables, found) if found else self.variables
    return _switched(self.net)(variables, images, parsed.encode())

  def within(self, madds: float) -> Subnet:
    """Returns the most accurate subnet that takes at most so many MAdds.

    As far as the examples tell that policies are made from; see
    `budget.expected_top1`.

    Args:
      madds: multiply-accumulates of an image.

    Raises:
      UsageError: no subnet is that cheap, or the run has no calibration.
    """
    if 'expected_top1' not in self._subnets:
      raise UsageError(
          'The run has no calibrated accuracies; expected an AdaptaNet, no '
          'baseline, whose phases evaluation and then policies are done.'
      )
    try:
      madds = float(madds)
    except (TypeError, ValueError) as error:
      raise UsageError(f'madds = {madds!r}; expected a number.') from error
    costs, top1 = self._subnets['madds'], self._subnets['expected_top1']
    within = list(zip(*np.nonzero(costs <= madds)))
    if not within:
      least = costs.min()
      raise UsageError(
          f'No subnet takes at most {madds:,.0f} MAdds; expected {least:,} or '
          'more.'
      )
    # Many may be equal: then more work is safer.
    return Subnet.decode(max(within, key=lambda n: (top1[n], costs[n])))

  def route(
      self, images: np.ndarray | jax.Array, policy: str = 'joint/budget'
  ) -> tuple[jax.Array, list[Subnet]]:
    """Lets the gates choose a subnet for each image.

    One program for each shape of a batch, whatever the back end.

    Args:
      images: as for a call.
      policy: scope and name of one of `policies`.

    Returns:
      Logits `(B, num_classes)`, and the subnet of each image.

    Raises:
      UsageError: the images do not fit, there is no such policy, or the network
        has a BatchNorm and was not loaded with `calibration='none'`.
    """
    if self._calibrated != 'none':
      raise UsageError(
          'Routing runs each image under another subnet, with the batch '
          "statistics of training; expected load(..., calibration='none')."
      )
    if policy not in self.policies:
      raise UsageError(
          f'Unknown policy {policy!r}; expected one of '
          f'{", ".join(self.policies)}.'
          if self.policies
          else 'The run has no policies; expected an AdaptaNet, no baseline, '
          'whose phase policies is done.'
      )
    scope, name = policy.split('/')
    chosen = policies.from_json(self._policies, scope, name)
    logits, subnets, _ = _routed(self.net, self.gates)(
        self.variables, self._checked(images), chosen
    )
    return logits, [Subnet.decode(row) for row in np.asarray(subnets)]

  @property
  def policies(self) -> list[str]:
    """Scopes and names of the policies that `route` knows."""
    rules = self._policies.get('rules', {})
    return [f'{scope}/{name}' for scope in rules for name in rules[scope]]

  def _parse(self, subnet: str | Subnet) -> Subnet:
    try:
      parsed = Subnet.parse(str(subnet))
    except ValueError as error:
      raise UsageError(str(error)) from error
    if not set(parsed.stages) <= set(self.net.choices):
      raise UsageError(
          f'Subnet {subnet} has a delta stage, and the run has trained none; '
          f'expected choices among {", ".join(map(str, self.net.choices))}.'
      )
    return parsed

  def _checked(self, images: np.ndarray | jax.Array) -> jax.Array:
    expected = self.net.image_shape
    if not isinstance(images, jax.Array):
      images = np.asarray(images)
    fits = images.shape[1:] == expected and len(images)
    if images.dtype != jnp.uint8 or not fits:
      raise UsageError(
          f'Images are {images.dtype}{list(images.shape)}; expected uint8[B, '
          f'{", ".join(map(str, expected))}], B at least 1.'
      )
    return jnp.asarray(images)


@functools.cache
def _switched(net: ResNet) -> Any:
  def run(
      variables: Variables, images: jax.Array, choices: jax.Array
  ) -> jax.Array:
    return supernet.forward(net, variables, images, choices)[0]

  return compiler.jit(run)


@functools.cache
def _routed(net: ResNet, gates: GateSet) -> Any:
  def run(
      variables: Variables, images: jax.Array, policy: routing.Policy
  ) -> tuple[jax.Array, ...]:
    return routing.route(net, gates, variables, images, policy)

  return compiler.jit(run)
