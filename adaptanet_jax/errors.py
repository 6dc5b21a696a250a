# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Errors that a user, not a developer, can correct, and their messages."""

import errno
import numbers
import re

# Errors of a full, broken or protected disk, which do not always name a file.
OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)


class UsageError(ValueError):
  """Invalid input or environment; the message tells the user what to do.

  `main` prints the message on one line and exits with a non-zero status.
  """


def file_problem(error: OSError, place: str = '') -> str | None:
  """Returns what is wrong with a file or disk, for a message.

  Args:
    error: an error of the operating system.
    place: path to name if the error names none.

  Returns:
    The path and the problem; None if the error is of neither a file nor a disk,
    so that it says nothing that a user could correct.
  """
  if not error.filename and error.errno not in OF_DISKS:
    return None
  found = [str(error.filename or place), str(error.strerror)]
  return f'{": ".join(filter(None, found))}.'


def some(names: list[str]) -> str:
  """Lists names for a message: the first three and the number of others."""
  rest = f' and {len(names) - 3} more' if len(names) > 3 else ''
  return ', '.join(names[:3]) + rest


def check_count(count: int | None, available: int, source: str) -> int:
  """Returns the requested number of examples; None stands for all.

  Raises:
    UsageError: there are fewer, or the number is invalid.
  """
  count = available if count is None else count
  if not isinstance(count, numbers.Integral) or not 0 < count <= available:
    raise UsageError(
        f'{count!r} examples were asked for; expected 1 to {available}, as '
        f'many as {source} has.'
    )
  return int(count)


def first_line(error: Exception) -> str:
  """Returns the first line of an error's message, or the error's class."""
  text = ' '.join(str(error).strip().splitlines()[:1])
  # Some libraries colour their messages.
  text = ''.join(re.split(r'\x1b\[[0-9;]*m', text)).rstrip('.')
  return text[:200] or type(error).__name__


def missing_package(name: object, extra: str) -> UsageError:
  """Returns the error for a package that an extra of this one would install."""
  return UsageError(
      f"{name} is missing; run pip install '.[{extra}]' in the clone."
  )
