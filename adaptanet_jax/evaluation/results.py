# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""`results.json`: the results of a run so far."""

import os
from typing import Any

from adaptanet_jax.workdir import Paths, read_json, write_json

SCHEMA = 1


class Results:
  """The contents of `results.json`; every change replaces the whole file."""

  def __init__(self, workdir: str) -> None:
    self._path = Paths(workdir).results
    self.values: dict[str, Any] = {'schema': SCHEMA, 'seconds': {}}
    if os.path.exists(self._path):
      self.values |= read_json(self._path)

  def update(self, **sections: Any) -> None:
    """Sets sections and writes the file."""
    self.values.update(sections)
    write_json(self._path, self.values)

  def discard(self, *names: str) -> None:
    """Removes outdated sections, and writes the file if there were any."""
    if any(name in self.values for name in names):
      self.values = {k: v for k, v in self.values.items() if k not in names}
      write_json(self._path, self.values)

  def add_seconds(self, phase: str, seconds: float) -> None:
    """Sets the wall seconds of a phase and writes the file."""
    times = self.values['seconds'] | {phase: round(seconds, 1)}
    self.update(seconds=times)

  def discard_seconds(self, *phases: str) -> None:
    """Removes the seconds of phases, and writes the file if there were any."""
    times = self.values['seconds']
    if any(phase in times for phase in phases):
      kept = {name: t for name, t in times.items() if name not in phases}
      self.update(seconds=kept)
