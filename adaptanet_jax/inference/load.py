# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Loads a network: one that comes along, a bundle's, or what a run has trained.
"""

import os
from typing import Any

from adaptanet_jax.errors import UsageError
from adaptanet_jax.inference import bundle
from adaptanet_jax.inference.network import BACKENDS, Supernet


def load(model: str, *, backend: str = BACKENDS[0], **options: Any) -> Supernet:
  """Loads a supernet, or a baseline, as a function of images.

  Args:
    model: the name of a model that comes with the package; the folder of a
      bundle, see `Supernet.save`; or the workdir of a run.
    backend: one of `network.BACKENDS`.
    **options: of a workdir alone, see `trained.load`: `gates` and
      `calibration`.

  Returns:
    A function of images.

  Raises:
    UsageError: there is no such model, it is damaged, or an option does not do.
  """
  if not isinstance(model, str | os.PathLike):
    raise UsageError(f'model = {model!r}; expected {_choices()}.')
  if backend not in BACKENDS:
    raise UsageError(
        f'Unknown backend {backend!r}; expected one of {", ".join(BACKENDS)}.'
    )
  path = os.path.expanduser(os.fspath(model))
  # A folder of that name comes first: it is what the user sees.
  if not os.path.exists(path):
    path = bundle.packaged().get(path, path)
  if bundle.is_bundle(path):
    if options:
      raise UsageError(
          f'{", ".join(options)} with {model}, a bundle; expected the workdir '
          'of a run, or no such option.'
      )
    return bundle.load(path, backend=backend)
  if not os.path.isdir(path):
    raise UsageError(f'There is no {path}; expected {_choices()}.')
  # Here, for a bundle needs nothing that only training does.
  from adaptanet_jax.inference import trained

  return trained.load(path, backend=backend, **options)


def _choices() -> str:
  names = ', '.join(map(repr, bundle.packaged()))
  own = f'the name of a model that comes along ({names}), ' if names else ''
  return f'{own}the folder of a bundle or the workdir of a run'
