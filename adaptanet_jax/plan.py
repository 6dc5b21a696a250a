# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The plan of a run: what to do with each training phase."""

from collections.abc import Collection, Iterator, Mapping, Sequence
import dataclasses
import itertools
import os
from typing import Any

import ml_collections

from adaptanet_jax import settings
from adaptanet_jax.data import pipeline
from adaptanet_jax.data.dataset import differences
from adaptanet_jax.errors import UsageError, some
from adaptanet_jax.evaluation.results import Results
from adaptanet_jax.models.resnet import DELTA
from adaptanet_jax.training import phases as phases_lib
from adaptanet_jax.training.checkpoints import has_checkpoints, is_complete
from adaptanet_jax.workdir import Paths, read_json


@dataclasses.dataclass(frozen=True)
class Task:
  """What a run does with a training phase.

  Attributes:
    phase: the phase.
    action: 'train', 'restore' if it is done, or 'skip' if it is neither done
      nor selected.
    workdir: workdir with its checkpoints.
  """

  phase: phases_lib.Phase
  action: str
  workdir: str


def find_trained(
    config: ml_collections.ConfigDict,
    workdir: str,
    num_examples: int,
    *,
    network: str = 'teacher',
) -> dict[str, str]:
  """Finds the training phases that are done.

  Args:
    config: the whole configuration.
    workdir: folder of the run, which need not exist.
    num_examples: number of training examples.
    network: 'student' to look only for what running the student needs.
      Workdirs of `config.reuse` that have only the teacher are then not opened,
      so they may have been deleted.

  Returns:
    The workdir with each phase's checkpoints, by name of the phase: the run's
    own, or one that `config.reuse` leads to.

  Raises:
    UsageError: `config.reuse` names no workdir, or one with nothing to take
      over.
  """
  phases = [
      phase
      for phase in phases_lib.build_phases(config)
      # A phase with larger batches cannot have been trained.
      if phase.settings.batch_size <= num_examples or not phase.epochs
  ]
  steps = {phase.name: phase.num_steps(num_examples) for phase in phases}
  networks = [phase.network for phase in phases]
  first = networks.index(network) if network in networks else 0
  early = {phase.name for phase in phases[: first + 1]}

  def has(place: str, names: Collection[str], name: str) -> bool:
    return name in names and is_complete(place, name, steps[name])

  places = []
  for place, names in itertools.chain(
      [(workdir, set(steps))], _reusable(config)
  ):
    places.append((place, names))
    # What comes next would only have phases before these, and may be gone.
    if any(has(place, names, name) for name in early):
      break
  trained: dict[str, str] = {}
  # Workdirs further along than the one of a phase trained later phases on their
  # own weights of it, which differ even if the settings are the same.
  count = len(places)
  for name in steps:
    found = next((n for n in range(count) if has(*places[n], name)), None)
    if found is not None:
      trained[name], count = places[found][0], found + 1
  return trained


def is_usable(
    phase: phases_lib.Phase, trained: Collection[str]
) -> bool:
  """Returns whether the weights that a phase has trained can be run.

  Args:
    phase: a phase that is done.
    trained: names of all phases that are done.
  """
  return phase.group != 'delta' or phases_lib.can_run(DELTA, trained)


def make_plan(
    config: ml_collections.ConfigDict,
    workdir: str,
    num_examples: int,
    needs: Mapping[str, Collection[str]],
    num_devices: int,
) -> list[Task]:
  """Decides what to do with each training phase, before any is run.

  Args:
    config: the whole configuration.
    workdir: folder of the run, which need not exist.
    num_examples: number of training examples.
    needs: for each analysis, the training phases that must be done first; those
      that the run does not have are ignored.
    num_devices: number of devices among which batches are split.

  Returns:
    A task for each phase, in order.

  Raises:
    UsageError: a selected phase needs one that is skipped, a phase would be
      trained again on which others in the workdir stand, a batch is larger than
      the training split or does not split evenly among the devices, or
      `find_trained` raises it.
  """
  groups = settings.selected_groups(config)
  trained = find_trained(config, workdir, num_examples)
  tasks = _choose(config, workdir, trained)
  batch_sizes = {
      f'config.{task.phase.section}.batch_size': task.phase.settings.batch_size
      for task in tasks
      if task.action == 'train' and task.phase.epochs
  }
  pipeline.check_fits(batch_sizes, num_examples)
  if batch_sizes or {'evaluation', 'policies'} & {*groups}:
    batch_sizes['config.evaluation.batch_size'] = config.evaluation.batch_size
  for name, batch_size in batch_sizes.items():
    pipeline.check_batch_size(name, batch_size, num_devices)
  present = [task.phase.name for task in tasks if task.action != 'skip']
  tasks = [
      task
      if is_usable(task.phase, present)
      else dataclasses.replace(task, action='skip')
      for task in tasks
  ]
  names = [task.phase.name for task in tasks]
  # A phase needs all phases before it ...
  counts = {
      task.phase.name: number
      for number, task in enumerate(tasks)
      if task.action == 'train'
  }
  for group, needed in needs.items():
    if group in groups:  # ... and an analysis the needed phase as well.
      counts[group] = 1 + max(names.index(n) for n in needed if n in names)
  for name, number in counts.items():
    missing = [t.phase for t in tasks[:number] if t.action == 'skip']
    # Deltas of some stages may be done, but skipped until the others are.
    missing.sort(key=lambda phase: phase.name in trained)
    if missing:
      raise UsageError(
          f'Phase {name!r} needs {missing[0].name!r}, which has not run in '
          f'{workdir}; expected {missing[0].group!r} among '
          f'--config.phases={config.phases}.'
      )
  return tasks


def _choose(
    config: ml_collections.ConfigDict, workdir: str, trained: Mapping[str, str]
) -> list[Task]:
  """Chooses what to do with each phase, given which ones are trained where."""
  groups = settings.selected_groups(config)
  tasks: list[Task] = []
  anew = ''  # The first phase to train.
  outdated: list[str] = []
  for phase in phases_lib.build_phases(config):
    if anew and has_checkpoints(workdir, phase.name):
      outdated.append(phase.name)
    if phase.name in trained and not anew:
      tasks.append(Task(phase, 'restore', trained[phase.name]))
    elif phase.group in groups:
      anew = anew or phase.name
      tasks.append(Task(phase, 'train', workdir))
    else:
      tasks.append(Task(phase, 'skip', workdir))
  if outdated:
    folder = os.path.dirname(Paths(workdir).checkpoints(anew))
    raise UsageError(
        f'Phase {anew!r} would be trained again, but {some(outdated)} learnt '
        'from the weights that it had; expected folders of later phases to be '
        f'moved out of {folder}, or another --workdir.'
    )
  return tasks


def _reusable(
    config: ml_collections.ConfigDict,
) -> Iterator[tuple[str, set[str]]]:
  """Yields workdirs to reuse, each with the phases that have our settings.

  `config.reuse` comes first, then the workdir that it reused itself, and so on.
  """
  place, seen = config.reuse, set[str]()
  while place and place not in seen:
    seen.add(place)
    path = Paths(place).config
    if not os.path.exists(path):
      leads = '=' if place == config.reuse else 'leads to'
      raise UsageError(
          f'config.reuse {leads} {place!r}, which has no config.json; expected '
          'a workdir that a run wrote.'
      )
    old = read_json(path)
    differing = {
        phase.name: settings.differences(
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
    yield place, {name for name, keys in differing.items() if not keys}
    place = old.get('reuse', '')


def check_same(
    old: dict[str, Any], config: ml_collections.ConfigDict, workdir: str
) -> None:
  """Raises UsageError if a workdir was made by another configuration.

  Args:
    old: contents of the config.json in the workdir.
    config: the whole configuration.
    workdir: path for the message.
  """
  differing = settings.differences(old, config.to_dict())
  if differing:
    raise UsageError(
        f'{workdir} was made by another configuration '
        f'({"; ".join(differing)}); expected the same one, or another '
        '--workdir.'
    )
  before, now = old.get('reuse', ''), config.reuse
  # The real path of '' would be that of the current folder.
  is_other = not before or os.path.realpath(before) != os.path.realpath(now)
  if not (now and is_other):
    return
  if os.path.exists(before):  # One that is gone may have moved.
    raise UsageError(
        f'config.reuse = {now!r}, but {workdir} stands on the phases of '
        f'{before!r}; expected that one, or another --workdir.'
    )
  first = phases_lib.build_phases(config)[0].name
  if not before and has_checkpoints(workdir, first):
    raise UsageError(
        f'config.reuse = {now!r}, but {workdir} has a {first!r} of its own; '
        'expected no config.reuse, or another --workdir.'
    )


def check_data(
    described: dict[str, Any], workdir: str, reused: Collection[str]
) -> None:
  """Raises UsageError if a workdir was made with other data than now.

  Args:
    described: `dataset.describe` of this run's data.
    workdir: folder of the run, which need not exist.
    reused: workdirs to reuse phases of; those that are gone count as the same.
  """
  for place in (workdir, *sorted(reused)):
    old = Results(place).values.get('dataset', described)
    if other := differences(old, described):
      made = f'config.reuse leads to {place}, which was made'
      if place == workdir:
        made = f'{place} was made'
      raise UsageError(
          f'{made} with other data than config.data now gives '
          f'({"; ".join(other)}); expected the same data.'
      )


def check_taken(
    config: ml_collections.ConfigDict, workdir: str, tasks: Sequence[Task]
) -> None:
  """Raises UsageError if `config.reuse` has nothing to take over.

  Otherwise hours of training might begin again unnoticed.

  Args:
    config: the whole configuration.
    workdir: folder of the run.
    tasks: what `make_plan` returned.
  """
  takes = any(task.action == 'restore' for task in tasks)
  if config.reuse and not takes and not has_checkpoints(
      workdir, tasks[0].phase.name
  ):
    raise UsageError(
        f'Phase {tasks[0].phase.name!r} is not done in config.reuse = '
        f'{config.reuse!r}; expected a run that has trained it to the end.'
    )
