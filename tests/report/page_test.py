# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.report.page."""

import html.parser
import json
import pathlib
import re
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np

from adaptanet_jax.evaluation import subnet_table
from adaptanet_jax.models.subnet import (
  MIXED,
  UNIFORM,
  UNIFORM_DELTA,
)
from adaptanet_jax.report import figures, page
from adaptanet_jax.workdir import write_json
from configs import common

_SAVE = figures.Figure.savefig


def _part():
  names = [str(subnet.stages[0].rho) for subnet in UNIFORM]
  return {
      'uniform': {n: {'top1': 0.5 + i / 100, 'madds': 1_500_000 + i}
                  for i, n in enumerate(names)},
      'mixed': {str(s): {'top1': 0.25, 'madds': 1_000_000} for s in MIXED},
      'random': {'mean': 0.4, 'std': 0.01, 'passes': 10, 'madds_mean': 900_000},
      'exact': {'mean': 0.41, 'min': 0.1, 'max': 0.61, 'subnets': 256},
  }


def _bins():
  return [
      {'subnet': str(subnet), 'confidence': n / 8, 'top1': n / 10}
      for subnet in UNIFORM + UNIFORM_DELTA
      for n in range(8)
  ]


def _results():
  entry = {'top1': 0.625, 'madds': 2_000_000, 'madds_executed': 2_500_000,
           'seconds': 0.75, 'mixture_top1': 0.605, 'uniform_top1': 0.61,
           'random_top1': None,
           'uniform_top1_free_gates': 0.6, 'random_top1_free_gates': 0.5}
  gate = {'top1': 0.3, 'madds': 250_000, 'rank_correlation': -0.5,
          'rank_correlation_test': None, 'bins': _bins(),
          'bins_test': _bins()}
  row = {'norm': 'gn', 'batch': 1, 'ms_median': 1.25, 'ms_p90': 1.5,
         'watts': None, 'millijoules': None}
  return {
      'schema': 1,
      'config': 'digits',
      'git': 'abc',
      'seed': 3,
      'dataset': {'name': 'a <b> & c', 'train_examples': 1297,
                  'test_examples': 500, 'num_classes': 10},
      'device': {'platform': 'cpu', 'kind': 'cpu', 'count': 1, 'processes': 1},
      'teacher': {'top1': 0.9, 'madds': 3_000_000, 'params': 10},
      'supernet': _part(),
      'delta': _part(),
      'subnets': {'count': 4096, 'mean': 0.4, 'min': 0.1, 'max': 0.7},
      'gates': {'1': gate, '2': gate},
      'policies': {
          'joint': {'pull_up': entry, 'budget': entry | {'kind': 'fixed'}}
      },
      'gate_value': {
          'confidence': 'margin',
          'areas': {
              '1': {'variance': 0.5, 'margin': 0.75, 'entropy': None},
          },
          'oracle': {
              'width': {'top1': 0.875, 'madds': 1_500_000, 'top1_within': 0.7},
          },
      },
      'calibration_bias': {
          '0.25-0.25-0.25-0.25': {'training': 0.99, 'held_out': 0.5,
                                  'test': 0.51},
      },
      'latency': [{'network': n} | row
                  for n in ('batch_norm', 'teacher', 'supernet x1.0')],
      'stage_latency': {'batch': 1, 'largest_ms': 1.25, 'median_error': 0.125,
                        'added_ms': [], 'checked_subnets': 16,
                        'device': 'A Fast One',
                        'front_ms': {'0.25-0.25-0.25-0.25': 0.5}},
      'seconds': {'teacher': 61.0, 'delta_lock_in': 39.0},
  }


class _Reader(html.parser.HTMLParser):
  """A parser that checks that tags nest, and gathers ids, links and text."""

  _VOID = ('meta', 'br')

  def __init__(self):
    super().__init__()
    self.open, self.ids, self.links, self.text = [], [], [], []

  def handle_starttag(self, tag, attrs):
    if tag not in self._VOID:
      self.open.append(tag)
    for name, value in attrs:
      if name == 'id':
        self.ids.append(value)
      elif name in ('src', 'href', 'xlink:href'):
        self.links.append(value)

  def handle_startendtag(self, tag, attrs):
    self.handle_starttag(tag, attrs)
    if tag not in self._VOID:
      self.open.pop()

  def handle_endtag(self, tag):
    assert self.open.pop() == tag, tag

  def handle_data(self, data):
    self.text.append(data)


def _cut_off(figure, file, *, format, **options):
  """Saves a figure as SVG, and half of it as PNG."""
  if format == 'svg':
    return _SAVE(figure, file, format=format, **options)
  file.write(b'\x89PNG')
  raise OSError('full')


class PageTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.workdir = pathlib.Path(
        cls.enterClassContext(tempfile.TemporaryDirectory())
    )
    write_json(str(cls.workdir / 'results.json'), _results())
    count = np.arange(4096).reshape(8, 8, 8, 8)
    subnet_table.write(
        str(cls.workdir),
        {
            'madds': 1000 * count,
            'params': count,
            'top1': count / 4096,
            'latency_ms': count / 1000,
        },
    )
    metrics = [
        {'phase': 'teacher', 'step': 5, 'seconds': 1.0, 'test_top1': 0.5},
        {'phase': 'cascade1', 'step': 4, 'seconds': 1.0, 'loss': 0.5},
        {'phase': 'lock_in', 'step': 5, 'seconds': 1.0, 'test_top1/0.5': 0.5},
    ]
    (cls.workdir / 'metrics.jsonl').write_text(
        ''.join(json.dumps(row) + '\n' for row in metrics)
    )
    page.write(str(cls.workdir))
    cls.html = (cls.workdir / 'report.html').read_text()
    cls.reader = _Reader()
    cls.reader.feed(cls.html)
    cls.text = ' '.join(' '.join(cls.reader.text).split())

  def test_it_is_well_formed_and_needs_nothing_from_elsewhere(self):
    self.assertEmpty(self.reader.open)
    for link in self.reader.links:
      self.assertRegex(link, r'^(#|data:)')
    # Each link leads to a part of the page, and ids are unique.
    self.assertLen(set(self.reader.ids), len(self.reader.ids))
    for link in self.reader.links:
      if link.startswith('#'):
        self.assertIn(link[1:], self.reader.ids)

  @parameterized.parameters(
      'Table I. ', 'Table II. ', 'Table III. ', 'Figure 3.', 'Figure 4.',
      'All 4,096 subnets', 'a <b> & c',
      'Measured with a batch of 1, A Fast One',
  )
  def test_it_has_the_tables_and_figures_of_the_paper(self, text):
    self.assertIn(text, self.text)

  def _cells(self, first):
    for row in re.findall(r'<tr>(.*?)</tr>', self.html):
      cells = re.findall(r'<td.*?>(.*?)</td>', row)
      if cells and cells[0] == first:
        return cells
    raise AssertionError(f'No row {first!r}.')

  @parameterized.parameters(
      # Ours, our deltas, and the paper's figures for both on CIFAR-100.
      ('x0.5', ['52.00', '1.5', '52.00', '1.5', '67.80', '62.10']),
      ('runtime-random', ['40.00 ± 1.00', '0.9', '40.00 ± 1.00', '0.9',
                          '67.9 ± 1.8', '61.2 ± 2.7']),
      ('joint/pull_up', ['62.50', '2.0', '2.5', '0.75', '', '60.50',
                          '61.00', '', '60.00', '50.00', '63.3', '445.1']),
      ('joint/budget', ['62.50', '2.0', '2.5', '0.75', 'fixed', '60.50',
                         '61.00', '', '60.00', '50.00', '', '']),
      ('confidence of gate 1', ['0.50', '0.75', 'none']),
      ('0.25-0.25-0.25-0.25', ['99.00', '50.00', '51.00']),
      ('gate 1', ['30.00', '0.25', '-0.50', 'none']),
      ('batch norm', ['gn', '1.25', '1.50', 'n/a', 'n/a', '4.77', '72.47',
                      '345.68']),
      ('all', ['100']),
      # The front, from the least to the most MAdds.
      ('0.25d-0.25d-0.25d-0.25d', ['99.98', '4.1', '0.00', '4.09']),
  )
  def test_figures_stand_in_their_rows(self, first, expected):
    self.assertEqual(self._cells(first)[1:], expected)

  def test_each_figure_has_a_name_for_those_who_cannot_see_it(self):
    heads = re.findall('<svg role="img" aria-label="(.*?)"', self.html)
    captions = re.findall(
        '<figcaption><b>(.*?)</b> (.*?)</figcaption>', self.html
    )
    self.assertLen(heads, 4)
    self.assertEqual(heads, list(map(' '.join, captions)))

  def _changed(self, change):
    """Writes the page of a copy with other results; returns its workdir."""
    folder = self.enter_context(tempfile.TemporaryDirectory())
    workdir = pathlib.Path(folder, 'copy')
    shutil.copytree(self.workdir, workdir)
    results = _results()
    change(results)
    write_json(str(workdir / 'results.json'), results)
    page.write(str(workdir))
    return workdir

  @parameterized.parameters(
      # Latencies, or all subnets, are to be measured again.
      (('latency', 'stage_latency'), {'latency'}),
      (('supernet', 'delta', 'subnets'), {'madds', 'latency'}),
      (('gates',), {'confidence'}),
  )
  def test_figures_of_what_was_discarded_go(self, sections, gone):
    workdir = self._changed(
        lambda results: [results.pop(name) for name in sections]
    )
    every = {'training', 'confidence', 'madds', 'latency'}
    self.assertEqual(
        {path.name for path in (workdir / 'figures').iterdir()},
        {f'{n}.{kind}' for n in every - gone for kind in ('svg', 'png')},
    )
    text = (workdir / 'report.html').read_text()
    self.assertEqual(text.count('<figure>'), 4 - len(gone))
    if 'latency' in gone:
      self.assertNotIn('<th>ms</th>', text)

  def test_latencies_of_an_older_version_are_shown(self):
    results = _results()
    for key in ('front_ms', 'device', 'trusted'):
      results['stage_latency'].pop(key, None)
    results['made'] = {'latency': {'device': 'the older one'}}
    folder = self.enter_context(tempfile.TemporaryDirectory())
    workdir = pathlib.Path(folder, 'copy')
    shutil.copytree(self.workdir, workdir)
    write_json(str(workdir / 'results.json'), results)
    page.write(str(workdir))
    text = (workdir / 'report.html').read_text()
    self.assertIn('Measured with a batch of 1, the older one', text)
    self.assertEqual(text.count('<figure>'), 4)

  def test_what_an_oracle_would_have_is_told(self):
    self.assertIn('Policies go by margin.', self.text)
    self.assertIn('would reach 87.50 % for 1.5 M MAdds', self.text)

  @parameterized.parameters('training', 'confidence', 'madds', 'latency')
  def test_each_figure_is_there_as_svg_and_png(self, name):
    folder = self.workdir / 'figures'
    self.assertIn('<svg', (folder / f'{name}.svg').read_text())
    png = (folder / f'{name}.png').read_bytes()
    self.assertTrue(png.startswith(b'\x89PNG'))
    self.assertGreater(len(png), 5000)

  def test_files_that_would_not_change_are_left_alone(self):
    paths = [
        self.workdir / 'report.html',
        *sorted((self.workdir / 'figures').iterdir()),
    ]
    self.assertLen(paths, 1 + 2 * 4)
    before = [path.stat().st_mtime_ns for path in paths]
    page.write(str(self.workdir))
    self.assertEqual([path.stat().st_mtime_ns for path in paths], before)

  def test_a_figure_that_was_cut_off_is_written_again(self):
    folder = self.enter_context(tempfile.TemporaryDirectory())
    workdir = pathlib.Path(folder, 'copy')
    shutil.copytree(self.workdir, workdir)
    results = json.loads((workdir / 'results.json').read_text())
    results['gates']['1']['bins_test'][0]['top1'] = 0.125
    write_json(str(workdir / 'results.json'), results)
    svg, png = (workdir / 'figures' / f'confidence.{s}' for s in ('svg', 'png'))
    before = svg.read_text(), png.read_bytes()
    with mock.patch.object(figures.Figure, 'savefig', _cut_off):
      with self.assertRaisesRegex(OSError, 'full'):
        page.write(str(workdir))
    self.assertEqual((svg.read_text(), png.read_bytes()), before)
    page.write(str(workdir))
    self.assertNotEqual(svg.read_text(), before[0])
    self.assertNotEqual(png.read_bytes(), before[1])

  def test_networks_of_several_runs_stand_side_by_side(self):
    folder = self.workdir / 'compared'
    found = {}
    for name, network, seed, top1 in (
        ('ours', '', 0, 0.7),
        ('usnet-0', 'usnet', 0, 0.5),
        ('usnet-1', 'usnet', 1, 0.54),
    ):
      (folder / name).mkdir(parents=True)
      config = common.get_config()
      config.seed, config.baseline.network = seed, network
      part = _part() | {
          'norm': 'gn',
          'calibration': None,
          'training': {'steps': 1560, 'images': 99840, 'seconds': 60.0},
      }
      part['uniform'] = part['uniform'] | {
          '0.25': {'top1': top1, 'madds': 500_000}
      }
      kept = ('config', 'git', 'seed', 'dataset', 'device', 'seconds')
      found[name] = {key: _results()[key] for key in kept}
      found[name][network or 'supernet'] = part
      write_json(
          str(folder / name / 'results.json'), found[name]
      )
      write_json(
          str(folder / name / 'config.json'), config.to_dict()
      )
    page.write(str(folder / 'ours'), compare=f'{folder}/usnet-*')
    text = (folder / 'ours' / 'report.html').read_text()
    reader = _Reader()
    reader.feed(text)
    self.assertEmpty(reader.open)

    def cells(first):
      return [
          re.findall(r'<td.*?>(.*?)</td>', row)[1:]
          for row in re.findall(r'<tr>(.*?)</tr>', text)
          if re.findall(r'<td.*?>(.*?)</td>', row)[:1] == [first]
      ]

    # First this run's table, then all networks and the paper's figures.
    self.assertEqual(
        cells('x0.25'),
        [
            ['70.00', '0.5', '61.80'],
            ['70.00', '52.00 ± 2.83', '61.80', '68.60'],
        ],
    )
    # At .5 M only the narrowest widths remain; no run has a table of subnets.
    self.assertIn(['70.00', '52.00 ± 2.83', '', ''], cells('0.500'))
    self.assertEqual(cells('USNet (gn)')[0][:4], ['2', '1,560', '99,840', '60'])
    self.assertEqual(
        cells('ours (gn): runtime-random above its own x0.25'),
        [['40.00', '70.00', 'no']],
    )
    figures = folder / 'ours' / 'figures'
    self.assertIn('<svg', (figures / 'comparison.svg').read_text())

  def test_what_was_not_measured_is_left_out(self):
    workdir = self.workdir / 'early'
    workdir.mkdir()
    kept = ('config', 'git', 'seed', 'dataset', 'device', 'teacher', 'seconds')
    results = {key: _results()[key] for key in kept}
    write_json(str(workdir / 'results.json'), results)
    page.write(str(workdir))
    text = (workdir / 'report.html').read_text()
    self.assertEqual(
        re.findall('<h2>(.*?)</h2>', text),
        ['Table II. Accuracy of the subnets', 'Time'],
    )
    self.assertIn(
        '<tr><td>teacher</td><td>90.00</td><td>3.0</td></tr>', text
    )


if __name__ == '__main__':
  absltest.main()
