# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Accuracies, costs and times of subnets, and the policies that choose them."""
