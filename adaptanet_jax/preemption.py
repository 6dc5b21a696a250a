# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a run does when it is asked to stop (SIGTERM): save, then leave.

A scheduler that takes a machine away sends SIGTERM some seconds before.
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
# Seconds after which to ask again.
_SOON = 0.01


class Preempted(BaseException):
  """The run was asked to stop, and has saved what there was to save.

  No failure, so that nothing which handles failures handles it.
  """


class Notice:
  """Whether this process was asked to stop.

  When there are several processes and one of them is asked, JAX tells them all
  and has them stop at the same step.
  """

  def __init__(self) -> None:
    self._is_asked = False
    self._is_held = False
    self._steps = 0

  def listen(self) -> None:
    """From now on SIGTERM raises `Preempted`, at once or after `held`."""
    # With several processes JAX has listened since they joined.
    if jax.process_count() == 1:
      signal.signal(signal.SIGTERM, self._ask)
      signal.signal(signal.SIGALRM, self._ask)
      sys.unraisablehook = self._ask_again

  def _ask(self, *unused: Any) -> None:
    self._is_asked = True
    if not self._is_held:
      raise Preempted

  def _ask_again(self, ignored: Any) -> None:
    """Asks a moment later, if Python ignored what `_ask` raised.

    So it does when the signal comes while the garbage collector calls back
    (JAX has it do so) or while an object is finalized.
    """
    if issubclass(ignored.exc_type, Preempted):
      signal.setitimer(signal.ITIMER_REAL, _SOON)
    else:
      sys.__unraisablehook__(ignored)

  @contextlib.contextmanager
  def held(self) -> Iterator[None]:
    """Lets a loop run on, which then asks `reached` after every step."""
    self._is_held = True
    try:
      yield
    finally:
      self._is_held = False
    if self._is_asked:
      raise Preempted

  def reached(self) -> bool:
    """Returns whether to stop after this step.

    The same in all processes, if all call it after each of the same steps.
    """
    self._steps += 1
    if jax.process_count() > 1:
      # True only once, at the step on which all agree.
      now = multihost_utils.reached_preemption_sync_point(self._steps)
      self._is_asked = self._is_asked or now
    return self._is_asked

  def check(self) -> None:
    """Raises `Preempted` if the run is to stop, unless that is `held`.

    For what takes long and has nothing to save; all processes have to call it
    alike.
    """
    if self.reached() and not self._is_held:
      raise Preempted


# A process has one SIGTERM.
NOTICE = Notice()
