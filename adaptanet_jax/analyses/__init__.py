# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a run measures after training: the paper's tables and figures.

`run` does the selected analyses that are not done yet, and records the settings
that each was made with.
"""

from collections.abc import Callable
import dataclasses
import os
import time
from typing import Any

from adaptanet_jax import (
  compiler,
  platforms,
  preemption,
  processes,
  settings,
  workspace,
)
from adaptanet_jax.analyses import accuracy, common, policies, timing
from adaptanet_jax.evaluation import subnet_table
from adaptanet_jax.models.gates import GATES
from adaptanet_jax.models.parts import Variables
from adaptanet_jax.models.resnet import BACKBONE
from adaptanet_jax.programs import Program
from adaptanet_jax.report import page
from adaptanet_jax.training.baseline_methods import METHODS
from adaptanet_jax.training.phases import RUNS_AFTER, Phase
from adaptanet_jax.workdir import Paths
from adaptanet_jax.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class Analysis:
  """One thing that a run measures.

  Attributes:
    measure: runs the analysis and updates the results.
    programs: returns the programs that it runs, by name, for a network's
      variables or their shapes.
    needs: training phases that must be done first; those that the run does not
      have are ignored.
    makes: keys of results.json that it writes.
    settings: returns prefixes of the dotted keys of the settings that it
      depends on.
    files: returns the paths of the files that it writes, if any.
    depends: returns what else it depends on.
    columns: names of the columns that it adds to the table of all subnets.
    may_omit: whether it leaves them out if they cannot be trusted.
    is_timed: whether its results depend on the device, too.
  """

  measure: Callable[[Workspace], None]
  programs: Callable[[Workspace, Variables], dict[str, Program]]
  needs: tuple[str, ...]
  makes: tuple[str, ...]
  settings: Callable[[Workspace], tuple[str, ...]]
  files: Callable[[Workspace], list[str]] = lambda work: []
  depends: Callable[[Workspace], dict[str, Any]] = lambda work: {}
  columns: tuple[str, ...] = ()
  may_omit: bool = False
  is_timed: bool = False


# In order: later analyses add columns to the table of all subnets, which the
# evaluation writes. Training discards only results of analyses with `needs`.
ANALYSES = {
    'evaluation': Analysis(
        accuracy.evaluate,
        accuracy.programs,
        # A supernet can be evaluated even before its lock-in.
        RUNS_AFTER[BACKBONE],
        ('supernet', 'delta', *METHODS, 'subnets', 'gates'),
        accuracy.settings,
        accuracy.files,
    ),
    'policies': Analysis(
        policies.measure_policies,
        policies.programs,
        ('gates',),
        ('policies', 'gate_value', 'calibration_bias'),
        lambda work: ('policies.', 'evaluation.batch_size'),
        lambda work: [Paths(work.workdir).policies],
        columns=('calibration_top1', 'expected_top1'),
        is_timed=True,
    ),
    'latency': Analysis(
        timing.measure_latency,
        timing.programs,
        (),
        ('latency', 'stage_latency'),
        lambda work: ('latency.',),
        depends=timing.depends,
        columns=('latency_ms',),
        may_omit=True,
        is_timed=True,
    ),
}
NEEDS = {
    name: analysis.needs
    for name, analysis in ANALYSES.items()
    if analysis.needs
}


def run(work: Workspace) -> bool:
  """Runs the selected analyses that are not done; returns whether any ran."""
  groups = settings.selected_groups(work.config)
  busy = False
  for name, analysis in ANALYSES.items():
    # Hosts may have processors of several kinds: all do what one has to do.
    if name not in groups or not processes.any_of(not _is_done(work, name)):
      continue
    busy = True
    if analysis.needs:
      work.stamp()
    made_now = _made_with(work, name)
    unfinished = common.Unfinished(work, name, made_now)
    # In this order: what is marked as done is there, whenever a run is killed.
    _forget(work, [name])
    for column in analysis.columns:
      subnet_table.drop_column(work.workdir, column)
    work.results.discard(*analysis.makes)
    started = time.monotonic() - unfinished.seconds
    try:
      analysis.measure(work)
    except preemption.Preempted:
      raise preemption.Preempted(f'Phase {name!r} is unfinished.') from None
    finally:
      unfinished.note(time.monotonic() - started)
    made = work.results.values.get('made', {})
    work.results.add_seconds(name, time.monotonic() - started)
    work.results.update(made=made | {name: made_now})
    unfinished.drop()
    # The next analysis reads files that the writing process has written.
    processes.wait(name)
  has_results = bool(work.results.values.get('dataset'))
  if 'report' in groups and has_results and processes.is_writer():
    page.write(work.workdir, compare=work.config.compare)
  return busy


def _made_with(work: Workspace, name: str) -> dict[str, Any]:
  """Returns the settings and the environment that an analysis depends on."""
  analysis, config = ANALYSES[name], work.config
  made = {
      key: value
      for key, value in settings.flatten(config).items()
      if key.startswith(analysis.settings(work))
  }
  made['compute_dtype'] = work.nets.student.dtype
  if analysis.needs:
    made['phases'] = list(work.phases)
  if analysis.is_timed:
    made['device'] = platforms.device_kind()
    made['compiler_options'] = compiler.options(
        fast_compile=config.fast_compile
    )
  return made | analysis.depends(work)


def _is_done(work: Workspace, name: str) -> bool:
  analysis = ANALYSES[name]
  made = work.results.values.get('made', {}).get(name)
  if made is None:
    return False
  now = _made_with(work, name)
  # What another version did not record counts as unchanged; older ones called
  # every CPU 'cpu'.
  known = {k for k, v in made.items() if (k, v) != ('device', 'cpu')}
  if any(made[key] != now[key] for key in known & now.keys()):
    return False
  # A user may have removed a damaged one.
  if not all(map(os.path.exists, analysis.files(work))):
    return False
  # Policies that were made before the table have no column in it.
  table = subnet_table.read(work.workdir)
  return analysis.may_omit or not table or {*analysis.columns} <= {*table}


def discard(work: Workspace, phase: Phase) -> None:
  """Drops results and files measured with weights that a phase will change.

  Gates do not change subnets, so results of subnets stay when gates change.
  """
  paths = Paths(work.workdir)
  outdated = [paths.policies, paths.report]
  _forget(work, list(NEEDS))
  if phase.group == GATES:
    work.results.discard('gates', *ANALYSES['policies'].makes)
  else:
    work.results.discard(*(part for n in NEEDS for part in ANALYSES[n].makes))
    outdated += [paths.subnets, paths.statistics]
  for name in NEEDS:
    common.drop_folder(paths.unfinished(name))
  common.drop_folder(paths.figures)
  for path in outdated:
    if processes.is_writer() and os.path.exists(path):
      os.remove(path)


def _forget(work: Workspace, names: list[str]) -> None:
  """Marks analyses as not done, so that they run when next selected."""
  made = work.results.values.get('made', {})
  if kept := {n: value for n, value in made.items() if n not in names}:
    work.results.update(made=kept)
  else:
    work.results.discard('made')
  work.results.discard_seconds(*names)


def compile_ahead(work: Workspace, phase: Phase) -> None:
  """Starts compiling the analyses that follow a run's last training phase."""
  groups = settings.selected_groups(work.config)
  variables, _ = workspace.variable_shapes(work.nets, work.gates, phase)
  for name, analysis in ANALYSES.items():
    if analysis.needs:  # Training discards their results.
      runs = phase.network == 'student'
    else:
      runs = not _is_done(work, name)
    if runs and name in groups:
      for program in analysis.programs(work, variables).values():
        work.programs.ahead(program)
