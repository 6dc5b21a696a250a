# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""AdaptaNet in JAX: networks that change their width and depth while they run.
"""

from typing import Any

__version__ = '0.1.0'


def load(workdir: str, **kwargs: Any) -> Any:
  """Loads the supernet of a run's workdir; see `library.load`."""
  # Here, so that processes that only decode images need not load JAX.
  from adaptanet_jax import library

  return library.load(workdir, **kwargs)
