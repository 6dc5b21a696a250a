# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Latency, power and energy: Table I, and every subnet's from a stage table.

What is timed does not depend on the values of parameters, so nothing need be
trained.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax.evaluation import latency, subnet_table
from adaptanet_jax.models.resnet import ResNet
from adaptanet_jax.models.subnet import (
  LARGEST,
  NUM_STAGES,
  UNIFORM_DELTA,
  Subnet,
)
from adaptanet_jax.workspace import Workspace

# Random subnets that the sum over stages is checked on.
_NUM_CHECKED = 16


def _networks(space: Workspace) -> dict[str, tuple[ResNet, Subnet]]:
  """Returns the rows of Table I."""
  # As they are deployed, with what can be done once for all images done.
  teacher, student = space.nets.teacher.folded, space.nets.student.folded
  by_norm = {
      name: (dataclasses.replace(teacher, norm=norm), LARGEST)
      for name, norm in (
          ('batch_norm', 'bn'),
          ('layer_norm', 'ln'),
          ('group_norm', 'gn'),
      )
  }
  return by_norm | {
      'teacher': (teacher, LARGEST),
      'delta': (student, UNIFORM_DELTA[0]),
  }


def _programs(space: Workspace) -> dict[str, tuple[Any, ...]]:
  """Returns what is timed: a program and the shapes of its arguments."""
  batch_size = space.config.latency.batch_size
  images = latency.image_shape(space.nets.student, batch_size)
  rows: dict[str, tuple[Any, ...]] = {
      name: (latency.static_program(net, subnet), net.shapes(), images)
      for name, (net, subnet) in _networks(space).items()
  }
  student = space.nets.student.folded
  rows['supernet'] = (
      latency.switched_program(student),
      student.shapes(),
      images,
      jax.ShapeDtypeStruct((NUM_STAGES,), np.int32),
  )
  return rows


def compile_ahead(space: Workspace) -> None:
  """Has compiled all that is timed."""
  for program in _programs(space).values():
    space.programs.ahead(*program)


def measure_latency(space: Workspace) -> None:
  """Times the networks of Table I and every choice of every stage."""
  config = space.config
  runs = {
      name: functools.partial(
          space.programs.compiled(*program),
          *jax.tree.map(_random, program[1:3]),
      )
      for name, program in _programs(space).items()
  }
  supernet = runs.pop('supernet')
  runs['supernet x1.0'] = functools.partial(
      supernet, jnp.asarray(LARGEST.encode())
  )
  measured = latency.measure(list(runs.values()), num_runs=config.latency.runs)
  norms = {name: net.norm for name, (net, _) in _networks(space).items()}
  rows = [
      {
          'network': name,
          'norm': norms.get(name, space.nets.student.norm),
          'batch': config.latency.batch_size,
      }
      | row
      for name, row in zip(runs, measured)
  ]
  net = space.nets.student
  base, added = latency.stage_table(net, supernet, num_runs=config.latency.runs)
  every = _sums(base, added)
  subnets = np.random.default_rng(0).integers(
      0, len(net.choices), (_NUM_CHECKED, NUM_STAGES)
  )
  checked = latency.measure(
      [
          functools.partial(supernet, jnp.asarray(subnet, jnp.int32))
          for subnet in subnets
      ],
      num_runs=config.latency.runs,
  )
  errors = [
      every[tuple(subnet)] / row['ms_median'] - 1.0
      for subnet, row in zip(subnets, checked)
  ]
  space.results.update(
      latency=rows,
      stage_latency={
          'batch': config.latency.batch_size,
          'largest_ms': base,
          'added_ms': added.tolist(),
          'median_error': float(np.median(np.abs(errors))),
          'checked_subnets': _NUM_CHECKED,
      },
  )
  add_column(space)


def add_column(space: Workspace) -> None:
  """Adds the latency of every subnet to their table, if both are there."""
  if stages := space.results.values.get('stage_latency'):
    every = _sums(stages['largest_ms'], np.array(stages['added_ms']))
    subnet_table.add_column(space.workdir, 'latency_ms', every)


def _sums(base: float, added: np.ndarray) -> np.ndarray:
  """Returns `float[K, K, K, K]` of what the choices of stages add to a base."""
  return base + functools.reduce(np.add, np.ix_(*added))


def _random(shape: jax.ShapeDtypeStruct) -> jax.Array:
  values = np.random.default_rng(0).standard_normal(shape.shape, np.float32)
  # Variances among them.
  return jnp.asarray(np.abs(values), shape.dtype)
