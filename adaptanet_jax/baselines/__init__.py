# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the paper compares itself with: USNet and DSNet, re-implemented.

They have no anchors: all widths slim, those of the stages' outputs too. All
else, from the operations to the evaluation, is shared with AdaptaNet.
"""
