# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Networks of several runs side by side: Table II in full (Sec. V-B).

Runs that differ in nothing but the seed are one column: mean and standard
deviation over seeds.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import glob
import operator
import os
from typing import Any

import numpy as np

from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation import results as results_lib

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Column:
  """One network, trained once for each seed.

  Attributes:
    network: its section in results.json.
    norm: its normalisation.
    sections: that section of each run.
    subnets: the table of the network's subnets of each run.
  """

  network: str
  norm: str
  sections: tuple[Row, ...]
  subnets: tuple[tuple[Row, ...], ...]

  @property
  def title(self) -> str:
    """How tables name it."""
    return f'{results_lib.NETWORKS[self.network]} ({self.norm})'

  def values(self, *keys: str) -> np.ndarray:
    """Returns a figure of each run, `float[seeds]`, by its keys in a section.
    """
    return np.array(
        [
            functools.reduce(operator.getitem, keys, section)
            for section in self.sections
        ]
    )

  def top1(self, group: str, name: str) -> np.ndarray:
    """Returns the accuracy of a subnet in each run, `float[seeds]`."""
    return self.values(group, name, 'top1')

  def uniform_mixture(self, madds: float) -> np.ndarray | None:
    """Returns what uniform widths reach when mixed to cost so many MAdds.

    Args:
      madds: mean of an image; what is more than the largest subnet takes buys
        nothing.

    Returns:
      Top-1 of each run, `float[seeds]`; None if the narrowest takes more.
    """
    found = []
    for section in self.sections:
      entries = sorted(
          section['uniform'].values(), key=lambda entry: entry['madds']
      )
      costs = [entry['madds'] for entry in entries]
      if madds < costs[0]:
        return None
      found.append(np.interp(madds, costs, [e['top1'] for e in entries]))
    return np.array(found)

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


def find(pattern: str) -> list[str]:
  """Returns the workdirs that `config.compare` names.

  Raises:
    UsageError: one of its parts names none.
  """
  found: list[str] = []
  for part in filter(None, (part.strip() for part in pattern.split(','))):
    paths = sorted(glob.glob(os.path.expanduser(part)))
    workdirs = [
        path
        for path in paths
        if os.path.exists(os.path.join(path, 'results.json'))
    ]
    if not workdirs:
      raise UsageError(
          f'config.compare names {part!r}, where no results.json is; expected '
          'workdirs of runs, comma-separated, * for any name.'
      )
    found += workdirs
  return list(dict.fromkeys(os.path.realpath(path) for path in found))


def collect(workdir: str, others: Sequence[str]) -> list[Column]:
  """Reads the networks of some runs, those of one kind as one column.

  Args:
    workdir: of a run.
    others: those of runs on the same data.

  Returns:
    Columns in the order of Table II; none if there are no others.

  Raises:
    UsageError: two runs have different data.
  """
  if not others:
    return []
  workdirs = list(dict.fromkeys([os.path.realpath(workdir), *others]))
  columns: dict[tuple[str, str], list[tuple[Row, tuple[Row, ...]]]] = {}
  dataset: Row = {}
  for workdir in workdirs:
    results = results_lib.read_json(os.path.join(workdir, 'results.json'))
    dataset = dataset or results['dataset']
    if results['dataset'] != dataset:
      raise UsageError(
          f'{workdir} has the data {results["dataset"]}, and {workdirs[0]} '
          f'{dataset}; expected runs on the same data to compare.'
      )
    path = os.path.join(workdir, 'subnets.csv')
    rows = results_lib.read_csv(path) if os.path.exists(path) else []
    for network in results_lib.NETWORKS:
      if network in results:
        section = results[network]
        own = tuple(
            row
            for row in rows
            if network != 'supernet' or 'd' not in row['subnet']
        )
        key = network, section['norm']
        columns.setdefault(key, []).append((section, own))
  order = list(results_lib.NETWORKS)
  return [
      Column(network, norm, *zip(*columns[network, norm], strict=True))
      for network, norm in sorted(
          columns, key=lambda key: (order.index(key[0]), key[1])
      )
  ]


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


def claims(columns: Sequence[Column]) -> list[Claim]:
  """Says which of the paper's claims hold (Sec. V-B), ours against each other.

  Args:
    columns: of one report.

  Returns:
    The claims that there are figures for; none without a supernet.
  """
  ours = next((c for c in columns if c.network == 'supernet'), None)
  if ours is None:
    return []

  random = 100.0 * float(ours.values('random', 'mean').mean())
  narrow = 100.0 * float(ours.top1('uniform', '0.25').mean())
  made = [
      Claim(
          'runtime-random above our own x0.25', random, narrow, random > narrow
      )
  ]
  for other in columns:
    if other.network in ('supernet', 'delta'):
      continue
    for text, get, holds in _AGAINST_OTHERS:
      own, its = (100.0 * float(get(c).mean()) for c in (ours, other))
      made.append(Claim(f'{text} {other.title}', own, its, holds(own, its)))
  return made


def _mixed(column: Column) -> np.ndarray:
  names = column.sections[0]['mixed']
  return np.mean([column.top1('mixed', name) for name in names], axis=0)


def _spread(column: Column) -> np.ndarray:
  return column.values('exact', 'max') - column.values('exact', 'min')


def _is_comparable(ours: float, other: float) -> bool:
  return ours >= other - _COMPARABLE


# What is claimed of ours against another network: text, figure, and whether it
# holds of ours and the other's.
_AGAINST_OTHERS: tuple[
    tuple[str, Callable[[Column], np.ndarray], Callable[..., bool]], ...
] = (
    (
        f'x1.0 comparable to (at most {_COMPARABLE:g} points under)',
        lambda column: column.top1('uniform', '1.0'),
        _is_comparable,
    ),
    (
        f'x0.75 comparable to (at most {_COMPARABLE:g} points under)',
        lambda column: column.top1('uniform', '0.75'),
        _is_comparable,
    ),
    ('mean of the mixed subnets above', _mixed, operator.gt),
    ('highest less lowest of all 256 below', _spread, operator.lt),
    (
        'std of runtime-random over passes below',
        lambda column: column.values('random', 'std'),
        operator.lt,
    ),
)
