# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The files of a workdir: their paths, and how they are read and replaced."""

from collections.abc import Iterator
import contextlib
import fnmatch
import functools
import hashlib
import json
import os
import shutil
from typing import Any
import uuid

from adaptanet_jax import processes
from adaptanet_jax.errors import UsageError


class Paths:
  """Paths of the files that a run writes.

  Attributes:
    config: settings of the run.
    metrics: training metrics, a JSON object per line.
    events: folder with a folder of TensorBoard files for each phase.
    results: results of the analyses.
    subnets: figures of every subnet.
    statistics: batch statistics of every subnet.
    policies: rules of the policies.
    figures: folder of the report's figures.
    report: tables and figures on one page.
  """

  def __init__(self, workdir: str) -> None:
    self._join = functools.partial(os.path.join, workdir)
    self.config = self._join('config.json')
    self.metrics = self._join('metrics.jsonl')
    self.events = self._join('tensorboard')
    self.results = self._join('results.json')
    self.subnets = self._join('subnets.csv')
    self.statistics = self._join('statistics.npz')
    self.policies = self._join('policies.json')
    self.figures = self._join('figures')
    self.report = self._join('report.html')

  def checkpoints(self, phase: str) -> str:
    """Returns the folder of the checkpoints of a phase."""
    return self._join('checkpoints', phase)

  def unfinished(self, analysis: str) -> str:
    """Returns the folder of the partial results of an unfinished analysis."""
    return self._join(f'unfinished_{analysis}')


def check_path(workdir: str) -> None:
  """Raises UsageError if a workdir could not be one.

  It may be a file. Or no checkpoint could be read from it: Orbax takes the path
  for a pattern of `glob` when it puts a checkpoint's parts together; if that
  pattern does not match itself, it silently leaves them out.
  """
  path = os.path.abspath(workdir)
  if not fnmatch.fnmatchcase(path, path):
    raise UsageError(
        f'--workdir={workdir}, or a folder above it, has [ and ] in its name, '
        'in which checkpoints would be lost; expected a path without them.'
    )
  if os.path.exists(path) and not os.path.isdir(path):
    raise UsageError(f'--workdir={workdir} is a file; expected a folder.')


def check_own(workdir: str) -> None:
  """Raises UsageError if a run would replace what no run has made.

  A bundle and an export, for instance, have files of the same names. All
  processes of a job call this, and all raise the error.

  Args:
    workdir: folder of the run, which writes its `config.json` first.
  """
  paths = Paths(workdir)
  others = (
      paths.metrics, paths.events, paths.results, paths.subnets,
      paths.statistics, paths.policies, paths.figures, paths.report,
      os.path.dirname(paths.checkpoints('any')),
  )
  found = [os.path.basename(each) for each in others if os.path.exists(each)]
  if processes.any_of(bool(found and not os.path.exists(paths.config))):
    raise UsageError(
        f'--workdir={workdir} has no config.json of a run, but '
        f'{" and ".join(found) or "files that only another process sees"}; '
        'expected a new folder, or the workdir of a run, whose files may be '
        'replaced.'
    )


def write_text(path: str, text: str) -> None:
  """Replaces a file as a whole, unless it has this text already.

  Args:
    path: path of the file, which is whole at all times, old or new.
    text: its new contents; line ends are written as they are.
  """
  if not (processes.is_writer() and has_text(path, text)):
    with processes.replacing(path, newline='') as file:
      file.write(text)


def has_text(path: str, text: str) -> bool:
  """Returns whether a file is there and has this text."""
  if not os.path.exists(path):
    return False
  with open(path, encoding='utf-8', errors='replace', newline='') as file:
    return file.read() == text


def write_json(path: str, values: Any) -> None:
  """Replaces a JSON file; see `write_text`."""
  write_text(path, json.dumps(values, indent=1) + '\n')


def read_json(path: str) -> dict[str, Any]:
  """Reads a file that `write_json` wrote; raises UsageError for any other."""
  try:
    with open(path, encoding='utf-8') as file:
      values = json.load(file)
  except ValueError as error:  # Not JSON, or not even text.
    raise UsageError(
        f'{path} is not JSON ({error}); expected a file that adaptanet_jax '
        'wrote. Put a whole copy of it there, or use another folder.'
    ) from error
  if not isinstance(values, dict):
    raise UsageError(
        f'{path} holds {values!r}; expected an object that adaptanet_jax '
        'wrote. Put a whole copy of it there, or use another folder.'
    )
  return values


@contextlib.contextmanager
def new_folder(folder: str, *, index: str) -> Iterator[str]:
  """Makes a folder that is either complete or absent.

  Args:
    folder: folder to make; must not exist, or be empty.
    index: name of the file that marks the folder as complete.

  Yields:
    The path of a temporary folder to write to. In the end it is renamed; or, if
    `folder` existed, its files are moved there, the index last.

  Raises:
    UsageError: the folder is not empty.
  """
  folder = os.path.abspath(os.path.expanduser(folder))
  is_there = os.path.isdir(folder)
  own = f'{uuid.uuid4().hex[:8]}.partial'
  # An existing folder may be on another disk than its parent.
  partial = os.path.join(folder, own) if is_there else f'{folder}.{own}'
  _check_empty(folder)
  os.makedirs(partial)  # Fails if it exists.
  try:
    yield partial
    _check_empty(folder, but=own)
    if is_there:
      for name in sorted(os.listdir(partial), key=lambda name: name == index):
        os.rename(os.path.join(partial, name), os.path.join(folder, name))
    else:
      os.rename(partial, folder)
  finally:
    shutil.rmtree(partial, ignore_errors=True)


def _check_empty(folder: str, *, but: str = '') -> None:
  if not os.path.lexists(folder):
    return
  problem = 'a file'
  if os.path.isdir(folder):
    problem = 'not empty' if {*os.listdir(folder)} - {but} else ''
  if problem:
    raise UsageError(
        f'{folder} is {problem}; expected a new or an empty folder.'
    )


def digest(path: str) -> str:
  """Returns the SHA-256 of a file."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def digests(folder: str) -> dict[str, str]:
  """Returns the SHA-256 of each file in a folder, by name."""
  return {
      name: digest(os.path.join(folder, name))
      for name in sorted(os.listdir(folder))
  }
