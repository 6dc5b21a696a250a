# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Protocols of the paper's tables, and what a subnet costs."""
