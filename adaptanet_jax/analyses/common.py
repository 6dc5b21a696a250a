# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Code that analyses share, such as predictions that survive interruptions."""

from collections.abc import Mapping
import os
import shutil
from typing import Any

import jax
import ml_collections
import numpy as np

from adaptanet_jax import processes, programs, trees
from adaptanet_jax.data import pipeline
from adaptanet_jax.data.dataset import Dataset
from adaptanet_jax.data.splits import Split
from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation import protocols
from adaptanet_jax.models.gates import GATES, GateSet
from adaptanet_jax.models.parts import Variables
from adaptanet_jax.programs import Program
from adaptanet_jax.workdir import Paths, read_json, write_json
from adaptanet_jax.workspace import Workspace


def program(
    work: Workspace,
    predictor: protocols.Predictor,
    variables: Variables,
    *more: Any,
    runs_long: bool = False,
) -> Program:
  """Returns a predictor with the run's batch shape; see `protocols.program`."""
  return protocols.program(
      predictor, variables, image_shapes(work), *more, runs_long=runs_long
  )


def image_shapes(work: Workspace) -> jax.ShapeDtypeStruct:
  """Returns the shape of a batch of images in evaluation.

  Raises:
    UsageError: it does not split evenly among the devices. The plan checks this
      only if a phase trains or an evaluation was asked for, but a phase that is
      restored may lack its accuracies.
  """
  batch_size = work.config.evaluation.batch_size
  pipeline.check_batch_size(
      'config.evaluation.batch_size', batch_size, jax.device_count()
  )
  return programs.image_shapes(work.dataset.test, batch_size)


def predict(
    work: Workspace,
    program: Program,
    variables: Variables,
    split: Split,
    *more: Any,
    keep: tuple[str, ...] = (),
) -> dict[str, np.ndarray]:
  """Runs a predictor over a split; see `protocols.predict`.

  Args:
    work: the run.
    program: the predictor's program.
    variables: collections of its network.
    split: examples.
    *more: its further arguments.
    keep: names of the analysis and, if it runs several predictors, of the part;
      the outputs are then saved batch by batch until the analysis is done, and
      progress is shown under these names. Empty: nothing is saved.

  Returns:
    Arrays by name, `[..., N]`.
  """
  folder = None
  if keep:
    unfinished = Paths(work.workdir).unfinished(keep[0])
    folder = os.path.join(unfinished, '-'.join(keep))
  return protocols.predict(
      work.programs.compiled(program),
      variables,
      split,
      work.config.evaluation.batch_size,
      *more,
      keep=folder,
  )


class Unfinished:
  """The saved partial results of an analysis that was interrupted, if any.

  Attributes:
    seconds: wall seconds that the analysis has taken so far.
  """

  def __init__(
      self, work: Workspace, analysis: str, depends: Mapping[str, Any]
  ) -> None:
    """Drops partial results made with other weights or settings than now.

    Args:
      work: the run.
      analysis: name of the analysis.
      depends: the settings and the environment that its results depend on.
    """
    self._folder = Paths(work.workdir).unfinished(analysis)
    self._path = os.path.join(self._folder, 'made.json')
    self._made = {
        **depends,
        'batch_size': work.config.evaluation.batch_size,
        'weights': trees.checksum(work.variables),
    }
    self.seconds = 0.0
    if processes.is_writer():
      found = {}
      if os.path.exists(self._path):
        found = read_json(self._path)
      seconds = found.pop('seconds', 0.0)
      if found == self._made:
        self.seconds = seconds
      else:
        self.drop()
    self.note(self.seconds)
    processes.wait(f'what is unfinished of {analysis} is known')

  def note(self, seconds: float) -> None:
    """Saves the seconds that the analysis has taken so far."""
    if processes.is_writer():
      os.makedirs(self._folder, exist_ok=True)
      write_json(self._path, self._made | {'seconds': seconds})

  def drop(self) -> None:
    """Removes the partial results: they are complete or outdated."""
    drop_folder(self._folder)


def drop_folder(path: str) -> None:
  """Removes a folder, if it is there."""
  if processes.is_writer() and os.path.exists(path):
    shutil.rmtree(path)


def policy_split(work: Workspace) -> Split:
  """Returns the examples that policies are made from."""
  if work.config.policies.examples == 'held_out':
    assert work.dataset.held_out, '`check_held_out` has been called.'
    return work.dataset.held_out
  return training_share(work)


def check_held_out(
    config: ml_collections.ConfigDict, dataset: Dataset
) -> None:
  """Raises UsageError if policies would be made from no example."""
  if config.policies.examples == 'held_out' and not dataset.held_out:
    raise UsageError(
        f'config.data.held_out = {config.data.held_out} holds out none of '
        f'{len(dataset.train)} examples; expected more of them, or '
        '--config.policies.examples=training.'
    )


def training_share(work: Workspace) -> Split:
  """Returns the training examples that the paper makes policies from."""
  train, config = work.dataset.train, work.config
  count = max(1, round(config.policies.training_share * len(train)))
  rng = np.random.default_rng((config.seed, count))
  return train.subset(rng.permutation(len(train))[:count])


def gates_of(work: Workspace, variables: Any) -> GateSet | None:
  """Returns the run's gates if the variables (or shapes) include them."""
  return work.gates if GATES in variables['params'] else None
