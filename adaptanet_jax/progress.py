# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Progress of a run in training: `metrics.jsonl`, and a bar or lines.

With `config.tensorboard`, the metrics are also written for TensorBoard.
"""

from collections.abc import Iterator, Mapping
import contextlib
import importlib.util
import json
import os
import shutil
import sys
import threading
import time
from typing import Any
import weakref

import tqdm

from adaptanet_jax import processes
from adaptanet_jax.errors import UsageError
from adaptanet_jax.workdir import Paths

# Seconds after which it is said that a program is still being compiled.
_LONG_SECS = 10.0


class MetricsLog:
  """`metrics.jsonl`: an object per line, with phase, step and seconds."""

  def __init__(self, workdir: str) -> None:
    self._path = Paths(workdir).metrics

  def write(
      self, phase: str, step: int, seconds: float, values: Mapping[str, Any]
  ) -> None:
    """Appends a line.

    Args:
      phase: name of the phase.
      step: steps done in the phase.
      seconds: wall time spent in the phase, over all runs.
      values: numbers by name.
    """
    if not processes.is_writer():
      return
    row = {'phase': phase, 'step': step, 'seconds': round(seconds, 3)}
    with open(self._path, 'a', encoding='utf-8') as file:
      file.write(json.dumps(row | dict(values)) + '\n')

  def rewind(self, phase: str, step: int) -> float:
    """Drops rows of steps that a phase will repeat, and incomplete lines.

    Args:
      phase: name of the phase that resumes.
      step: the step of its checkpoint.

    Returns:
      Seconds spent in the phase up to that step.
    """
    rows = [
        row
        for row in self.read()
        if row['phase'] != phase or row['step'] <= step
    ]
    with processes.replacing(self._path) as file:
      file.writelines(json.dumps(row) + '\n' for row in rows)
    return self.seconds(phase, step)

  def seconds(self, phase: str, step: int) -> float:
    """Returns the wall seconds that a phase took up to a step."""
    return max(
        (
            row['seconds']
            for row in self.read()
            if row['phase'] == phase and row['step'] <= step
        ),
        default=0.0,
    )

  def has_accuracies(self, phase: str, step: int) -> bool:
    """Returns whether test accuracies for a step of a phase were written."""
    return any(
        key.startswith('test_top1')
        for row in self.read()
        if (row['phase'], row['step']) == (phase, step)
        for key in row
    )

  def read(self) -> list[dict[str, Any]]:
    """Returns the rows of all complete lines."""
    rows: list[Any] = []
    if not os.path.exists(self._path):
      return []
    with open(self._path, encoding='utf-8', errors='replace') as file:
      for line in file:
        try:
          rows.append(json.loads(line))
        except json.JSONDecodeError:
          continue  # Cut off when the run was killed.
    return [row for row in rows if isinstance(row, dict)]


def check_tensorboard() -> None:
  """Raises UsageError if the package that writes the files is missing."""
  if importlib.util.find_spec('tensorboardX') is None:
    raise UsageError(
        'config.tensorboard = True needs the package tensorboardX, which is '
        "not installed; run pip install '.[tensorboard]' in the clone, or use "
        '--config.tensorboard=False.'
    )


class TensorBoardLog(MetricsLog):
  """`metrics.jsonl`, and a TensorBoard run for each phase."""

  def __init__(self, workdir: str) -> None:
    super().__init__(workdir)
    self._folder = Paths(workdir).events
    self._writer: Any = None

  def rewind(self, phase: str, step: int) -> float:
    """Rewinds `metrics.jsonl`, and rewrites the TensorBoard run from it."""
    seconds = super().rewind(phase, step)
    if processes.is_writer():
      # Imported here, as it is an optional dependency.
      import tensorboardX

      folder = os.path.join(self._folder, phase)
      shutil.rmtree(folder, ignore_errors=True)
      self._writer = tensorboardX.SummaryWriter(folder, flush_secs=10)
      weakref.finalize(self, self._writer.close)
      for row in self.read():
        if row.pop('phase') == phase:
          self._add(row.pop('step'), row)
    return seconds

  def write(
      self, phase: str, step: int, seconds: float, values: Mapping[str, Any]
  ) -> None:
    """Appends a line, and adds its values to the TensorBoard run."""
    super().write(phase, step, seconds, values)
    self._add(step, {'seconds': seconds} | dict(values))

  def _add(self, step: int, values: Mapping[str, Any]) -> None:
    if self._writer:
      for name, value in values.items():
        self._writer.add_scalar(name, value, step)


@contextlib.contextmanager
def compiling(name: str) -> Iterator[None]:
  """Says that a phase's program is being compiled, if that takes long."""

  def say() -> None:
    if processes.is_writer():
      print(f'{name}: compiling', file=sys.stderr, flush=True)

  timer = threading.Timer(_LONG_SECS, say)
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()


class Progress:
  """A bar on a terminal, or occasional lines; a context manager."""

  # Seconds between two lines if there is no terminal.
  LINE_EVERY_SECS = 20.0

  def __init__(
      self, name: str, *, first_step: int, num_steps: int, batch_size: int
  ) -> None:
    self._name, self._batch_size = name, batch_size
    self._first, self._done, self._total = first_step, first_step, num_steps
    self._started = self._last_line = time.monotonic()
    self._shown, self._told = '', (-1, '')
    is_writer, is_terminal = processes.is_writer(), sys.stderr.isatty()
    self._has_lines = is_writer and not is_terminal
    self._bar = tqdm.tqdm(
        desc=name,
        total=num_steps * batch_size,
        initial=first_step * batch_size,
        unit='img',
        unit_scale=True,
        disable=not (is_writer and is_terminal),
    )

  def __enter__(self) -> 'Progress':
    return self

  def __exit__(self, *unused: Any) -> None:
    self._bar.close()
    news = self._done > self._first and self._told != (self._done, self._shown)
    if self._has_lines and news:
      self._line()

  def advance(self) -> None:
    """Counts one step."""
    self._done += 1
    self._bar.update(self._batch_size)
    now = time.monotonic()
    if self._has_lines and now - self._last_line > self.LINE_EVERY_SECS:
      self._last_line = now
      self._line()

  def show(self, values: Mapping[str, float]) -> None:
    """Sets the numbers that are shown next to the bar or in lines."""
    self._shown = '  '.join(f'{k} {v:.4g}' for k, v in values.items())
    self._bar.set_postfix_str(self._shown, refresh=False)

  def _line(self) -> None:
    self._told = self._done, self._shown
    seconds = time.monotonic() - self._started
    rate = (self._done - self._first) / max(seconds, 1e-9)
    left = (self._total - self._done) / max(rate, 1e-9)
    parts = (
        f'{self._name}: step {self._done}/{self._total}',
        self._shown,
        f'{rate * self._batch_size:.0f} img/s',
        f'{left:.0f} s left',
    )
    print('  '.join(filter(None, parts)), file=sys.stderr, flush=True)
