# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A whole run, phase by phase: first the training, then the analyses."""

import os
import sys

from absl import logging
import jax
import ml_collections

from adaptanet_jax import (
  analyses,
  plan,
  processes,
  settings,
  trees,
  workspace,
)
from adaptanet_jax.analyses import accuracy, common
from adaptanet_jax.data import sources
from adaptanet_jax.data.dataset import Dataset, describe
from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation.results import Results
from adaptanet_jax.models.gates import GATES
from adaptanet_jax.models.parts import Variables
from adaptanet_jax.programs import Programs
from adaptanet_jax.progress import (
  MetricsLog,
  TensorBoardLog,
  check_tensorboard,
)
from adaptanet_jax.report import comparison, page, tables
from adaptanet_jax.teachers import torch_resnet
from adaptanet_jax.training import loop, phases as phases_lib
from adaptanet_jax.training.checkpoints import (
  PhaseCheckpoints,
  has_checkpoints,
)
from adaptanet_jax.workdir import (
  Paths,
  check_own,
  check_path,
  read_json,
  write_json,
)
from adaptanet_jax.workspace import Workspace


def run(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Runs the phases that a configuration selects, and prints the table.

  Resumes where an earlier run in the same workdir stopped.

  Args:
    config: the whole configuration.
    workdir: folder for all that the run writes.

  Raises:
    UsageError: the configuration, the data or the workdir is not valid.
  """
  settings.check(config)
  check_path(workdir)
  if config.tensorboard:
    check_tensorboard()
  forgets = config.compare == 'none'
  if forgets:
    config.compare = ''
  _resolve_paths(config)
  asked = comparison.find(config.compare)
  with processes.sole_user(workdir):
    _adopt_earlier_settings(config, workdir, forgets=forgets)
    if settings.selected_groups(config) == ('report',):
      _report(config, workdir, asked)
      return
    check_own(workdir)
    dataset = sources.load(config)
    # Refuses workdirs of this command that cannot be compared. Any that cannot
    # be compared later, when the report is written, is left out of it.
    comparison.collect(asked, describe(dataset))
    tasks = _plan(config, workdir, dataset)
    imported = _import_weights(config, workdir, dataset, tasks)
    processes.check_shared(workdir)
    with Programs(fast_compile=config.fast_compile) as programs:
      work = workspace.create(config, workdir, dataset, programs, imported)
      processes.wait('all have read what an earlier run has written')
      write_json(Paths(workdir).config, config.to_dict())
      work.phases = tuple(t.phase.name for t in tasks if t.action != 'skip')
      if 'dataset' not in work.results.values:
        work.stamp()
      busy = _run_tasks(work, tasks)
    if processes.is_writer():
      if not busy:
        print(f'Everything is done in {workdir}; there is nothing to run.')
      _print_summary(config, workdir, work.results)


def _resolve_paths(config: ml_collections.ConfigDict) -> None:
  """Makes paths absolute: later commands may run in another folder."""
  for section, key in (
      (config.teacher, 'weights'), (config.data, 'dir'), (config, 'reuse')
  ):
    if section[key]:
      section[key] = os.path.abspath(os.path.expanduser(section[key]))
  config.compare = comparison.absolute(config.compare)


def _adopt_earlier_settings(
    config: ml_collections.ConfigDict, workdir: str, *, forgets: bool
) -> None:
  """Takes over `reuse` and `compare` from an earlier command in a workdir.

  Args:
    config: the whole configuration.
    workdir: folder of the run.
    forgets: whether the runs to compare are to be forgotten.

  Raises:
    UsageError: the workdir was made by another configuration.
  """
  path = Paths(workdir).config
  if os.path.exists(path):
    old = read_json(path)
    plan.check_same(old, config, workdir)
    # Otherwise a resumed run would train the phases that it had reused.
    config.reuse = config.reuse or old.get('reuse', '')
    if not forgets:
      config.compare = config.compare or old.get('compare', '')


def _plan(
    config: ml_collections.ConfigDict, workdir: str, dataset: Dataset
) -> list[plan.Task]:
  """Plans the training phases, and checks that all processes agree."""
  described = describe(dataset)
  processes.check_agreed('the data', str(described))
  plan.check_data(described, workdir, {config.reuse} - {''})
  tasks = plan.make_plan(
      config,
      workdir,
      len(dataset.train),
      needs=analyses.NEEDS,
      num_devices=jax.device_count(),
  )
  groups = settings.selected_groups(config)
  reading = {GATES, 'policies'} & {*groups}
  # An evaluation reads existing gates even if `gates` is not selected.
  has_gates = any(t.phase.group == GATES and t.action != 'skip' for t in tasks)
  if 'evaluation' in groups and has_gates:
    settings.check_reads_anchors(config, ['evaluation'])
    reading.add('evaluation')
  if reading:
    common.check_held_out(config, dataset)
  processes.check_agreed(
      'what is to be done',
      str([config.to_dict(), [(t.phase.name, t.action) for t in tasks]]),
  )
  plan.check_data(described, workdir, {t.workdir for t in tasks} - {workdir})
  plan.check_taken(config, workdir, tasks)
  taken = [task.phase.name for task in tasks if task.workdir != workdir]
  if taken and processes.is_writer():
    print(f'Reusing {", ".join(taken)} of {config.reuse}.', file=sys.stderr)
  return tasks


def _print_summary(
    config: ml_collections.ConfigDict, workdir: str, results: Results
) -> None:
  """Prints the table and the path of the report."""
  if found := tables.console(results.values):
    print(found)
  report = os.path.abspath(Paths(workdir).report)
  if 'report' in settings.selected_groups(config) and os.path.exists(report):
    print(f'\nReport: {report}')


def _report(
    config: ml_collections.ConfigDict, workdir: str, asked: list[str]
) -> None:
  """Writes only the report, from files in the workdir, without the data.

  Args:
    config: the whole configuration.
    workdir: folder of the run.
    asked: workdirs to compare that this command names.

  Raises:
    UsageError: there is nothing to report, or a workdir in `asked` was trained
      on other data.
  """
  path, results = Paths(workdir).config, Results(workdir)
  is_run = os.path.exists(path) and 'dataset' in results.values
  processes.check_agreed('what is to be done', f'report {is_run}')
  if not is_run:
    raise UsageError(
        f'{workdir} has no config.json and results.json of a run, so there is '
        'nothing to report; expected the workdir of a run, or other phases.'
    )
  comparison.collect(asked, results.values['dataset'])
  # Only this setting: the command may lack others, such as the data folder.
  write_json(path, read_json(path) | {'compare': config.compare})
  if processes.is_writer():
    page.write(workdir, compare=config.compare)
    _print_summary(config, workdir, results)


def _import_weights(
    config: ml_collections.ConfigDict,
    workdir: str,
    dataset: Dataset,
    tasks: list[plan.Task],
) -> Variables:
  """Reads the imported weights that the teacher will start from, if any.

  Called before anything is written. Prints how the weights were adapted.

  Raises:
    UsageError: the weights do not fit.
  """
  starts = [t.phase.name for t in tasks if t.action == 'train']
  if not config.teacher.weights or 'teacher' not in starts:
    return {}
  if has_checkpoints(workdir, 'teacher'):
    return {}  # It goes on from there; the file may be gone.
  nets, _ = workspace.networks(config, dataset.num_classes, dataset.image_shape)
  # If it is then trained, the numbers of classes and colours may differ.
  adapts = config.teacher.epochs > 0
  variables, notes = torch_resnet.load(
      config.teacher.weights, nets.teacher, adapt=adapts
  )
  if notes and processes.is_writer():
    print(f'{config.teacher.weights}: {"; ".join(notes)}.', file=sys.stderr)
  return variables


def _run_tasks(work: Workspace, tasks: list[plan.Task]) -> bool:
  """Trains, then measures; returns whether there was anything to do."""
  dtype = work.nets.student.dtype
  before = work.results.values.get('compute_dtype', dtype)
  if before != dtype and any(task.action == 'train' for task in tasks):
    logging.warning(
        'Training resumes in %s and was in %s before; '
        '--config.compute_dtype=%s keeps the old type.', dtype, before, before
    )
  steps = {}
  done = [
      task.phase.name
      for task in tasks
      if task.action == 'restore' and task.workdir == work.workdir
  ]
  if done and len(done) < len(tasks) and processes.is_writer():
    print(f'Done before: {", ".join(done)}.', file=sys.stderr)
  for task in tasks:
    if task.action == 'train':
      steps[task.phase.name] = _prepare(work, task.phase)
  if steps:
    if processes.is_writer():
      print(_describe_data(work.dataset), file=sys.stderr)
    last = [task.phase for task in tasks if task.action != 'skip'][-1]
    analyses.compile_ahead(work, last)
  was_missing = False
  for task in tasks:
    if task.action == 'restore':
      was_missing |= _restore_phase(work, task)
    elif task.action == 'train':
      _train_phase(work, task.phase, steps[task.phase.name])
  return analyses.run(work) or bool(steps) or was_missing


def _describe_data(dataset: Dataset) -> str:
  """Returns a line that says what a run trains on."""
  images = [f'{len(dataset.train):,} images to train on']
  if dataset.held_out:
    images.append(f'{len(dataset.held_out):,} held out')
  shape = ' x '.join(map(str, dataset.image_shape))
  return (
      f'Data {dataset.name}: {", ".join(images)}, {len(dataset.test):,} to '
      f'test on, of {dataset.num_classes} classes, {shape}.'
  )


def _prepare(work: Workspace, phase: phases_lib.Phase) -> loop.PhaseStep:
  """Builds the step of a phase and starts compiling the phase's programs."""
  split = work.dataset.train
  objective = phases_lib.objective_for(
      work.config,
      phase,
      work.nets,
      work.gates,
      num_examples=len(split),
  )
  step = loop.make_step(
      phase,
      *workspace.variable_shapes(work.nets, work.gates, phase),
      split,
      objective,
      work.config.data.augment,
  )
  if step.num_steps:
    work.programs.ahead(step.program)
  if program := accuracy.validation_program(work, phase):
    work.programs.ahead(program)
  return step


def _restore_phase(work: Workspace, task: plan.Task) -> bool:
  """Restores a phase; returns whether its last accuracies were missing."""
  phase = task.phase
  variables: Variables = {}
  if phase.network == 'student':  # The teacher's is complete.
    variables = workspace.first_variables(work, phase)
  shapes, _ = workspace.variable_shapes(work.nets, work.gates, phase)
  trained, _ = loop.split_variables(shapes, phase.trains)
  with _checkpoints(work, phase, task.workdir) as checkpoints:
    found = checkpoints.restore_variables(trained)
    workspace.keep_trained(work, phase, trees.merge(variables, found))
    step = checkpoints.latest_step() or 0
  results, log = work.results, _log(work, task.workdir)
  if phase.name not in results.values['seconds']:
    # Reused from another workdir, or killed before this entry was written.
    results.add_seconds(phase.name, log.seconds(phase.name, step))
  if phase.network == 'teacher' and 'teacher' not in results.values:
    accuracy.evaluate_teacher(work)
  if step and task.workdir == work.workdir:
    return loop.validate_if_missing(
        phase,
        step,
        work.variables[phase.network],
        log,
        accuracy.validator(work, phase),
    )
  return False


def _log(work: Workspace, workdir: str) -> MetricsLog:
  log_class = TensorBoardLog if work.config.tensorboard else MetricsLog
  return log_class(workdir)


def _train_phase(
    work: Workspace, phase: phases_lib.Phase, step: loop.PhaseStep
) -> None:
  config, results = work.config, work.results
  is_teacher = phase.network == 'teacher'
  analyses.discard(work, phase)
  # Of an older training: this one may be killed before it has its own.
  results.discard_seconds(phase.name)
  if is_teacher:
    results.discard('teacher')
  work.stamp()
  with _checkpoints(work, phase, work.workdir) as checkpoints:
    variables, seconds = loop.train_phase(
        phase,
        workspace.first_variables(work, phase),
        work.variables['teacher'] if phase.reads_teacher else {},
        work.dataset.train,
        step=step,
        programs=work.programs,
        config=config,
        checkpoints=checkpoints,
        log=_log(work, work.workdir),
        validate=accuracy.validator(work, phase),
    )
  workspace.keep_trained(work, phase, variables)
  results.add_seconds(phase.name, seconds)
  if is_teacher:
    accuracy.evaluate_teacher(work)


def _checkpoints(
    work: Workspace, phase: phases_lib.Phase, workdir: str
) -> PhaseCheckpoints:
  return PhaseCheckpoints(
      workdir, phase.name, keep=work.config.checkpoint.keep
  )
