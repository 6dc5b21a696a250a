# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The same network in PyTorch, written by hand as its users would write it.

It is a function of a tree of tensors with the names of our own tree. Weights
are sliced to the widths of a subnet at each call, as in slimmable networks;
`cut` slices them once, for a network that only ever runs one subnet.
"""

from typing import Any

import jax
import numpy as np
import torch
from torch.nn import functional

from adaptanet_jax.models.layers import EXPANSION, STEMS
from adaptanet_jax.models.resnet import ResNet, stage_name, stage_numbers
from adaptanet_jax.models.slimmable import group_size
from adaptanet_jax.models.subnet import StageChoice, Subnet, WidthMask

Tree = dict[str, Any]


def parameters(params: Tree) -> Tree:
  """Returns copies of a parameter tree's leaves, laid out for PyTorch."""

  def convert(leaf: jax.Array) -> torch.Tensor:
    array = np.array(leaf)
    if array.ndim == 4:  # (k, k, in, out) kernels.
      array = array.transpose(3, 2, 0, 1)
    if array.ndim == 2:  # (in, out) kernels.
      array = array.T
    return torch.from_numpy(np.ascontiguousarray(array))

  return jax.tree.map(convert, params)


def images_of(array: Any) -> torch.Tensor:
  """Returns a copy of `(B, H, W, C)` as PyTorch takes it, `(B, C, H, W)`."""
  return torch.from_numpy(
      np.ascontiguousarray(np.asarray(array).transpose(0, 3, 1, 2))
  )


def forward(
    net: ResNet, params: Tree, images: torch.Tensor, subnet: Subnet
) -> tuple[torch.Tensor, list[torch.Tensor]]:
  """Runs one subnet.

  Args:
    net: structure of the network; its norm has to be 'gn'.
    params: parameters as `parameters` returns them.
    images: `(B, C, H, W)` normalised images.
    subnet: the subnet to run.

  Returns:
    Logits `(B, num_classes)`, and the four anchors `(B, C, H, W)`.
  """
  anchors = []
  x = images
  for number, choice in zip(stage_numbers(), subnet.stages):
    x = stage(net, params, x, number, choice)
    anchors.append(x)
  return head(params, x), anchors


def head(params: Tree, x: torch.Tensor) -> torch.Tensor:
  """Returns the logits of stage 4's output."""
  own = params['backbone']['head']
  kernel = own['kernel'][:, : x.shape[1]]
  return functional.linear(x.mean((2, 3)), kernel, own['bias'][:])


def stage(
    net: ResNet,
    params: Tree,
    x: torch.Tensor,
    number: int,
    choice: StageChoice,
) -> torch.Tensor:
  """Runs a stage; stage 1 includes the stem."""
  backbone, rho = params['backbone'], choice.rho
  shape = net.dimensions
  planes, depth = shape.planes[number - 1], shape.depths[number - 1]
  strides = 1 if number == 1 else 2
  if number == 1:
    _, stem_strides, pool = STEMS[net.stem]
    total = shape.stem_channels
    out = WidthMask.at(rho, total).active
    x = _conv_norm(
        backbone['stem']['conv'], x, out, total, strides=stem_strides
    ).relu()
    if pool:
      x = functional.max_pool2d(x, 3, 2, 1)
  inner, stream = int(rho * planes), int(rho * EXPANSION * planes)
  own = backbone[stage_name(number)]
  if choice.delta:
    x = _conv_norm(
        params['delta'][stage_name(number)]['conv'],
        x[:, :inner],
        inner,
        planes,
        strides=strides,
    ).relu()
    # The substitute has no shortcut: channels that it does not write are zero.
    rest = EXPANSION * planes - inner
    x = functional.pad(x, (0, 0, 0, 0, 0, rest))
    return _block(own[f'block{depth}'], x, inner, inner, planes, anchor=True)
  active = x.shape[1]
  for n in range(depth):
    x = _block(
        own[f'block{n + 1}'],
        x,
        active,
        inner,
        planes,
        strides=strides if n == 0 else 1,
        anchor=net.anchors and n == depth - 1,
        slim_stream=not net.anchors,
    )
    active = stream
  return x


def _block(
    params: Tree,
    x: torch.Tensor,
    active: int,
    inner: int,
    planes: int,
    *,
    strides: int = 1,
    anchor: bool,
    slim_stream: bool = False,
) -> torch.Tensor:
  total = EXPANSION * planes
  out = total if anchor else EXPANSION * inner
  y = _conv_norm(params['conv1'], x[:, :active], inner, planes).relu()
  y = _conv_norm(params['conv2'], y, inner, planes, strides=strides).relu()
  y = _conv_norm(params['conv3'], y, out, total)
  if 'shortcut' in params:
    stream = out if slim_stream else total
    x = _conv_norm(params['shortcut'], x, stream, total, strides=strides)
  if out == x.shape[1]:
    return (x + y).relu()
  kept = x[:, out:]
  if 'shortcut' in params:
    kept = kept.relu()
  return torch.cat([(x[:, :out] + y).relu(), kept], 1)


def _conv_norm(
    params: Tree,
    x: torch.Tensor,
    out: int,
    total: int,
    *,
    strides: int = 1,
) -> torch.Tensor:
  kernel = params['kernel'][:out, : x.shape[1]]
  pad = (kernel.shape[-1] - 1) // 2
  x = functional.conv2d(x, kernel, stride=strides, padding=pad)
  scale, bias = (params['norm'][name][:out] for name in ('scale', 'bias'))
  return functional.group_norm(x, out // group_size(total), scale, bias)


class Network(torch.nn.Module):
  """One subnet as a module, with its weights sliced once.

  Attributes:
    net: structure of the network.
    subnet: the subnet that it runs.
  """

  def __init__(
      self,
      net: ResNet,
      params: Tree,
      subnet: Subnet,
      *,
      channels_last: bool = False,
  ) -> None:
    super().__init__()
    self.net, self.subnet = net, subnet
    self._tree = cut(net, params, subnet)
    if channels_last:
      self._tree = jax.tree.map(_channels_last, self._tree)

  def forward(self, images: torch.Tensor) -> torch.Tensor:
    """Returns the logits `(B, num_classes)` of `(B, C, H, W)` images."""
    return forward(self.net, self._tree, images, self.subnet)[0]


def _channels_last(leaf: torch.Tensor) -> torch.Tensor:
  if leaf.ndim != 4:
    return leaf
  return leaf.contiguous(memory_format=torch.channels_last)


def cut(net: ResNet, params: Tree, subnet: Subnet) -> Tree:
  """Returns sliced copies of the parameters that a subnet reads.

  Args:
    net: structure of the network.
    params: parameters as `parameters` returns them.
    subnet: the subnet to run.
  """
  cuts = jax.tree.map(_Cut, params)
  with torch.no_grad():
    forward(net, cuts, torch.zeros(1, *net.image_shape[::-1]), subnet)
  return jax.tree.map(lambda leaf: leaf.read, cuts)


class _Cut:
  """A parameter that records the slice that is read from it."""

  def __init__(self, whole: torch.Tensor) -> None:
    self._whole = whole
    self.read: torch.Tensor | None = None

  def __getitem__(self, index: Any) -> torch.Tensor:
    self.read = self._whole[index].contiguous()
    return self.read


def anchor_step(
    student: ResNet,
    teacher: ResNet,
    trees: tuple[Tree, Tree],
    trained: list[torch.Tensor],
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    subnets: list[Subnet],
    stages: range,
    weights: list[tuple[float, float]],
) -> float:
  """Takes a step of Eq. 3.

  Args:
    student: structure of the supernet.
    teacher: structure of the teacher.
    trees: parameters of student and teacher; the teacher's need no gradients.
    trained: the student's parameters that train.
    optimizer: optimizer of `trained`.
    images: `(B, C, H, W)` normalised images.
    subnets: subnets of the step.
    stages: numbers of the student's stages that run; later ones are the
      teacher's.
    weights: for each subnet, the weights of the losses to the teacher and to
      the largest subnet.

  Returns:
    The loss.
  """
  own, frozen = trees
  largest = Subnet.uniform(1.0)
  with torch.no_grad():
    logits, anchors = forward(teacher, frozen, images, largest)
    targets = [*anchors[stages[0] - 1 :], logits]
    x = images
    for number in range(1, stages[0]):
      x = stage(student, own, x, number, subnets[0].stages[number - 1])

  def run(subnet: Subnet) -> list[torch.Tensor]:
    outputs, y = [], x
    for number in stages:
      y = stage(student, own, y, number, subnet.stages[number - 1])
      outputs.append(y)
    for number in range(stages[-1] + 1, len(largest.stages) + 1):
      y = stage(teacher, frozen, y, number, largest.stages[0])
      outputs.append(y)
    is_last = stages[-1] == len(largest.stages)
    return [*outputs, head(own if is_last else frozen, y)]

  def distance(
      outputs: list[torch.Tensor], targets: list[torch.Tensor]
  ) -> torch.Tensor:
    errors = map(functional.mse_loss, outputs, targets)
    return torch.stack(list(errors)).sum()

  total, reference = 0.0, targets
  if subnets[0] != largest and weights[0][1]:
    with torch.no_grad():
      reference = run(largest)
  for number, (subnet, (to_teacher, to_largest)) in enumerate(
      zip(subnets, weights)
  ):
    outputs = run(subnet)
    loss = to_teacher * distance(outputs, targets)
    if to_largest:
      loss = loss + to_largest * distance(outputs, reference)
    elif number == 0:
      reference = [output.detach() for output in outputs]
    loss.backward()
    total += loss.item()
  optimizer.step()
  optimizer.zero_grad(set_to_none=True)
  return total


def sandwich_step(
    net: ResNet,
    params: Tree,
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    labels: torch.Tensor,
    subnets: list[Subnet],
    label_smoothing: float,
) -> float:
  """Takes a step of USNet: the first subnet learns labels, the others from it.

  Args:
    net: structure of the network.
    params: its parameters, which all require gradients.
    optimizer: optimizer of `params`.
    images: `(B, C, H, W)` normalised images.
    labels: `(B,)`.
    subnets: subnets of the step; with only one it is a plain step.
    label_smoothing: share of the labels' target spread over all classes.

  Returns:
    The sum of the losses.
  """
  total, target, smoothing = 0.0, labels, label_smoothing
  for subnet in subnets:
    logits, _ = forward(net, params, images, subnet)
    loss = functional.cross_entropy(logits, target, label_smoothing=smoothing)
    loss.backward()
    if subnet is subnets[0]:
      target, smoothing = logits.detach().softmax(-1), 0.0
    total += loss.item()
  optimizer.step()
  optimizer.zero_grad(set_to_none=True)
  return total


def optimizer_like(
    settings: Any, tree: Tree, trained: list[torch.Tensor], rate: float
) -> torch.optim.Optimizer:
  """Returns PyTorch's counterpart of `training.optimizers.make_optimizer`.

  Args:
    settings: the phase's section of the configuration.
    tree: the trained part of the parameters.
    trained: leaves of `tree`.
    rate: learning rate of all steps.
  """
  if settings.optimizer == 'adam':
    return torch.optim.Adam(trained, lr=rate)
  decayed = jax.tree.leaves(
      jax.tree_util.tree_map_with_path(
          lambda path, leaf: leaf if path[-1].key == 'kernel' else None, tree
      )
  )
  ids = {id(leaf) for leaf in decayed}
  rest = [leaf for leaf in trained if id(leaf) not in ids]
  return torch.optim.SGD(
      [
          {'params': decayed, 'weight_decay': settings.weight_decay},
          {'params': rest, 'weight_decay': 0.0},
      ],
      lr=rate,
      momentum=settings.momentum,
      nesterov=True,
  )
