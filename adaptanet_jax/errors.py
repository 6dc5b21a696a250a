# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The one exception that a user, not a developer, has to act on."""

import re


class UsageError(ValueError):
  """Bad input or surroundings; its message alone says what to do.

  `main` prints the message on one line and exits with a non-zero status.
  """


def some(names: list[str]) -> str:
  """Returns names for a message: the first three, and how many more."""
  rest = f' and {len(names) - 3} more' if len(names) > 3 else ''
  return ', '.join(names[:3]) + rest


def first_line(error: Exception) -> str:
  """Returns the first line of what an error of a library says, or its kind."""
  text = ' '.join(str(error).strip().splitlines()[:1])
  # Some colour their messages.
  text = ''.join(re.split(r'\x1b\[[0-9;]*m', text)).rstrip('.')
  return text[:200] or type(error).__name__
