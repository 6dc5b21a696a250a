# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Loads ResNets of torchvision and timm as teachers.

Their blocks are the same as ours, with the stride on the 3x3 convolution and
symmetric padding; only names and layouts differ. timm's `resnet50_gn` has 32
groups in every norm (`teacher.norm=gn32`); `resnet50` of torchvision and timm
has BatchNorm (`bn`).
"""

from collections.abc import Iterator, Mapping
import os
import re
from typing import Any

from flax import traverse_util
import ml_dtypes
import numpy as np

from adaptanet_jax import trees
from adaptanet_jax.errors import UsageError, first_line, some
from adaptanet_jax.models.layers import STDS
from adaptanet_jax.models.parts import Variables
from adaptanet_jax.models.resnet import ResNet
from adaptanet_jax.teachers import torch_file

# Keys under which training scripts store a state dict. If a file has several of
# them, the first one here counts.
_WRAPPERS = (
    *('state_dict', 'model', 'net', 'model_state_dict', 'model_state'),
    *('module', 'state_dict_ema', 'model_ema', 'ema', 'ema_state_dict'),
)
# A parameter that a network has once outside its blocks, and once in each.
_ANCHOR = 'conv1.weight'
_IN_BLOCK = re.compile(r'layer\d+\.\d+\.$')
_HEAD = ('fc.weight', 'fc.bias')
# Counters that only training reads: of BatchNorm, and of an average of models.
_IGNORED = ('.num_batches_tracked', 'n_averaged')
# PyTorch's names for our leaves; kernels and scales are both `weight`.
_LEAVES = {
    'kernel': 'weight',
    'scale': 'weight',
    'bias': 'bias',
    'mean': 'running_mean',
    'var': 'running_var',
}


def load(
    path: str, net: ResNet, *, adapt: bool = False
) -> tuple[Variables, list[str]]:
  """Reads a teacher's variables.

  Args:
    path: file of a state dict, such as `.safetensors` or `.pth`.
    net: the teacher to load it for.
    adapt: whether to leave out a classifier of another number of classes, which
      then starts at random, and to fit a first convolution of another number of
      channels.

  Returns:
    Collections of the teacher, float32; and notes on what was adapted.

  Raises:
    UsageError: the file is missing or unreadable, does not fit (the message has
      the names and shapes of both), or has numbers that no network can use.
  """
  state = _read(path)
  shapes = traverse_util.flatten_dict(net.shapes())
  expected = {_name(key): leaf.shape for key, leaf in shapes.items()}
  # `(O, I, H, W)` to `(H, W, I, O)`, and `(O, I)` to `(I, O)`.
  arrays = {
      name: array.transpose(*range(2, array.ndim), 1, 0)
      if array.ndim > 1
      else array
      for name, array in state.items()
  }
  notes: list[str] = []
  if adapt:
    notes += _adapt_head(arrays, expected)
    notes += _adapt_stem(arrays, net.image_shape[-1])
  _check_fits(path, net, arrays, expected)
  _check_numbers(path, arrays)
  variables = traverse_util.unflatten_dict({
      key: arrays[_name(key)].astype(np.float32)
      for key in shapes
      if _name(key) in expected
  })
  return variables, notes


def _check_fits(
    path: str,
    net: ResNet,
    arrays: Mapping[str, np.ndarray],
    expected: Mapping[str, tuple[int, ...]],
) -> None:
  """Raises UsageError unless arrays have the expected names and shapes."""
  if problems := trees.mismatches(trees.shapes(arrays), expected):
    raise UsageError(
        f'config.teacher.weights = {path!r} does not fit {net.architecture} '
        f'with stem {net.stem!r}, norm {net.norm!r} and {net.num_classes} '
        f'classes: {"; ".join(problems)}. Expected a ResNet of torchvision or '
        'timm, whose kernels are given here as (height, width, in, out), and '
        'config.model.architecture, config.model.stem and config.teacher.norm '
        'to match; with config.teacher.epochs above 0 classes and colours may '
        'differ.'
    )


def _adapt_head(
    arrays: dict[str, np.ndarray], expected: dict[str, tuple[int, ...]]
) -> list[str]:
  """Removes a classifier of other classes from both; returns notes."""
  if all(
      name in arrays and arrays[name].shape == expected[name] for name in _HEAD
  ):
    return []
  found = [
      arrays.pop(name) for name in _HEAD if name in arrays and arrays[name].ndim
  ]
  classes = f'of {found[-1].shape[-1]} classes ' if found else 'that it lacks '
  shapes = [expected.pop(name) for name in _HEAD]
  return [f'the classifier {classes}starts at random for {shapes[-1][0]}']


def _adapt_stem(arrays: dict[str, np.ndarray], colours: int) -> list[str]:
  """Fits the first convolution to other channels; returns notes.

  Its output for a grey picture stays the same up to a constant: a pixel is
  normalised by numbers that depend on the channels, see `layers.normalize`.
  """
  kernel = arrays.get(_ANCHOR)
  if kernel is None or kernel.ndim != 4 or kernel.shape[2] == colours:
    return []
  after = np.array(STDS[colours], np.float32)[:, None]
  # Of other channels nothing is known.
  before = np.array(STDS.get(kernel.shape[2], after.mean()), np.float32)
  response = kernel.astype(np.float32) / before.reshape(-1, 1)
  arrays[_ANCHOR] = response.sum(2, keepdims=True) * after / colours
  return [
      f'the first convolution of {kernel.shape[2]} channels is '
      + (f'spread over {colours}' if colours > 1 else 'summed to 1')
  ]


def _check_numbers(path: str, arrays: Mapping[str, np.ndarray]) -> None:
  """Raises UsageError for the first array that no network can use."""
  for name, array in arrays.items():
    problem = ''
    if array.dtype.kind != 'f' and array.dtype != ml_dtypes.bfloat16:
      problem = f'is {array.dtype.name}; expected floating-point numbers'
    else:
      with np.errstate(over='ignore'):  # float64 may overflow to infinity.
        numbers = array.astype(np.float32)
      bad = int(numbers.size - np.isfinite(numbers).sum())
      if bad:
        problem = f'has {bad} of {numbers.size} numbers that are not finite'
      elif name.endswith(_LEAVES['var']) and (numbers < 0).any():
        problem = 'has variances below 0'
    if problem:
      raise UsageError(
          f'{name} in config.teacher.weights = {path!r} {problem}.'
      )


def _name(key: tuple[str, ...]) -> str:
  """Returns PyTorch's name of a variable.

  Args:
    key: path of the variable, such as params, backbone, stage1, block1, conv1,
      norm, scale.
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
  """Returns the state dict in a file, without wrappers and name prefixes."""
  if not os.path.isfile(path):
    raise UsageError(
        f'config.teacher.weights = {path!r} is not a file; expected a state '
        'dict, .safetensors or .pth.'
    )
  try:
    found = torch_file.read(path)
  except Exception as error:  # Each file format has its own errors.
    raise UsageError(
        f'config.teacher.weights = {path!r} cannot be read '
        f'({first_line(error)}); expected a state dict, .safetensors or .pth.'
    ) from error
  state = _unwrap(path, found)
  prefix = _prefix(path, state)
  return {
      name.removeprefix(prefix): array
      for name, array in state.items()
      if not name.endswith(_IGNORED)
  }


def _unwrap(path: str, found: Any) -> dict[str, np.ndarray]:
  """Returns the arrays of the one state dict in what a script has saved."""
  places = dict(_state_dicts(found))
  if len(places) > 1:
    for wrapper in _WRAPPERS:
      chosen = {k: v for k, v in places.items() if wrapper in k.split('.')}
      if chosen:
        places = chosen
        break
  if len(places) == 1:
    return next(iter(places.values()))
  if places:
    raise UsageError(
        f'config.teacher.weights = {path!r} has several networks, under '
        f'{some(sorted(places))}; expected one.'
    )
  what = f'a {type(found).__name__}'
  if isinstance(found, Mapping):
    what = f'the keys {some(sorted(map(str, found)))}' if found else 'nothing'
  raise UsageError(
      f'config.teacher.weights = {path!r} holds {what} and no tensors by name; '
      'expected the state dict of a ResNet of torchvision or timm, or one '
      'under a key of its own.'
  )


def _state_dicts(
    found: Any, place: str = '', depth: int = 0
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
  """Yields the place of every state dict in a tree of dicts, and its arrays."""
  if not isinstance(found, Mapping) or depth > 4:
    return
  arrays = {
      name: value
      for name, value in found.items()
      if isinstance(name, str) and isinstance(value, np.ndarray)
  }
  if any(name.endswith('.weight') for name in arrays):
    yield place, arrays
    return
  for key, value in found.items():
    yield from _state_dicts(value, f'{place}.{key}'.strip('.'), depth + 1)


def _prefix(path: str, state: Mapping[str, np.ndarray]) -> str:
  """Returns the prefix that wrappers have added to all names of a network."""
  prefixes = sorted(
      prefix
      for name in state
      if name.endswith(_ANCHOR)
      and not _IN_BLOCK.search(prefix := name.removesuffix(_ANCHOR))
  )
  if len(prefixes) > 1:
    raise UsageError(
        f'config.teacher.weights = {path!r} has several networks, whose names '
        f'start with {some(prefixes)}; expected one.'
    )
  return prefixes[0] if prefixes else ''
