# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A whole run: data, teacher, cascade, lock-in, evaluation, results."""

import dataclasses
import functools
import os
import subprocess
import time

import jax
import ml_collections

from adaptanet_jax import settings, trees
from adaptanet_jax.data import pipeline, sources
from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation import cost, protocols, results as results_lib
from adaptanet_jax.models.resnet import ResNet, Variables
from adaptanet_jax.models.subnet import LARGEST, UNIFORM
from adaptanet_jax.training import loop, objectives, phases as phases_lib
from adaptanet_jax.training.checkpoints import PhaseCheckpoints
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
  config_path = os.path.join(workdir, 'config.json')
  if os.path.exists(config_path):
    _check_same(config_path, config, workdir)
  dataset = sources.load(config)
  os.makedirs(workdir, exist_ok=True)
  results_lib.write_json(config_path, config.to_dict())
  experiment = _create(config, workdir, dataset)
  trained = _train(experiment)
  evaluated = _evaluate(experiment, again=trained > 0)
  if not trained and not evaluated:
    print(f'All is done in {workdir}; nothing to run again.')
  if 'teacher' in experiment.results.values:
    print(results_lib.table(experiment.results.values))


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
  rng = jax.random.key(config.seed)
  results = results_lib.Results(workdir)
  device = jax.devices()[0]
  results.update(
      config=config.name,
      git=_git_commit(),
      seed=config.seed,
      dataset={
          'name': dataset.name,
          'train_examples': len(dataset.train),
          'test_examples': len(dataset.test),
          'num_classes': dataset.num_classes,
      },
      device={
          'platform': device.platform,
          'kind': device.device_kind,
          'count': jax.device_count(),
          'processes': jax.process_count(),
      },
  )
  return Experiment(
      config=config,
      workdir=workdir,
      dataset=dataset,
      nets=objectives.Networks(teacher, student),
      variables={'teacher': _init(teacher, rng)},
      results=results,
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


def _init(net: ResNet, rng: jax.Array) -> Variables:
  return jax.device_get(jax.jit(net.init)(rng))


def init_student(
    net: ResNet, rng: jax.Array, teacher: Variables, *, from_teacher: bool
) -> Variables:
  """Returns the student's first variables.

  Args:
    net: the student.
    rng: key of its own initial values.
    teacher: the teacher's variables.
    from_teacher: take the teacher's parameters where names and shapes match;
      with different norms those are all kernels and biases of the classifier.

  Returns:
    Collections of the student.
  """
  own = _init(net, rng)
  if not from_teacher:
    return own
  return trees.overlay(own, teacher)


def _train(experiment: Experiment) -> int:
  """Runs or restores every phase, in order; returns how many it trained."""
  groups = settings.selected_groups(experiment.config)
  missing: list[str] = []
  trained = 0
  for phase in phases_lib.build_phases(experiment.config):
    if phase.network == 'student' and 'student' not in experiment.variables:
      experiment.variables['student'] = init_student(
          experiment.nets.student,
          jax.random.key(experiment.config.seed),
          experiment.variables['teacher'],
          from_teacher=experiment.config.model.init_from_teacher,
      )
    with PhaseCheckpoints(
        experiment.workdir, phase.name, keep=experiment.config.checkpoint.keep
    ) as checkpoints:
      if checkpoints.latest_step() == _length(experiment, phase):
        _restore_phase(experiment, phase, checkpoints)
      elif phase.group not in groups:
        missing.append(phase.name)
      elif missing:
        raise UsageError(
            f'Phase {phase.name!r} needs {missing[0]!r}, which has not run in '
            f'{experiment.workdir}; expected it among --config.phases='
            f'{experiment.config.phases}.'
        )
      else:
        _train_phase(experiment, phase, checkpoints)
        trained += 1
    if phase.name == 'teacher' and phase.name not in missing:
      _evaluate_teacher(experiment)
  if 'evaluation' in groups and set(missing) - {'lock_in'}:
    raise UsageError(
        f'Phase \'evaluation\' needs {missing[0]!r}, which has not run in '
        f'{experiment.workdir}; expected it among --config.phases='
        f'{experiment.config.phases}.'
    )
  return trained


def _length(experiment: Experiment, phase: phases_lib.Phase) -> int:
  epoch_steps = pipeline.steps_per_epoch(
      experiment.dataset.train, phase.settings.batch_size
  )
  return phases_lib.num_steps(phase, epoch_steps)


def _restore_phase(
    experiment: Experiment,
    phase: phases_lib.Phase,
    checkpoints: PhaseCheckpoints,
) -> None:
  variables = experiment.variables[phase.network]
  trained, _ = loop.split_variables(variables, phase.trains)
  experiment.variables[phase.network] = trees.merge(
      variables, checkpoints.restore_variables(trained)
  )


def _train_phase(
    experiment: Experiment,
    phase: phases_lib.Phase,
    checkpoints: PhaseCheckpoints,
) -> None:
  config = experiment.config
  validate = None
  if config.evaluation.every_epoch and phase.group in _VALIDATORS:
    validate = functools.partial(_VALIDATORS[phase.group], experiment)
  is_teacher = phase.network == 'teacher'
  experiment.variables[phase.network], seconds = loop.train_phase(
      phase,
      experiment.variables[phase.network],
      {} if is_teacher else experiment.variables['teacher'],
      experiment.dataset.train,
      objective=_objective(experiment, phase),
      config=config,
      checkpoints=checkpoints,
      log=MetricsLog(experiment.workdir),
      validate=validate,
  )
  experiment.results.add_seconds(phase.name, seconds)


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
  if 'teacher' in experiment.results.values:
    return
  measured = _validate_teacher(experiment, experiment.variables['teacher'])
  full = cost.cost_table(experiment.nets.teacher).subnet(LARGEST)
  experiment.results.update(
      teacher={
          'top1': measured['test_top1'],
          'madds': full.madds,
          'params': full.params,
      }
  )


def _evaluate(experiment: Experiment, *, again: bool) -> bool:
  """Measures the supernet, unless that is done; returns whether it was."""
  config, results = experiment.config, experiment.results
  if 'evaluation' not in settings.selected_groups(config):
    return False
  if 'supernet' in results.values and not again:
    return False
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
