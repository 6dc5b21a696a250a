# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""`subnets.csv`: a row for every subnet, a column for every measured figure.

K = choices of a stage: 4 widths, or 8 with their deltas.
"""

from collections.abc import Sequence
import csv
import io
import os

import numpy as np
import numpy.typing as npt

from adaptanet_jax.errors import UsageError
from adaptanet_jax.models.subnet import (
  CHOICES,
  NUM_STAGES,
  Subnet,
  all_subnets,
)
from adaptanet_jax.workdir import Paths, write_text

# Columns by name, each `[K, K, K, K]` and indexed by the subnets' codes.
SubnetTable = dict[str, np.ndarray]
# Columns of accuracies. The first two are on the images that policies are made
# from (config.policies.examples), the last on the test split.
ACCURACIES = ('expected_top1', 'calibration_top1', 'top1')


def names(num_choices: int) -> list[str]:
  """Returns the names of all subnets, in the order of a flattened column."""
  return [str(subnet) for subnet in all_subnets(CHOICES[:num_choices])]


def read(workdir: str) -> SubnetTable:
  """Reads the table of a run; returns an empty one before its evaluation.

  Raises:
    UsageError: the file is not a table of all subnets.
  """
  path = Paths(workdir).subnets
  if not os.path.exists(path):
    return {}
  with open(path, encoding='utf-8', newline='') as file:
    try:
      (_, *head), *rows = csv.reader(file)
      found, *columns = zip(*rows, strict=True)
      num_choices = round(len(rows) ** (1 / NUM_STAGES))
      if list(found) != names(num_choices):
        raise ValueError('its subnets are incomplete or out of order')
      return {
          name: _numbers(column).reshape((num_choices,) * NUM_STAGES)
          for name, column in zip(head, columns, strict=True)
      }
    except (ValueError, csv.Error) as error:
      raise UsageError(
          f'{path} is not a table of all subnets ({error}); expected a file '
          'that a run wrote. Move it away, and run the evaluation again.'
      ) from error


def _numbers(texts: Sequence[str]) -> np.ndarray:
  try:
    return np.array([int(text) for text in texts])
  except ValueError:
    return np.array([float(text) for text in texts])


def best_within(table: SubnetTable, madds: float) -> Subnet:
  """Returns the most accurate subnet within a budget of MAdds.

  Accuracies are those that `budget.expected_top1` estimates from the images
  that policies are made from: held-out ones, unless the run was told otherwise.

  Args:
    table: the table of all subnets, with those accuracies.
    madds: the budget, in multiply-accumulates for one image.

  Raises:
    UsageError: no subnet is that cheap, or nothing was measured on held-out
      examples.
  """
  if 'expected_top1' not in table:
    raise UsageError(
        'Accuracies on held-out examples were not measured; expected an '
        'AdaptaNet, no baseline, whose phase policies was run when its '
        'evaluation was done.'
    )
  try:
    madds = float(madds)
  except (TypeError, ValueError, OverflowError) as error:
    raise UsageError(f'madds = {madds!r}; expected a number.') from error
  costs, top1 = table['madds'], table['expected_top1']
  within = list(zip(*np.nonzero(costs <= madds)))
  if not within:
    raise UsageError(
        f'No subnet takes at most {madds:,.0f} MAdds; expected '
        f'{costs.min():,} or more.'
    )
  # Many subnets may tie; then the costliest is the safest choice.
  return Subnet.decode(max(within, key=lambda n: (top1[n], costs[n])))


def write(
    workdir: str, table: SubnetTable, subnets: Sequence[Subnet] | None = None
) -> None:
  """Writes the table of a run, replacing the old file as a whole.

  Args:
    workdir: workdir of the run.
    table: values of all subnets.
    subnets: the rows to write; None: all. `read` accepts only complete tables.
  """
  if subnets is None:
    subnets = all_subnets(CHOICES[: len(next(iter(table.values())))])
  codes = tuple(np.transpose([subnet.encode() for subnet in subnets]))
  # As Python numbers, whose text `read` converts back to the same values.
  columns = [column[codes].tolist() for column in table.values()]
  file = io.StringIO()
  writer = csv.writer(file)
  writer.writerow(['subnet', *table])
  writer.writerows(zip(subnets, *columns, strict=True))
  write_text(Paths(workdir).subnets, file.getvalue())


def without_accuracies(table: SubnetTable) -> SubnetTable:
  """Returns a table without its columns of accuracies."""
  return {
      name: column for name, column in table.items() if name not in ACCURACIES
  }


def pareto_front(costs: npt.ArrayLike, top1: npt.ArrayLike) -> list[int]:
  """Returns the positions of networks that no cheaper one equals in accuracy.

  Args:
    costs: cost of each network.
    top1: accuracy of each network.

  Returns:
    Positions in order of cost, each more accurate than all before it.
  """
  costs, top1 = np.asarray(costs), np.asarray(top1)
  front: list[int] = []
  for position in np.lexsort((-top1, costs)):
    if not front or top1[position] > top1[front[-1]]:
      front.append(int(position))
  return front


def drop_column(workdir: str, name: str) -> None:
  """Removes a column from the table of a run, if it is there."""
  table = read(workdir)
  if name in table:
    write(workdir, {n: column for n, column in table.items() if n != name})


def add_column(workdir: str, name: str, values: np.ndarray) -> None:
  """Adds a column to the table of a run, or replaces it, if there is a table.

  Args:
    workdir: workdir of the run.
    name: name of the column.
    values: `float[K, K, K, K]`; choices that the table lacks are left out.
  """
  table = read(workdir)
  if table:
    num_choices = len(next(iter(table.values())))
    widths_first = (slice(num_choices),) * NUM_STAGES
    write(workdir, table | {name: values[widths_first]})
