# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Var Gates and policies as nodes of an ONNX graph.

These are `models.gates` and `models.routing` for a batch of one; in a larger
batch the first image decides for all. b = bins, K = choices, P = policies.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np
from onnx import TensorProto

from adaptanet_jax.evaluation.policies import Mixture, to_policy
from adaptanet_jax.export.graph import Graph, Tensor
from adaptanet_jax.export.network import Arrays, Map, strided
from adaptanet_jax.models.gates import (
  GATES,
  TOP_CLASSES,
  GateSet,
  gate_name,
  window_means,
)
from adaptanet_jax.models.routing import HASH_BITS, HASH_FACTOR
from adaptanet_jax.models.subnet import NUM_STAGES

_EPSILON = 1e-5  # The default of flax's BatchNorm.


@dataclasses.dataclass(frozen=True)
class Gates:
  """Var Gates of a network, and the policies that read them.

  Attributes:
    gates: the static part of the gates.
    params: parameters of the network.
    statistics: batch statistics of the network, as training left them.
    policies: policies of one run.
    edges: the borders of their bins, see `Observed`.
  """

  gates: GateSet
  params: Arrays
  statistics: Arrays
  policies: Sequence[Mixture]
  edges: Sequence[np.ndarray]

  def confide(self, graph: Graph, number: int, anchor: Map) -> str:
    """Adds a gate, and returns the confidence `float32[1]` in image 0."""
    first = graph.add('Gather', anchor.name, graph.integers(0), axis=0)
    x = dataclasses.replace(anchor, name=first)
    path = f'{GATES}/{gate_name(number)}'
    for n in (1, 2):
      x = self._conv_norm_relu(graph, x, path, n)
    x = self._pool(graph, x)
    flat = graph.add('Flatten', x.name)
    # The heads' kernels are in the order (H, W, C), and `flat` is in (C, H, W).
    order = np.arange(int(np.prod(x.sides)) * x.channels)
    order = order.reshape(*x.sides, x.channels).transpose(2, 0, 1).ravel()
    detection, log_variance = (
        self._dense(graph, flat, f'{path}/{head}', order)
        for head in ('detection', 'log_variance')
    )
    return self._confidence(graph, detection, log_variance)

  def _conv_norm_relu(self, graph: Graph, x: Map, path: str, n: int) -> Map:
    halves = -(-min(x.sides) // 2)
    strides = 2 if halves >= self.gates.resolution else 1
    kernel = self.params[f'{path}/conv{n}/kernel'].transpose(3, 2, 0, 1)
    # At inference a BatchNorm folds into the convolution before it.
    scale = self.params[f'{path}/norm{n}/scale'] / np.sqrt(
        self.statistics[f'{path}/norm{n}/var'] + _EPSILON
    )
    bias = self.params[f'{path}/norm{n}/bias'] - (
        self.statistics[f'{path}/norm{n}/mean'] * scale
    )
    kernel = kernel * scale[:, None, None, None]
    sides = strided(x.sides, strides)
    # Flax's padding 'SAME': at most one pixel on each axis, at the end.
    ends = [
        max((out - 1) * strides + 2 - side, 0)
        for side, out in zip(x.sides, sides)
    ]
    y = graph.add(
        'Conv',
        x.name,
        graph.weight(f'{path}/conv{n}/kernel', kernel),
        graph.weight(f'{path}/conv{n}/bias', bias),
        kernel_shape=[2, 2],
        strides=[strides, strides],
        pads=[0, 0, *ends],
    )
    return Map(graph.add('Relu', y), kernel.shape[0], sides)

  def _pool(self, graph: Graph, x: Map) -> Map:
    sizes = [min(side, self.gates.resolution) for side in x.sides]
    if sizes == list(x.sides):
      return x
    rows, columns = (
        graph.constant(window_means(side, size))
        for side, size in zip(x.sides, sizes)
    )
    columns = graph.add('Transpose', columns)
    y = graph.add('MatMul', rows, graph.add('MatMul', x.name, columns))
    return Map(y, x.channels, (sizes[0], sizes[1]))

  def _dense(self, graph: Graph, x: str, path: str, order: np.ndarray) -> str:
    kernel, bias = self.params[f'{path}/kernel'], self.params[f'{path}/bias']
    return graph.add(
        'Gemm',
        x,
        graph.weight(f'{path}/kernel', kernel[order]),
        graph.weight(f'{path}/bias', bias),
    )

  def _confidence(
      self, graph: Graph, detection: str, log_variance: str
  ) -> str:
    """See `gates.confidences`."""
    add, integers = graph.add, graph.integers
    num_classes = self.gates.num_classes
    if self.gates.confidence == 'variance':
      count = min(TOP_CLASSES, num_classes)
      _, top = graph.add_all('TopK', 2, detection, integers(count))
      read = add('GatherElements', log_variance, top, axis=1)
      return add('Neg', add('ReduceMean', read, integers(1), keepdims=0))
    if self.gates.confidence == 'margin':
      return _margin(graph, detection, num_classes)
    log_shares = add('LogSoftmax', detection, axis=1)
    product = add('Mul', add('Exp', log_shares), log_shares)
    return add('ReduceSum', product, integers(1), keepdims=0)


def _margin(graph: Graph, logits: str, num_classes: int) -> str:
  """Adds `gates.margin` of one image's logits; returns `float32[1]`."""
  shares = graph.add('Softmax', logits, axis=1)
  count = min(2, num_classes)
  best, _ = graph.add_all('TopK', 2, shares, graph.integers(count))
  first, second = (
      graph.add('Gather', best, graph.constant(n, np.int64), axis=1)
      for n in (0, count - 1)
  )
  return graph.add('Sub', first, second)


class Tables:
  """Looks up what policies choose, by the bins of an image so far.

  Values are `int64[1]` unless noted otherwise.
  """

  def __init__(self, graph: Graph, gates: Gates, num_choices: int) -> None:
    """Adds nothing to the graph yet.

    Args:
      graph: main graph of the model.
      gates: gates and policies of the network.
      num_choices: K.
    """
    self._graph, self._gates = graph, gates
    self._policies = [to_policy(m, gates.edges) for m in gates.policies]
    self._num_choices = num_choices
    self._num_bins = self._policies[0].edges[0].shape[1] + 1
    self._asked = ''
    self._number = ''
    self._row = ''  # Flat index into a table `[P, 2, b, ...]`.
    self._prefix = ''

  def start(self, images: str, policy: str, given: str) -> str:
    """Adds the draw of a rule, and returns the choice of stage 1.

    Args:
      images: `uint8[B, H, W, C]`.
      policy: number of the policy; if it is below 0, stage 1 runs as `given`.
      given: the user's choice.
    """
    add, graph = self._graph.add, self._graph
    zero = graph.integers(0)
    self._asked = add('GreaterOrEqual', policy, zero)
    self._number = number = add('Max', policy, zero)
    first = add('Gather', images, graph.integers(0), axis=0)
    total = add(
        'ReduceSum',
        add('Cast', first, to=TensorProto.INT64),
        graph.integers(1, 2, 3),
        keepdims=0,
    )
    hashed = add(
        'Mod',
        add('Mul', total, graph.integers(HASH_FACTOR)),
        graph.integers(2**HASH_BITS),
    )
    draw = add(
        'Div',
        add('Cast', hashed, to=TensorProto.FLOAT),
        graph.constant(2.0**HASH_BITS),
    )
    shares = graph.constant([float(p.share) for p in self._policies])
    second = add('GreaterOrEqual', draw, add('Gather', shares, number))
    self._row = add(
        'Add',
        add('Mul', number, graph.integers(2)),
        add('Cast', second, to=TensorProto.INT64),
    )
    starts = np.stack([np.asarray(p.start) for p in self._policies])
    choice = add('Where', self._asked, self._look_up(starts), given)
    self._prefix = choice
    return choice

  def next(self, number: int, anchor: Map, given: str) -> str:
    """Adds the gate of an anchor, and returns the choice of the stage after it.

    Args:
      number: number of the anchor, 1 to 3.
      anchor: anchor that the gate reads.
      given: the user's choice, for a batch without a policy.
    """
    add, graph = self._graph.add, self._graph
    reads, choices = (
        np.stack([np.asarray(leaf[number - 1]) for leaf in leaves])
        for leaves in (
            [p.reads for p in self._policies],
            [p.choices for p in self._policies],
        )
    )
    is_read = add(
        'And',
        self._asked,
        add('Cast', self._look_up(reads), to=TensorProto.BOOL),
    )
    edges = add(
        'Gather',
        graph.constant(self._policies[0].edges[number - 1]),
        self._prefix,
    )

    def bins(branch: Graph) -> str:
      confident = self._gates.confide(branch, number, anchor)
      above = branch.add('Greater', confident, edges)
      return branch.add(
          'ReduceSum',
          branch.add('Cast', above, to=TensorProto.INT64),
          branch.integers(1),
          keepdims=0,
      )

    own_bin = graph.choose(
        is_read, bins, lambda branch: branch.integers(0),
        Tensor('', np.int64, (1,)),
    )
    self._row = add(
        'Add', add('Mul', self._row, graph.integers(self._num_bins)), own_bin
    )
    choice = add('Where', self._asked, self._look_up(choices), given)
    self._prefix = add(
        'Add',
        add('Mul', self._prefix, graph.integers(self._num_choices)),
        choice,
    )
    return choice

  def again(self, logits: str) -> str:
    """Adds the subnet of a second look at image 0, `int64[4]`; -1: none."""
    add, graph = self._graph.add, self._graph
    clear = _margin(
        graph,
        add('Gather', logits, graph.integers(0), axis=0),
        self._gates.gates.num_classes,
    )
    mixtures = self._gates.policies
    borders = graph.constant([mixture.margin for mixture in mixtures])
    looks = add(
        'And',
        self._asked,
        add('Less', clear, add('Gather', borders, self._number)),
    )
    none = np.full(NUM_STAGES, -1)
    seconds = np.stack([m.second.subnet if m.look else none for m in mixtures])
    second = add('Gather', graph.constant(seconds, np.int64), self._number)
    second = add('Squeeze', second, graph.integers(0))
    return add('Where', looks, second, graph.integers(-1))

  def _look_up(self, table: np.ndarray) -> str:
    # Choices fit int8, and the graph computes with int64.
    kept = self._graph.constant(table.ravel(), np.int8)
    found = self._graph.add('Gather', kept, self._row)
    return self._graph.add('Cast', found, to=TensorProto.INT64)
