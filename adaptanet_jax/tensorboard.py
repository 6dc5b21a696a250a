# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What `metrics.jsonl` has, for TensorBoard as well (`config.tensorboard`)."""

from collections.abc import Mapping
import importlib.util
import os
import shutil
from typing import Any
import weakref

from adaptanet_jax import processes
from adaptanet_jax.errors import UsageError
from adaptanet_jax.progress import MetricsLog
from adaptanet_jax.workdir import Paths

# Seconds after which TensorBoard can see what was written.
_FLUSH_SECS = 10


def check_installed() -> None:
  """Raises UsageError unless there is a package that writes the files."""
  if importlib.util.find_spec('tensorboardX') is None:
    raise UsageError(
        'config.tensorboard = True needs the package tensorboardX, which is '
        'not installed; expected it (pip install tensorboardX), or '
        '--config.tensorboard=False.'
    )


class TensorBoardLog(MetricsLog):
  """`metrics.jsonl`, and for TensorBoard a run of each phase."""

  def __init__(self, workdir: str) -> None:
    super().__init__(workdir)
    self._folder = Paths(workdir).events
    self._writer: Any = None

  def rewind(self, phase: str, step: int) -> float:
    """Makes the run of a phase anew, from what `metrics.jsonl` keeps of it."""
    seconds = super().rewind(phase, step)
    if processes.is_writer():
      # Here, as it need not be installed.
      import tensorboardX

      folder = os.path.join(self._folder, phase)
      shutil.rmtree(folder, ignore_errors=True)
      self._writer = tensorboardX.SummaryWriter(folder, flush_secs=_FLUSH_SECS)
      weakref.finalize(self, self._writer.close)
      for row in self.read():
        if row.pop('phase') == phase:
          self._add(row.pop('step'), row)
    return seconds

  def write(
      self, phase: str, step: int, seconds: float, values: Mapping[str, Any]
  ) -> None:
    """Appends a line, and adds its values to the run of the phase."""
    super().write(phase, step, seconds, values)
    self._add(step, {'seconds': seconds} | dict(values))

  def _add(self, step: int, values: Mapping[str, Any]) -> None:
    if self._writer:
      for name, value in values.items():
        self._writer.add_scalar(name, value, step)
