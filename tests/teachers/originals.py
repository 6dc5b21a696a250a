# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Outputs of PyTorch, torchvision and timm for weights drawn by a rule.

If all three are installed, this rewrites `logits.json` and `saved/`:

  python -m tests.teachers.originals

The tests draw the same weights, so they need none of the three packages.
"""

import argparse
import collections
import json
import math
import pathlib
from typing import Any
import zlib

import jax
import numpy as np

from adaptanet_jax.models.resnet import ResNet
from adaptanet_jax.teachers import torch_resnet

PATH = pathlib.Path(__file__).with_name('logits.json')
SAVED = PATH.with_name('saved')
NUM_CLASSES = 10
SIDE = 64


def images() -> np.ndarray:
  """Returns two random images, `float32[2, SIDE, SIDE, 3]`."""
  rng = np.random.default_rng(0)
  return rng.standard_normal((2, SIDE, SIDE, 3), np.float32)


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """Returns the drawn tensor of a name in PyTorch's layout."""
  rng = np.random.default_rng(zlib.crc32(name.encode()))
  noise = rng.standard_normal(shape, np.float32)
  if len(shape) > 1:
    return noise * np.float32(math.sqrt(1.5 / math.prod(shape[1:])))
  if name.endswith('running_var'):
    return 0.5 + np.abs(noise)
  return (name.endswith('weight') + 0.2 * noise).astype(np.float32)


def state_of(net: ResNet) -> dict[str, np.ndarray]:
  """Returns a PyTorch state dict with weights for one of our networks."""
  state = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(net.shapes()):
    name = torch_resnet._name(tuple(part.key for part in path))
    # `(H, W, I, O)` to `(O, I, H, W)`, and `(I, O)` to `(O, I)`.
    state[name] = weight(name, (*leaf.shape[:-3:-1], *leaf.shape[:-2]))
  return state


def saved() -> dict[str, np.ndarray]:
  """Returns the values of the tensors in the files of `saved/`."""
  return {
      'plain': weight('plain', (2, 3)),
      'half': weight('half', (3,)).astype(np.float16),
      'double': weight('double', (2,)).astype(np.float64),
      'transposed': weight('transposed', (4, 3)).T,
      'part': weight('part', (6,))[2:5],
      'scalar': weight('scalar', (1,))[0],
      'empty': weight('empty', (0, 3)),
      'parameter': weight('parameter', (2,)),
      'counts': np.arange(5),
      'flags': np.array([True, False]),
  }


def save(torch: Any, folder: pathlib.Path) -> None:
  """Writes training scripts' files in PyTorch's present and old formats."""
  values = {name: torch.tensor(array) for name, array in saved().items()}
  values['transposed'] = torch.tensor(saved()['transposed'].T.copy()).t()
  values['part'] = torch.tensor(weight('part', (6,)))[2:5]
  values['parameter'] = torch.nn.Parameter(values['parameter'])
  values['bfloat16'] = values['plain'].bfloat16()
  beside = {
      'state_dict': values,
      'epoch': 3,
      'args': argparse.Namespace(rate=0.1),
      'best': np.float64(0.5),
      'sampler': np.random.RandomState(0).get_state()[2:],
      'names': {'a', 'b'},
      'running': collections.defaultdict(list, {1: [2]}),
      'device': torch.device('cpu'),
  }
  folder.mkdir(exist_ok=True)
  torch.save(
      beside, folder / 'before_1_6.pth', _use_new_zipfile_serialization=False
  )
  beside['module'] = torch.nn.Linear(2, 2)
  torch.save(beside, folder / 'zip.pth')
  # Tensors of kinds for which NumPy has no array.
  others = {
      'sparse': torch.eye(2).to_sparse(),
      'complex': torch.zeros(2, dtype=torch.complex64),
      'uint16': torch.arange(4).to(torch.uint16),
  }
  torch.save(values | others, folder / 'other_kinds.pth')
  torch.save(torch.nn.Linear(2, 2), folder / 'module.pth')


def main() -> None:
  """Writes `logits.json` and `saved/`."""
  import timm
  import torch
  import torchvision

  made = {
      'torchvision.resnet50': torchvision.models.resnet50,
      'timm.resnet50': lambda **kw: timm.create_model('resnet50', **kw),
      'timm.resnet50_gn': lambda **kw: timm.create_model('resnet50_gn', **kw),
  }
  found = {}
  for title, make in made.items():
    net = make(num_classes=NUM_CLASSES).eval()
    net.load_state_dict({
        name: torch.tensor(weight(name, tuple(old.shape)))
        if old.dtype == torch.float32
        else old
        for name, old in net.state_dict().items()
    })
    with torch.no_grad():
      logits = net(torch.tensor(images().transpose(0, 3, 1, 2).copy()))
    shapes = {
        name: list(old.shape) for name, old in net.state_dict().items()
    }
    found[title] = {'logits': logits.tolist(), 'shapes': shapes}
  PATH.write_text(json.dumps(found) + '\n', encoding='utf-8')
  save(torch, SAVED)


if __name__ == '__main__':
  main()
