# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Networks of several runs side by side: Table II in full (Sec. V-B).

Runs that differ only in the seed share a column: mean and standard deviation
over seeds.
"""

from collections.abc import Sequence
import dataclasses
import glob
import os
from typing import Any

import numpy as np

from adaptanet_jax import settings
from adaptanet_jax.data.dataset import differences
from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation import mixtures, subnet_table
from adaptanet_jax.evaluation.subnet_table import SubnetTable
from adaptanet_jax.models.subnet import NUM_STAGES, WIDTHS
from adaptanet_jax.report import claims, paper
from adaptanet_jax.report.tables import (
  Column,
  Table,
  over_seeds,
  table_ii,
)
from adaptanet_jax.training.baseline_methods import NETWORKS
from adaptanet_jax.workdir import Paths, read_json

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeedsColumn(Column):
  """A network that was trained once for each seed: a column of Table II.

  Attributes:
    norm: normalisation of the network.
    config: settings of its first run.
    differs: settings, as `key=value`, in which it differs from the first column
      with the same network and norm.
    seeds: the seeds of its runs.
    subnets: for each run, the table of the network's subnets.
    passed_over: workdirs whose network was left out because another run has the
      same one with the same seed.
  """

  norm: str
  config: Row
  differs: tuple[str, ...] = ()
  seeds: list[int] = dataclasses.field(default_factory=list)
  subnets: list[SubnetTable] = dataclasses.field(default_factory=list)
  passed_over: list[str] = dataclasses.field(default_factory=list)

  def uniform_mixture(self, madds: float) -> np.ndarray | None:
    """Returns the accuracy of uniform widths mixed to a mean cost in MAdds.

    Args:
      madds: mean MAdds per image; see `mixtures.uniform_mixture`.

    Returns:
      Top-1 of each run, `float[seeds]`; None if all widths cost more.
    """
    uniform = [section['uniform'].values() for section in self.sections]
    if madds < min(entry['madds'] for entry in uniform[0]):
      return None
    return np.array([
        mixtures.uniform_mixture(
            [entry['madds'] for entry in entries],
            [entry['top1'] for entry in entries],
            madds,
        )
        for entries in uniform
    ])

  def best_subnet(self, madds: float) -> np.ndarray | None:
    """Returns the highest accuracy of a subnet within some MAdds.

    The subnet is chosen on the test split itself, so this is an upper bound for
    any choice of a subnet.

    Args:
      madds: largest MAdds of a subnet.

    Returns:
      Top-1 of each run, `float[seeds]`; None if no subnet is that cheap or a
      run has no table of its subnets.
    """
    within = [
        table['top1'][table['madds'] <= madds]
        for table in self.subnets
        if table
    ]
    if len(within) < len(self.subnets) or not all(map(len, within)):
      return None
    return np.array([top1.max() for top1 in within])


def absolute(pattern: str) -> str:
  """Makes the paths in a pattern for `find` absolute."""
  parts = [part.strip() for part in pattern.split(',')]
  return ','.join(
      os.path.abspath(os.path.expanduser(part)) for part in parts if part
  )


def find(pattern: str, problems: list[str] | None = None) -> list[str]:
  """Returns the workdirs that `config.compare` names.

  Args:
    pattern: comma-separated paths, in which `*` matches any name; may be empty.
    problems: list to which messages about invalid parts are added instead of
      raising; these parts are left out.

  Raises:
    UsageError: a part matches no workdir, and `problems` is None.
  """
  found: list[str] = []
  for part in filter(None, absolute(pattern).split(',')):
    paths = sorted(glob.glob(part))
    workdirs = [p for p in paths if os.path.exists(Paths(p).results)]
    if not workdirs:
      _raise_or_note(
          UsageError(
              f'config.compare names {part!r}, but there is no results.json; '
              'expected workdirs of runs, comma-separated; * is any name.'
          ),
          problems,
      )
    found += workdirs
  return list(dict.fromkeys(os.path.realpath(path) for path in found))


def _raise_or_note(error: Exception, problems: list[str] | None) -> None:
  if problems is None:
    raise error
  problems.append(str(error))


def collect(
    workdirs: Sequence[str], dataset: Row, problems: list[str] | None = None
) -> list[SeedsColumn]:
  """Reads the networks of some runs and groups them into columns.

  If several runs have the same network and seed, the first one is taken.

  Args:
    workdirs: workdirs of the runs.
    dataset: description of their data, as in results.json; must be the same.
    problems: list to which messages about invalid runs are added instead of
      raising; these runs are left out.

  Returns:
    Columns in the order of Table II.

  Raises:
    UsageError: a run has other data, was measured by an older version or lacks
      a file, and `problems` is None.
  """
  columns: list[SeedsColumn] = []
  for path in dict.fromkeys(map(os.path.realpath, workdirs)):
    try:
      _add_run(columns, path, dataset)
    except UsageError as error:
      _raise_or_note(error, problems)
  order = list(NETWORKS)
  columns.sort(key=lambda c: (order.index(c.network), c.norm, c.differs))
  return columns


def _add_run(columns: list[SeedsColumn], workdir: str, dataset: Row) -> None:
  results = read_json(Paths(workdir).results)
  if other := differences(results.get('dataset', {}), dataset):
    raise UsageError(
        f'{workdir} has other data than this run ({"; ".join(other)}); '
        'expected runs on the same data to compare.'
    )
  if not os.path.exists(Paths(workdir).config):
    raise UsageError(
        f'{workdir} has no config.json; expected the workdir of a run to '
        'compare.'
    )
  for network in NETWORKS:
    if network in results:
      _add(columns, workdir, network, results[network])


def _add(
    columns: list[SeedsColumn], workdir: str, network: str, section: Row
) -> None:
  """Adds a run to the column of the same network and settings, or a new one."""
  if 'training' not in section:
    raise UsageError(
        f'{workdir} was measured by an older version, without its training '
        'budget; expected runs of this one. Run its command again, with '
        'evaluation among --config.phases.'
    )
  # First all that can fail: a run that is left out must leave no trace.
  config = read_json(Paths(workdir).config)
  table = subnet_table.read(workdir)
  same = [
      column
      for column in columns
      if (column.network, column.norm) == (network, section['norm'])
  ]
  differs = [_differs(column, config, section) for column in same]
  if () in differs:
    column = same[differs.index(())]
  else:
    others = differs[0] if differs else ()
    column = SeedsColumn(
        network=network,
        title=f'{NETWORKS[network]} ({", ".join((section["norm"], *others))})',
        norm=section['norm'],
        config=config,
        differs=others,
    )
    columns.append(column)
  seed = config['seed']
  if seed in column.seeds:
    column.passed_over.append(workdir)
    return
  column.seeds.append(seed)
  column.sections.append(section)
  if network == 'supernet':  # Deltas have their own column.
    widths = (slice(len(WIDTHS)),) * NUM_STAGES
    table = {name: values[widths] for name, values in table.items()}
  column.subnets.append(table)


def _differs(column: SeedsColumn, config: Row, section: Row) -> tuple[str, ...]:
  """Returns the settings, except the seed, that differ from a column's."""
  # Later phases do not affect the widths of a supernet, unless a joint lock-in
  # trains them with the deltas.
  last = {'supernet': 'lock_in', 'delta': 'delta.lock_in'}.get(
      column.network, ''
  )
  has_joint = any(
      settings.completed(one).joint.epochs
      for one in (column.config, config)
  )
  if last and has_joint:
    last = 'joint'
  found = settings.differing(column.config, config, up_to=last)
  differing = {key: new for key, (_, new) in found.items() if key != 'seed'}
  if section['calibration'] != column.sections[0]['calibration']:
    differing['evaluation.calibration'] = section['calibration']
  # A run may have been measured before it went through all of its phases.
  steps = section['training']['steps']
  if not differing and steps != column.sections[0]['training']['steps']:
    differing['steps'] = steps
  return tuple(f'{key}={value}' for key, value in differing.items())


def tables(columns: Sequence[SeedsColumn], dataset: Row) -> list[Table]:
  """Returns the tables that compare networks: Table II in full, and more.

  Args:
    columns: the networks, at least one.
    dataset: description of their data, as in results.json.
  """
  data = paper.data_set_for(dataset['name'])
  full = table_ii(
      'Table II, all networks',
      columns,
      note=(
          'Where a network was trained with several seeds: mean ± standard '
          f'deviation over seeds. Paper: ResNet-50 on {data}.'
      ),
      theirs=paper.TABLE_II[data],
  )
  made = [
      full,
      _at_equal_madds(columns),
      _training(columns),
      claims.table(columns, dataset['test_examples']),
  ]
  return [table for table in made if table.rows]


def budgets(columns: Sequence[SeedsColumn]) -> list[int]:
  """Returns the MAdds of all uniform subnets, from highest to lowest."""
  found = {
      entry['madds']
      for column in columns
      for entry in column.sections[0]['uniform'].values()
  }
  return sorted(found, reverse=True)


def _at_equal_madds(columns: Sequence[SeedsColumn]) -> Table:
  rows = [
      [
          f'{madds / 1e6:,.3f}',  # Some differ by little.
          *(over_seeds(c.uniform_mixture(madds)) for c in columns),
          *(over_seeds(c.best_subnet(madds)) for c in columns),
      ]
      for madds in budgets(columns)
  ]
  head = ['M MAdds', *(f'{column.title}, mixture' for column in columns)]
  head += [f'{column.title}, best' for column in columns]
  note = (
      'Mixture: the best two uniform widths, mixed at random among images so '
      'that they cost this much on average; x1.0 if it costs less. Best: the '
      'most accurate subnet within the MAdds; for deltas, any of the 4,096 '
      'subnets. Both are chosen on the test split, and so are upper bounds.'
  )
  return Table('At equal MAdds', head, rows, note)


def _training(columns: Sequence[SeedsColumn]) -> Table:
  def mean(column: SeedsColumn, key: str) -> str:
    values = [section['training'][key] for section in column.sections]
    return f'{np.mean(values):,.0f}'

  keys = ('steps', 'images', 'seconds')
  rows = [
      [
          column.title,
          str(len(column.sections)),
          *(mean(column, key) for key in keys),
          column.sections[0]['calibration'] or '',
      ]
      for column in columns
  ]
  head = ['network', 'seeds', 'gradient steps', *keys[1:], 'batch statistics']
  note = (
      'Ours count the steps of their teacher as well. Seconds include what is '
      'measured after each epoch.'
  )
  return Table('Training', head, rows, note)
