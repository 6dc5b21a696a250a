# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Serves a supernet over HTTP and keeps its deadlines as load changes."""
