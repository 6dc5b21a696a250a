# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The network as nodes of an ONNX graph, the counterpart of `models.layers`.

It is a second description, not a translation of what JAX traces, because other
code is fast in ONNX: channels come first, and a GroupNorm runs as an
InstanceNormalization. Tests compare every branch of every kind of network with
JAX, and so does every export that is verified.

B = batch, C = channels, H = height, W = width.
"""

from collections.abc import Callable, Mapping
import dataclasses

import numpy as np

from adaptanet_jax.export.graph import BATCH, Graph, Tensor
from adaptanet_jax.models import slimmable
from adaptanet_jax.models.delta import KINDS
from adaptanet_jax.models.layers import (
  EXPANSION,
  MEANS,
  NORMS,
  STDS,
  STEMS,
)
from adaptanet_jax.models.resnet import (
  BACKBONE,
  DELTA,
  ResNet,
  stage_name,
)
from adaptanet_jax.models.subnet import WIDTHS, StageChoice, WidthMask

# Arrays by their path below a collection, such as backbone/stem/conv/kernel.
Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Map:
  """A value of a graph that is a feature map, `(B, C, H, W)`."""

  name: str
  channels: int
  sides: tuple[int, int]

  def tensor(self) -> Tensor:
    """Returns its description, as an input or output of a graph."""
    return Tensor(self.name, np.float32, (BATCH, self.channels, *self.sides))


@dataclasses.dataclass(frozen=True)
class Network:
  """A network that graphs describe.

  Attributes:
    net: the network, folded (`ResNet.fold`).
    params: its parameters.
    statistics: returns the batch statistics of all stages under a choice; not
      used without a BatchNorm.
  """

  net: ResNet
  params: Arrays
  statistics: Callable[[StageChoice], Arrays]

  def at(self, graph: Graph, choice: StageChoice) -> 'Layers':
    """Returns the layers of the network under a choice of a stage."""
    return Layers(
        graph, self.net, self.params, self.statistics(choice), choice
    )


@dataclasses.dataclass(frozen=True)
class Layers:
  """Adds the layers of a stage to a graph, under one choice.

  Attributes:
    graph: graph that the layers are added to.
    net: the network.
    params: its parameters.
    statistics: its batch statistics under this choice.
    choice: how the stage runs.
  """

  graph: Graph
  net: ResNet
  params: Arrays
  statistics: Arrays
  choice: StageChoice

  def run_stage(self, x: Map, number: int) -> Map:
    """Adds a stage; see `ResNet.run_stage`.

    Args:
      x: normalised images for stage 1, which includes the stem; otherwise the
        output of the stage before, whole or cut by `active`.
      number: 1 to 4.

    Returns:
      The whole output of the stage.
    """
    if number == 1:
      x = self._stem(x)
    planes = self.net.dimensions.planes[number - 1]
    depth = self.net.dimensions.depths[number - 1]
    path = f'{BACKBONE}/{stage_name(number)}'
    strides = 1 if number == 1 else 2
    if self.choice.delta:
      x = self._substitute(x, f'{DELTA}/{stage_name(number)}', planes, strides)
      x, _ = self._bottleneck(x, f'{path}/block{depth}', planes, anchor=True)
      return x
    kept = None
    for n in range(depth):
      x, kept = self._bottleneck(
          x,
          f'{path}/block{n + 1}',
          planes,
          anchor=self.net.anchors and n == depth - 1,
          strides=strides if n == 0 else 1,
          project=n == 0,
          kept=kept,
      )
    return self._pad(x, EXPANSION * planes)

  def active(self, x: Map, number: int) -> Map:
    """Cuts a stage's output to the channels that the stage has written."""
    total = EXPANSION * self.net.dimensions.planes[number - 1]
    return x if self.net.anchors else self._cut(x, self._active(total))

  def _active(self, total: int) -> int:
    return WidthMask.at(self.choice.rho, total).active

  def _stem(self, x: Map) -> Map:
    _, strides, pool = STEMS[self.net.stem]
    channels = self._active(self.net.dimensions.stem_channels)
    x = self._relu(
        self._conv_norm(x, f'{BACKBONE}/stem/conv', channels, strides)
    )
    if not pool:
      return x
    y = self.graph.add(
        'MaxPool', x.name, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4
    )
    return Map(y, x.channels, strided(x.sides, 2))

  def _substitute(self, x: Map, path: str, planes: int, strides: int) -> Map:
    kind = KINDS[str(self.net.delta)]
    inner, out = self._active(planes), self._active(kind.expansion * planes)
    if kind.first == 'depthwise':
      x, strides = self._depthwise(x, f'{path}/depthwise', strides), 1
    elif kind.first == 'reduce':
      x = self._relu(self._conv_norm(x, f'{path}/reduce', inner))
    else:
      x = self._cut(x, inner)
    return self._relu(self._conv_norm(x, f'{path}/conv', out, strides))

  def _bottleneck(
      self,
      x: Map,
      path: str,
      planes: int,
      *,
      anchor: bool,
      strides: int = 1,
      project: bool = False,
      kept: Map | None = None,
  ) -> tuple[Map, Map | None]:
    inner, total = self._active(planes), EXPANSION * planes
    out = total if anchor else self._active(total)
    y = self._relu(self._conv_norm(x, f'{path}/conv1', inner))
    y = self._relu(self._conv_norm(y, f'{path}/conv2', inner, strides))
    y = self._conv_norm(y, f'{path}/conv3', out)
    if project:
      stream = total if self.net.anchors else out
      x = self._conv_norm(x, f'{path}/shortcut', stream, strides)
      if out < stream:
        kept = self._relu(self._cut(x, stream, start=out))
        x = self._cut(x, out)
    elif anchor and kept:
      joined = self.graph.add('Concat', x.name, kept.name, axis=1)
      x, kept = Map(joined, total, x.sides), None
    elif anchor:
      x = self._pad(x, total)
    both = self.graph.add('Add', x.name, y.name)
    return self._relu(Map(both, out, x.sides)), kept

  def _relu(self, x: Map) -> Map:
    return dataclasses.replace(x, name=self.graph.add('Relu', x.name))

  def _cut(self, x: Map, stop: int, *, start: int = 0) -> Map:
    if (start, stop) == (0, x.channels):
      return x
    y = self.graph.slice(x.name, [1], [start], [stop])
    return Map(y, stop - start, x.sides)

  def _pad(self, x: Map, total: int) -> Map:
    if x.channels == total:
      return x
    edges = self.graph.integers(0, 0, 0, 0, 0, total - x.channels, 0, 0)
    return Map(self.graph.add('Pad', x.name, edges), total, x.sides)

  def _depthwise(self, x: Map, path: str, strides: int) -> Map:
    kernel = self.params[path].transpose(2, 0, 1)[:, None]
    part = (x.channels, *kernel.shape[1:])
    return self._conv(
        x, self.graph.weight(path, kernel, part), part, strides,
        group=x.channels,
    )

  def _conv_norm(self, x: Map, path: str, out: int, strides: int = 1) -> Map:
    name = f'{path}/kernel'
    kernel = self.params[name].transpose(3, 2, 0, 1)
    part = (out, x.channels, *kernel.shape[2:])
    x = self._conv(x, self.graph.weight(name, kernel, part), part, strides)
    return self._norm(x, f'{path}/norm', kernel.shape[0])

  def _conv(
      self, x: Map, kernel: str, part: tuple[int, ...], strides: int,
      group: int = 1,
  ) -> Map:
    size = part[2]
    y = self.graph.add(
        'Conv',
        x.name,
        kernel,
        kernel_shape=[size, size],
        strides=[strides, strides],
        pads=[(size - 1) // 2] * 4,
        group=group,
    )
    return Map(y, part[0], strided(x.sides, strides))

  def _norm(self, x: Map, path: str, total: int) -> Map:
    family = NORMS[self.net.norm].family
    if family == 'group':
      return self._group_norm(x, path, total)
    if family == 'layer':
      return self._layer_norm(x, path)
    return self._batch_norm(x, path)

  def _group_norm(self, x: Map, path: str, total: int) -> Map:
    size = slimmable.group_size(total, NORMS[self.net.norm].groups)
    count = x.channels // size
    add, integers = self.graph.add, self.graph.integers
    # 0 keeps the size of an axis.
    y = add('Reshape', x.name, integers(0, count, -1))
    ones, zeros = (
        self.graph.constant(np.full(count, value)) for value in (1.0, 0.0)
    )
    y = add('InstanceNormalization', y, ones, zeros, epsilon=slimmable.EPSILON)
    y = add('Reshape', y, integers(0, x.channels, *x.sides))
    scale, bias = (
        self.graph.weight(
            name, self.params[name].reshape(-1, 1, 1), (x.channels, 1, 1)
        )
        for name in (f'{path}/scale', f'{path}/bias')
    )
    return dataclasses.replace(x, name=add('Add', add('Mul', y, scale), bias))

  def _layer_norm(self, x: Map, path: str) -> Map:
    scale, bias = (
        self.graph.weight(name, self.params[name], (x.channels,))
        for name in (f'{path}/scale', f'{path}/bias')
    )
    y = self.graph.add('Transpose', x.name, perm=[0, 2, 3, 1])
    y = self.graph.add(
        'LayerNormalization', y, scale, bias, axis=-1, epsilon=slimmable.EPSILON
    )
    y = self.graph.add('Transpose', y, perm=[0, 3, 1, 2])
    return dataclasses.replace(x, name=y)

  def _batch_norm(self, x: Map, path: str) -> Map:
    kind = NORMS[self.net.norm]
    row = WIDTHS.index(self.choice.rho)
    scale, bias, mean, var = (
        (arrays[f'{path}/{name}'][row] if own else arrays[f'{path}/{name}'])[
            : x.channels, None, None
        ]
        for arrays, own, names in (
            (self.params, kind.own_affine, ('scale', 'bias')),
            (self.statistics, kind.own_statistics, ('mean', 'var')),
        )
        for name in names
    )
    # Each width may have its own few values: constants, not parts of a weight.
    slope = scale / np.sqrt(var + slimmable.EPSILON)
    y = self.graph.add('Mul', x.name, self.graph.constant(slope))
    y = self.graph.add('Add', y, self.graph.constant(bias - mean * slope))
    return dataclasses.replace(x, name=y)


def normalize(graph: Graph, images: str, net: ResNet) -> Map:
  """Adds the normalisation of pixels for stage 1; see `layers.normalize`.

  Args:
    graph: graph to add it to.
    images: `uint8[B, H, W, C]`.
    net: the network.

  Returns:
    `float32[B, C, H, W]`.
  """
  *sides, colours = net.image_shape
  mean, std = (
      graph.constant(np.reshape(values[colours], (-1, 1, 1)))
      for values in (MEANS, STDS)
  )
  x = graph.add('Transpose', images, perm=[0, 3, 1, 2])
  x = graph.add('Cast', x, to=1)
  x = graph.add('Div', x, graph.constant(255.0))
  x = graph.add('Div', graph.add('Sub', x, mean), std)
  return Map(x, colours, (sides[0], sides[1]))


def run_head(graph: Graph, params: Arrays, x: Map) -> str:
  """Adds the classifier, and returns `float32[B, num_classes]` logits.

  Args:
    graph: graph to add it to.
    params: parameters of the network.
    x: output of stage 4, whole or cut by `Layers.active`.
  """
  path = f'{BACKBONE}/head'
  kernel, bias = params[f'{path}/kernel'], params[f'{path}/bias']
  pooled = graph.add('Flatten', graph.add('GlobalAveragePool', x.name))
  return graph.add(
      'Gemm',
      pooled,
      graph.weight(f'{path}/kernel', kernel, (x.channels, kernel.shape[1])),
      graph.weight(f'{path}/bias', bias),
  )


def strided(sides: tuple[int, int], strides: int) -> tuple[int, int]:
  """Returns the sides of the output of a padded convolution."""
  rows, columns = (-(-side // strides) for side in sides)
  return rows, columns
