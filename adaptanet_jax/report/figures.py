# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The figures of a run, each as SVG and PNG."""

from collections.abc import Sequence
import contextlib
import io
import os
from typing import Any

import matplotlib
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from adaptanet_jax import processes
from adaptanet_jax.evaluation import subnet_table
from adaptanet_jax.evaluation.subnet_table import SubnetTable
from adaptanet_jax.models.subnet import (
  EVERY_UNIFORM,
  MIXED,
  NUM_STAGES,
  WIDTHS,
  Subnet,
)
from adaptanet_jax.report.tables import Column, latency_conditions
from adaptanet_jax.workdir import has_text, write_text

Row = dict[str, Any]

_INK, _QUIET, _GRID = '#1f2933', '#8a94a0', '#e4e7eb'
# Colours by width; a width and its delta share one.
_BY_WIDTH = {1.0: '#0b3c6f', 0.75: '#1f77b4', 0.5: '#4fb0c6', 0.25: '#e8893a'}
_FRONT = '#c2185b'
_DPI = 160
# By name of the figure: its title, and what it shows.
CAPTIONS = {
    'training': (
        'Figure 3. Test accuracy while whole networks train.',
        'Phases that train a single module have no accuracy of their own. '
        'Networks with a BatchNorm run with the statistics of training here.',
    ),
    'comparison': (
        'Accuracy against MAdds, all networks.',
        'Lines: uniform widths. Crosses: the four mixed subnets. Means over '
        'seeds.',
    ),
    'confidence': (
        'Figure 4. Accuracy against confidence, gates by subnets.',
        'Equal-frequency bins of each gate\'s confidence, by its variance, for '
        'each uniform subnet; above the examples that the policies are made '
        'from, below the test split.',
    ),
    'madds': (
        'Accuracy against MAdds, all subnets.',
        'On the front are the subnets that no cheaper one equals in accuracy. '
        'It is chosen on the test split, and so an upper bound.',
    ),
    'latency': (
        'Accuracy against latency, all subnets.',
        'Milliseconds are sums over stages, each choice of each stage measured '
        'in the one compiled program. The subnets that look fastest for their '
        'accuracy are measured as a whole, and the front is that of these (of '
        'all sums, if none was, as before the accuracies are known). It is '
        'chosen on the test split, and so an upper bound.',
    ),
}


def draw_all(
    results: Row,
    metrics: list[Row],
    subnets: SubnetTable,
    columns: Sequence[Column],
    folder: str,
) -> dict[str, str]:
  """Draws every figure that a run has the data for, and removes all others.

  Args:
    results: contents of results.json.
    metrics: rows of metrics.jsonl.
    subnets: table of all subnets; may be empty.
    columns: networks to compare, if any.
    folder: folder to write the figures to.

  Returns:
    SVG text by name of the figure.
  """
  os.makedirs(folder, exist_ok=True)
  drawn: dict[str, Figure] = {}
  if any(_accuracies(row) for row in metrics):
    drawn['training'] = draw_training(metrics)
  if columns:
    drawn['comparison'] = draw_comparison(columns)
  if 'gates' in results:
    drawn['confidence'] = draw_confidence(results['gates'])
  if subnets:
    drawn['madds'] = draw_costs(
        subnets, 'madds', 'MAdds of an image, millions', 1e-6
    )
  if 'latency_ms' in subnets:
    front = results['stage_latency'].get('front_ms')  # Older runs have none.
    drawn['latency'] = draw_costs(
        subnets,
        'latency_ms',
        f'milliseconds ({latency_conditions(results)})',
        1.0,
        front_of=list(front) if front else None,
    )
  for name in CAPTIONS.keys() - drawn.keys():  # What they showed is outdated.
    for kind in ('svg', 'png'):
      with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(folder, f'{name}.{kind}'))
  return {name: _save(figure, name, folder) for name, figure in drawn.items()}


def _save(figure: Figure, name: str, folder: str) -> str:
  path = os.path.join(folder, name)
  text = io.StringIO()
  # Without a date and random names, the same results give the same file.
  with matplotlib.rc_context({'svg.hashsalt': name}):
    figure.savefig(text, format='svg', metadata={'Date': None}, dpi=_DPI)
  svg = text.getvalue()
  # The SVG last: if it is up to date, so is the PNG.
  if not (has_text(f'{path}.svg', svg) and os.path.exists(f'{path}.png')):
    with processes.replacing(f'{path}.png', 'wb') as file:
      figure.savefig(file, format='png', dpi=_DPI)
    write_text(f'{path}.svg', svg)
  return svg[svg.index('<svg') :]


def _style(axes: Axes) -> None:
  axes.grid(color=_GRID, linewidth=0.8)
  axes.set_axisbelow(True)
  axes.spines[['top', 'right']].set_visible(False)
  axes.spines[['left', 'bottom']].set_color(_QUIET)
  axes.tick_params(colors=_INK, labelsize=9)
  axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0))


def _line_of(choice: str) -> dict[str, Any]:
  """Returns colour and dash of a uniform subnet, named by its choice."""
  return {
      'color': _BY_WIDTH[float(choice.rstrip('d'))],
      'linestyle': '--' if choice.endswith('d') else '-',
  }


def _accuracies(row: Row) -> dict[str, float]:
  return {k: v for k, v in row.items() if k.startswith('test_top1')}


def draw_training(metrics: list[Row]) -> Figure:
  """Draws test accuracies over the steps of all phases (Fig. 3)."""
  figure = Figure(figsize=(8.0, 3.8), layout='constrained')
  axes = figure.add_subplot()
  lengths: dict[str, int] = {}
  for row in metrics:
    known = lengths.get(row['phase'], 0)
    lengths[row['phase']] = max(known, row['step'])
  start, named = 0, set[str]()
  for number, (phase, length) in enumerate(lengths.items()):
    rows = [r for r in metrics if r['phase'] == phase and _accuracies(r)]
    if number % 2:
      axes.axvspan(start, start + length, color=_GRID, alpha=0.5, linewidth=0)
    if rows:
      for name in _accuracies(rows[0]):
        _, _, choice = name.partition('/')
        look = _line_of(choice) if choice else {'color': _INK}
        label = f'x{choice}' if choice else 'teacher'
        axes.plot(
            [start + row['step'] for row in rows],
            [row[name] for row in rows],
            linewidth=1.8,
            # Of the lines that look the same, one is in the legend.
            label=None if label in named else label,
            **look,
        )
        named.add(label)
      axes.text(
          start + length / 2,
          1.01,
          phase.replace('_', ' '),
          transform=axes.get_xaxis_transform(),
          ha='center',
          va='bottom',
          fontsize=9,
          color=_INK,
      )
    start += length
  _style(axes)
  axes.set_xlim(0, start)
  axes.set_xlabel('training steps, all phases (shaded: every second phase)')
  axes.set_ylabel('test accuracy')
  axes.legend(fontsize=8, frameon=False, loc='center left',
              bbox_to_anchor=(1.0, 0.5))
  return figure


def draw_confidence(gates: Row) -> Figure:
  """Draws accuracy against confidence, gates by subnets (Fig. 4).

  The upper row shows the images that policies are made from, as in the paper,
  and the lower row the test split.
  """
  figure = Figure(figsize=(2.6 * len(gates) + 1.2, 5.2), layout='constrained')
  grid = figure.subplots(2, len(gates), squeeze=False, sharey='row')
  for column, (anchor, gate) in enumerate(gates.items()):
    for row, name in enumerate(('bins', 'bins_test')):
      axes = grid[row, column]
      for subnet in map(str, EVERY_UNIFORM):
        bins = [b for b in gate[name] if b['subnet'] == subnet]
        choice = str(Subnet.parse(subnet).stages[0])
        axes.plot(
            [b['confidence'] for b in bins],
            [b['top1'] for b in bins],
            marker='o',
            markersize=3,
            linewidth=1.3,
            label=f'x{choice}',
            **_line_of(choice),
        )
      _style(axes)
    grid[0, column].set_title(f'gate {anchor}', fontsize=10, color=_INK)
    grid[1, column].set_xlabel('confidence', fontsize=9)
  grid[0, 0].set_ylabel('accuracy, policy images')
  grid[1, 0].set_ylabel('accuracy, test images')
  lines, labels = grid[0, 0].get_legend_handles_labels()
  figure.legend(lines, labels, fontsize=8, frameon=False,
                loc='outside right center')
  return figure


def draw_comparison(columns: Sequence[Column]) -> Figure:
  """Draws accuracy against MAdds for the networks of several runs."""
  figure = Figure(figsize=(8.0, 4.2), layout='constrained')
  axes = figure.add_subplot()
  for number, column in enumerate(columns):
    for names, look in (
        ([f'x{rho}' for rho in WIDTHS], 'o-'),
        (map(str, MIXED), 'x'),
    ):
      points = [
          (column.values(name, 'madds')[0] / 1e6, column.values(name).mean())
          for name in names
      ]
      axes.plot(
          *zip(*points),
          look,
          color=f'C{number}',
          markersize=5,
          linewidth=1.6,
          label=column.title if look == 'o-' else None,
      )
  _style(axes)
  axes.set_xlabel('MAdds of an image, millions')
  axes.set_ylabel('test accuracy')
  axes.legend(fontsize=8, frameon=False, loc='lower right')
  return figure


def draw_costs(
    subnets: SubnetTable,
    name: str,
    label: str,
    scale: float,
    front_of: Sequence[str] | None = None,
) -> Figure:
  """Draws accuracy against a cost for all subnets, with the Pareto front.

  Args:
    subnets: the table of all subnets.
    name: name of the column of costs.
    label: label of their axis.
    scale: what to multiply them by.
    front_of: the subnets among which the front is sought; None: all.
  """
  figure = Figure(figsize=(8.0, 4.2), layout='constrained')
  axes = figure.add_subplot()
  costs, top1 = subnets[name].ravel() * scale, subnets['top1'].ravel()
  codes = np.indices(subnets['top1'].shape).reshape(NUM_STAGES, -1)
  deltas = (codes >= len(WIDTHS)).sum(0)
  for choose, kind, color in (
      (deltas == 0, 'widths only', '#1f77b4'),
      ((deltas > 0) & (deltas < 4), 'some stages delta', '#9aa5b1'),
      (deltas == 4, 'every stage delta', '#e8893a'),
  ):
    if choose.any():
      axes.scatter(
          costs[choose],
          top1[choose],
          s=7,
          color=color,
          alpha=0.6,
          linewidths=0,
          label=f'{kind}: {choose.sum()}',
          # Thousands of points are stored as a bitmap inside the SVG.
          rasterized=True,
          zorder=2 + (kind != 'some stages delta'),
      )
  among = np.arange(top1.size)
  if front_of is not None:
    found = set(front_of)
    every = subnet_table.names(len(subnets['top1']))
    among = np.array([n for n in among if every[n] in found], int)
  front = among[subnet_table.pareto_front(costs[among], top1[among])]
  axes.plot(
      costs[front],
      top1[front],
      color=_FRONT,
      linewidth=1.4,
      marker='o',
      markersize=3,
      label=f'Pareto front: {len(front)}',
      zorder=4,
  )
  _style(axes)
  axes.set_xlabel(label)
  axes.set_ylabel('test accuracy')
  axes.legend(fontsize=8, frameon=False, loc='lower right')
  return figure
