# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The one exception that a user, not a developer, has to act on."""


class UsageError(ValueError):
  """Bad input or surroundings; its message alone says what to do.

  `main` prints the message on one line and exits with a non-zero status.
  """
