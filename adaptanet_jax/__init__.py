# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""AdaptaNet in JAX: networks that change their width and depth while they run.
"""

__version__ = '0.1.0'
