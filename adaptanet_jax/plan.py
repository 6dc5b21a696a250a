# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a run will do with each training phase, decided before it does any."""

import dataclasses
import os
from typing import Any

import ml_collections

from adaptanet_jax import analyses, settings, workspace
from adaptanet_jax.data import pipeline, sources
from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation import results as results_lib
from adaptanet_jax.training import phases as phases_lib
from adaptanet_jax.training.checkpoints import is_complete


@dataclasses.dataclass(frozen=True)
class Task:
  """What a run does with a training phase.

  Attributes:
    phase: the phase.
    action: 'train', 'restore' if it is done, 'skip' if it is neither done nor
      to be done.
    workdir: where its checkpoints are.
  """

  phase: phases_lib.Phase
  action: str
  workdir: str


def make_plan(
    config: ml_collections.ConfigDict, workdir: str, num_examples: int
) -> list[Task]:
  """Says what is to be done with each training phase, before anything is.

  Args:
    config: the whole configuration.
    workdir: folder of the run, which need not exist.
    num_examples: of the training split.

  Returns:
    A task for each phase, in order.

  Raises:
    UsageError: a selected phase needs one that is skipped, a batch is larger
      than the training split, or `config.reuse` names no workdir.
  """
  groups = settings.selected_groups(config)
  phases = phases_lib.build_phases(config)
  steps = {
      phase.name: phases_lib.num_steps(
          phase,
          pipeline.steps_per_epoch(
              range(num_examples), phase.settings.batch_size
          ),
      )
      for phase in phases
  }
  reuse: dict[str, list[str]] = {}
  if not all(is_complete(workdir, *phase) for phase in steps.items()):
    reuse = _reusable(config)
  tasks: list[Task] = []
  for phase in phases:
    done = [
        place
        for place in (workdir, *reuse.get(phase.name, ()))
        if is_complete(place, phase.name, steps[phase.name])
    ]
    if done:
      tasks.append(Task(phase, 'restore', done[0]))
    else:
      action = 'train' if phase.group in groups else 'skip'
      tasks.append(Task(phase, action, workdir))
  needs = {
      task.phase.name: number
      for number, task in enumerate(tasks)
      if task.action == 'train'
  }
  names = [task.phase.name for task in tasks]
  skipped = {task.phase.name for task in tasks if task.action == 'skip'}
  if 'delta_cascade4' in skipped:
    # Substitutes of some stages only are of no use yet.
    tasks = [
        dataclasses.replace(task, action='skip')
        if task.phase.group == 'delta'
        else task
        for task in tasks
    ]
  for group, needed in analyses.NEEDS.items():
    if group in groups:
      needs[group] = 1 + max(names.index(n) for n in needed if n in names)
  for name, number in needs.items():
    missing = [t.phase for t in tasks[:number] if t.action == 'skip']
    if missing:
      raise UsageError(
          f'Phase {name!r} needs {missing[0].name!r}, which has not run in '
          f'{workdir}; expected {missing[0].group!r} among '
          f'--config.phases={config.phases}.'
      )
  return tasks


def _reusable(config: ml_collections.ConfigDict) -> dict[str, list[str]]:
  """Returns the workdirs that may have trained each phase.

  `config.reuse` comes first; it may have taken phases from another one itself.
  """
  places: dict[str, list[str]] = {}
  place, seen = config.reuse, set[str]()
  while place and place not in seen:
    seen.add(place)
    path = os.path.join(place, 'config.json')
    if not os.path.exists(path):
      raise UsageError(
          f'config.reuse = {place!r} has no config.json; expected a workdir '
          'that a run wrote.'
      )
    old = results_lib.read_json(path)
    differing = {
        phase.name: settings.differing_keys(
            old, config.to_dict(), up_to=phase.section
        )
        for phase in phases_lib.build_phases(config)
    }
    first = next(iter(differing.values()))
    if first:
      raise UsageError(
          f'Nothing of config.reuse = {place!r} can be taken '
          f'({"; ".join(first)}); expected the same data, model and settings '
          'of the first phase.'
      )
    for name, keys in differing.items():
      places.setdefault(name, []).extend([] if keys else [place])
    place = old.get('reuse', '')
  return places


def check_same(
    old: dict[str, Any], config: ml_collections.ConfigDict, workdir: str
) -> None:
  """Raises UsageError if a workdir was made by another configuration.

  Args:
    old: contents of its config.json.
    config: the whole configuration.
    workdir: for the message.
  """
  differing = settings.differing_keys(old, config.to_dict())
  if differing:
    raise UsageError(
        f'{workdir} was made by another configuration '
        f'({"; ".join(differing)}); expected the same one, or another '
        '--workdir.'
    )


def check_reused(dataset: sources.Dataset, workdirs: set[str]) -> None:
  """Raises UsageError if phases to take over were trained on other data."""
  described = workspace.describe(dataset)
  for place in sorted(workdirs):
    old = results_lib.Results(place).values.get('dataset', described)
    if old != described:
      raise UsageError(
          f'config.reuse leads to {place}, which was made with the data {old}, '
          f'and config.data now gives {described}; expected the same.'
      )
