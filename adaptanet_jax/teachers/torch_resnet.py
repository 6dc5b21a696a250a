# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""ResNets of torchvision and timm as teachers.

Their blocks are ours: stride on the 3x3 convolution, symmetric padding. Only
names and layouts differ. timm's `resnet50_gn` has 32 groups in every norm
(`teacher.norm=gn32`), torchvision's and timm's `resnet50` BatchNorm (`bn`).
"""

from collections.abc import Mapping
import os
from typing import Any

from flax import traverse_util
import numpy as np

from adaptanet_jax.errors import UsageError, some
from adaptanet_jax.models.resnet import ResNet, Variables

# Keys that training scripts put a state dict under.
_WRAPPERS = ('state_dict', 'model')
# What wrappers of a network put before its names.
_PREFIXES = ('module.', '_orig_mod.')
# Counts that only BatchNorm's own training reads.
_IGNORED = '.num_batches_tracked'
# Of a norm's parameters and statistics; kernels are `weight`, too.
_LEAVES = {
    'kernel': 'weight',
    'scale': 'weight',
    'bias': 'bias',
    'mean': 'running_mean',
    'var': 'running_var',
}


def load(path: str, net: ResNet) -> Variables:
  """Reads a teacher's variables.

  Args:
    path: a state dict, `.safetensors`, or `.pth` and the like, which takes
      PyTorch to read.
    net: the teacher that it is for.

  Returns:
    Collections of the teacher, float32.

  Raises:
    UsageError: the file is missing or unreadable, or does not fit; names and
      shapes are told of both sides.
  """
  state = _read(path)
  shapes = traverse_util.flatten_dict(net.shapes())
  names = {key: _name(key) for key in shapes}
  # `(O, I, H, W)` to `(H, W, I, O)`, and `(O, I)` to `(I, O)`.
  arrays = {
      name: array.transpose(*range(2, array.ndim), 1, 0)
      if array.ndim > 1
      else array
      for name, array in state.items()
  }
  missing = sorted(set(names.values()) - arrays.keys())
  extra = sorted(arrays.keys() - set(names.values()))
  unlike = [
      f'{name} {arrays[name].shape} against {shapes[key].shape}'
      for key, name in names.items()
      if name in arrays and arrays[name].shape != shapes[key].shape
  ]
  problems = [
      f'{text} {some(found)}'
      for text, found in (
          ('it lacks', missing),
          ('it has beyond the network', extra),
          ('shapes differ, as (height, width, in, out):', unlike),
      )
      if found
  ]
  if problems:
    raise UsageError(
        f'config.teacher.weights = {path!r} does not fit {net.architecture} '
        f'with stem {net.stem!r}, norm {net.norm!r} and {net.num_classes} '
        f'classes: {"; ".join(problems)}. Expected a ResNet of torchvision or '
        'timm, and config.model.architecture, config.model.stem and '
        'config.teacher.norm to match.'
    )
  return traverse_util.unflatten_dict(
      {key: arrays[name].astype(np.float32) for key, name in names.items()}
  )


def _name(key: tuple[str, ...]) -> str:
  """Returns PyTorch's name of a variable.

  Args:
    key: its path, such as params, backbone, stage1, block1, conv1, norm, scale.
  """
  *modules, leaf = key[2:]
  kind = _LEAVES[leaf]
  if modules == ['head']:
    return f'fc.{kind}'
  norm = modules[-1] == 'norm'
  if modules[0] == 'stem':
    return f'{"bn" if norm else "conv"}1.{kind}'
  stage, block, layer = modules[:3]
  if layer == 'shortcut':
    layer = f'downsample.{int(norm)}'
  elif norm:
    layer = layer.replace('conv', 'bn')
  number = int(block.removeprefix('block')) - 1
  return f'layer{stage.removeprefix("stage")}.{number}.{layer}.{kind}'


def _read(path: str) -> dict[str, np.ndarray]:
  if not os.path.isfile(path):
    raise UsageError(
        f'config.teacher.weights = {path!r} is no file; expected a state dict, '
        '.safetensors or .pth.'
    )
  try:
    if path.endswith('.safetensors'):
      # Here: nothing else needs it.
      from safetensors.numpy import load_file

      state: Mapping[str, Any] = load_file(path)
    else:
      state = _read_pickled(path)
  except UsageError:
    raise
  except Exception as error:  # Each format has errors of its own.
    reason = str(error).splitlines() or [type(error).__name__]
    raise UsageError(
        f'config.teacher.weights = {path!r} cannot be read '
        f'({reason[0][:200]}); expected a state dict, '
        '.safetensors or .pth.'
    ) from error
  found = {}
  for name, array in state.items():
    for prefix in _PREFIXES:
      name = name.removeprefix(prefix)
    if not name.endswith(_IGNORED):
      found[name] = np.asarray(array)
  return found


def _read_pickled(path: str) -> Mapping[str, Any]:
  try:
    import torch
  except ImportError as error:
    raise UsageError(
        f'config.teacher.weights = {path!r} takes PyTorch to read; expected it '
        'to be installed (pip install torch), or a .safetensors file.'
    ) from error
  state = torch.load(path, map_location='cpu', weights_only=True)
  for key in _WRAPPERS:
    state = state.get(key, state)
  return {
      name: tensor.float().numpy()
      for name, tensor in state.items()
      if isinstance(tensor, torch.Tensor)
  }
