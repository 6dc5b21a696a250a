# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What all analyses share: predictions of a split, the table of all subnets."""

from collections.abc import Mapping
import dataclasses
import os
import shutil
from typing import Any

import numpy as np

from adaptanet_jax import processes
from adaptanet_jax.data.splits import Split
from adaptanet_jax.evaluation import protocols, results as results_lib
from adaptanet_jax.models.gates import GATES, GateSet
from adaptanet_jax.models.resnet import Variables
from adaptanet_jax.models.routing import ROUTING_GATES
from adaptanet_jax.models.subnet import Subnet
from adaptanet_jax.workspace import Workspace


def compile_ahead(
    space: Workspace,
    predictor: protocols.Predictor,
    variables: Variables,
    *more: Any,
) -> None:
  """Has a predictor compiled in the background, for any split of the run."""
  protocols.compile_ahead(
      space.programs,
      predictor,
      variables,
      space.dataset.test,
      space.config.evaluation.batch_size,
      *more,
  )


def predict(
    space: Workspace,
    predictor: protocols.Predictor,
    variables: Variables,
    split: Split,
    *more: Any,
    keep: str = '',
) -> dict[str, np.ndarray]:
  """Runs a predictor over a split; see `protocols.predict`.

  Args:
    space: the run.
    predictor: what to run.
    variables: collections of its network.
    split: examples.
    *more: its further arguments.
    keep: a name of its own for what takes long: kept batch by batch until the
      analysis is done, and shown as it goes.

  Returns:
    Arrays by name, `[..., N]`.
  """
  folder = results_lib.unfinished_path(space.workdir)
  return protocols.predict(
      space.programs,
      predictor,
      variables,
      split,
      space.config.evaluation.batch_size,
      *more,
      keep=os.path.join(folder, keep) if keep else None,
  )


def take_up(space: Workspace, settings: Mapping[str, Any]) -> None:
  """Keeps what an analysis that was cut off has found, if it was this one.

  Args:
    space: the run.
    settings: all that what it finds depends on.
  """
  path = os.path.join(
      results_lib.unfinished_path(space.workdir), 'settings.json'
  )
  if processes.is_writer():
    if not os.path.exists(path) or results_lib.read_json(path) != settings:
      drop_unfinished(space)
      os.makedirs(os.path.dirname(path))
      results_lib.write_json(path, settings)
  processes.wait('what is unfinished is known')


def drop_unfinished(space: Workspace) -> None:
  """Removes what analyses have kept until they are done."""
  if processes.is_writer():
    shutil.rmtree(
        results_lib.unfinished_path(space.workdir), ignore_errors=True
    )


def calibration_split(space: Workspace) -> Split:
  """Returns the share of the training examples that policies are made from."""
  train = space.dataset.train
  count = max(1, round(space.config.policies.calibration * len(train)))
  rng = np.random.default_rng((space.config.seed, count))
  return train.subset(rng.permutation(len(train))[:count])


def gates_of(space: Workspace, variables: Any) -> GateSet | None:
  """Returns the gates that some variables (or their shapes) have, if any."""
  return space.gates if GATES in variables['params'] else None


def routing_gates(gates: GateSet | None) -> GateSet | None:
  """Returns the gates that policies read; None if one of them is missing."""
  if not gates or not set(ROUTING_GATES) <= set(gates.anchors):
    return None
  return dataclasses.replace(gates, anchors=ROUTING_GATES)


def add_column(space: Workspace, name: str, values: np.ndarray) -> None:
  """Adds a column to the table of all subnets, if there is one.

  Args:
    space: the run.
    name: of the column.
    values: `float[K, K, K, K]`, of the subnets by their codes.
  """
  rows = results_lib.read_subnets(space.workdir)
  for row in rows:
    code = Subnet.parse(row['subnet']).encode()
    row[name] = float(values[tuple(code)])
  if rows:
    results_lib.write_csv(results_lib.subnets_path(space.workdir), rows)
