# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which packages are installed, and in which version."""

from collections.abc import Sequence
import importlib.metadata

import adaptanet_jax


def installed(packages: Sequence[str]) -> dict[str, str]:
  """Returns our version and those of packages, but of what is not there."""
  found = {'adaptanet_jax': adaptanet_jax.__version__}
  for name in packages:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found
