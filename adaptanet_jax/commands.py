# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the commands have in common: how they fail."""

from collections.abc import Iterator
import contextlib
import sys

from absl import logging

from adaptanet_jax.errors import UsageError


@contextlib.contextmanager
def one_line_errors(command: str) -> Iterator[None]:
  """Ends the process with one line where what a user gave does not do.

  Args:
    command: that the line begins with.
  """
  # Orbax tells much that is of no use to a user.
  logging.set_verbosity(logging.WARNING)
  try:
    yield
  except UsageError as error:
    sys.exit(f'{command}: {error}')
  except OSError as error:
    if not error.filename:
      raise
    sys.exit(f'{command}: {error.filename}: {error.strerror}.')
