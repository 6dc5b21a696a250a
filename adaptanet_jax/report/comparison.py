# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Networks of several runs side by side: Table II in full (Sec. V-B).

Runs that differ in nothing but the seed are one column: mean and standard
deviation over seeds.
"""

from collections.abc import Callable, Sequence
import dataclasses
import glob
import operator
import os
from typing import Any

import numpy as np

from adaptanet_jax import settings
from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation import policies, results as results_lib

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Column:
  """One network, trained once for each seed.

  Attributes:
    network: its section in results.json.
    norm: its normalisation.
    config: settings of its first run.
    differs: settings that the first column of the network and norm has
      otherwise, as `key=value`.
    workdirs: of the runs, by seed.
    sections: that section of each run.
    subnets: the table of the network's subnets of each run.
    passed_over: workdirs of the same network with a seed that was there before.
  """

  network: str
  norm: str
  config: Row
  differs: tuple[str, ...] = ()
  workdirs: dict[int, str] = dataclasses.field(default_factory=dict)
  sections: list[Row] = dataclasses.field(default_factory=list)
  subnets: list[list[Row]] = dataclasses.field(default_factory=list)
  passed_over: list[str] = dataclasses.field(default_factory=list)

  @property
  def title(self) -> str:
    """How tables name it."""
    kind = ', '.join((self.norm, *self.differs))
    return f'{results_lib.NETWORKS[self.network]} ({kind})'

  def values(self, *keys: str) -> np.ndarray:
    """Returns a figure of each run, `float[seeds]`, by its keys in a section.
    """
    return np.array(
        [results_lib.figure(section, keys) for section in self.sections]
    )

  def top1(self, group: str, name: str) -> np.ndarray:
    """Returns the accuracy of a subnet in each run, `float[seeds]`."""
    return self.values(group, name, 'top1')

  def uniform_mixture(self, madds: float) -> np.ndarray | None:
    """Returns what uniform widths reach when mixed to cost so many MAdds.

    Args:
      madds: mean of an image; see `policies.uniform_mixture`.

    Returns:
      Top-1 of each run, `float[seeds]`; None if the narrowest takes more.
    """
    points = [
        [(e['madds'], e['top1']) for e in section['uniform'].values()]
        for section in self.sections
    ]
    if madds < min(points[0])[0]:
      return None
    return np.array([policies.uniform_mixture(p, madds) for p in points])

  def best_subnet(self, madds: float) -> np.ndarray | None:
    """Returns the highest accuracy of a subnet within some MAdds.

    Chosen by the test split itself, so it is an upper bound of what choosing
    can give.

    Args:
      madds: at most.

    Returns:
      Top-1 of each run, `float[seeds]`; None if no subnet is that cheap, or a
      run has no table of its subnets.
    """
    found = [
        max((r['top1'] for r in rows if r['madds'] <= madds), default=None)
        for rows in self.subnets
    ]
    return None if None in found else np.array(found)


def absolute(pattern: str) -> str:
  """Returns what names the same workdirs from anywhere; see `find`."""
  parts = [part.strip() for part in pattern.split(',')]
  return ','.join(
      os.path.abspath(os.path.expanduser(part)) for part in parts if part
  )


def find(pattern: str, problems: list[str] | None = None) -> list[str]:
  """Returns the workdirs that `config.compare` names.

  Args:
    pattern: paths, comma-separated, `*` for any name; may be empty.
    problems: receives what is wrong with parts, which are then left out.

  Raises:
    UsageError: one of its parts names none, and there is no `problems`.
  """
  found: list[str] = []
  for part in filter(None, absolute(pattern).split(',')):
    paths = sorted(glob.glob(part))
    workdirs = [
        path
        for path in paths
        if os.path.exists(os.path.join(path, 'results.json'))
    ]
    if not workdirs:
      _raise_or_note(
          UsageError(
              f'config.compare names {part!r}, where no results.json is; '
              'expected workdirs of runs, comma-separated, * for any name.'
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
) -> list[Column]:
  """Reads the networks of some runs, those of one kind as one column.

  Of several runs of one network with one seed the first is taken.

  Args:
    workdirs: of the runs.
    dataset: what they have to be trained on, as results.json has it.
    problems: receives what is wrong with runs, which are then left out.

  Returns:
    Columns in the order of Table II.

  Raises:
    UsageError: a run has other data, was measured by an older version or lacks
      a file, and there is no `problems`.
  """
  columns: list[Column] = []
  for path in dict.fromkeys(map(os.path.realpath, workdirs)):
    try:
      _add_run(columns, path, dataset)
    except UsageError as error:
      _raise_or_note(error, problems)
  order = list(results_lib.NETWORKS)
  columns.sort(key=lambda c: (order.index(c.network), c.norm, c.differs))
  return columns


def _add_run(columns: list[Column], workdir: str, dataset: Row) -> None:
  results = results_lib.read_json(os.path.join(workdir, 'results.json'))
  if results.get('dataset') != dataset:
    raise UsageError(
        f'{workdir} has the data {results.get("dataset")}, and this run '
        f'{dataset}; expected runs on the same data to compare.'
    )
  if not os.path.exists(os.path.join(workdir, 'config.json')):
    raise UsageError(
        f'{workdir} has no config.json; expected the workdir of a run to '
        'compare.'
    )
  for network in results_lib.NETWORKS:
    if network in results:
      _add(columns, workdir, network, results[network])


def _add(
    columns: list[Column], workdir: str, network: str, section: Row
) -> None:
  """Adds a run to the column of its kind, or to a new one."""
  if 'training' not in section:
    raise UsageError(
        f'{workdir} was measured by an older version, without its training '
        'budget; expected runs of this one. Run its command again, with '
        'evaluation among --config.phases.'
    )
  config = results_lib.read_json(os.path.join(workdir, 'config.json'))
  same = [
      column
      for column in columns
      if (column.network, column.norm) == (network, section['norm'])
  ]
  differs = [_differs(column, config, section) for column in same]
  if () in differs:
    column = same[differs.index(())]
  else:
    column = Column(
        network, section['norm'], config, differs[0] if differs else ()
    )
    columns.append(column)
  seed = config['seed']
  if seed in column.workdirs:
    column.passed_over.append(workdir)
    return
  column.workdirs[seed] = workdir
  column.sections.append(section)
  column.subnets.append(
      [
          row
          for row in results_lib.read_subnets(workdir)
          if network != 'supernet' or 'd' not in row['subnet']
      ]
  )


def _differs(column: Column, config: Row, section: Row) -> tuple[str, ...]:
  """Returns what a run has otherwise than a column's, but for the seed."""
  # Later phases have no say in the widths of a supernet.
  up_to = 'lock_in' if column.network == 'supernet' else ''
  if column.network == 'delta':
    up_to = 'delta.lock_in'
  found = settings.differing(column.config, config, up_to=up_to)
  differing = {key: new for key, (_, new) in found.items() if key != 'seed'}
  if section['calibration'] != column.sections[0]['calibration']:
    differing['evaluation.calibration'] = section['calibration']
  return tuple(f'{key}={value}' for key, value in differing.items())


def budgets(columns: Sequence[Column]) -> list[int]:
  """Returns MAdds to compare at: those of all uniform subnets, falling."""
  found = {
      entry['madds']
      for column in columns
      for entry in column.sections[0]['uniform'].values()
  }
  return sorted(found, reverse=True)


@dataclasses.dataclass(frozen=True)
class Claim:
  """Something that the paper says of its networks and the others.

  Attributes:
    text: what it says.
    ours: our figure, in percent.
    theirs: the figure that it is set beside.
    holds: whether it holds here.
  """

  text: str
  ours: float
  theirs: float
  holds: bool


# Points of accuracy within which the paper calls widths comparable: its x1.0
# is .3 above USNet's and .6 below DSNet's, its x.75 .85 and 1.75 below.
_COMPARABLE = 2.0


def _mixed(column: Column) -> np.ndarray:
  names = column.sections[0]['mixed']
  return np.mean([column.top1('mixed', name) for name in names], axis=0)


def _uniform(width: str) -> Callable[[Column], np.ndarray]:
  return lambda column: column.top1('uniform', width)


def _random(key: str) -> Callable[[Column], np.ndarray]:
  return lambda column: column.values('random', key)


def _is_comparable(ours: float, other: float) -> bool:
  return ours >= other - _COMPARABLE


# What the paper says of its network and others: those others, the words, the
# figure, and whether it holds of ours and theirs.
_AGAINST_OTHERS: tuple[
    tuple[
        tuple[str, ...],
        str,
        Callable[[Column], np.ndarray],
        Callable[[float, float], bool],
    ],
    ...,
] = (
    (('usnet', 'dsnet'), 'x1.0 comparable to', _uniform('1.0'), _is_comparable),
    (
        ('usnet', 'dsnet'),
        'x0.75 comparable to',
        _uniform('0.75'),
        _is_comparable,
    ),
    (('usnet',), 'mixed subnets above', _mixed, operator.gt),
    (('dsnet',), 'mixed subnets comparable to', _mixed, _is_comparable),
    (
        ('usnet_random',),
        'runtime-random with a smaller std than',
        _random('std'),
        operator.lt,
    ),
    (
        ('dsnet_random',),
        'runtime-random above',
        _random('mean'),
        operator.gt,
    ),
)


def claims(columns: Sequence[Column]) -> list[Claim]:
  """Says which of the paper's claims hold (Sec. V-B).

  Args:
    columns: of one report.

  Returns:
    The claims that there are figures for; none without a supernet.
  """

  def percent(values: np.ndarray) -> float:
    return 100.0 * float(values.mean())

  made = []
  for ours in columns:
    if ours.network != 'supernet':
      continue
    random = percent(ours.values('random', 'mean'))
    narrow = percent(ours.top1('uniform', '0.25'))
    text = f'{ours.title}: runtime-random above its own x0.25'
    made.append(Claim(text, random, narrow, random > narrow))
    for networks, words, get, holds in _AGAINST_OTHERS:
      for other in columns:
        if other.network in networks:
          own, its = percent(get(ours)), percent(get(other))
          text = f'{ours.title}: {words} {other.title}'
          made.append(Claim(text, own, its, holds(own, its)))
  return made
