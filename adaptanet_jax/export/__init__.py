# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Exports: the network for other runtimes, still elastic; see docs/export.md.

`folder.export` writes one, `runtime.load` runs it.
"""
