# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Builds ONNX models: the elastic network, one subnet alone, single stages.

B = batch, H = height, W = width, C = channels, K = classes.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools

import numpy as np
from onnx import ModelProto

from adaptanet_jax.export import gating, graph as graph_lib, network
from adaptanet_jax.export.graph import BATCH, Graph, Tensor
from adaptanet_jax.export.network import Map, Network
from adaptanet_jax.models.resnet import stage_numbers
from adaptanet_jax.models.subnet import NUM_STAGES, StageChoice, Subnet

# Choices that each stage has a branch for.
Branches = tuple[tuple[StageChoice, ...], ...]


def _images(described: Network) -> Tensor:
  return Tensor('images', np.uint8, (BATCH, *described.net.image_shape))


def _logits(described: Network) -> Tensor:
  return Tensor('logits', np.float32, (BATCH, described.net.num_classes))


def elastic(
    described: Network,
    branches: Branches,
    gates: gating.Gates | None,
    *,
    memory: str,
) -> ModelProto:
  """Builds the network that takes its subnet with every batch.

  Inputs are `images`, `uint8[B, H, W, C]`, and `choices`, `int64[4]`, as
  `Subnet.encode` gives them; the output is `logits`, `float32[B, K]`. With
  policies there is a third input, `policy`, `int64[1]`: the number of the one
  that chooses, or -1; and two more outputs: `subnet`, `int64[4]`, what ran, and
  `again`, `int64[4]`, what a second look is to run, or -1 where the policy asks
  for none.

  Args:
    described: the network.
    branches: choices of each stage.
    gates: gates and policies, if any.
    memory: see `graph`.
  """
  inputs = [_images(described), Tensor('choices', np.int64, (NUM_STAGES,))]
  outputs = [_logits(described)]
  if gates:
    inputs.append(Tensor('policy', np.int64, (1,)))
    for name in ('subnet', 'again'):
      outputs.append(Tensor(name, np.int64, (NUM_STAGES,)))
  return graph_lib.build(
      functools.partial(_describe, described, branches, gates),
      inputs,
      outputs,
      memory=memory,
  )


def _describe(
    described: Network, branches: Branches, gates: gating.Gates | None,
    graph: Graph,
) -> None:
  x = network.normalize(graph, 'images', described.net)
  choices = [
      graph.add('Gather', 'choices', graph.integers(n))
      for n in range(NUM_STAGES)
  ]
  tables = None
  if gates:
    tables = gating.Tables(graph, gates, len(described.net.choices))
    choices[0] = tables.start('images', 'policy', choices[0])
  for n, own in zip(stage_numbers(), branches):
    x = _switch_stage(graph, described, x, n, choices[n - 1], own)
    if tables and n < NUM_STAGES:
      choices[n] = tables.next(n, x, choices[n])
  logits = network.run_head(graph, described.params, x)
  if tables:
    graph.name(graph.add('Concat', *choices, axis=0), 'subnet')
    graph.name(tables.again(logits), 'again')
  graph.name(logits, 'logits')


def _switch_stage(
    graph: Graph,
    described: Network,
    x: Map,
    number: int,
    index: str,
    branches: Sequence[StageChoice],
) -> Map:
  def branch(choice: StageChoice) -> Callable[[Graph], str]:
    return lambda graph: described.at(graph, choice).run_stage(x, number).name

  runs = {choice.index: branch(choice) for choice in branches}
  y = _anchor(described, number)
  return dataclasses.replace(y, name=graph.switch(index, runs, y.tensor()))


def static(described: Network, subnet: Subnet) -> ModelProto:
  """Builds one subnet: `images` in, `logits` out."""

  def describe(graph: Graph) -> None:
    x = network.normalize(graph, 'images', described.net)
    for n, choice in zip(stage_numbers(), subnet.stages):
      layers = described.at(graph, choice)
      x = layers.active(layers.run_stage(x, n), n)
    graph.name(network.run_head(graph, described.params, x), 'logits')

  return graph_lib.build(
      describe, [_images(described)], [_logits(described)]
  )


def stages(described: Network, branches: Branches) -> dict[str, ModelProto]:
  """Builds each choice of each stage, and the head, as separate models.

  Stage 1 takes `images`, `uint8[B, H, W, C]`; the other stages and the head
  take `before`, `float32[B, C, H, W]`, which is the output `anchor` of the
  stage before. The output of the head is `logits`.

  Returns:
    Models by name, such as `stage2_0.5d` and `head`.
  """
  models = {
      f'stage{n}_{choice}': _stage(described, n, choice)
      for n, own in zip(stage_numbers(), branches)
      for choice in own
  }
  last = _anchor(described, NUM_STAGES, 'before')

  def describe(graph: Graph) -> None:
    graph.name(network.run_head(graph, described.params, last), 'logits')

  models['head'] = graph_lib.build(
      describe, [last.tensor()], [_logits(described)]
  )
  return models


def _stage(
    described: Network, number: int, choice: StageChoice
) -> ModelProto:
  before = _anchor(described, number - 1, 'before') if number > 1 else None

  def describe(graph: Graph) -> None:
    x = before or network.normalize(graph, 'images', described.net)
    y = described.at(graph, choice).run_stage(x, number)
    graph.name(y.name, 'anchor')

  return graph_lib.build(
      describe,
      [before.tensor() if before else _images(described)],
      [_anchor(described, number, 'anchor').tensor()],
  )


def _anchor(described: Network, number: int, name: str = '') -> Map:
  """Describes a stage's output, which has one shape for all its choices."""
  *sides, channels = described.net.anchor_shapes[number - 1]
  return Map(name, channels, (sides[0], sides[1]))
