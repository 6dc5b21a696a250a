# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Costs of subnets, counted in the programs that run them.

MAdds are multiply-accumulates of convolutions and dense layers for one image,
as the paper counts them; parameters are those that the subnet reads.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
from jax.extend import core
import jax.numpy as jnp
import numpy as np

from adaptanet_jax.models.convolution import DEPTHWISE_TAPS
from adaptanet_jax.models.gates import GateSet
from adaptanet_jax.models.parts import Variables
from adaptanet_jax.models.resnet import ResNet, stage_numbers
from adaptanet_jax.models.subnet import (
  CHOICES,
  NUM_STAGES,
  StageChoice,
  Subnet,
  all_subnets,
)

# Primitives whose output is (a part of) their input, such as a parameter.
_VIEWS = ('slice', 'squeeze', 'reshape', 'convert_element_type')


@dataclasses.dataclass(frozen=True)
class Cost:
  """Cost of running something on one image.

  Attributes:
    madds: multiply-accumulates.
    params: parameters read.
  """

  madds: int
  params: int

  def __add__(self, other: 'Cost') -> 'Cost':
    return Cost(self.madds + other.madds, self.params + other.params)


@dataclasses.dataclass(frozen=True)
class CostTable:
  """Cost of every choice of every stage; a subnet's cost is their sum.

  Attributes:
    stages: for each stage, a row of the costs of its choices for each choice of
      the stage before; a single row where that makes no difference, as after an
      anchor. Stage 1 includes the stem.
    head: cost of the head for each choice of stage 4; a single one if all are
      the same.
  """

  stages: tuple[tuple[tuple[Cost, ...], ...], ...]
  head: tuple[Cost, ...]

  def subnet(self, subnet: Subnet) -> Cost:
    """Returns the cost of a subnet."""
    before = 0
    total = Cost(0, 0)
    for rows, choice in zip(self.stages, subnet.encode()):
      total += rows[before % len(rows)][choice]
      before = choice
    return total + self.head[before % len(self.head)]

  def madds_by_subnet(self) -> np.ndarray:
    """Returns the MAdds of every subnet, `int64[K_1, K_2, K_3, K_4]`."""
    choices = CHOICES[: len(self.stages[0][0])]
    madds = [self.subnet(subnet).madds for subnet in all_subnets(choices)]
    return np.reshape(madds, (len(choices),) * NUM_STAGES)

  def stage_madds(self) -> np.ndarray:
    """Returns the MAdds of each choice of each stage, `int64[4, K]`.

    Raises:
      ValueError: the MAdds depend on the stage before.
    """
    if any(len(rows) > 1 for rows in self.stages):
      raise ValueError(
          'Without anchors the cost of a stage depends on the width before it; '
          'expected a network with anchors.'
      )
    return np.array(
        [[choice.madds for choice in row] for (row,) in self.stages]
    )


# Cached: tracing every choice takes over a second, and all analyses need it.
@functools.cache
def cost_table(net: ResNet) -> CostTable:
  """Counts the cost of every choice of every stage by tracing each once."""
  net = net.folded  # As deployed; otherwise whole kernels count as read.
  variables = net.shapes()
  # Possible inputs of a stage: images, then the outputs of the stage before.
  # Without anchors only their active channels count, as in the static form.
  inputs = [jax.ShapeDtypeStruct((1, *net.image_shape), jnp.float32)]
  stages = []
  for n in stage_numbers():
    runs = [functools.partial(_run_stage, net, n, c) for c in net.choices]
    stages.append(
        tuple(
            tuple(_count(run, variables, x) for run in runs) for x in inputs
        )
    )
    outputs = [jax.eval_shape(run, variables, inputs[0]) for run in runs]
    inputs = outputs[: 1 if net.anchors else None]
  head = tuple(_count(net.run_head, variables, x) for x in inputs)
  return CostTable(tuple(stages), head)


@functools.cache
def gate_madds(gates: GateSet, net: ResNet) -> dict[int, int]:
  """Counts the MAdds of each gate, by the number of its anchor."""
  shapes = net.anchor_shapes
  variables = gates.shapes(shapes)
  return {
      n: _count(
          lambda variables, x, n=n: gates.run(variables, n, x),
          variables,
          jax.ShapeDtypeStruct((1, *shapes[n - 1]), jnp.float32),
      ).madds
      for n in gates.anchors
  }


def _run_stage(
    net: ResNet, number: int, choice: StageChoice, variables: Variables,
    x: jax.Array,
) -> jax.Array:
  x, _ = net.run_stage(variables, x, number, choice)
  return net.active(x, number, choice)


def _count(function: Any, variables: Any, x: Any) -> Cost:
  jaxpr = jax.make_jaxpr(function)(variables, x).jaxpr
  leaves = jax.tree.leaves_with_path(variables)
  params = {
      variable
      for variable, (path, _) in zip(jaxpr.invars, leaves)
      if path[0].key == 'params'
  }
  return Cost(_madds(jaxpr), _params_read(jaxpr, params))


def _madds(jaxpr: core.Jaxpr) -> int:
  total = 0
  for equation in jaxpr.eqns:
    name = equation.primitive.name
    is_taps = equation.params.get('name') == DEPTHWISE_TAPS
    if name == 'dot_general':
      (contracted, _), _ = equation.params['dimension_numbers']
      shape = _shape(equation.invars[0])
      inner = math.prod(shape[axis] for axis in contracted)
      total += inner * math.prod(_shape(equation.outvars[0]))
    elif name == 'conv_general_dilated' or is_taps:
      # Kernels are HWIO: each output sums over all axes but the last.
      inner = math.prod(_shape(equation.invars[1])[:-1])
      total += inner * math.prod(_shape(equation.outvars[0]))
    total += sum(_madds(sub) for sub in _sub_jaxprs(equation))
  return total


def _shape(variable: Any) -> tuple[int, ...]:
  return variable.aval.shape


def _sub_jaxprs(equation: core.JaxprEqn) -> list[core.Jaxpr]:
  params = equation.params
  if 'branches_platforms' in params:  # One branch per platform, equal costs.
    params = {'form': params['branches'][0]}
  return [
      value.jaxpr if isinstance(value, core.ClosedJaxpr) else value
      for value in params.values()
      if isinstance(value, core.Jaxpr | core.ClosedJaxpr)
  ]


def _params_read(jaxpr: core.Jaxpr, params: set[Any]) -> int:
  """Counts the parameters used other than by `_VIEWS`."""
  read = _views_read(jaxpr, {param: (param,) for param in params})
  return sum(math.prod(_shape(view[-1])) for view in read)


def _views_read(
    jaxpr: core.Jaxpr, views: dict[Any, tuple[Any, ...]]
) -> set[tuple[Any, ...]]:
  """Returns the views of parameters that an operation other than a view uses.

  Args:
    jaxpr: a program, or one that it calls.
    views: its variables that are parameters or views of them; further views
      that it computes are added. Each is identified by the parameter and the
      views that led to it, because a program that is called twice has the same
      variables both times.
  """
  read = set[tuple[Any, ...]]()
  for equation in jaxpr.eqns:
    # Literals cannot be hashed.
    inputs = [
        views.get(v) if isinstance(v, core.Var) else None
        for v in equation.invars
    ]
    subs = _sub_jaxprs(equation)
    if equation.primitive.name in _VIEWS and inputs[0]:
      views[equation.outvars[0]] = (*inputs[0], equation.outvars[0])
    elif not subs:
      read |= {view for view in inputs if view}
    if 'branches_platforms' in equation.params:
      inputs = inputs[1:]  # The first is the platform index.
    for sub in subs:
      inner = {v: view for v, view in zip(sub.invars, inputs) if view}
      read |= _views_read(sub, inner)
      for out, result in zip(equation.outvars, sub.outvars):
        if isinstance(result, core.Var) and result in inner:
          views[out] = inner[result]
  return read
