# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which packages are installed, and in which version."""

from collections.abc import Sequence
import importlib.metadata


def installed(packages: Sequence[str]) -> dict[str, str]:
  """Returns the versions of packages, without those that are not there."""
  found = {}
  for name in packages:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found
