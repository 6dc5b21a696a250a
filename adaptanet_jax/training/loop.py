# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The one training loop of every phase."""

import collections
from collections.abc import Callable, Iterator
import dataclasses
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from adaptanet_jax import devices, preemption, processes, trees
from adaptanet_jax.data import pipeline
from adaptanet_jax.data.splits import Batch, Split
from adaptanet_jax.errors import UsageError
from adaptanet_jax.models.parts import Variables
from adaptanet_jax.programs import Program, Programs, image_shapes
from adaptanet_jax.progress import MetricsLog, Progress, compiling
from adaptanet_jax.training import optimizers, phases
from adaptanet_jax.training.checkpoints import PhaseCheckpoints
from adaptanet_jax.training.forward import Metrics
from adaptanet_jax.training.objectives import Objective
from adaptanet_jax.training.step import TrainState, map_train_step

# How many steps the devices may lag behind the host. More would not keep them
# busier. XLA's CPU client takes 32 programs per device; with more, one of two
# devices can miss a step in which the other then waits for ever (jaxlib 0.10.2;
# within 500 steps if the host has other work).
STEPS_AHEAD = 8


def split_variables(
    variables: Variables, trains: tuple[str, ...]
) -> tuple[Variables, Variables]:
  """Splits a network's collections into a trained part and a frozen rest.

  Raises:
    ValueError: a part that is to be trained has no parameters.
  """
  for part in trains:
    if not trees.split(variables['params'], (part,))[0]:
      raise ValueError(f'The network has no parameters of {part!r}.')
  trained, frozen = {}, {}
  for name, tree in variables.items():
    trained[name], frozen[name] = trees.split(tree, trains)
  return trained, frozen


@dataclasses.dataclass(frozen=True)
class PhaseStep:
  """The step of a phase, not compiled yet, and how often it runs.

  Attributes:
    program: the function of `map_train_step`, and the shapes of its arguments.
    tx: the phase's optimizer.
    num_steps: length of the phase.
    epoch_steps: steps in one pass over the training split.
  """

  program: Program
  tx: optax.GradientTransformation
  num_steps: int
  epoch_steps: int


def make_step(
    phase: phases.Phase,
    variables: Variables,
    teacher: Variables,
    split: Split,
    objective: Objective,
    augmentation: str,
) -> PhaseStep:
  """Builds the step of a phase.

  Args:
    phase: what to train.
    variables: collections of the network that it trains, or their shapes.
    teacher: the teacher's; `{}` if the phase does not read it.
    split: training examples.
    objective: computes the gradients of a step.
    augmentation: one of `augment.AUGMENTATIONS`.

  Returns:
    The step for `train_phase`.
  """
  batch_size = phase.settings.batch_size
  epoch_steps = phase.epoch_steps(len(split))
  num_steps = phase.num_steps(len(split))
  tx = optimizers.make_optimizer(
      phase.settings, steps=num_steps, steps_per_epoch=epoch_steps
  )
  function = map_train_step(objective, tx, augmentation, phase.average_decay)
  arguments = argument_shapes(phase, tx, variables, teacher)
  images = image_shapes(split, batch_size)
  batch = {
      'image': images,
      'label': jax.ShapeDtypeStruct(images.shape[:2], np.int32),
  }
  return PhaseStep(
      program=Program(
          function, (*devices.replicated_shapes(arguments), batch)
      ),
      tx=tx,
      num_steps=num_steps,
      epoch_steps=epoch_steps,
  )


def argument_shapes(
    phase: phases.Phase,
    tx: optax.GradientTransformation,
    variables: Variables,
    teacher: Variables,
) -> tuple[TrainState, Variables, Variables, Any]:
  """Returns the shapes of all arguments of a step except its batch.

  Args:
    phase: what to train.
    tx: the phase's optimizer.
    variables: collections of the network that the phase trains, or their
      shapes.
    teacher: the teacher's; `{}` if the phase does not read it.

  Returns:
    Shapes of the state, the frozen variables, the teacher and the key.
  """
  trained, frozen = split_variables(variables, phase.trains)

  state, rng = jax.eval_shape(
      lambda trained: (
          first_state(phase, trained, tx), phases.make_rng(0, phase.name)
      ),
      trained,
  )
  return state, frozen, teacher, rng


def train_phase(
    phase: phases.Phase,
    variables: Variables,
    teacher: Variables,
    split: Split,
    *,
    step: PhaseStep,
    programs: Programs,
    config: ml_collections.ConfigDict,
    checkpoints: PhaseCheckpoints,
    log: MetricsLog,
    validate: Callable[[Variables], dict[str, float]] | None,
) -> tuple[Variables, float]:
  """Trains one phase, from its newest checkpoint if it has one.

  Args:
    phase: what to train.
    variables: collections of the network that the phase trains.
    teacher: collections of the frozen teacher; `{}` if it is not read.
    split: training examples.
    step: the phase's step, as `make_step` returns it.
    programs: compiles the step, unless it has done so already.
    config: the whole configuration.
    checkpoints: the phase's checkpoints.
    log: receives metrics.
    validate: if not None, measures accuracies after each epoch.

  Returns:
    The network's collections after the phase, and the wall seconds it took.

  Raises:
    UsageError: a metric is not finite, a checkpoint does not fit, or the
      processes of a job have other weights.
    Preempted: the run was asked to stop; the phase is saved.
  """
  state, frozen = start(phase, variables, step, checkpoints)
  _check_same_weights(phase, (state, frozen, teacher))
  first_step = int(state.step)
  started = time.monotonic() - log.rewind(phase.name, first_step)

  def record(number: int, values: dict[str, float]) -> None:
    log.write(phase.name, number, time.monotonic() - started, values)

  rng = phases.make_rng(config.seed, phase.name)
  state, *constants = devices.replicate((state, frozen, teacher, rng))
  if not step.num_steps:
    checkpoints.save(state)
    return merged(frozen, state), time.monotonic() - started
  with compiling(phase.name):
    program = programs.compiled(step.program)
  if first_step and first_step % step.epoch_steps == 0:
    validate_if_missing(
        phase, first_step, merged(frozen, state), log, validate
    )
  progress = Progress(
      phase.name,
      first_step=first_step,
      num_steps=step.num_steps,
      batch_size=phase.settings.batch_size,
  )
  with preemption.NOTICE.held(), progress:
    steps = range(first_step, step.num_steps)
    batches = _batches(phase, split, steps, config.seed)
    done = _run_steps(program, state, constants, batches)
    for number, (state, metrics) in enumerate(done, first_step + 1):
      progress.advance()
      last = number == step.num_steps
      stop = preemption.NOTICE.reached()
      save = last or stop or number % config.checkpoint.every_steps == 0
      ends_epoch = last or number % step.epoch_steps == 0
      saved = f'Phase {phase.name!r} is saved at step {number}.'
      if save or ends_epoch or number % config.log_every_steps == 0:
        values = finite_values(phase, number, metrics)
        record(number, values)
        progress.show({'loss': values['loss']})
      if save:
        checkpoints.save(state)
      if stop:  # At once, before validation: there is little time left.
        raise preemption.Preempted(saved)
      if validate and ends_epoch:
        try:
          with preemption.NOTICE.released():
            accuracies = validate(merged(frozen, state))
        except preemption.Preempted:
          if not save:
            checkpoints.save(state)
          raise preemption.Preempted(saved) from None
        record(number, accuracies)
  return merged(frozen, state), time.monotonic() - started


def _check_same_weights(phase: phases.Phase, arrays: Any) -> None:
  """Raises UsageError unless all processes start a phase from equal arrays.

  A device averages its gradients with others, whatever weights they have.
  """
  if jax.process_count() > 1:
    processes.check_agreed(
        f'the weights that phase {phase.name!r} starts from (a checksum)',
        str(trees.checksum(arrays)),
        'hosts of one kind, with equal files of config.teacher.weights and '
        'config.reuse',
    )


def validate_if_missing(
    phase: phases.Phase,
    step: int,
    variables: Variables,
    log: MetricsLog,
    validate: Callable[[Variables], dict[str, float]] | None,
) -> bool:
  """Measures and logs the accuracies of a step that has been saved without.

  A run that is asked to stop at the end of an epoch leaves at once.

  Args:
    phase: the phase that trained.
    step: steps done in the phase.
    variables: collections of its network.
    log: receives the accuracies.
    validate: measures them; None: nothing is done.

  Returns:
    Whether they were missing.
  """
  if not validate:
    return False
  if not processes.any_of(not log.has_accuracies(phase.name, step)):
    return False
  seconds = log.rewind(phase.name, step)  # Begins TensorBoard's files anew.
  with compiling(phase.name):
    accuracies = validate(variables)
  log.write(phase.name, step, seconds, accuracies)
  return True


def _batches(
    phase: phases.Phase, split: Split, steps: range, seed: int
) -> Iterator[Batch]:
  """Yields this process's share of the batches of some steps of a phase."""
  return pipeline.train_batches(
      split,
      batch_size=phase.settings.batch_size,
      seed=seed,
      phase=phase.name,
      steps=steps,
      num_devices=jax.local_device_count(),
      process=processes.here(),
  )


def _run_steps(
    program: Callable[..., tuple[TrainState, Metrics]],
    state: TrainState,
    constants: list[Any],
    batches: Iterator[Batch],
) -> Iterator[tuple[TrainState, Metrics]]:
  """Yields the state and metrics after each batch, as soon as it is dispatched.

  The devices may be up to `STEPS_AHEAD` steps behind.
  """
  # Puts the next batches on the devices while a step runs.
  ahead = pipeline.prefetch(map(devices.to_devices, batches))
  running: collections.deque[Metrics] = collections.deque()
  for batch in ahead:
    state, metrics = program(state, *constants, batch)
    running.append(metrics)
    if len(running) > STEPS_AHEAD:
      jax.block_until_ready(running.popleft())
    yield state, metrics


def start(
    phase: phases.Phase,
    variables: Variables,
    step: PhaseStep,
    checkpoints: PhaseCheckpoints,
) -> tuple[TrainState, Variables]:
  """Returns the state that a phase starts or resumes from, and what is frozen.

  Args:
    phase: what to train.
    variables: collections of the network that the phase trains.
    step: the phase's step, as `make_step` returns it.
    checkpoints: the phase's checkpoints.

  Returns:
    The state, from the newest checkpoint if there is one; and the collections
    that the phase does not train.
  """
  trained, frozen = split_variables(variables, phase.trains)
  state = first_state(phase, trained, step.tx)
  latest = checkpoints.latest_step()
  processes.check_agreed(f'the checkpoint of {phase.name!r}', str(latest))
  if latest is not None:
    state = checkpoints.restore(state)
    if latest and step.num_steps and processes.is_writer():
      print(
          f'{phase.name}: resumes from step {latest}/{step.num_steps}.',
          file=sys.stderr,
      )
  return state, frozen


def first_state(
    phase: phases.Phase, trained: Variables, tx: optax.GradientTransformation
) -> TrainState:
  """Returns the state before the first step of a phase.

  Args:
    phase: what to train.
    trained: collections of the part that the phase trains.
    tx: the phase's optimizer.

  Returns:
    The state at step 0.
  """
  average: Variables = {}
  if phase.average_decay is not None:  # A copy: the old state is donated.
    average = jax.tree.map(jnp.copy, trained)
  # All optimizers start from zeros; to make these, JAX would compile a program
  # for each shape.
  shapes = jax.eval_shape(tx.init, trained['params'])
  return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=trained['params'],
      batch_stats=trained.get('batch_stats', {}),
      opt_state=jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes),
      average=average,
  )


def merged(frozen: Variables, state: TrainState) -> Variables:
  """Merges a network's frozen collections with the trained ones of a state."""
  return trees.merge(frozen, jax.device_get(state.trained))


def finite_values(
    phase: phases.Phase, step: int, metrics: Metrics
) -> dict[str, float]:
  """Fetches metrics; raises UsageError if one of them is not finite."""
  values = {name: float(value) for name, value in metrics.items()}
  bad = [name for name, value in values.items() if not np.isfinite(value)]
  if bad:
    raise UsageError(
        f'{bad[0]} is {values[bad[0]]} at step {step} of phase {phase.name!r} '
        '(checked every config.log_every_steps steps); expected a finite '
        'number. Nothing of this step was saved. Try a lower '
        f'--config.{phase.section}.learning_rate in a new workdir.'
    )
  return values
