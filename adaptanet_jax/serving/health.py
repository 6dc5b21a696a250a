# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether the batches of a server succeed, and end."""

import math
import time

# Failed batches in a row after which the server is not ready.
_MOST_FAILURES = 3
# After as many more seconds of failures, only a new process may help.
_MOST_UNREADY_SECONDS = 60.0
# A batch hangs if it takes more than this many times its prediction and more
# than this many seconds.
_HANG_FACTOR, _HANG_SECONDS = 10.0, 10.0


class Health:
  """What is known of the batches that ended, and of the one that runs.

  Attributes:
    failures: failed batches since the last one that succeeded.
  """

  def __init__(self) -> None:
    self.failures = 0
    self._unready_since = self._overdue = math.inf

  @property
  def is_healthy(self) -> bool:
    """Whether batches succeed."""
    return self.failures < _MOST_FAILURES

  @property
  def is_lost(self) -> bool:
    """Whether only a new process may help: a batch hangs, or all have failed.
    """
    given_up = self._unready_since + _MOST_UNREADY_SECONDS
    return time.monotonic() > min(self._overdue, given_up)

  def begin(self, seconds: float) -> None:
    """Notes that a batch begins that should take some seconds."""
    allowed = max(_HANG_FACTOR * seconds, _HANG_SECONDS)
    self._overdue = time.monotonic() + allowed

  def end(self) -> None:
    """Notes that the batch has ended."""
    self._overdue = math.inf

  def note(self, failed: bool) -> None:
    """Notes whether a batch of the present model failed."""
    self.failures = self.failures + 1 if failed else 0
    if not failed:
      self._unready_since = math.inf
    elif self.failures == _MOST_FAILURES:
      self._unready_since = time.monotonic()
