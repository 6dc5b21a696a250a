# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Loads a network: an included one, a bundle's, or what a run has trained."""

import os
from typing import Any

import numpy as np

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
    UsageError: there is no such model, it is damaged, or an option is invalid.
  """
  if backend not in BACKENDS:
    raise UsageError(
        f'Unknown backend {backend!r}; expected one of {", ".join(BACKENDS)}.'
    )
  path = _find(model)
  if bundle.is_bundle(path):
    if options:
      raise UsageError(
          f'{", ".join(options)} with {model}, a bundle; expected the workdir '
          'of a run, or no such option.'
      )
    return bundle.load(path, backend=backend)
  # Here, for a bundle needs nothing that only training does.
  from adaptanet_jax.inference import trained

  return trained.load(path, backend=backend, **options)


def examples(
    model: str, count: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Returns examples that a network was tested on.

  Args:
    model: as for `load`; of a bundle, one that was saved with examples.
    count: how many, from the first one; None for all that there are.

  Returns:
    Images `uint8[B, H, W, C]`, as a `Supernet` takes them, and `int32[B]`
    labels.

  Raises:
    UsageError: there is no such model, it has no examples or not so many, or a
      run's data are not where they were.
  """
  path = _find(model)
  if bundle.is_bundle(path):
    return bundle.examples(path, count)
  from adaptanet_jax.inference import trained

  return trained.examples(path, count)


def _find(model: str) -> str:
  """Returns the folder of a model."""
  if not isinstance(model, str | os.PathLike):
    raise UsageError(f'model = {model!r}; expected {_choices()}.')
  path = os.path.expanduser(os.fspath(model))
  # A folder of that name comes first: it is what the user sees.
  if not os.path.exists(path):
    path = bundle.packaged().get(path, path)
  if not os.path.isdir(path):
    raise UsageError(f'There is no {path}; expected {_choices()}.')
  return path


def _choices() -> str:
  names = ', '.join(map(repr, bundle.packaged()))
  own = f'the name of an included model ({names}), ' if names else ''
  return f'{own}the folder of a bundle or the workdir of a run'
