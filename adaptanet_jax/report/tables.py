# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The tables of the paper, for both the console and the page."""

from collections.abc import Sequence
import dataclasses
import html
from typing import Any, NamedTuple

import numpy as np

from adaptanet_jax.models.subnet import LARGEST
from adaptanet_jax.report import paper
from adaptanet_jax.report.paper import RANDOM
from adaptanet_jax.training.baseline_methods import NETWORKS

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Table:
  """A table of text cells.

  Attributes:
    title: title of the table.
    head: names of the columns.
    rows: rows of cells; the first cell of a row is its name.
    note: remark below the table on the page.
    num_paper: number of columns with the paper's figures; they are the last.
  """

  title: str
  head: Sequence[str]
  rows: Sequence[Sequence[str]]
  note: str = ''
  num_paper: int = 0

  def text(self, num_columns: int | None = None) -> str:
    """Returns the table as text.

    Args:
      num_columns: number of leading columns to show; None: all but the paper's.
    """
    stop = num_columns or len(self.head) - self.num_paper
    # Not every terminal can show the sign.
    rows = [
        [cell.replace('±', '+-') for cell in row[:stop]]
        for row in (self.head, *self.rows)
    ]
    widths = [max(map(len, column)) for column in zip(*rows)]
    head, *lines = (
        '  '.join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])])
        for name, *cells in rows
    )
    rule = '  '.join('-' * width for width in widths)
    return '\n'.join([self.title, head, rule, *lines])

  def html(self, level: int = 2) -> str:
    """Returns the table as HTML, under a heading of the given level."""
    first_paper = len(self.head) - self.num_paper

    def row(tag: str, cells: Sequence[str]) -> str:
      marks = ('', ' class=paper')
      filled = (
          f'<{tag}{marks[n >= first_paper]}>{html.escape(cell)}</{tag}>'
          for n, cell in enumerate(cells)
      )
      # Heads may be broken into lines, but not before a unit.
      return f'<tr>{"".join(filled)}</tr>'.replace(' %', '&nbsp;%')

    body = '\n'.join(row('td', values) for values in self.rows)
    return (
        f'<h{level}>{html.escape(self.title)}</h{level}>\n'
        f'<div class="wide"><table><thead>{row("th", self.head)}</thead>\n'
        f'<tbody>\n{body}\n</tbody></table></div>{quiet(self.note)}'
    )


def quiet(text: str) -> str:
  """Returns a remark as HTML; an empty text stays empty."""
  return f'<p class="quiet">{html.escape(text)}</p>' if text else ''


def percent(share: float | None) -> str:
  """Returns a share in percent; '' for None."""
  return '' if share is None else f'{100 * share:.2f}'


def millions(madds: float | None) -> str:
  """Returns MAdds in millions; '' for None."""
  return '' if madds is None else f'{madds / 1e6:,.1f}'


def over_seeds(values: np.ndarray | None, std: float | None = None) -> str:
  """Returns a figure of one or several seeds in percent.

  Args:
    values: shares, `float[seeds]`; None: there is no figure.
    std: standard deviation to show if there is only one seed.

  Returns:
    The mean, for several seeds with the standard deviation over seeds; '' if
    there is no figure.
  """
  if values is None:
    return ''
  if len(values) > 1:
    std = values.std(ddof=1)
  mean = percent(values.mean())
  return mean if std is None else f'{mean} ± {percent(std)}'


class Accuracy(NamedTuple):
  """A row of Table II for one network.

  Attributes:
    top1: share of right answers, or the mean of several shares.
    std: standard deviation over passes; only for runtime-random.
    madds: MAdds per image; None for rows that summarise all subnets.
    exact_std: the deviation over all passes that could be drawn; None for runs
      of older versions.
  """

  top1: float
  std: float | None = None
  madds: float | None = None
  exact_std: float | None = None


def accuracies(section: Row) -> dict[str, Accuracy]:
  """Returns the rows of Table II from a network's section of results.json."""
  uniform = {f'x{width}': e for width, e in section['uniform'].items()}
  random, exact = section['random'], section['exact']
  return {
      name: Accuracy(entry['top1'], madds=entry['madds'])
      for name, entry in (uniform | section['mixed']).items()
  } | {
      RANDOM: Accuracy(
          random['mean'],
          random['std'],
          random['madds_mean'],
          random.get('exact_std'),
      ),
      f'all {exact["subnets"]}: mean': Accuracy(exact['mean']),
      '  lowest': Accuracy(exact['min']),
      '  highest': Accuracy(exact['max']),
  }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
  """A network of Table II.

  Attributes:
    network: name of its section in results.json.
    title: its name in tables.
    sections: this section of each of its runs, which differ in their seeds.
  """

  network: str
  title: str
  sections: list[Row] = dataclasses.field(default_factory=list)

  def values(self, row: str, figure: str = 'top1') -> np.ndarray:
    """Returns a figure of each run, `float[seeds]`.

    Args:
      row: name of a row of Table II.
      figure: name of an attribute of `Accuracy`.
    """
    found = [getattr(accuracies(s)[row], figure) for s in self.sections]
    return np.array(found, float)


def table_ii(
    title: str,
    columns: Sequence[Column],
    *,
    note: str = '',
    theirs: Row | None = None,
    has_madds: bool = False,
) -> Table:
  """Returns Table II: accuracies of the same subnets of some networks.

  Args:
    title: title of the table.
    columns: the networks.
    note: remark below the table on the page.
    theirs: the paper's figures, an entry of `paper.TABLE_II`, if to be shown.
    has_madds: whether each network has a column of its MAdds, too.

  Returns:
    The table; the paper's figures are in the last columns.
  """
  shown = dict.fromkeys(c.network for c in columns) if theirs else ()
  has_seeds = any(len(column.sections) > 1 for column in columns)
  firsts = [accuracies(column.sections[0]) for column in columns]
  rows = []
  for name in firsts[0]:
    cells = [name]
    for column, first in zip(columns, firsts):
      # With a deviation over seeds, that over passes gets its own row.
      std = None if has_seeds else first[name].std
      cells.append(over_seeds(column.values(name), std))
      if has_madds:
        cells.append(millions(first[name].madds))
    cells += [(theirs or {})[network].get(name, '') for network in shown]
    rows.append(cells)
    if has_seeds and name == RANDOM:
      stds = [over_seeds(column.values(name, 'std')) for column in columns]
      rows.append(['  its std over passes', *stds, *('' for _ in shown)])
  head = ['subnet, by stage']
  for column in columns:
    head += [f'{column.title}, %', *(['M MAdds'] if has_madds else [])]
  head += [f'paper, {NETWORKS[network]}' for network in shown]
  return Table(title, head, rows, note, num_paper=len(shown))


def run_table_ii(results: Row) -> Table | None:
  """Returns Table II of one run; None before anything was measured."""
  title = 'Table II. Accuracy of the subnets'
  teacher = []
  if found := results.get('teacher'):
    teacher = ['teacher', percent(found['top1']), millions(found['madds'])]
  columns = [
      Column(network=network, title=title_, sections=[results[network]])
      for network, title_ in NETWORKS.items()
      if network in results
  ]
  if not columns:
    head = ['', 'top-1, %', 'M MAdds']
    return Table(title, head, [teacher]) if teacher else None
  data = paper.data_set_for(results['dataset']['name'])
  passes = columns[0].sections[0]['random']['passes']
  table = table_ii(
      title,
      columns,
      note=(
          f'Paper: ResNet-50 on {data}, AdaptaNet with GroupNorm. '
          'Runtime-random draws a subnet for each image, '
          f'{passes} passes. Delta: every stage runs its delta '
          'substitute.'
      ),
      theirs=paper.TABLE_II[data],
      has_madds=True,
  )
  if not teacher:
    return table
  rest = [''] * (len(columns) - 1)
  teacher += [*rest, *rest, paper.TEACHER[data], *rest]
  return dataclasses.replace(table, rows=[teacher, *table.rows])


def table_iii(results: Row) -> Table | None:
  """Returns Table III, the policies of a run, if they were measured."""
  if 'policies' not in results:
    return None
  data = paper.data_set_for(results['dataset']['name'])
  rows = []
  for scope, by_name in results['policies'].items():
    for name, entry in by_name.items():
      theirs = paper.TABLE_III[data][scope].get(name, ('', ''))
      rows.append([
          f'{scope}/{name}',
          percent(entry['top1']),
          millions(entry['madds']),
          millions(entry.get('madds_executed')),
          f'{entry["seconds"]:.2f}' if 'seconds' in entry else '',
          entry.get('kind', ''),
          percent(entry.get('mixture_top1')),
          percent(entry.get('uniform_top1')),
          percent(entry.get('random_top1')),
          percent(entry.get('uniform_top1_free_gates')),
          percent(entry.get('random_top1_free_gates')),
          *map(str, theirs),
      ])
  head = ['scope/policy', 'top-1, %', 'M MAdds', 'executed', 'seconds']
  head += ['made of']
  head += ['mix, %', 'best mix', 'random, %', 'best mix, free', 'random, free']
  head += ['paper, %', 'paper, M']
  note = (
      'M MAdds: the mean over images, with gates. Executed: with the padding '
      'of routed chunks as well. Seconds: for the test split, the median of '
      'three runs. Both are of the program that routes images, which only '
      'policies that read gates need; of others, the answers of their two '
      'subnets tell all. Made of: what the policy budget consists of; it looks '
      'twice (at some images, under a larger subnet), reads a gate, or runs '
      'subnets that are not uniform, only if that helped on examples that it '
      'was not made from. Mix: two uniform subnets, mixed at '
      'random to the same MAdds, or the most expensive one if the policy takes '
      'more than that; they are chosen by the examples that policies are made '
      'from. Best mix: the same chosen on the test split, an upper bound. '
      'Random: the mean of all subnets within 5 % of these MAdds. Free: the '
      'same at the MAdds of the stages alone, as if gates cost nothing. '
      f'Paper: ResNet-50 on {data}.'
  )
  return Table('Table III. Policies', head, rows, note, num_paper=2)


def latency_conditions(results: Row) -> str:
  """Returns the batch and the device that latencies were measured with."""
  stages = results['stage_latency']
  made = results.get('made', {}).get('latency', {})  # Where older runs say it.
  device = stages.get('device') or made.get('device', results['device']['kind'])
  return f'batch of {stages["batch"]}, {device}'


def table_i(results: Row) -> Table | None:
  """Returns Table I, the latencies of a run, if they were measured."""
  if 'latency' not in results:
    return None

  def number(value: float | None) -> str:
    return 'n/a' if value is None else f'{value:.2f}'

  measured = ('ms_median', 'ms_p90', 'watts', 'millijoules')
  rows = [
      [
          row['network'].replace('_', ' '),
          row['norm'],
          *(number(row[key]) for key in measured),
          *map(str, paper.TABLE_I.get(row['network'], ('',) * 3)),
      ]
      for row in results['latency']
  ]
  head = ['network', 'norm', 'ms, median', 'ms, p90', 'W', 'mJ']
  head += ['paper, ms', 'paper, W', 'paper, mJ']
  stages = results['stage_latency']
  note = (
      f'Measured with a {latency_conditions(results)}. Paper: ResNet-50 at '
      '224 pixels, RTX 4090, batch of 1. The first three rows are the teacher '
      'with each of three norms. The times of other subnets are estimated as '
      f'sums over their stages; {LARGEST} takes {stages["largest_ms"]:.2f} ms. '
      'In the '
      f'median, such a sum is off by {100 * stages["median_error"]:.0f} % for '
      f'{stages["checked_subnets"]} random subnets that were timed as a whole'
  )
  if 'front_error' in stages:
    note += (
        f', and by {100 * stages["front_error"]:.0f} % for the '
        f'{len(stages["front_ms"])} that look fastest for their accuracy'
    )
  note += '.'
  if not stages.get('trusted', True):
    note += (
        ' Sums that are off by more than 20 %, or leave a subnet no time at '
        'all, do not tell subnets apart, so their latencies are left out: '
        'measure them again on a machine that does nothing else.'
    )
  return Table('Table I. Latency and energy', head, rows, note, num_paper=3)


def all_subnets(results: Row) -> str:
  """Returns a sentence about all subnets of a run."""
  every = results['subnets']
  mean, low, high = (percent(every[key]) for key in ('mean', 'min', 'max'))
  return (
      f'All {every["count"]:,} subnets: mean {mean} %, lowest {low} %, highest '
      f'{high} %.'
  )


def console(results: Row) -> str:
  """Returns a run's results as text, in lines of up to 80 columns."""
  data = results['dataset']
  found = []
  if table := run_table_ii(results):
    found.append(f'{data["name"]}, {data["test_examples"]} test images')
    found.append(table.text())
  if 'subnets' in results:
    found.append(all_subnets(results))
  if table := table_iii(results):
    found.append(table.text(num_columns=7))
  if table := table_i(results):
    found.append(table.text())
  return '\n\n'.join(found)
