# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""`report.html`: the tables and figures of a run on a page of its own.

It is made of nothing but the files in the workdir, so it can be made again.
"""

import html
import os
import string
from typing import Any

from adaptanet_jax import processes
from adaptanet_jax.baselines.methods import METHODS
from adaptanet_jax.evaluation import results as results_lib
from adaptanet_jax.models.subnet import LARGEST
from adaptanet_jax.progress import MetricsLog
from adaptanet_jax.report import (
  comparison,
  comparison_page,
  figures,
  markup,
  paper,
)

Row = dict[str, Any]

_CAPTIONS = {
    'training': (
        'Figure 3. Test accuracy while whole networks train.',
        'Phases that train a single module have no accuracy of their own. Of a '
        'BatchNorm network: with the statistics of training.',
    ),
    'comparison': (
        'Accuracy against MAdds, all networks.',
        'Lines: uniform widths. Crosses: the four mixed subnets. Means over '
        'seeds.',
    ),
    'confidence': (
        'Figure 4. Accuracy against confidence, gates by subnets.',
        'Equal-frequency bins of each gate\'s confidence for each uniform '
        'subnet; above the calibration examples (training data, as in the '
        'paper), below the test split.',
    ),
    'madds': (
        'Accuracy against MAdds, all subnets.',
        'On the front is what no cheaper subnet is as accurate as.',
    ),
    'latency': (
        'Accuracy against latency, all subnets.',
        'Milliseconds are sums over stages, each choice of each stage measured '
        'in the one compiled program.',
    ),
}

_PAGE = string.Template('''<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$network: $title</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; margin: 0 auto;
  max-width: 66rem; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; margin: 0; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p { margin: .4rem 0; } .quiet { color: #616e7c; font-size: .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; margin: .75rem 0;
  font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .6rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid #1f2933; font-weight: 600;
  vertical-align: bottom; }
tbody td { border-bottom: 1px solid #e4e7eb; }
th:not(:first-child) { white-space: normal; max-width: 6rem; }
td.paper, th.paper { color: #616e7c; }
figure { margin: 1.5rem 0; } figure svg { width: 100%; height: auto; }
figcaption b { font-weight: 600; }
</style>
</head>
<body>
<h1>$network on $title</h1>
<p class="quiet">$subtitle</p>
$body
</body>
</html>
''')


def write(workdir: str, *, compare: str = '') -> None:
  """Draws the figures of a run and writes its page.

  Args:
    workdir: folder of the run; what it has not measured is left out.
    compare: workdirs to set beside it, as `config.compare` names them.

  Raises:
    UsageError: one of these is no workdir, or of other data.
  """
  results = results_lib.read_json(os.path.join(workdir, 'results.json'))
  subnets = results_lib.read_subnets(workdir)
  # By now a run is not to end without its report for the sake of others.
  problems: list[str] = []
  columns = []
  if others := comparison.find(compare, problems):
    columns = comparison.collect(
        [workdir, *others], results['dataset'], problems
    )
  drawn = figures.draw_all(
      results,
      MetricsLog(workdir).read(),
      subnets,
      columns,
      results_lib.figures_path(workdir),
  )
  sections = [
      _accuracy_section(results),
      comparison_page.section(
          columns, results['dataset']['name'], problems
      ),
      _figure('comparison', drawn),
      _calibration_section(results),
      _figure('training', drawn),
      _subnets_section(results, subnets),
      _figure('madds', drawn),
      _policy_section(results),
      _gate_section(results),
      _figure('confidence', drawn),
      _latency_section(results),
      _figure('latency', drawn),
      _time_section(results),
  ]
  text = _PAGE.substitute(
      network=next(
          (METHODS[name].title for name in METHODS if name in results),
          'AdaptaNet',
      ),
      title=html.escape(results['dataset']['name']),
      subtitle=html.escape(_subtitle(results)),
      body='\n'.join(filter(None, sections)),
  )
  with processes.replacing(results_lib.report_path(workdir)) as file:
    file.write(text)


def _subtitle(results: Row) -> str:
  dataset, device = results['dataset'], results['device']
  return (
      f'Configuration {results["config"]}, seed {results["seed"]}, commit '
      f'{results["git"]}. {dataset["train_examples"]:,} training and '
      f'{dataset["test_examples"]:,} test images of {dataset["num_classes"]} '
      f'classes. Augmentation: {results.get("augmentation", "not recorded")}. '
      f'Device: {device["count"]} x {device["kind"]}.'
  )


def _figure(name: str, drawn: dict[str, str]) -> str:
  if name not in drawn:
    return ''
  title, text = _CAPTIONS[name]
  # Two SVGs in one page must not share the names of their parts.
  svg = drawn[name].replace('id="', f'id="{name}-')
  svg = svg.replace('"#', f'"#{name}-').replace('url(#', f'url(#{name}-')
  return (
      f'<figure>{svg}<figcaption><b>{html.escape(title)}</b> '
      f'{html.escape(text)}</figcaption></figure>'
  )


def _accuracy_section(results: Row) -> str:
  """Table II, of this run."""
  parts = {
      name: results[name] for name in results_lib.NETWORKS if name in results
  }
  if not parts:
    return ''
  column = paper.columns_for(results['dataset']['name'])
  rows = []
  if teacher := results.get('teacher'):
    rows.append([
        'teacher',
        markup.percent(teacher['top1']),
        markup.millions(teacher['madds']),
        *[''] * (2 * (len(parts) - 1)),
        f'{paper.TABLE_II[column]["teacher"]:.2f}',
        *[''] * (len(parts) - 1),
    ])
  for row in results_lib.table_rows(next(iter(parts.values()))):
    cells = [row.label]
    for part in parts.values():
      madds = results_lib.figure(part, row.madds) if row.madds else None
      cells += [markup.accuracy(part, row), markup.millions(madds)]
    rows.append(cells + [paper.top1(column, part, row.top1) for part in parts])
  passes = next(iter(parts.values()))['random']['passes']
  head = ['subnet, by stage']
  for part in parts:
    head += [f'{results_lib.NETWORKS[part]}, %', 'M MAdds']
  head += [f'paper, {results_lib.NETWORKS[part]}' for part in parts]
  return markup.section(
      'Table II. Accuracy of the subnets',
      markup.table(head, rows, num_paper=len(parts)),
      markup.note(
          f'Paper: ResNet-50 on {column}. Runtime-random draws a subnet for '
          f'each image, {passes} passes. Delta: every stage runs its delta '
          'substitute.'
      ),
  )


def _calibration_section(results: Row) -> str:
  """Accuracies of BatchNorm networks by the statistics that they run with."""
  tables = []
  for network, title in results_lib.NETWORKS.items():
    by_name = results.get(network, {}).get('by_calibration', {})
    if not by_name:
      continue
    parts = list(by_name.values())
    rows = [
        [row.label, *(markup.accuracy(part, row) for part in parts)]
        for row in results_lib.table_rows(parts[0])
    ]
    head = [title, *(f'{name}, %' for name in by_name)]
    tables.append(markup.table(head, rows))
  if not tables:
    return ''
  return markup.section(
      'Batch statistics',
      *tables,
      markup.note(
          'Subnet: every subnet with statistics of its own, taken after '
          'training. Uniform: a stage with those of the subnet that runs all '
          'stages as it runs. None: those of training.'
      ),
  )


def _subnets_section(results: Row, subnets: list[Row]) -> str:
  if 'subnets' not in results or not subnets:
    return ''
  every = results['subnets']
  runs = every['stage_runs']
  costs = [row['madds'] for row in subnets]
  front = figures.pareto_front(costs, [row['top1'] for row in subnets])
  # The whole front is in the figure; a table of it stays readable at ten rows.
  step = max(1, -(-len(front) // 10))
  chosen = sorted({*front[::step], front[-1]}, key=costs.__getitem__)
  has_latency = 'latency_ms' in subnets[0]
  rows = [
      [
          row['subnet'],
          markup.percent(row['top1']),
          markup.millions(row['madds']),
          f'{row["params"] / 1e6:,.2f}',
          *([f'{row["latency_ms"]:.2f}'] if has_latency else []),
      ]
      for row in (subnets[position] for position in chosen)
  ]
  head = ['on the Pareto front', 'top-1, %', 'M MAdds', 'M parameters']
  head += ['ms'] if has_latency else []
  mean, lowest, highest = (
      markup.percent(every[key]) for key in ('mean', 'min', 'max')
  )
  return markup.section(
      f'All {every["count"]:,} subnets',
      f'<p>Every subnet on every test image: mean {mean} %, lowest {lowest} %, '
      f'highest {highest} %. '
      f'The tree of prefixes took {runs["done"]:,} stage runs and saved '
      f'{runs["saved"]:,}. All of them are in <code>subnets.csv</code>; "d" '
      'marks a delta stage.</p>',
      markup.table(head, rows),
  )


def _policy_section(results: Row) -> str:
  """Table III."""
  if 'policies' not in results:
    return ''
  column = paper.columns_for(results['dataset']['name'])
  theirs = paper.TABLE_III[column]
  rows = []
  for scope, by_name in results['policies'].items():
    for name, entry in by_name.items():
      top1, madds, _ = theirs[scope].get(name, (None, None, None))
      rows.append([
          f'{scope}, {name.replace("_", "-")}',
          markup.percent(entry['top1']),
          markup.millions(entry['madds']),
          markup.millions(entry['madds_executed']),
          f'{entry["seconds"]:.2f}',
          markup.percent(entry.get('uniform_top1')),
          markup.percent(entry.get('random_top1')),
          markup.percent(entry.get('uniform_top1_free_gates')),
          markup.percent(entry.get('random_top1_free_gates')),
          '' if top1 is None else f'{top1:.1f}',
          '' if madds is None else f'{madds:.1f}',
      ])
  head = [
      'scope, policy',
      'top-1, %',
      'M MAdds',
      'executed',
      'seconds',
      'mix, %',
      'random, %',
      'mix, free',
      'random, free',
      'paper, %',
      'paper, M',
  ]
  return markup.section(
      'Table III. Policies',
      markup.table(head, rows, num_paper=2),
      markup.note(
          'MAdds are the mean of an image, gates included; executed counts the '
          'padding of routed chunks. Mix and random: what uniform '
          'subnets mixed at random, and random subnets within 5 %, reach at '
          'the same MAdds without gates; free: at the MAdds of the stages '
          'alone, as if gates cost nothing. A policy whose MAdds lie above all '
          'uniform subnets is set beside the dearest. Paper: ResNet-50 on '
          f'{column}.'
      ),
  )


def _gate_section(results: Row) -> str:
  if 'gates' not in results:
    return ''

  def number(value: float | None) -> str:
    return 'none' if value is None else f'{value:+.2f}'

  rows = [
      [
          f'gate {anchor}',
          markup.percent(gate['top1']),
          f'{gate["madds"] / 1e6:.2f}',
          number(gate['rank_correlation']),
          number(gate['rank_correlation_test']),
      ]
      for anchor, gate in results['gates'].items()
  ]
  head = ['', 'detection top-1, %', 'M MAdds', 'calibration', 'test']
  return markup.section(
      'Var Gates',
      markup.table(head, rows),
      markup.note(
          'Detection: the classes that a gate itself names, reading the '
          'largest subnet. Calibration and test: rank correlation (Spearman) '
          'of confidence and accuracy over bins, mean of the uniform subnets.'
      ),
  )


def _latency_section(results: Row) -> str:
  """Table I."""
  if 'latency' not in results:
    return ''

  def number(value: float | None) -> str:
    return 'n/a' if value is None else f'{value:.2f}'

  rows = [
      [
          row['network'].replace('_', ' '),
          row['norm'],
          number(row['ms_median']),
          number(row['ms_p90']),
          number(row['watts']),
          number(row['millijoules']),
          *(
              f'{value:.2f}'
              for value in paper.TABLE_I.get(row['network'], ())
          ),
      ]
      for row in results['latency']
  ]
  rows = [row + [''] * (9 - len(row)) for row in rows]
  head = ['network', 'norm', 'ms, median', 'ms, p90', 'W', 'mJ']
  head += ['paper, ms', 'paper, W', 'paper, mJ']
  stages = results['stage_latency']
  return markup.section(
      'Table I. Latency and energy',
      markup.table(head, rows, num_paper=3),
      markup.note(
          f'Batch of {stages["batch"]}, {results_lib.latency_device(results)}. '
          'Paper: ResNet-50 at 224 pixels, RTX 4090, batch of 1. The first '
          'three are the teacher with each of three norms. The sum over '
          f'stages is within {100 * stages["median_error"]:.0f} % (median) of '
          f'the measured time of {stages["checked_subnets"]} random subnets; '
          f'{LARGEST} takes {stages["largest_ms"]:.2f} ms.'
      ),
  )


def _time_section(results: Row) -> str:
  seconds = results['seconds']
  rows = [
      [name.replace('_', ' '), f'{value:,.0f}']
      for name, value in seconds.items()
  ]
  rows.append(['all', f'{sum(seconds.values()):,.0f}'])
  return markup.section('Time', markup.table(['phase', 'seconds'], rows))
