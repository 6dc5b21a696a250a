# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Builds ONNX models: the elastic network, one subnet alone, single stages.

B = batch, H = height, W = width, C = channels, K = classes.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools

import numpy as np
from onnx import ModelProto

from adaptanet_jax.export import gating, graph as graph_lib, network
from adaptanet_jax.export.graph import BATCH, Graph, Tensor
from adaptanet_jax.export.network import Map, Network
from adaptanet_jax.models.resnet import stage_numbers
from adaptanet_jax.models.routing import Policy
from adaptanet_jax.models.subnet import NUM_STAGES, StageChoice, Subnet

# Choices that each stage has a branch for.
Branches = tuple[tuple[StageChoice, ...], ...]


@dataclasses.dataclass(frozen=True)
class Routing:
  """Gates, and the policies that read them, in the order of their numbers."""

  gates: gating.Gates
  policies: Sequence[Policy]


def _images(described: Network) -> Tensor:
  return Tensor('images', np.uint8, (BATCH, *described.net.image_shape))


def _logits(described: Network) -> Tensor:
  return Tensor('logits', np.float32, (BATCH, described.net.num_classes))


def elastic(
    described: Network,
    branches: Branches,
    routing: Routing | None,
    *,
    memory: str,
    metadata: Mapping[str, str],
) -> ModelProto:
  """Builds the network that takes its subnet with every batch.

  Inputs are `images`, `uint8[B, H, W, C]`, and `choices`, `int64[4]`, as
  `Subnet.encode` gives them; the output is `logits`, `float32[B, K]`. With
  policies there is a third input, `policy`, `int64[1]`: the number of the one
  that chooses, or -1; and a second output, `subnet`, `int64[4]`: what ran.

  Args:
    described: the network.
    branches: choices of each stage.
    routing: gates and policies, if any.
    memory: see `graph`.
    metadata: texts that the model carries, by name.
  """
  inputs = [_images(described), Tensor('choices', np.int64, (NUM_STAGES,))]
  outputs = [_logits(described)]
  if routing:
    inputs.append(Tensor('policy', np.int64, (1,)))
    outputs.append(Tensor('subnet', np.int64, (NUM_STAGES,)))
  return graph_lib.build(
      functools.partial(_describe, described, branches, routing),
      inputs,
      outputs,
      memory=memory,
      metadata=metadata,
  )


def _describe(
    described: Network, branches: Branches, routing: Routing | None,
    graph: Graph,
) -> None:
  x = network.normalize(graph, 'images', described.net)
  choices = [
      graph.add('Gather', 'choices', graph.integers(n))
      for n in range(NUM_STAGES)
  ]
  tables = None
  if routing:
    tables = gating.Tables(
        graph, routing.policies, len(described.net.choices)
    )
    choices[0] = tables.start('images', 'policy', choices[0])
  for n, own in zip(stage_numbers(), branches):
    x = _switch_stage(graph, described, x, n, choices[n - 1], own)
    if routing and tables and n < NUM_STAGES:
      choices[n] = tables.next(routing.gates, n, x, choices[n])
  graph.name(network.run_head(graph, described.params, x), 'logits')
  if routing:
    graph.name(graph.add('Concat', *choices, axis=0), 'subnet')


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


def static(
    described: Network, subnet: Subnet, *, metadata: Mapping[str, str]
) -> ModelProto:
  """Builds one subnet: `images` in, `logits` out."""

  def describe(graph: Graph) -> None:
    x = network.normalize(graph, 'images', described.net)
    for n, choice in zip(stage_numbers(), subnet.stages):
      layers = described.at(graph, choice)
      x = layers.active(layers.run_stage(x, n), n)
    graph.name(network.run_head(graph, described.params, x), 'logits')

  return _build(describe, [_images(described)], _logits(described), metadata)


def stages(
    described: Network, branches: Branches, *, metadata: Mapping[str, str]
) -> dict[str, ModelProto]:
  """Builds each choice of each stage, and the head, as separate models.

  Stage 1 takes `images`, `uint8[B, H, W, C]`; the other stages and the head
  take `before`, `float32[B, C, H, W]`, which is the output `anchor` of the
  stage before. The output of the head is `logits`.

  Returns:
    Models by name, such as `stage2_0.5d` and `head`.
  """
  models = {}
  for n, own in zip(stage_numbers(), branches):
    before = _anchor(described, n - 1, 'before') if n > 1 else None
    for choice in own:

      def describe(
          graph: Graph, n: int = n, choice: StageChoice = choice,
          before: Map | None = before,
      ) -> None:
        x = before or network.normalize(graph, 'images', described.net)
        y = described.at(graph, choice).run_stage(x, n)
        graph.name(y.name, 'anchor')

      models[f'stage{n}_{choice}'] = _build(
          describe,
          [before.tensor('before') if before else _images(described)],
          _anchor(described, n).tensor('anchor'),
          metadata,
      )
  last = _anchor(described, NUM_STAGES, 'before')

  def describe_head(graph: Graph) -> None:
    graph.name(network.run_head(graph, described.params, last), 'logits')

  models['head'] = _build(
      describe_head, [last.tensor('before')], _logits(described), metadata
  )
  return models


def _anchor(described: Network, number: int, name: str = '') -> Map:
  """Describes a stage's output, which has one shape for all its choices."""
  *sides, channels = described.anchor_shapes[number - 1]
  return Map(name, channels, (sides[0], sides[1]))


def _build(
    describe: Callable[[Graph], None],
    inputs: Sequence[Tensor],
    output: Tensor,
    metadata: Mapping[str, str],
) -> ModelProto:
  # Without branches 'fast' and 'small' build the same model.
  return graph_lib.build(
      describe, inputs, [output], memory='small', metadata=metadata
  )
