# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Training phases as data: what trains, on what, against what, for how long."""

import dataclasses
import zlib

import jax
import ml_collections
import optax

from adaptanet_jax import trees
from adaptanet_jax.models.resnet import BACKBONE, stage_name, stage_numbers
from adaptanet_jax.models.subnet import NUM_STAGES
from adaptanet_jax.training.mdsr import SubnetSpace

# What a run does, in order; `config.phases` names some of them.
GROUPS = ('teacher', 'cascade', 'lock_in', 'evaluation')


@dataclasses.dataclass(frozen=True)
class Phase:
  """One stretch of training with one trained part, loss and optimizer.

  Attributes:
    name: unique; also the folder of its checkpoints.
    group: one of `GROUPS`.
    network: 'teacher' or 'student', the network whose part is trained.
    trains: path prefixes of the trained part of that network's parameters.
    space: the subnets that are trained; None for the full network alone.
    prefix: what feeds the first trained stage: 'student' or 'teacher'.
    settings: the section of the configuration with batch size and optimizer.
    epochs: passes over the training split.
  """

  name: str
  group: str
  network: str
  trains: tuple[str, ...]
  space: SubnetSpace | None
  prefix: str
  settings: ml_collections.FrozenConfigDict
  epochs: float


def build_phases(config: ml_collections.ConfigDict) -> tuple[Phase, ...]:
  """Returns every training phase of a run, in order."""
  teacher = Phase(
      name='teacher',
      group='teacher',
      network='teacher',
      trains=(BACKBONE,),
      space=None,
      prefix='teacher',
      settings=ml_collections.FrozenConfigDict(config.teacher),
      epochs=config.teacher.epochs,
  )
  cascade = [
      Phase(
          name=f'cascade{n}',
          group='cascade',
          network='student',
          trains=_module_parts(n),
          space=SubnetSpace(n, n),
          prefix=config.cascade.input,
          settings=ml_collections.FrozenConfigDict(config.cascade),
          epochs=config.cascade.epochs[n - 1],
      )
      for n in stage_numbers()
  ]
  lock_in = Phase(
      name='lock_in',
      group='lock_in',
      network='student',
      trains=(BACKBONE,),
      space=SubnetSpace(1, NUM_STAGES),
      prefix='student',
      settings=ml_collections.FrozenConfigDict(config.lock_in),
      epochs=config.lock_in.epochs,
  )
  return (teacher, *cascade, lock_in)


def _module_parts(number: int) -> tuple[str, ...]:
  """M1 = stem + stage 1, M2, M3, M4 = stage 4 + classifier."""
  parts = [stage_name(number)]
  if number == 1:
    parts = ['stem', *parts]
  if number == NUM_STAGES:
    parts = [*parts, 'head']
  return tuple(f'{BACKBONE}/{part}' for part in parts)


def num_steps(phase: Phase, steps_per_epoch: int) -> int:
  """Returns the length of a phase; a part of an epoch counts as given."""
  return max(1, round(phase.epochs * steps_per_epoch))


def make_optimizer(
    settings: ml_collections.FrozenConfigDict, *, steps: int,
    steps_per_epoch: int,
) -> optax.GradientTransformation:
  """Builds the optimizer of a phase.

  Args:
    settings: section with `optimizer` ('adam' or 'sgd'), `learning_rate`,
      `schedule` ('constant' or 'cosine'), `warmup_epochs` and, for 'sgd',
      `momentum` and `weight_decay`.
    steps: length of the phase.
    steps_per_epoch: steps in an epoch of the phase.

  Returns:
    A gradient transformation.
  """
  warmup = round(settings.warmup_epochs * steps_per_epoch)
  peak = settings.learning_rate
  if settings.schedule == 'cosine':
    main = optax.cosine_decay_schedule(peak, max(1, steps - warmup))
  else:
    main = optax.constant_schedule(peak)
  ramp = optax.linear_schedule(peak / (warmup + 1), peak, max(1, warmup))
  rate = optax.join_schedules([ramp, main], [warmup])
  if settings.optimizer == 'adam':
    return optax.adam(rate)
  return optax.chain(
      # Convolution and classifier kernels only, as in slimmable networks.
      optax.add_decayed_weights(settings.weight_decay, mask=_kernels),
      optax.sgd(rate, momentum=settings.momentum, nesterov=True),
  )


def make_rng(seed: int, phase: Phase) -> jax.Array:
  """Returns the key that everything random in a phase's steps comes from."""
  return jax.random.fold_in(
      jax.random.key(seed), zlib.crc32(phase.name.encode())
  )


def _kernels(params: trees.Tree) -> trees.Tree:
  return jax.tree_util.tree_map_with_path(
      lambda path, _: path[-1].key == 'kernel', params
  )
