# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The shared state of a run: configuration, data, networks, results."""

import dataclasses
import functools
import os
import subprocess
from typing import Any

import jax
import ml_collections

from adaptanet_jax import compiler, platforms, trees
from adaptanet_jax.data.dataset import Dataset, describe
from adaptanet_jax.devices import AXIS
from adaptanet_jax.evaluation.results import Results
from adaptanet_jax.models import importance
from adaptanet_jax.models.gates import GATES, GateSet
from adaptanet_jax.models.parts import Variables
from adaptanet_jax.models.resnet import DELTA, ResNet
from adaptanet_jax.programs import Programs
from adaptanet_jax.training.forward import Networks
from adaptanet_jax.training.phases import Phase, make_rng


@dataclasses.dataclass
class Workspace:
  """A run under way.

  Attributes:
    config: checked configuration.
    workdir: folder of the run.
    dataset: data of the run.
    nets: static halves of teacher and student.
    gates: static half of the Var Gates.
    variables: collections of 'teacher' and 'student', as trained so far. The
      student's include delta substitutes and gates once these are made.
    results: `results.json`.
    programs: compiled programs of the run.
    imported: variables that the teacher starts from instead of drawn ones.
    phases: names of the training phases that are done or will be.
  """

  config: ml_collections.ConfigDict
  workdir: str
  dataset: Dataset
  nets: Networks
  gates: GateSet
  variables: dict[str, Variables]
  results: Results
  programs: Programs
  imported: Variables
  phases: tuple[str, ...] = ()

  @property
  def supernet(self) -> ResNet:
    """The student, with delta substitutes once its variables have them."""
    return student_for(self.nets, self.variables['student'])

  def stamp(self) -> None:
    """Records in results.json what its figures were made with."""
    device = jax.devices()[0]
    self.results.update(
        config=self.config.name,
        git=_git_commit(),
        seed=self.config.seed,
        dataset=describe(self.dataset),
        device={
            'platform': device.platform,
            'kind': platforms.device_kind(),
            'count': jax.device_count(),
            'processes': jax.process_count(),
        },
        compute_dtype=self.nets.student.dtype,
        augmentation=self.config.data.augment,
    )


def create(
    config: ml_collections.ConfigDict,
    workdir: str,
    dataset: Dataset,
    programs: Programs,
    imported: Variables,
) -> Workspace:
  """Sets up a run."""
  nets, gates = networks(config, dataset.num_classes, dataset.image_shape)
  return Workspace(
      config=config,
      workdir=workdir,
      dataset=dataset,
      nets=nets,
      gates=gates,
      variables={},
      results=Results(workdir),
      programs=programs,
      imported=imported,
  )


def networks(
    config: ml_collections.ConfigDict,
    num_classes: int,
    image_shape: tuple[int, int, int],
) -> tuple[Networks, GateSet]:
  """Returns the static halves of a configuration's networks and gates.

  Args:
    config: the whole configuration.
    num_classes: number of classes.
    image_shape: `(H, W, C)` of the images.
  """
  dtype = config.compute_dtype
  if dtype == 'auto':
    dtype = platforms.auto_dtype()
  teacher = ResNet(
      architecture=config.model.architecture,
      stem=config.model.stem,
      norm=config.teacher.norm,
      num_classes=num_classes,
      image_shape=image_shape,
      dtype=dtype,
      axis_name=AXIS,
  )
  baseline = bool(config.baseline.network)
  student = dataclasses.replace(
      teacher,
      norm=config.model.norm,
      delta=None if baseline else config.delta.kind,
      anchors=not baseline,
  )
  gates = GateSet(
      anchors=tuple(config.gates.anchors),
      num_classes=num_classes,
      resolution=config.gates.resolution,
      axis_name=AXIS,
      confidence=config.policies.confidence,
  )
  return Networks(teacher, student), gates


def student_for(nets: Networks, variables: Variables) -> ResNet:
  """Returns the student, without delta substitutes if `variables` has none."""
  return nets.student_with(delta=DELTA in variables['params'])


def first_variables(work: Workspace, phase: Phase) -> Variables:
  """Returns the variables that a phase starts with, and keeps them in `work`.

  The variables of the network so far, if any, with new parts drawn at random.
  A resumed phase then loads its own parts from a checkpoint: see `loop.start`.
  """
  network = work.variables.get(phase.network)
  if network is None:
    network = _teacher(work) if phase.network == 'teacher' else _student(work)
  for part in phase.parts:
    if part not in network['params']:
      network = trees.merge(network, _draw(work, part))
  work.variables[phase.network] = network
  return network


def keep_trained(
    work: Workspace, phase: Phase, variables: Variables
) -> None:
  """Keeps the variables of a phase's network, once the phase is done.

  Its checkpoint has a teacher's channels in the order in which it was trained;
  what the later phases get is sorted, if `model.sort_channels` says so.
  """
  if phase.network == 'teacher' and work.config.model.sort_channels:
    variables = importance.sort_channels(work.nets.teacher, variables)
  work.variables[phase.network] = variables


def variable_shapes(
    nets: Networks, gates: GateSet, phase: Phase
) -> tuple[Any, Any]:
  """Returns the shapes of the variables of a phase's network and its teacher.

  The network's are those that `first_variables` will return for the phase.
  """
  net = phase.network_of(nets)
  variables = net.shapes()
  if GATES in phase.parts:
    variables = trees.merge(variables, gates.shapes(net.anchor_shapes))
  return variables, nets.teacher.shapes() if phase.reads_teacher else {}


def _teacher(work: Workspace) -> Variables:
  drawn = _init(work.nets.teacher.init, work.config.seed, 'teacher')
  return trees.merge(drawn, work.imported)


def _student(work: Workspace) -> Variables:
  """Returns the student's first backbone.

  With `model.init_from_teacher` and a teacher, it starts from the teacher's
  parameters where names and shapes match. This includes scales and offsets of
  norms of another kind; those of `bn_switchable` alone have another shape.
  """
  config, nets = work.config, work.nets
  teacher = work.variables.get('teacher')
  if teacher is None or not config.model.init_from_teacher:
    return _init(nets.student.init, config.seed, 'student')
  if nets.student.norm == nets.teacher.norm:
    return teacher
  own = _init(nets.student.init, config.seed, 'student')
  return trees.overlay(own, jax.device_get(nets.teacher.fold(teacher)))


def _draw(work: Workspace, part: str) -> Variables:
  student = work.nets.student
  init: Any = student.init_delta
  if part == GATES:
    shapes = student.anchor_shapes
    init = functools.partial(work.gates.init, anchor_shapes=shapes)
  return _init(init, work.config.seed, part)


def _init(init: Any, seed: int, name: str) -> Variables:
  # A key for each name: with a single one, a student that is trained from
  # scratch would start from the teacher's initial weights.
  compiled = compiler.jit(init, fast_compile=True)
  return jax.device_get(compiled(make_rng(seed, name)))


def _git_commit() -> str:
  """Returns the commit of this code, marked if changed, or 'unknown'."""
  here, name = os.path.split(os.path.abspath(__file__))
  path = os.path.join(here, 'commit.txt')
  if os.path.exists(path):
    with open(path, encoding='utf-8') as file:
      found = file.read().strip()
    if '$' not in found:  # `git archive` has put it in.
      return found[:12]
  for command in (
      # An installed copy is no part of the repository that it may lie in.
      ('ls-files', '--error-unmatch', name),
      ('describe', '--always', '--dirty', '--abbrev=12', '--exclude=*'),
  ):
    try:
      found = subprocess.run(
          ('git', '-C', here, *command),
          capture_output=True,
          text=True,
          check=True,
      ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # Or there is no git.
      return 'unknown'
  return found
