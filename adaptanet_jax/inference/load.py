# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Loads a network: an included model, a bundle, or the network of a run."""

import os

import numpy as np

from adaptanet_jax.errors import UsageError
from adaptanet_jax.export import runtime_models
from adaptanet_jax.inference import bundle
from adaptanet_jax.inference.network import BACKENDS, Supernet

# Files by which a bundle and a workdir are recognised.
_INDICES = (bundle.NETWORK, 'config.json')


def load(
    model: str,
    *,
    gates: str | None = None,
    calibration: str | None = None,
    backend: str = BACKENDS[0],
) -> Supernet:
  """Loads a supernet, or a baseline, as a function of images.

  Args:
    model: the name of a model that comes with the package; the folder of a
      bundle, see `Supernet.save`; or the workdir of a run.
    gates: only if `model` is a workdir: the workdir of another run on the same
      backbone and deltas, whose gates and policies replace this run's own.
    calibration: which batch statistics a network with BatchNorm runs with:
      'subnet', those of each subnet; 'uniform', those of the subnets that run
      all stages the same way, the only ones that then run; 'none', those of
      training. None: what the run was measured with. Accuracies that were
      measured with others are left out. Ignored without BatchNorm.
    backend: one of `network.BACKENDS`.

  Returns:
    The network.

  Raises:
    UsageError: there is no such model, it is damaged, or an option is invalid.
  """
  path = _find(model)
  if bundle.is_bundle(path):
    if gates is not None:
      raise UsageError(
          f'gates = {gates!r} with {model}, a bundle; expected the workdir of '
          'a run, or no such option.'
      )
    return bundle.load(path, calibration=calibration, backend=backend)
  # Imported here because a bundle does not need the training code.
  from adaptanet_jax.inference import trained

  return trained.load(
      path, gates=gates, calibration=calibration, backend=backend
  )


def examples(
    model: str, count: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Returns examples that a network was tested on.

  Args:
    model: as for `load`; a bundle must have been saved with examples.
    count: how many, from the first one; None: all.

  Returns:
    Images `uint8[B, H, W, C]`, as a `Supernet` takes them, and `int32[B]`
    labels.

  Raises:
    UsageError: there is no such model, it has no examples or too few, or the
      run's data are missing or have changed.
  """
  path = _find(model)
  if bundle.is_bundle(path):
    return bundle.examples(path, count)
  from adaptanet_jax.inference import trained

  return trained.examples(path, count)


def is_included(model: str) -> bool:
  """Returns whether `load` takes a name for that of an included model."""
  included = bundle.packaged().get(model)
  return included is not None and _find(model) == included


def _find(model: str) -> str:
  """Returns the folder of a model."""
  if not isinstance(model, str | os.PathLike):
    raise UsageError(f'model = {model!r}; expected {_choices()}.')
  path = os.path.expanduser(os.fspath(model))
  # A folder of that name takes precedence: it is what the user sees.
  if not any(os.path.exists(os.path.join(path, name)) for name in _INDICES):
    path = bundle.packaged().get(path, path)
  if not os.path.isdir(path):
    raise UsageError(f'There is no model {path!r}; expected {_choices()}.')
  if runtime_models.is_export(path):
    raise UsageError(
        f'{path} is an exported network, which its own runtime.py runs; '
        f'expected {_choices()}.'
    )
  if not any(os.path.exists(os.path.join(path, name)) for name in _INDICES):
    raise UsageError(
        f'{path} has none of {", ".join(_INDICES)}; expected {_choices()}.'
    )
  return path


def _choices() -> str:
  names = ', '.join(map(repr, bundle.packaged()))
  own = f'the name of an included model ({names}), ' if names else ''
  return f'{own}the folder of a bundle or the workdir of a run'
