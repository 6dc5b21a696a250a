# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""`results.json`: what a run has found so far, and its table on the console."""

import csv
import dataclasses
import functools
import json
import operator
import os
from typing import Any

from adaptanet_jax import processes
from adaptanet_jax.baselines.methods import METHODS
from adaptanet_jax.errors import UsageError

SCHEMA = 1

# Sections with the rows of Table II, and how tables name them.
NETWORKS = {'supernet': 'ours', 'delta': 'ours, delta'} | {
    name: method.title for name, method in METHODS.items()
}
# Sections of these with an entry for each subnet.
_SUBNET_GROUPS = ('uniform', 'mixed')


class Results:
  """The contents of `results.json`; every change replaces the whole file."""

  def __init__(self, workdir: str) -> None:
    self._path = os.path.join(workdir, 'results.json')
    self.values: dict[str, Any] = {'schema': SCHEMA, 'seconds': {}}
    if os.path.exists(self._path):
      self.values |= read_json(self._path)

  def update(self, **sections: Any) -> None:
    """Sets sections and writes the file."""
    self.values.update(sections)
    write_json(self._path, self.values)

  def discard(self, *names: str) -> None:
    """Drops sections that no longer hold, and writes the file if any did."""
    if any(name in self.values for name in names):
      self.values = {k: v for k, v in self.values.items() if k not in names}
      write_json(self._path, self.values)

  def add_seconds(self, phase: str, seconds: float) -> None:
    """Sets the wall seconds of a phase and writes the file."""
    times = self.values['seconds'] | {phase: round(seconds, 1)}
    self.update(seconds=times)


def subnets_path(workdir: str) -> str:
  """Returns the path of the table of all subnets of a run."""
  return os.path.join(workdir, 'subnets.csv')


def report_path(workdir: str) -> str:
  """Returns the path of the report of a run."""
  return os.path.join(workdir, 'report.html')


def latency_device(values: dict[str, Any]) -> str:
  """Returns the kind of device that a run's latencies were measured on."""
  made = values.get('made', {}).get('latency', {})
  return made.get('device', values['device']['kind'])


def figures_path(workdir: str) -> str:
  """Returns the folder of the figures of a run."""
  return os.path.join(workdir, 'figures')


def policies_path(workdir: str) -> str:
  """Returns the path of the policies of a run."""
  return os.path.join(workdir, 'policies.json')


def statistics_path(workdir: str) -> str:
  """Returns the path of the calibrated batch statistics of a run."""
  return os.path.join(workdir, 'statistics.npz')


def unfinished_path(workdir: str, analysis: str) -> str:
  """Returns the folder of what an analysis has found while it is under way."""
  return os.path.join(workdir, f'unfinished_{analysis}')


def read_subnets(workdir: str) -> list[dict[str, Any]]:
  """Reads the table of all subnets of a run; empty before its evaluation."""
  path = subnets_path(workdir)
  return read_csv(path) if os.path.exists(path) else []


def write_csv(path: str, rows: list[dict[str, Any]]) -> None:
  """Writes rows of the same keys; the old file is replaced as a whole."""
  with processes.replacing(path, newline='') as file:
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)


def read_csv(path: str) -> list[dict[str, Any]]:
  """Reads what `write_csv` wrote; all but the column `subnet` are numbers."""
  with open(path, encoding='utf-8', newline='') as file:
    return [
        {
            key: value if key == 'subnet' else _number(value)
            for key, value in row.items()
        }
        for row in csv.DictReader(file)
    ]


def _number(text: str) -> int | float:
  return int(text) if text.lstrip('-').isdigit() else float(text)


def write_json(path: str, values: Any) -> None:
  """Writes a file that is at all times either the old or the new one."""
  with processes.replacing(path) as file:
    json.dump(values, file, indent=1)
    file.write('\n')


def read_json(path: str) -> dict[str, Any]:
  """Reads a file that `write_json` wrote; raises UsageError if it is not."""
  try:
    with open(path, encoding='utf-8') as file:
      values = json.load(file)
  except ValueError as error:  # No JSON, or no text at all.
    raise UsageError(
        f'{path} is no JSON ({error}); expected a file that a run wrote. Move '
        'it away, or use another --workdir.'
    ) from error
  if not isinstance(values, dict):
    raise UsageError(
        f'{path} holds {values!r}; expected an object that a run wrote. Move '
        'it away, or use another --workdir.'
    )
  return values


@dataclasses.dataclass(frozen=True)
class TableRow:
  """A row of Table II: the keys of its figures in a network's section.

  Attributes:
    label: which subnets.
    top1: of their accuracy, or its mean.
    std: of its deviation over passes; none but for runtime-random.
    madds: of an image; none where all 256 are summed up.
  """

  label: str
  top1: tuple[str, ...]
  std: tuple[str, ...] = ()
  madds: tuple[str, ...] = ()

  @property
  def is_subnet(self) -> bool:
    """Whether it is of one subnet."""
    return self.top1[0] in _SUBNET_GROUPS


def table_rows(section: dict[str, Any]) -> list[TableRow]:
  """Returns the rows of Table II that a network's section has, in order."""
  return [
      *(
          TableRow(
              f'x{name}' if group == 'uniform' else name,
              (group, name, 'top1'),
              madds=(group, name, 'madds'),
          )
          for group in _SUBNET_GROUPS
          for name in section[group]
      ),
      TableRow(
          'runtime-random',
          ('random', 'mean'),
          ('random', 'std'),
          ('random', 'madds_mean'),
      ),
      TableRow(f'all {section["exact"]["subnets"]}: mean', ('exact', 'mean')),
      TableRow('  lowest', ('exact', 'min')),
      TableRow('  highest', ('exact', 'max')),
  ]


def figure(section: dict[str, Any], keys: tuple[str, ...]) -> Any:
  """Returns what the keys of a `TableRow` lead to."""
  return functools.reduce(operator.getitem, keys, section)


def tables(values: dict[str, Any]) -> str:
  """Returns the results as tables for the console: accuracy, then latency."""
  accuracies, latencies = _accuracy_rows(values), values.get('latency')
  dataset = values['dataset']
  found = []
  if accuracies:
    head = f'{dataset["name"]}, {dataset["test_examples"]} test images'
    found.append(_aligned([(head, 'top-1', 'M MAdds'), *accuracies]))
  if latencies:
    head = f'one pass, batch {latencies[0]["batch"]}'
    rows = [
        (row['network'], f'{row["ms_median"]:.2f}', f'{row["ms_p90"]:.2f}')
        for row in latencies
    ]
    found.append(_aligned([(head, 'ms median', 'ms p90'), *rows]))
  return '\n\n'.join(found)


def _accuracy_rows(values: dict[str, Any]) -> list[tuple[str, str, str]]:
  rows = []
  if teacher := values.get('teacher'):
    top1, madds = f'{teacher["top1"]:.2%}', _millions(teacher['madds'])
    rows.append(('teacher', top1, madds))
  rows += [
      row
      for part in NETWORKS
      if part in values
      for row in _part_rows(values[part], is_delta=part == 'delta')
  ]
  every = values.get('subnets')
  if every and 'delta' in values:  # Widths alone have had their rows.
    rows += [
        (label, f'{every[key]:.2%}', '')
        for label, key in (
            (f'all {every["count"]:,} subnets: mean', 'mean'),
            ('  lowest', 'min'),
            ('  highest', 'max'),
        )
    ]
  for scope, by_name in values.get('policies', {}).items():
    rows += [
        (
            f'policy {scope}/{name}',
            f'{entry["top1"]:.2%}',
            _millions(entry['madds']),
        )
        for name, entry in by_name.items()
    ]
  return rows


def _aligned(rows: list[tuple[str, str, str]]) -> str:
  """Returns a head and rows as text, with a line between."""
  widths = [max(map(len, column)) for column in zip(*rows)]
  line = '  '.join('-' * width for width in widths)
  body = [
      f'{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}'
      for a, b, c in rows
  ]
  return '\n'.join([body[0], line, *body[1:]])


def _part_rows(
    section: dict[str, Any], *, is_delta: bool
) -> list[tuple[str, str, str]]:
  rows = []
  for row in table_rows(section):
    label = row.label
    if is_delta and row.is_subnet:
      label = '-'.join(f'{stage}d' for stage in label.split('-'))
    elif is_delta:
      label = f'{label}, deltas'
    top1 = f'{figure(section, row.top1):.2%}'
    if row.std:
      top1 += f' +- {figure(section, row.std):.2%}'
    madds = _millions(figure(section, row.madds)) if row.madds else ''
    rows.append((label, top1, madds))
  return rows


def _millions(madds: int) -> str:
  return f'{madds / 1e6:.1f}'
