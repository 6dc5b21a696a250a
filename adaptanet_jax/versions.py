# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Versions of installed packages."""

from collections.abc import Sequence
import importlib.metadata

import adaptanet_jax


def installed(packages: Sequence[str]) -> dict[str, str]:
  """Returns the versions of adaptanet_jax and of packages, if installed."""
  found = {'adaptanet_jax': adaptanet_jax.__version__}
  for name in packages:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found
