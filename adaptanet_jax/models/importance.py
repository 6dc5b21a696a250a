# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Puts a network's channels in order of importance, beyond the paper.

A narrow width keeps the first channels of each layer. As trained, these are no
better than the last ones; Once-for-all (Cai et al., 2020) sorts them before a
network learns to be narrow. The layers that write a channel and those that read
it get the same permutation, so the network computes the same function. The
groups of a norm move as a whole.
"""

from collections.abc import Iterator, Mapping
import dataclasses

from flax import traverse_util
import numpy as np

from adaptanet_jax import trees
from adaptanet_jax.models import slimmable
from adaptanet_jax.models.layers import EXPANSION, NORMS
from adaptanet_jax.models.parts import Variables
from adaptanet_jax.models.resnet import (
  BACKBONE,
  ResNet,
  stage_name,
  stage_numbers,
)
from adaptanet_jax.models.subnet import NUM_STAGES


@dataclasses.dataclass(frozen=True)
class _Channels:
  """Channels that are permuted together.

  Attributes:
    total: number of channels.
    writers: names of the convolutions, with their norms, that write them.
    readers: names of the convolutions, or of the head, that read them.
  """

  total: int
  writers: tuple[str, ...]
  readers: tuple[str, ...]


def sort_channels(net: ResNet, variables: Variables) -> Variables:
  """Returns the network with the most important channels first.

  A channel's importance is the sum of the absolute weights that read it, times
  the mean absolute scale of its norms. Where kernels are standardised, it is
  the standardised weights that count: the length of the others is arbitrary.

  Args:
    net: a network that runs at full width, with a norm whose parameters all
      widths share.
    variables: its collections.

  Returns:
    Collections of the same shapes that compute the same function.
  """
  flat = trees.flat(variables)
  effective = flat | {
      name: _effective(net, np.asarray(kernel, np.float64))
      for name, kernel in flat.items()
      if name.endswith('/kernel')
  }
  for channels in _all_channels(net):
    order = _order(net, effective, channels)
    for name in flat:
      _, _, layer = name.partition(f'/{BACKBONE}/')
      parent = layer.rpartition('/')[0]
      if parent in channels.readers and layer.endswith('/kernel'):
        # The input axis; the head's kernel has no spatial axes.
        flat[name] = np.take(flat[name], order, flat[name].ndim - 2)
      elif parent.removesuffix('/norm') in channels.writers:
        flat[name] = np.take(flat[name], order, -1)
  return traverse_util.unflatten_dict(flat, sep='/')


def _effective(net: ResNet, kernel: np.ndarray) -> np.ndarray:
  """Returns a kernel as it is convolved with.

  In float64, so that near-equal channels get the same order on any machine: the
  checkpoints of a teacher hold its own order, and it is sorted again whenever
  it is restored.
  """
  if not NORMS[net.norm].folded or kernel.ndim < 4:  # The head's is not.
    return kernel
  inputs = (0, 1, 2)  # See `slimmable.standardize`.
  kernel = kernel - kernel.mean(inputs, keepdims=True)
  return kernel / np.sqrt(np.square(kernel).sum(inputs, keepdims=True) + 1e-8)


def _all_channels(net: ResNet) -> Iterator[_Channels]:
  """Yields all channels of a network except image channels and classes."""
  first = f'{stage_name(1)}/block1'
  yield _Channels(
      net.dimensions.stem_channels,
      ('stem/conv',),
      (f'{first}/conv1', f'{first}/shortcut'),
  )
  for n in stage_numbers():
    planes = net.dimensions.planes[n - 1]
    blocks = [
        f'{stage_name(n)}/block{b + 1}'
        for b in range(net.dimensions.depths[n - 1])
    ]
    for block in blocks:
      for write, read in (('conv1', 'conv2'), ('conv2', 'conv3')):
        yield _Channels(planes, (f'{block}/{write}',), (f'{block}/{read}',))
    after: tuple[str, ...] = ('head',)
    if n < NUM_STAGES:
      block = f'{stage_name(n + 1)}/block1'
      after = (f'{block}/conv1', f'{block}/shortcut')
    yield _Channels(
        EXPANSION * planes,
        (f'{blocks[0]}/shortcut', *(f'{block}/conv3' for block in blocks)),
        (*(f'{block}/conv1' for block in blocks[1:]), *after),
    )


def _order(
    net: ResNet, flat: Mapping[str, np.ndarray], channels: _Channels
) -> np.ndarray:
  """Returns the channels in order of importance, `int[total]`."""
  params = f'params/{BACKBONE}'
  read = np.zeros(channels.total)
  for reader in channels.readers:
    kernel = np.abs(flat[f'{params}/{reader}/kernel'])
    axes = tuple(a for a in range(kernel.ndim) if a != kernel.ndim - 2)
    read += kernel.sum(axes)
  scale = np.mean(
      [
          np.abs(flat[f'{params}/{writer}/norm/scale'].astype(np.float64))
          for writer in channels.writers
      ],
      axis=0,
  )
  size = _group_size(net.norm, channels.total)
  groups = (read * scale).reshape(-1, size).sum(-1)
  best_first = np.argsort(-groups, kind='stable')
  return (best_first[:, None] * size + np.arange(size)).ravel()


def _group_size(norm: str, total: int) -> int:
  kind = NORMS[norm]
  if kind.family != 'group':
    return 1
  return slimmable.group_size(total, kind.groups)
