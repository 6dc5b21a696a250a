# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Serving: a supernet behind HTTP that keeps its promise as load changes."""
