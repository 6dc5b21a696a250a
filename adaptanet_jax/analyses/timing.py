# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Latency, power and energy: Table I, and estimates for all subnets.

Times do not depend on the values of parameters, so no trained network is
needed.
"""

from collections.abc import Callable, Iterable
import dataclasses
import functools
from typing import Any

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import processes, trees
from adaptanet_jax.evaluation import latency, subnet_table
from adaptanet_jax.models import jitted
from adaptanet_jax.models.resnet import ResNet
from adaptanet_jax.models.subnet import (
  LARGEST,
  NUM_STAGES,
  UNIFORM_DELTA,
  Subnet,
)
from adaptanet_jax.programs import Program
from adaptanet_jax.workspace import Workspace

# Random subnets on which the sum over stages is checked, and its largest median
# relative error with which latencies of single subnets are reported.
_NUM_CHECKED = 16
MOST_ERROR = 0.2
# Subnets of the Pareto front that are timed as a whole.
_MOST_OF_FRONT = 16


def _networks(work: Workspace) -> dict[str, tuple[ResNet, Subnet]]:
  """Returns the rows of Table I."""
  # As deployed, with standardised kernels computed in advance.
  teacher, student = work.nets.teacher.folded, work.nets.student.folded
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


def programs(
    work: Workspace, unused_variables: Any = None
) -> dict[str, Program]:
  """Returns the programs to time; none needs trained weights."""
  batch_size = work.config.latency.batch_size
  images = jax.ShapeDtypeStruct(
      (batch_size, *work.nets.student.image_shape), np.float32
  )
  rows: dict[str, Program] = {
      name: (jitted.static(net, subnet), net.shapes(), images)
      for name, (net, subnet) in _networks(work).items()
  }
  student = work.nets.student.folded
  rows['supernet'] = (
      jitted.switched(student),
      student.shapes(),
      images,
      jax.ShapeDtypeStruct((NUM_STAGES,), np.int32),
  )
  return rows


def measure_latency(work: Workspace) -> None:
  """Times the networks of Table I and every choice of every stage.

  All are interleaved, so that the machine's load affects them equally. A
  subnet's latency is estimated as a sum over its stages. Random subnets, timed
  as a whole, show the error of such sums. The subnets that the sums rank best
  are timed as a whole, too.
  """
  net, batch_size = work.nets.student, work.config.latency.batch_size
  runs = _runs(work)
  supernet = runs.pop('supernet')
  measure = functools.partial(
      latency.measure, num_runs=work.config.latency.runs
  )

  def subnet_runs(subnets: Iterable[np.ndarray]) -> list[Callable[[], Any]]:
    return [
        functools.partial(supernet, jnp.asarray(subnet, jnp.int32))
        for subnet in subnets
    ]

  singles = latency.single_changes(len(net.choices))
  checked = np.random.default_rng(0).integers(
      0, len(net.choices), (_NUM_CHECKED, NUM_STAGES)
  )
  timed = [*runs.values(), *subnet_runs(singles), *subnet_runs(checked)]
  measured = measure(timed)
  # The first of `singles` is the largest subnet.
  networks = _networks(work) | {'supernet x1.0': (net.folded, LARGEST)}
  rows = [
      {'network': name, 'norm': network.norm, 'batch': batch_size}
      | row
      | latency.measure_energy(run)
      for (name, (network, _)), row, run in zip(
          networks.items(), measured, timed
      )
  ]
  quiet = _quiet(measured[len(runs) :])
  base, added = latency.stage_table(quiet[: len(singles)])
  every = latency.stage_sums(base, added)
  errors = every[tuple(checked.T)] / quiet[len(singles) :] - 1.0
  error = float(np.median(np.abs(errors)))
  front = _front(work, every)
  reference, *best = _quiet(
      measure(subnet_runs([LARGEST.encode(), *front]))
  )
  work.results.update(
      latency=rows,
      stage_latency={
          'batch': batch_size,
          'largest_ms': base,
          'added_ms': added.tolist(),
          # Scaled to the first pass, in case the machine's load has changed.
          'front_ms': {
              str(Subnet.decode(code)): milliseconds * base / reference
              for code, milliseconds in zip(front, best)
          },
          'median_error': error,
          'trusted': error <= MOST_ERROR,
          'checked_subnets': _NUM_CHECKED,
      },
  )
  if error > MOST_ERROR and processes.is_writer():
    logging.warning(
        'Latencies of single subnets are left out: sums over stages are off '
        'by %.0f%% (median of %d random subnets; at most %.0f%% is trusted). '
        'Did other work run on this machine?',
        *(100.0 * error, _NUM_CHECKED, 100.0 * MOST_ERROR),
    )
  add_column(work)


def _runs(work: Workspace) -> dict[str, Callable[..., Any]]:
  """Returns the compiled programs with weights and images to time them on."""
  return {
      name: functools.partial(
          work.programs.compiled(*program),
          trees.draw_like(program[1]),
          _images(program[2]),
      )
      for name, program in programs(work).items()
  }


def _images(shape: jax.ShapeDtypeStruct) -> jax.Array:
  values = np.random.default_rng(0).standard_normal(shape.shape, np.float32)
  return jnp.asarray(values, shape.dtype)


def _quiet(rows: list[dict[str, float]]) -> np.ndarray:
  return np.array([row['ms_quiet'] for row in rows])


def _front(work: Workspace, milliseconds: np.ndarray) -> list[np.ndarray]:
  """Returns the subnets that look fastest for their accuracy, `int[4]` each.

  Args:
    work: the run.
    milliseconds: `float[K, K, K, K]`.
  """
  table = subnet_table.read(work.workdir)
  if 'top1' not in table:
    return []
  top1 = table['top1']
  costs = milliseconds[(slice(len(top1)),) * NUM_STAGES]
  front = subnet_table.pareto_front(costs.ravel(), top1.ravel())
  # Evenly spaced, from the fastest to the most accurate one.
  count = min(len(front), _MOST_OF_FRONT)
  chosen = np.linspace(0, len(front) - 1, count).round().astype(int)
  return [
      np.array(np.unravel_index(front[n], top1.shape)) for n in chosen
  ]


def add_column(work: Workspace) -> None:
  """Adds the latencies to the table of all subnets, if there are both.

  If the latencies cannot be trusted, removes their column instead.
  """
  stages = work.results.values.get('stage_latency')
  if not stages:
    return
  if not stages['trusted']:
    subnet_table.drop_column(work.workdir, 'latency_ms')
    return
  every = latency.stage_sums(stages['largest_ms'], np.array(stages['added_ms']))
  for subnet, milliseconds in stages['front_ms'].items():
    every[tuple(Subnet.parse(subnet).encode())] = milliseconds
  subnet_table.add_column(work.workdir, 'latency_ms', every)
