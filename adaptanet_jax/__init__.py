# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""AdaptaNet in JAX: networks that change their width and depth while they run.

  net = adaptanet_jax.load('digits')
  images, labels = adaptanet_jax.examples('digits')
  logits = net(images, net.within(madds=5e6))

`load` returns a trained network, a function of images, and `examples` returns
some of its test images; both raise `UsageError` if an argument is not valid.
They are defined in `inference`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from adaptanet_jax.errors import UsageError
  from adaptanet_jax.inference.about import About, Answer
  from adaptanet_jax.inference.load import examples, load
  from adaptanet_jax.inference.network import Supernet
  from adaptanet_jax.models.subnet import Subnet

__version__ = '0.1.0'
__all__ = (
    'About',
    'Answer',
    'Subnet',
    'Supernet',
    'UsageError',
    'examples',
    'load',
)
_HOMES = {
    'About': 'inference.about',
    'Answer': 'inference.about',
    'Subnet': 'models.subnet',
    'Supernet': 'inference.network',
    'UsageError': 'errors',
    'examples': 'inference.load',
    'load': 'inference.load',
}


def __getattr__(name: str) -> Any:
  # Imports late, so that processes that only decode images do not load JAX.
  if name not in _HOMES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(f'{__name__}.{_HOMES[name]}'), name)
