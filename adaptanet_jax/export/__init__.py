# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Exports the network to other runtimes, still elastic; see docs/export.md.

`folder.export` writes an export, `runtime.load` loads it.
"""
