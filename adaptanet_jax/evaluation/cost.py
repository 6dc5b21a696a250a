# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a subnet costs, counted off the program that runs it.

MAdds are multiply-accumulates of convolutions and dense layers for one image,
as the paper counts them; parameters are those that the subnet reads.
"""

from collections.abc import Sequence
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
from adaptanet_jax.models.subnet import StageChoice, Subnet

# Primitives that pass a part of a parameter on, unchanged.
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
  """Cost of every choice of every stage; a subnet's is their sum.

  Attributes:
    stages: for each stage, by the choice of the stage before, the cost of each
      of its own; one row where the stage before is of no consequence, as after
      an anchor. Stage 1 has the stem's.
    head: its cost by the choice of stage 4; one, or as many as there are.
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
    total = _madds_of(self.head)
    for n in reversed(range(len(self.stages))):
      # `[K_n, ...]`, each of what follows added to the choices before it.
      rows = np.stack([_madds_of(row) for row in self.stages[n]])
      total = rows.reshape(rows.shape + (1,) * (len(self.stages) - 1 - n)) + (
          total.reshape((1, *total.shape))
      )
    return total[0]

  def stage_madds(self) -> np.ndarray:
    """Returns the MAdds of each choice of each stage, `int64[4, K]`.

    Raises:
      ValueError: they depend on the stage before.
    """
    if any(len(rows) > 1 for rows in self.stages):
      raise ValueError(
          'Without anchors the cost of a stage depends on the width before it; '
          'expected a network with anchors.'
      )
    return np.stack([_madds_of(row) for (row,) in self.stages])


def _madds_of(costs: Sequence[Cost]) -> np.ndarray:
  return np.array([cost.madds for cost in costs])


# Cached: tracing every choice takes a second and more, and all analyses ask.
@functools.cache
def cost_table(net: ResNet) -> CostTable:
  """Counts the cost of every choice of every stage by tracing each once."""
  net = net.folded  # As it is deployed: of what a width leaves out no trace.
  variables = net.shapes()
  # What a stage may read: images, then the outputs before it. Of a network
  # without anchors only the active channels count, as in its static form.
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
  shapes = net.anchor_shapes()
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
  is_param = jax.tree.leaves({
      name: jax.tree.map(lambda _, name=name: name == 'params', tree)
      for name, tree in variables.items()
  })
  params = {v for v, p in zip(jaxpr.invars, is_param) if p}
  return Cost(_madds(jaxpr), _params_read(jaxpr, params))


def _madds(jaxpr: core.Jaxpr) -> int:
  total = 0
  for equation in jaxpr.eqns:
    name = equation.primitive.name
    if name == 'dot_general':
      (contracted, _), _ = equation.params['dimension_numbers']
      shape = _shape(equation.invars[0])
      inner = math.prod(shape[axis] for axis in contracted)
      total += inner * math.prod(_shape(equation.outvars[0]))
    elif name == 'conv_general_dilated':
      # Kernels are HWIO: all but the last axis meet in one output.
      inner = math.prod(_shape(equation.invars[1])[:-1])
      total += inner * math.prod(_shape(equation.outvars[0]))
    elif equation.params.get('name') == DEPTHWISE_TAPS:
      taps = math.prod(_shape(equation.invars[1])[:-1])
      total += taps * math.prod(_shape(equation.outvars[0]))
    total += sum(_madds(sub) for sub in _sub_jaxprs(equation))
  return total


def _shape(variable: Any) -> tuple[int, ...]:
  return variable.aval.shape


def _sub_jaxprs(equation: core.JaxprEqn) -> list[core.Jaxpr]:
  params = equation.params
  if 'branches_platforms' in params:  # One form for each, of the same cost.
    params = {'form': params['branches'][0]}
  return [
      value.jaxpr if isinstance(value, core.ClosedJaxpr) else value
      for value in params.values()
      if isinstance(value, core.Jaxpr | core.ClosedJaxpr)
  ]


def _params_read(jaxpr: core.Jaxpr, params: set[Any]) -> int:
  """Counts the elements of parameters that meet anything but a cut."""
  read = _views_read(jaxpr, {param: (param,) for param in params})
  return sum(math.prod(_shape(view[-1])) for view in read)


def _views_read(
    jaxpr: core.Jaxpr, views: dict[Any, tuple[Any, ...]]
) -> set[tuple[Any, ...]]:
  """Returns the cuts of parameters that meet anything but another cut.

  Args:
    jaxpr: a program, or one that it calls.
    views: its variables that are parameters or cuts of them; those that it
      computes are added. Each is named by the parameter and the cuts that led
      to it: a program called twice has the same variables both times.
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
      inputs = inputs[1:]  # The first names the form.
    for sub in subs:
      inner = {v: view for v, view in zip(sub.invars, inputs) if view}
      read |= _views_read(sub, inner)
      for out, result in zip(equation.outvars, sub.outvars):
        if isinstance(result, core.Var) and result in inner:
          views[out] = inner[result]
  return read
