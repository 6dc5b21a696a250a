# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Latency, power and energy: Table I, and estimates for all subnets.

Times do not depend on the values of parameters, so no trained network is
needed.
"""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import functools
from typing import Any

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import platforms, processes, trees
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
# How often, and how many subnets of the Pareto front at a time, are timed as a
# whole. What looks fastest is often what sums underestimate most, so there is
# another front once these have been timed.
_PASSES, _MOST_OF_FRONT = 6, 16


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
      name: Program(jitted.static(net, subnet), (net.shapes(), images))
      for name, (net, subnet) in _networks(work).items()
  }
  student = work.nets.student.folded
  subnet = jax.ShapeDtypeStruct((NUM_STAGES,), np.int32)
  rows['supernet'] = Program(
      jitted.switched(student), (student.shapes(), images, subnet)
  )
  return rows


def measure_latency(work: Workspace) -> None:
  """Times the networks of Table I and every choice of every stage.

  All are interleaved, so that the machine's load affects them equally. A
  subnet's latency is estimated as a sum over its stages. Random subnets, timed
  as a whole, show the error of such sums. Subnets that look fastest for their
  accuracy are timed as a whole, too.
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
  sums = latency.stage_sums(base, added)
  errors = {'median_error': _error(sums, checked, quiet[len(singles) :])}
  front = _time_front(
      work, sums, lambda codes: _quiet(measure(subnet_runs(codes)))
  )
  if front:
    codes = np.stack([Subnet.parse(name).encode() for name in front])
    errors['front_error'] = _error(sums, codes, np.array([*front.values()]))
  error = max(errors.values())
  # A sum of nothing or less is no time at all.
  trusted = error <= MOST_ERROR and sums.min() > 0.0
  work.results.update(
      latency=rows,
      stage_latency={
          'batch': batch_size,
          'device': platforms.device_kind(),
          'largest_ms': base,
          'added_ms': added.tolist(),
          'front_ms': front,
          **errors,
          'trusted': bool(trusted),
          'checked_subnets': _NUM_CHECKED,
      },
  )
  if not trusted and processes.is_writer():
    logging.warning(
        'Latencies of single subnets are left out: sums over stages are off '
        'by %.0f%% (the larger median of random subnets and of those that look '
        'fastest; at most %.0f%% is trusted), the lowest is %.2f ms. Did other '
        'work run on this machine?',
        *(100.0 * error, 100.0 * MOST_ERROR, sums.min()),
    )
  add_column(work)


def depends(work: Workspace) -> dict[str, Any]:
  """Returns what the choice of subnets to time depends on, besides settings."""
  return {'top1': trees.checksum(_top1(work))}


def _top1(work: Workspace) -> np.ndarray | None:
  """Returns all subnets' accuracies; None before they were measured."""
  return subnet_table.read(work.workdir).get('top1')


def _runs(work: Workspace) -> dict[str, Callable[..., Any]]:
  """Returns the compiled programs with weights and images to time them on."""
  return {
      name: functools.partial(
          work.programs.compiled(program),
          trees.draw_like(program.arguments[0]),
          _images(program.arguments[1]),
      )
      for name, program in programs(work).items()
  }


def _images(shape: jax.ShapeDtypeStruct) -> jax.Array:
  values = np.random.default_rng(0).standard_normal(shape.shape, np.float32)
  return jnp.asarray(values, shape.dtype)


def _quiet(rows: list[dict[str, float]]) -> np.ndarray:
  return np.array([row['ms_quiet'] for row in rows])


def _time_front(
    work: Workspace,
    sums: np.ndarray,
    measure: Callable[[list[np.ndarray]], np.ndarray],
) -> dict[str, float]:
  """Times the subnets that look fastest for their accuracy as a whole.

  Args:
    work: the run.
    sums: `float[K, K, K, K]`, all subnets' estimated milliseconds.
    measure: returns the milliseconds of some subnets, `int[4]` each.

  Returns:
    Milliseconds by subnet; none without a table of accuracies.
  """
  top1 = _top1(work)
  if top1 is None:
    return {}
  every, timed = sums.copy(), dict[str, float]()
  for _ in range(_PASSES):
    front = _front(top1, every, timed)
    if not front:
      break
    largest = LARGEST.encode()
    reference, *times = measure([largest, *front])
    for code, milliseconds in zip(front, times):
      # Scaled to the sums, in case the machine's load has changed since.
      every[tuple(code)] = milliseconds * sums[tuple(largest)] / reference
      timed[str(Subnet.decode(code))] = float(every[tuple(code)])
  return timed


def _error(
    sums: np.ndarray, codes: np.ndarray, milliseconds: np.ndarray
) -> float:
  """Returns the median relative error of sums, of some timed subnets."""
  errors = sums[tuple(codes.T)] / milliseconds - 1.0
  return float(np.median(np.abs(errors)))


def _front(
    top1: np.ndarray, milliseconds: np.ndarray, timed: Mapping[str, float]
) -> list[np.ndarray]:
  """Returns the subnets that look fastest for their accuracy, `int[4]` each.

  Args:
    top1: `float[k, k, k, k]`, their accuracies; k = 4 without deltas, else 8.
    milliseconds: `float[8, 8, 8, 8]`.
    timed: subnets to leave out.
  """
  costs = milliseconds[(slice(len(top1)),) * NUM_STAGES]
  front = [
      np.array(np.unravel_index(n, top1.shape))
      for n in subnet_table.pareto_front(costs.ravel(), top1.ravel())
  ]
  front = [code for code in front if str(Subnet.decode(code)) not in timed]
  # Evenly spaced, from the fastest to the most accurate one.
  count = min(len(front), _MOST_OF_FRONT)
  chosen = np.linspace(0, len(front) - 1, count).round().astype(int)
  return [front[n] for n in chosen]


def add_column(work: Workspace) -> None:
  """Adds the latencies to the table of all subnets, if they can be trusted."""
  stages = work.results.values.get('stage_latency')
  if not stages or not stages.get('trusted', True):
    return
  every = latency.stage_sums(stages['largest_ms'], np.array(stages['added_ms']))
  for subnet, milliseconds in stages.get('front_ms', {}).items():
    every[tuple(Subnet.parse(subnet).encode())] = milliseconds
  subnet_table.add_column(work.workdir, 'latency_ms', every)
