# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What to run: one file a data set, `baselines`, every setting in `common`."""
