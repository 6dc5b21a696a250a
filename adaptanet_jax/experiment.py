# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A whole run: data, teacher, cascade, lock-in, evaluation, results."""

import dataclasses
import functools
import os
import subprocess
import time
from typing import Any
import zlib

import jax
import ml_collections

from adaptanet_jax import settings, trees
from adaptanet_jax.data import pipeline, sources
from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation import cost, protocols, results as results_lib
from adaptanet_jax.models.resnet import ResNet, Variables
from adaptanet_jax.models.subnet import LARGEST, UNIFORM
from adaptanet_jax.training import loop, objectives, phases as phases_lib
from adaptanet_jax.training.checkpoints import PhaseCheckpoints, is_complete
from adaptanet_jax.training.progress import MetricsLog
from adaptanet_jax.training.step import AXIS


@dataclasses.dataclass
class Experiment:
  """What the phases of a run share.

  Attributes:
    config: checked configuration.
    workdir: folder of the run.
    dataset: its data.
    nets: static halves of teacher and student.
    variables: collections of 'teacher' and 'student', as trained so far.
    results: `results.json`.
  """

  config: ml_collections.ConfigDict
  workdir: str
  dataset: sources.Dataset
  nets: objectives.Networks
  variables: dict[str, Variables]
  results: results_lib.Results


def run(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Runs the phases that a configuration selects, and prints the table.

  Goes on where an earlier run in the same workdir stopped.

  Args:
    config: the whole configuration.
    workdir: folder for all that the run writes.

  Raises:
    UsageError: the configuration, the data or the workdir does not do.
  """
  settings.check(config)
  num_devices = jax.device_count()
  for section in ('teacher', 'cascade', 'lock_in', 'evaluation'):
    pipeline.check_batch_size(
        f'config.{section}.batch_size', config[section].batch_size, num_devices
    )
  if jax.process_count() > 1:
    raise UsageError(
        f'{jax.process_count()} processes were started; expected one.'
    )
  config_path = os.path.join(workdir, 'config.json')
  if os.path.exists(config_path):
    _check_same(config_path, config, workdir)
  dataset = sources.load(config)
  plan = make_plan(config, workdir, dataset)
  os.makedirs(workdir, exist_ok=True)
  experiment = _create(config, workdir, dataset)
  results_lib.write_json(config_path, config.to_dict())
  for phase, action in plan:
    _ACTIONS[action](experiment, phase)
  evaluated = _evaluate(experiment)
  if not evaluated and 'train' not in dict(plan).values():
    print(f'All is done in {workdir}; nothing to run again.')
  if 'teacher' in experiment.results.values:
    print(results_lib.table(experiment.results.values))


def make_plan(
    config: ml_collections.ConfigDict, workdir: str, dataset: sources.Dataset
) -> list[tuple[phases_lib.Phase, str]]:
  """Says what is to be done with each phase, before anything is.

  Args:
    config: the whole configuration.
    workdir: folder of the run, which need not exist.
    dataset: its data.

  Returns:
    For each phase, in order, 'restore' if it is done, 'train' if it is to run,
    'skip' if it is neither done nor selected.

  Raises:
    UsageError: a selected phase needs one that is skipped, or a batch is larger
      than the training split.
  """
  groups = settings.selected_groups(config)
  plan: list[tuple[phases_lib.Phase, str]] = []
  for phase in phases_lib.build_phases(config):
    steps = phases_lib.num_steps(
        phase,
        pipeline.steps_per_epoch(dataset.train, phase.settings.batch_size),
    )
    if is_complete(workdir, phase.name, steps):
      action = 'restore'
    else:
      action = 'train' if phase.group in groups else 'skip'
    plan.append((phase, action))
  needs = {
      phase.name: number
      for number, (phase, action) in enumerate(plan)
      if action == 'train'
  }
  if 'evaluation' in groups:
    # Of a supernet that has not been locked in, too.
    needs['evaluation'] = len(plan) - 1
  for name, number in needs.items():
    missing = [p.name for p, action in plan[:number] if action == 'skip']
    if missing:
      raise UsageError(
          f'Phase {name!r} needs {missing[0]!r}, which has not run in '
          f'{workdir}; expected it among --config.phases={config.phases}.'
      )
  return plan


def _check_same(
    path: str, config: ml_collections.ConfigDict, workdir: str
) -> None:
  differing = settings.differing_keys(
      results_lib.read_json(path), config.to_dict()
  )
  if differing:
    raise UsageError(
        f'{workdir} was made by another configuration '
        f'({"; ".join(differing)}); expected the same one, or another '
        '--workdir.'
    )


def _create(
    config: ml_collections.ConfigDict, workdir: str, dataset: sources.Dataset
) -> Experiment:
  dtype = config.compute_dtype
  if dtype == 'auto':
    dtype = 'float32' if jax.default_backend() == 'cpu' else 'bfloat16'
  teacher = ResNet(
      architecture=config.model.architecture,
      stem=config.model.stem,
      norm=config.teacher.norm,
      num_classes=dataset.num_classes,
      image_shape=dataset.image_shape,
      dtype=dtype,
      axis_name=AXIS,
  )
  student = dataclasses.replace(teacher, norm=config.model.norm)
  variables = {'teacher': _init(teacher, config.seed, 'teacher')}
  results = results_lib.Results(workdir)
  described = _describe(dataset)
  if results.values.get('dataset', described) != described:
    raise UsageError(
        f'{workdir} was made with the data {results.values["dataset"]}, and '
        f'config.data now gives {described}; expected the same.'
    )
  return Experiment(
      config=config,
      workdir=workdir,
      dataset=dataset,
      nets=objectives.Networks(teacher, student),
      variables=variables,
      results=results,
  )


def _describe(dataset: sources.Dataset) -> dict[str, Any]:
  return {
      'name': dataset.name,
      'train_examples': len(dataset.train),
      'test_examples': len(dataset.test),
      'num_classes': dataset.num_classes,
  }


def _stamp(experiment: Experiment) -> None:
  """Notes in results.json what its figures were made with."""
  device = jax.devices()[0]
  experiment.results.update(
      config=experiment.config.name,
      git=_git_commit(),
      seed=experiment.config.seed,
      dataset=_describe(experiment.dataset),
      device={
          'platform': device.platform,
          'kind': device.device_kind,
          'count': jax.device_count(),
          'processes': jax.process_count(),
      },
  )


def _git_commit() -> str:
  """Returns the commit that runs, marked if it has changes; or 'unknown'."""
  here = os.path.dirname(os.path.abspath(__file__))
  describe = ('describe', '--always', '--dirty', '--abbrev=12')
  try:
    done = subprocess.run(
        ('git', '-C', here, *describe),
        capture_output=True,
        text=True,
        check=False,
    )
  except OSError:  # There is no git.
    return 'unknown'
  return done.stdout.strip() or 'unknown'


def _init(net: ResNet, seed: int, network: str) -> Variables:
  # Not one key for both: a student that starts from scratch would start from
  # the teacher's first weights.
  rng = jax.random.fold_in(
      jax.random.key(seed), zlib.crc32(network.encode())
  )
  return jax.device_get(jax.jit(net.init)(rng))


def _student(experiment: Experiment) -> Variables:
  """Returns the student's first variables.

  With `model.init_from_teacher` it takes the teacher's parameters where names
  and shapes match: all of them, but for norms of different kinds.
  """
  config, nets = experiment.config, experiment.nets
  if config.model.init_from_teacher and nets.student == nets.teacher:
    return experiment.variables['teacher']
  own = _init(nets.student, config.seed, 'student')
  if not config.model.init_from_teacher:
    return own
  return trees.overlay(own, experiment.variables['teacher'])


def _network(experiment: Experiment, phase: phases_lib.Phase) -> Variables:
  """Returns the variables that a phase goes on from."""
  if phase.network not in experiment.variables:
    experiment.variables[phase.network] = _student(experiment)
  return experiment.variables[phase.network]


def _checkpoints(
    experiment: Experiment, phase: phases_lib.Phase
) -> PhaseCheckpoints:
  return PhaseCheckpoints(
      experiment.workdir, phase.name, keep=experiment.config.checkpoint.keep
  )


def _restore_phase(experiment: Experiment, phase: phases_lib.Phase) -> None:
  variables = _network(experiment, phase)
  trained, _ = loop.split_variables(variables, phase.trains)
  with _checkpoints(experiment, phase) as checkpoints:
    experiment.variables[phase.network] = trees.merge(
        variables, checkpoints.restore_variables(trained)
    )
    step = checkpoints.latest_step()
  results = experiment.results
  if phase.name not in results.values['seconds']:
    # Killed between the last checkpoint and this entry.
    log = MetricsLog(experiment.workdir)
    results.add_seconds(phase.name, log.rewind(phase.name, step or 0))
  if phase.network == 'teacher' and 'teacher' not in results.values:
    _evaluate_teacher(experiment)


def _train_phase(experiment: Experiment, phase: phases_lib.Phase) -> None:
  config, results = experiment.config, experiment.results
  is_teacher = phase.network == 'teacher'
  results.discard('supernet', *['teacher'] * is_teacher)
  _stamp(experiment)
  validate = None
  if config.evaluation.every_epoch and phase.group in _VALIDATORS:
    validate = functools.partial(_VALIDATORS[phase.group], experiment)
  with _checkpoints(experiment, phase) as checkpoints:
    experiment.variables[phase.network], seconds = loop.train_phase(
        phase,
        _network(experiment, phase),
        {} if is_teacher else experiment.variables['teacher'],
        experiment.dataset.train,
        objective=_objective(experiment, phase),
        config=config,
        checkpoints=checkpoints,
        log=MetricsLog(experiment.workdir),
        validate=validate,
    )
  results.add_seconds(phase.name, seconds)
  if is_teacher:
    _evaluate_teacher(experiment)


def _skip_phase(experiment: Experiment, phase: phases_lib.Phase) -> None:
  del experiment, phase


_ACTIONS = {
    'train': _train_phase,
    'restore': _restore_phase,
    'skip': _skip_phase,
}


def _objective(
    experiment: Experiment, phase: phases_lib.Phase
) -> objectives.Objective:
  if phase.space is None:
    return functools.partial(
        objectives.label_gradients,
        net=experiment.nets.teacher,
        label_smoothing=phase.settings.label_smoothing,
    )
  return functools.partial(
      objectives.anchor_gradients,
      nets=experiment.nets,
      space=phase.space,
      prefix=phase.prefix,
      num_random=experiment.config.mdsr.num_random,
      teacher_weight=experiment.config.mdsr.teacher_weight,
  )


def _validate_teacher(
    experiment: Experiment, variables: Variables
) -> dict[str, float]:
  correct = protocols.correct_at_full_width(
      experiment.nets.teacher,
      variables,
      experiment.dataset.test,
      batch_size=experiment.config.evaluation.batch_size,
  )
  return {'test_top1': float(correct.mean())}


def _validate_student(
    experiment: Experiment, variables: Variables
) -> dict[str, float]:
  correct = protocols.correct_of_subnets(
      experiment.nets.student,
      variables,
      experiment.dataset.test,
      UNIFORM,
      batch_size=experiment.config.evaluation.batch_size,
  )
  return {
      f'test_top1/{subnet.stages[0]}': float(top1)
      for subnet, top1 in zip(UNIFORM, correct.mean(-1))
  }


# What is measured after each epoch of the phases where whole networks train.
_VALIDATORS = {'teacher': _validate_teacher, 'lock_in': _validate_student}


def _evaluate_teacher(experiment: Experiment) -> None:
  measured = _validate_teacher(experiment, experiment.variables['teacher'])
  full = cost.cost_table(experiment.nets.teacher).subnet(LARGEST)
  experiment.results.update(
      teacher={
          'top1': measured['test_top1'],
          'madds': full.madds,
          'params': full.params,
      }
  )


def _evaluate(experiment: Experiment) -> bool:
  """Measures the supernet, unless that is done; returns whether it was."""
  config, results = experiment.config, experiment.results
  if 'evaluation' not in settings.selected_groups(config):
    return False
  if 'supernet' in results.values:
    return False
  _stamp(experiment)
  started = time.monotonic()
  correct = protocols.correct_by_subnet(
      experiment.nets.student,
      experiment.variables['student'],
      experiment.dataset.test,
      batch_size=config.evaluation.batch_size,
  )
  results.update(
      supernet=protocols.summarize(
          correct,
          cost.cost_table(experiment.nets.student),
          passes=config.evaluation.random_passes,
          seed=config.seed,
      )
  )
  results.add_seconds('evaluation', time.monotonic() - started)
  return True
