# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Evaluation protocols of the paper's tables, and costs of subnets."""
