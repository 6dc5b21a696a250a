# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Configurations: one file per data set; `common` declares every setting."""
