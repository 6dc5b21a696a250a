# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Logits of torchvision's and timm's ResNet-50 on weights that a rule draws.

Run with PyTorch, torchvision and timm installed, it writes `logits.json` anew:

  python -m tests.teachers.originals

The tests then need none of them: they draw the same weights.
"""

import json
import math
import pathlib
import zlib

import numpy as np

PATH = pathlib.Path(__file__).with_name('logits.json')
NUM_CLASSES = 10
SIDE = 64


def images() -> np.ndarray:
  """Returns `float32[2, SIDE, SIDE, 3]`."""
  rng = np.random.default_rng(0)
  return rng.standard_normal((2, SIDE, SIDE, 3), np.float32)


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """Returns what a state dict has under a name, in PyTorch's layout."""
  rng = np.random.default_rng(zlib.crc32(name.encode()))
  noise = rng.standard_normal(shape, np.float32)
  if len(shape) > 1:
    return noise * np.float32(math.sqrt(1.5 / math.prod(shape[1:])))
  if name.endswith('running_var'):
    return 0.5 + np.abs(noise)
  return (name.endswith('weight') + 0.2 * noise).astype(np.float32)


def main() -> None:
  """Writes `logits.json`."""
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


if __name__ == '__main__':
  main()
