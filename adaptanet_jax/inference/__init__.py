# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Inference: a trained network as a function, and how it is loaded."""
