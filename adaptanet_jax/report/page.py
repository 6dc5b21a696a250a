# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""`report.html`: the tables and figures of a run on one page.

It is made from the files in the workdir alone, so it can be made again.
"""

from collections.abc import Sequence
import html
import string
from typing import Any

from adaptanet_jax.evaluation import subnet_table
from adaptanet_jax.evaluation.subnet_table import SubnetTable
from adaptanet_jax.models.gates import CONFIDENCES
from adaptanet_jax.progress import MetricsLog
from adaptanet_jax.report import comparison, tables
from adaptanet_jax.report.tables import Table, millions, percent, quiet
from adaptanet_jax.training.baseline_methods import METHODS, NETWORKS
from adaptanet_jax.workdir import Paths, read_json, write_text

Row = dict[str, Any]

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

  Files that would not change are not written.

  Args:
    workdir: folder of the run; parts without measurements are left out.
    compare: workdirs to compare with, in the form of `config.compare`.
  """
  # Imported here, so that only reports load the plotting library.
  from adaptanet_jax.report import figures

  paths = Paths(workdir)
  results = read_json(paths.results)
  subnets = _subnets(workdir, results)
  # Runs that cannot be compared are listed on the page and raise no error, so
  # that the finished run still gets its report.
  problems: list[str] = []
  columns = []
  if others := comparison.find(compare, problems):
    columns = comparison.collect(
        [workdir, *others], results['dataset'], problems
    )
  drawn = figures.draw_all(
      results, MetricsLog(workdir).read(), subnets, columns, paths.figures
  )
  parts = [
      _table(tables.run_table_ii(results)),
      _comparison(columns, results['dataset'], problems),
      _figure('comparison', drawn),
      _table(_calibration(results)),
      _figure('training', drawn),
      _table(_pareto_front(results, subnets)),
      _figure('madds', drawn),
      _table(tables.table_iii(results)),
      _table(_bias(results)),
      _table(_gates(results)),
      _table(_gate_value(results)),
      _figure('confidence', drawn),
      _table(tables.table_i(results)),
      _figure('latency', drawn),
      _table(_times(results)),
  ]
  text = _PAGE.substitute(
      network=next(
          (METHODS[name].title for name in METHODS if name in results),
          'AdaptaNet',
      ),
      title=html.escape(results['dataset']['name']),
      subtitle=html.escape(_subtitle(results)),
      body='\n'.join(filter(None, parts)),
  )
  write_text(paths.report, text)


def _subnets(workdir: str, results: Row) -> SubnetTable:
  """Returns the table of all subnets, without what is to be measured again."""
  table = subnet_table.read(workdir) if 'subnets' in results else {}
  if 'stage_latency' not in results:
    table.pop('latency_ms', None)
  return table


def _subtitle(results: Row) -> str:
  dataset, device = results['dataset'], results['device']
  return (
      f'Configuration {results["config"]}, seed {results["seed"]}, commit '
      f'{results["git"]}. {dataset["train_examples"]:,} training and '
      f'{dataset["test_examples"]:,} test images of {dataset["num_classes"]} '
      f'classes. Augmentation: {results.get("augmentation", "not recorded")}. '
      f'Device: {device["count"]} x {device["kind"]}.'
  )


def _table(table: Table | None) -> str:
  return table.html() if table else ''


def _figure(name: str, drawn: dict[str, str]) -> str:
  if name not in drawn:
    return ''
  # What was drawn has loaded the plotting library.
  from adaptanet_jax.report.figures import CAPTIONS

  title, text = CAPTIONS[name]
  # The ids in several SVGs on one page must differ.
  svg = drawn[name].replace('id="', f'id="{name}-')
  svg = svg.replace('"#', f'"#{name}-').replace('url(#', f'url(#{name}-')
  label = html.escape(f'{title} {text}')
  svg = svg.replace('<svg', f'<svg role="img" aria-label="{label}"', 1)
  return (
      f'<figure>{svg}<figcaption><b>{html.escape(title)}</b> '
      f'{html.escape(text)}</figcaption></figure>'
  )


def _comparison(
    columns: Sequence[comparison.SeedsColumn],
    dataset: Row,
    problems: Sequence[str],
) -> str:
  """Returns the comparison of networks of several runs, as HTML.

  Args:
    columns: networks to compare, if any.
    dataset: description of their data, as in results.json.
    problems: messages about runs that cannot be compared.
  """
  notes = [f'Not compared: {problem}' for problem in problems]
  passed_over = [
      f'{column.title} of {path}'
      for column in columns
      for path in column.passed_over
  ]
  if passed_over:
    notes.append(
        'Left out, as another run has the same network with the same seed: '
        f'{", ".join(passed_over)}.'
    )
  parts = list(map(quiet, notes))
  if columns:
    first, *others = comparison.tables(columns, dataset)
    parts = [first.html(), *parts, *(table.html(level=3) for table in others)]
  return '\n'.join(parts)


def _calibration(results: Row) -> Table | None:
  """Accuracies of BatchNorm networks by kind of batch statistics."""
  columns = [
      tables.Column(
          network=network, title=f'{title}: {name}', sections=[section]
      )
      for network, title in NETWORKS.items()
      for name, section in results.get(network, {})
      .get('by_calibration', {})
      .items()
  ]
  if not columns:
    return None
  return tables.table_ii(
      'Batch statistics',
      columns,
      note=(
          'Subnet: every subnet with statistics of its own, taken after '
          'training. Uniform: each stage with the statistics of the uniform '
          'subnet that has its width. None: those of training.'
      ),
  )


def _pareto_front(results: Row, subnets: SubnetTable) -> Table | None:
  if 'subnets' not in results or not subnets:
    return None
  count = results['subnets']['count']
  names = subnet_table.names(len(subnets['top1']))
  flat = {name: column.ravel() for name, column in subnets.items()}
  front = subnet_table.pareto_front(flat['madds'], flat['top1'])
  # About ten rows; the figure shows the whole front.
  step = max(1, -(-len(front) // 10))
  has_latency = 'latency_ms' in flat
  rows = [
      [
          names[n],
          percent(flat['top1'][n]),
          millions(flat['madds'][n]),
          f'{flat["params"][n] / 1e6:,.2f}',
          *([f'{flat["latency_ms"][n]:.2f}'] if has_latency else []),
      ]
      for n in dict.fromkeys([*front[::step], front[-1]])
  ]
  head = ['on the Pareto front', 'top-1, %', 'M MAdds', 'M parameters']
  note = (
      f'{tables.all_subnets(results)} Each ran on every test image. The front '
      'is chosen on the test split, so it is an upper bound for choices by '
      'other images. All figures are in subnets.csv; d marks a delta stage.'
  )
  head += ['ms'] if has_latency else []
  return Table(f'All {count:,} subnets', head, rows, note)


def _gates(results: Row) -> Table | None:
  if 'gates' not in results:
    return None

  def number(value: float | None) -> str:
    return 'none' if value is None else f'{value:+.2f}'

  rows = [
      [
          f'gate {anchor}',
          percent(gate['top1']),
          f'{gate["madds"] / 1e6:.2f}',
          number(gate['rank_correlation']),
          number(gate['rank_correlation_test']),
      ]
      for anchor, gate in results['gates'].items()
  ]
  head = ['', 'detection top-1, %', 'M MAdds', 'policy images', 'test images']
  note = (
      'Detection: the classes that a gate itself names, reading the largest '
      'subnet. Policy images, from which policies are made, and test images: '
      'rank correlation (Spearman) of accuracy and confidence, by its '
      'variance, over bins, mean of the uniform subnets.'
  )
  return Table('Var Gates', head, rows, note)


def _gate_value(results: Row) -> Table | None:
  """How well confidences tell which images a wider network helps."""
  if 'gate_value' not in results:
    return None
  value = results['gate_value']
  names = list(CONFIDENCES)
  rows = [
      [
          f'confidence of gate {anchor}',
          *(
              'none' if area is None else f'{area:.2f}'
              for area in map(areas.get, names)
          ),
      ]
      for anchor, areas in value['areas'].items()
  ]
  width = value['oracle']['width']
  note = (
      'How well low confidence singles out the images that are classified '
      'right if all later stages run at x1.0, and wrong if they run at x0.25: '
      'the area under the ROC curve; .5 is chance, 1 perfect. Policies go by '
      f'{value["confidence"]}. An oracle that knows the cheapest uniform '
      f'width that is right for each image would reach '
      f'{percent(width["top1"])} % for {millions(width["madds"])} M MAdds, and '
      f'{percent(width["top1_within"])} % within the budget. Measured on the '
      'examples that policies are made from.'
  )
  return Table('Is a gate worth reading?', ['', *names], rows, note)


def _bias(results: Row) -> Table | None:
  """Accuracies of uniform subnets on training images and on others."""
  if 'calibration_bias' not in results:
    return None
  bias = results['calibration_bias']
  head = list(next(iter(bias.values())))
  rows = [
      [subnet, *(percent(top1) for top1 in by_split.values())]
      for subnet, by_split in bias.items()
  ]
  note = (
      'The paper makes policies from training images, which a network has '
      'learnt from, so they need not order subnets as new images do.'
  )
  return Table(
      'Accuracy on training and on other images',
      ['', *(f'{name.replace("_", " ")}, %' for name in head)],
      rows,
      note,
  )


def _times(results: Row) -> Table:
  seconds = results['seconds']
  rows = [
      [name.replace('_', ' '), f'{value:,.0f}']
      for name, value in seconds.items()
  ]
  rows.append(['all', f'{sum(seconds.values()):,.0f}'])
  return Table('Time', ['phase', 'seconds'], rows)
