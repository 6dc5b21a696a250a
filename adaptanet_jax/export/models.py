# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whole ONNX models: the elastic one, one subnet alone, and single stages.

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
from adaptanet_jax.models.subnet import (
  LARGEST,
  NUM_STAGES,
  StageChoice,
  Subnet,
)

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
  policies there is a third input, `policy`, `int64[1]`: -1, or the number of
  one, which then chooses; and a second output, `subnet`, `int64[4]`, what ran.

  Args:
    described: the network.
    branches: what each stage can run as.
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
  found: list[Map] = []

  def branch(choice: StageChoice) -> Callable[[Graph], str]:
    def describe(graph: Graph) -> str:
      found.append(described.at(graph, choice).run_stage(x, number))
      return found[-1].name

    return describe

  runs = {choice.index: branch(choice) for choice in branches}
  # Of one shape, whichever runs.
  like = described.at(Graph(graph_lib.Store('fast')), branches[0])
  y = like.run_stage(x, number)
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
  """Builds each choice of each stage, and the head, as models of their own.

  Stage 1 takes `images`, `uint8[B, H, W, C]`; all others, and the head, take
  `anchor`, `float32[B, C, H, W]`, which the stage before gave by that name. The
  head gives `logits`.

  Returns:
    Models by name, such as `stage2_0.5d` and `head`.
  """
  maps = _outputs(described)
  models = {}
  for n, own in zip(stage_numbers(), branches):
    for choice in own:

      def describe(graph: Graph, n: int = n, choice: StageChoice = choice):
        x = network.normalize(graph, 'images', described.net) if n == 1 else (
            dataclasses.replace(maps[n - 2], name='before')
        )
        layers = described.at(graph, choice)
        graph.name(layers.run_stage(x, n).name, 'anchor')

      before = _images(described) if n == 1 else maps[n - 2].tensor('before')
      models[f'stage{n}_{choice}'] = _build(
          describe, [before], maps[n - 1].tensor('anchor'), metadata
      )

  def describe_head(graph: Graph) -> None:
    x = dataclasses.replace(maps[-1], name='before')
    graph.name(network.run_head(graph, described.params, x), 'logits')

  models['head'] = _build(
      describe_head, [maps[-1].tensor('before')], _logits(described), metadata
  )
  return models


def _outputs(described: Network) -> list[Map]:
  """Returns what the stages give; only its shapes are of use."""
  graph = Graph(graph_lib.Store('fast'))
  x, maps = network.normalize(graph, 'images', described.net), []
  for n, choice in zip(stage_numbers(), LARGEST.stages):
    x = described.at(graph, choice).run_stage(x, n)
    maps.append(x)
  return maps


def _build(
    describe: Callable[[Graph], None],
    inputs: Sequence[Tensor],
    output: Tensor,
    metadata: Mapping[str, str],
) -> ModelProto:
  # Nothing is in a branch, so there is nothing to choose.
  return graph_lib.build(
      describe, inputs, [output], memory='small', metadata=metadata
  )
