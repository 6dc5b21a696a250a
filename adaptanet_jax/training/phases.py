# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Training phases as data: what trains, on what, against what, for how long.

A phase trains one part from its first step to its last, and has checkpoints of
its own. Its settings are a section of the configuration; the four phases of a
cascade share one. A group is what `config.phases` selects, and what users call
a phase: the cascade, the deltas with their cascade and lock-in, an analysis.
"""

from collections.abc import Collection
import dataclasses
import functools
from typing import Any

import jax
import ml_collections

from adaptanet_jax.data import pipeline
from adaptanet_jax.models.gates import GATES, GateSet
from adaptanet_jax.models.resnet import (
  BACKBONE,
  DELTA,
  ResNet,
  stage_name,
  stage_numbers,
)
from adaptanet_jax.models.subnet import NUM_STAGES
from adaptanet_jax.training import objectives
from adaptanet_jax.training.baseline_methods import METHODS
from adaptanet_jax.training.baselines import baseline_gradients
from adaptanet_jax.training.forward import Networks
from adaptanet_jax.training.mdsr import SubnetSpace, Weighting


@dataclasses.dataclass(frozen=True)
class Phase:
  """One stretch of training with one trained part, loss and optimizer.

  Attributes:
    name: unique; also the folder of its checkpoints.
    section: dotted key of `settings` in the configuration.
    settings: batch size, optimizer and other settings of the phase.
    epochs: passes over the training split.
    trains: paths of the trained part of its network's parameters.
    network: 'teacher' or 'student', the network whose part is trained.
    parts: parts of that network that exist so far: the backbone, and later the
      deltas and the gates.
    space: the subnets that are run; None for the full network only, and for a
      baseline, whose method draws them.
    input_from: whose anchor the first trained stage reads, 'student' or
      'teacher'; only read if `space` starts after stage 1.
    average_decay: decay of the network's moving average, which then is its
      teacher; None: there is none.
  """

  name: str
  section: str
  settings: ml_collections.FrozenConfigDict
  epochs: float
  trains: tuple[str, ...]
  network: str = 'student'
  parts: tuple[str, ...] = (BACKBONE,)
  space: SubnetSpace | None = None
  input_from: str = 'student'
  average_decay: float | None = None

  @property
  def group(self) -> str:
    """The name in `config.phases`; `cascade` for `cascade1` to `cascade4`."""
    return group_of(self.section)

  @property
  def loss(self) -> str:
    """What trains it, see `Section`."""
    return SECTIONS[self.section].loss

  @property
  def reads_teacher(self) -> bool:
    """Whether a step reads the frozen teacher."""
    return self.loss == 'anchors'

  def network_of(self, nets: Networks) -> ResNet:
    """Returns the network that trains, with the parts that exist so far."""
    if self.network == 'teacher':
      return nets.teacher
    return nets.student_with(delta=DELTA in self.parts)

  def epoch_steps(self, num_examples: int) -> int:
    """Returns the number of full batches in an epoch.

    Each epoch draws its batches from a new permutation, so the partial batch
    that is dropped has different examples each time.

    Args:
      num_examples: number of examples in the training split.
    """
    return num_examples // self.settings.batch_size

  def num_steps(self, num_examples: int) -> int:
    """Returns the number of steps of the phase; epochs may be fractional."""
    if not self.epochs:  # A teacher that is used as it is.
      return 0
    return max(1, round(self.epochs * self.epoch_steps(num_examples)))


# By part: the phases after which it can first be run.
RUNS_AFTER = {
    BACKBONE: ('cascade4', 'baseline'),
    # Substitutes can be run only once all stages have them.
    DELTA: ('delta_cascade4',),
}

_DATA = tuple(
    f'data.{key}'
    for key in (
        'name',
        'train_split',
        'test_split',
        'image_size',
        'shorter_side',
        'train_examples',
        'test_examples',
        'held_out',
        'augment',
        'fake_if_missing',
        'fake_classes',
    )
)
_FIRST = ('seed', *_DATA, 'model.architecture', 'model.stem')


@dataclasses.dataclass(frozen=True)
class Section:
  """A section of the configuration, with settings of training phases.

  Attributes:
    depends: prefixes of the dotted keys of the settings that decide what its
      phases train; those of earlier sections decide it, too.
    loss: what trains them: 'labels', 'anchors' (Eq. 1 to 3), 'gates' (Eq. 4) or
      'baseline'.
  """

  depends: tuple[str, ...]
  loss: str = 'anchors'


# In the order of training.
SECTIONS = {
    'teacher': Section((*_FIRST, 'baseline.network', 'teacher.'), 'labels'),
    'cascade': Section(('model.', 'mdsr.', 'cascade.')),
    'lock_in': Section(('lock_in.',)),
    'delta.cascade': Section(('delta.kind', 'delta.cascade.')),
    'delta.lock_in': Section(('delta.lock_in.',)),
    'joint': Section(('joint.',)),
    'gates': Section(('gates.',), 'gates'),
    'baseline': Section((*_FIRST, 'model.norm', 'baseline.'), 'baseline'),
}


def can_run(part: str, trained: Collection[str]) -> bool:
  """Returns whether a part can be run after the phases of these names."""
  return not {*RUNS_AFTER[part]}.isdisjoint(trained)


def dependencies(
    config: ml_collections.ConfigDict, up_to: str = ''
) -> tuple[str, ...]:
  """Returns the settings that decide what a run trains.

  Args:
    config: the whole configuration.
    up_to: section of the last phase that counts; empty: all of them.

  Returns:
    Prefixes of their dotted keys.
  """
  order = [*SECTIONS]
  counted = order[: order.index(up_to) + 1] if up_to else order
  return tuple(
      key
      for section in sections_of(config)
      if section in counted
      for key in SECTIONS[section].depends
  )


def group_of(section: str) -> str:
  """Returns the name in `config.phases` of a section's phases."""
  return section.split('.')[0]


def sections_of(config: ml_collections.ConfigDict) -> tuple[str, ...]:
  """Returns the configuration's sections for a run's training phases."""
  is_baseline = bool(config.baseline.network)
  return tuple(
      section
      for section in SECTIONS
      if (section == 'baseline') == is_baseline
      and (section != 'joint' or config.joint.epochs)
  )


def section_of(
    config: ml_collections.ConfigDict, section: str
) -> ml_collections.ConfigDict:
  """Returns the section of a configuration at a dotted key."""
  for key in section.split('.'):
    config = config[key]
  return config


def build_phases(config: ml_collections.ConfigDict) -> tuple[Phase, ...]:
  """Returns every training phase of a run, in order."""
  if config.baseline.network:
    return (_baseline(config),)
  everything = SubnetSpace(1, NUM_STAGES)
  joint = dataclasses.replace(everything, vary='joint')
  deltas = (BACKBONE, DELTA)
  phases = (
      _phase(
          config,
          'teacher',
          network='teacher',
          trains=(BACKBONE,),
      ),
      *_cascade(config, 'cascade', (BACKBONE,), 'width'),
      _phase(config, 'lock_in', trains=(BACKBONE,), space=everything),
      *_cascade(config, 'delta.cascade', deltas, 'delta'),
      _phase(
          config,
          'delta.lock_in',
          parts=deltas,
          trains=(DELTA,),
          space=dataclasses.replace(everything, vary='delta'),
      ),
      _phase(config, 'joint', parts=deltas, trains=deltas, space=joint),
      _phase(
          config,
          'gates',
          parts=(*deltas, GATES),
          trains=(GATES,),
          space=joint,
      ),
  )
  return tuple(p for p in phases if p.section in sections_of(config))


def _phase(
    config: ml_collections.ConfigDict, section: str, **fields: Any
) -> Phase:
  settings = ml_collections.FrozenConfigDict(section_of(config, section))
  defaults = {'name': section.replace('.', '_'), 'epochs': settings.epochs}
  return Phase(section=section, settings=settings, **(defaults | fields))


def _baseline(config: ml_collections.ConfigDict) -> Phase:
  settings = config.baseline
  averaged = METHODS[settings.network].moving_average
  return _phase(
      config,
      'baseline',
      trains=(BACKBONE,),
      average_decay=settings.average_decay if averaged else None,
  )


def _cascade(
    config: ml_collections.ConfigDict,
    section: str,
    parts: tuple[str, ...],
    vary: str,
) -> list[Phase]:
  """Returns the phases that train the last of `parts`, module by module."""
  settings = section_of(config, section)
  return [
      _phase(
          config,
          section,
          name=f'{section.replace(".", "_")}{n}',
          parts=parts,
          trains=_module_parts(n, parts[-1]),
          space=SubnetSpace(n, n, vary),
          input_from=settings.input,
          epochs=settings.epochs[n - 1],
      )
      for n in stage_numbers()
  ]


def _module_parts(number: int, part: str) -> tuple[str, ...]:
  """Returns the paths of one of the modules M1 to M4 in a part.

  In the backbone, M1 = stem + stage 1 and M4 = stage 4 + classifier; among the
  delta substitutes, module n is that of stage n.
  """
  names = [stage_name(number)]
  if part == BACKBONE and number == 1:
    names = ['stem', *names]
  if part == BACKBONE and number == NUM_STAGES:
    names = [*names, 'head']
  return tuple(f'{part}/{name}' for name in names)


def objective_for(
    config: ml_collections.ConfigDict,
    phase: Phase,
    nets: Networks,
    gates: GateSet,
    *,
    num_examples: int,
) -> objectives.Objective:
  """Returns the function that computes the gradients of a phase.

  Args:
    config: the whole configuration.
    phase: a phase of this configuration.
    nets: the run's networks.
    gates: the run's gates.
    num_examples: number of examples in the training split.

  Returns:
    The objective for `loop.make_step`.
  """
  net = phase.network_of(nets)
  folded, settings = net.folded, phase.settings
  objective: objectives.Objective
  if phase.loss == 'baseline':
    objective = functools.partial(
        baseline_gradients,
        net=folded,
        method=METHODS[settings.network],
        label_smoothing=settings.label_smoothing,
        ensemble=settings.ensemble,
    )
  elif phase.loss == 'labels':
    objective = functools.partial(
        objectives.label_gradients,
        net=folded,
        label_smoothing=settings.label_smoothing,
    )
  elif phase.loss == 'gates':
    assert phase.space, phase.name
    objective = functools.partial(
        objectives.gate_gradients,
        net=folded,
        gates=gates,
        space=phase.space,
        num_random=config.mdsr.num_random,
        divergence=settings.divergence,
    )
  else:
    assert phase.space, phase.name
    soft_from = 0
    if soft_epochs := config.mdsr.soft_epochs:
      soft_steps = round(soft_epochs * phase.epoch_steps(num_examples))
      soft_from = max(0, phase.num_steps(num_examples) - max(1, soft_steps))
    objective = functools.partial(
        objectives.anchor_gradients,
        nets=Networks(nets.teacher.folded, folded),
        space=phase.space,
        input_from=phase.input_from,
        num_random=config.mdsr.num_random,
        weighting=Weighting(
            config.mdsr.teacher_weight,
            soft_weight=settings.soft_weight,
            soft_from=soft_from,
        ),
    )
  # The teacher of a baseline, if any, is its own moving average.
  teacher = nets.teacher if phase.reads_teacher else net
  return objectives.folding(objective, net, teacher)


def make_rng(seed: int, name: str) -> jax.Array:
  """Returns the key of what is drawn for a phase, or a part, of that name."""
  return jax.random.fold_in(jax.random.key(seed), pipeline.phase_key(name))
