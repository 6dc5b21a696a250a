# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Ends a run that is asked to stop, after it has saved its state.

A scheduler sends SIGTERM a few seconds before it takes a machine away. Ctrl-C
(SIGINT) asks a run of one process as well; a second one does not wait.
"""

from collections.abc import Iterator
import contextlib
import os
import signal
import sys
from typing import Any

import jax
from jax.experimental import multihost_utils

# "Temporary failure, try again": the same command resumes.
EXIT_CODE = os.EX_TEMPFAIL
_WAITS = (
    b'\nadaptanet_jax: Will save at the end of this step; press Ctrl-C again '
    b'to stop without saving.\n'
)
# Seconds until a request that Python ignored is repeated.
_SOON = 0.01


class Preempted(BaseException):
  """The run was asked to stop, and has saved all that it had to save.

  Not an `Exception`, so that code that handles failures does not catch it.
  """


class Notice:
  """Whether this process was asked to stop.

  If there are several processes and one of them is asked, JAX notifies all of
  them, and they stop at the same step.

  Attributes:
    signal: what it was asked by.
  """

  def __init__(self) -> None:
    self.signal = signal.SIGTERM
    self._is_asked = False
    self._is_held = False
    self._steps = 0

  def listen(self) -> None:
    """Makes signals raise `Preempted`, at once or at the end of `held`."""
    # With several processes JAX has listened to SIGTERM since they joined.
    if jax.process_count() == 1:
      signal.signal(signal.SIGTERM, self._ask)
      signal.signal(signal.SIGALRM, self._ask)
      # Shells make their background jobs ignore it.
      if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, self._ask)
      sys.unraisablehook = self._ask_again

  def _ask(self, number: int, *unused: Any) -> None:
    if number != signal.SIGALRM:
      self.signal = signal.Signals(number)
    self._is_asked = True
    if number == signal.SIGINT:
      signal.signal(number, signal.default_int_handler)
      if self._is_held:
        # A handler must not use Python's buffers, and the reader of stderr may
        # be gone.
        with contextlib.suppress(OSError):
          os.write(2, _WAITS)
    if not self._is_held:
      raise Preempted

  def _ask_again(self, ignored: Any) -> None:
    """Repeats the request a moment later if Python ignored the exception.

    Python does so if the signal arrives during a callback of the garbage
    collector (JAX installs one) or while an object is finalized.
    """
    if issubclass(ignored.exc_type, Preempted):
      signal.setitimer(signal.ITIMER_REAL, _SOON)
    else:
      sys.__unraisablehook__(ignored)

  @contextlib.contextmanager
  def held(self) -> Iterator[None]:
    """Delays `Preempted` while a loop calls `reached` after every step."""
    self._is_held = True
    try:
      yield
    finally:
      self._is_held = False
    if self._is_asked:
      raise Preempted

  @contextlib.contextmanager
  def released(self) -> Iterator[None]:
    """Lets `Preempted` be raised within `held`, for long work between steps."""
    self._is_held = False
    try:
      if self._is_asked:
        raise Preempted
      yield
    finally:
      self._is_held = True

  def reached(self) -> bool:
    """Returns whether to stop after this step.

    All processes get the same answer if all call it after every step.
    """
    self._steps += 1
    if jax.process_count() > 1:
      # True only once, at the step on which all processes agree.
      now = multihost_utils.reached_preemption_sync_point(self._steps)
      self._is_asked = self._is_asked or now
    return self._is_asked

  def check(self) -> None:
    """Raises `Preempted` if the run is to stop, unless within `held`.

    For long work that has nothing to save. All processes must call it equally
    often.
    """
    if self.reached() and not self._is_held:
      raise Preempted


# One per process, as a signal has one handler.
NOTICE = Notice()
