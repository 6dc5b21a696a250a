# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Settings of every test; set before the first computation."""

import jax

jax.config.update('jax_numpy_rank_promotion', 'raise')
# More than one, so that a mapped function that mixes up devices fails.
jax.config.update('jax_num_cpu_devices', 4)
