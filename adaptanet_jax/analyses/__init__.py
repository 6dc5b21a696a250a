# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a run measures once it has trained: the paper's tables and figures.

`run` does what is selected and not done yet, and notes with which settings.
"""

from collections.abc import Callable
import dataclasses
import time
from typing import Any

from adaptanet_jax import settings, workspace
from adaptanet_jax.analyses import accuracy, common, gating, timing
from adaptanet_jax.evaluation import results as results_lib
from adaptanet_jax.report import page
from adaptanet_jax.training.phases import Phase
from adaptanet_jax.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class Analysis:
  """One thing that a run measures.

  Attributes:
    measure: measures it and updates the results.
    needs: last training phase that has to be done, if any.
    makes: sections of results.json that training makes untrue.
    section: of the configuration, whose settings it depends on.
  """

  measure: Callable[[Workspace], None]
  needs: str | None
  makes: tuple[str, ...]
  section: str


ANALYSES = {
    'evaluation': Analysis(
        accuracy.evaluate,
        'cascade4',  # Of a supernet that has not been locked in, too.
        ('supernet', 'delta', 'subnets', 'gates'),
        'evaluation',
    ),
    'policies': Analysis(
        gating.measure_policies, 'gates', ('policies',), 'policies'
    ),
    'latency': Analysis(timing.measure_latency, None, (), 'latency'),
}
NEEDS = {
    name: analysis.needs
    for name, analysis in ANALYSES.items()
    if analysis.needs
}
# Settings of those sections that have no say in what is found.
_FREE = ('batch_size', 'every_epoch')


def run(space: Workspace) -> bool:
  """Does what is selected and not done; returns whether anything was."""
  groups = settings.selected_groups(space.config)
  pending = [n for n in ANALYSES if n in groups and not _is_done(space, n)]
  for name in pending:
    space.stamp()
    started = time.monotonic()
    ANALYSES[name].measure(space)
    made = space.results.values.get('made', {})
    space.results.update(made=made | {name: _settings(space, name)})
    space.results.add_seconds(name, time.monotonic() - started)
  if 'report' in groups and space.results.values.get('dataset'):
    page.write(space.workdir)
  return bool(pending)


def _settings(space: Workspace, name: str) -> dict[str, Any]:
  found = settings.flatten(space.config[ANALYSES[name].section])
  if name == 'latency':
    return found
  return {key: value for key, value in found.items() if key not in _FREE}


def _is_done(space: Workspace, name: str) -> bool:
  return space.results.values.get('made', {}).get(name) == _settings(
      space, name
  )


def discard(results: results_lib.Results, phase: Phase) -> None:
  """Drops the sections that training a phase makes untrue."""
  names = {'teacher'} if phase.network == 'teacher' else set()
  made = results.values.get('made', {})
  for name, analysis in ANALYSES.items():
    if analysis.makes:
      names |= {*analysis.makes}
      made = {key: value for key, value in made.items() if key != name}
  results.discard(*names)
  if made != results.values.get('made', {}):
    results.update(made=made)


def compile_ahead(space: Workspace, phase: Phase) -> None:
  """Has compiled what is measured after a run's last training phase."""
  groups = settings.selected_groups(space.config)
  variables, _ = workspace.variable_shapes(space, phase)
  if phase.network != 'teacher':
    if 'evaluation' in groups:
      for predictor in accuracy.predictors(space, variables):
        common.compile_ahead(space, predictor, variables)
    if 'policies' in groups:
      gating.compile_routing_ahead(space, variables)
  if 'latency' in groups:
    timing.compile_ahead(space)
