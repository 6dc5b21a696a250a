# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests a baseline as a user runs it: train, calibrate, measure, load."""

import json
import pathlib
import shutil
import tempfile

from absl.testing import absltest, parameterized
import numpy as np

import adaptanet_jax
from adaptanet_jax import experiment
from adaptanet_jax.data import sources
from adaptanet_jax.errors import UsageError
from configs import baselines
from tests import testing

_FLAGS = (
    '--config=configs/baselines.py:usnet,digits:smoke',
    '--config.data.train_examples=80',
    '--config.data.held_out=0.2',
    '--config.data.test_examples=40',
    '--config.baseline.epochs=2.',
    '--config.baseline.batch_size=16',
    '--config.evaluation.batch_size=16',
    '--config.evaluation.every_epoch=True',
)


class PipelineTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = pathlib.Path(tempfile.mkdtemp())
    cls.addClassCleanup(shutil.rmtree, cls.folder)
    cls.workdir = cls.folder / 'usnet'
    cls.done = testing.run(cls.workdir, *_FLAGS)

  def _results(self):
    return json.loads((self.workdir / 'results.json').read_text())

  def _test_split(self):
    config = baselines.get_config('usnet,digits:smoke')
    config.data.train_examples, config.data.test_examples = 80, 40
    test = sources.load(config).test
    return test.gather(np.arange(40)), test.labels

  def test_one_command_gives_its_rows_of_the_table(self):
    self.assertEqual(self.done.returncode, 0, self.done.stderr)
    for text in ('x0.25', '0.25-1.0-1.0-0.25', 'runtime-random', 'lowest'):
      self.assertIn(text, self.done.stdout)
    self.assertNotIn('teacher', self.done.stdout)
    results = self._results()
    section = results['usnet']
    self.assertEqual(section['norm'], 'bn')
    self.assertEqual(section['calibration'], 'subnet')
    self.assertEqual(
        list(section['by_calibration']), ['subnet', 'uniform', 'none']
    )
    uniform = section['by_calibration']['uniform']
    self.assertEqual(uniform['uniform'], section['uniform'])
    self.assertEqual(section['exact']['subnets'], 256)
    # Two epochs of four batches of 16 images.
    training = section['training']
    self.assertEqual((training['steps'], training['images']), (8, 128))
    self.assertEqual(training['seconds'], results['seconds']['baseline'])
    self.assertEqual(set(results['seconds']), {'baseline', 'evaluation'})
    text = (self.workdir / 'report.html').read_text()
    self.assertIn('Batch statistics', text)

  def _measured(self, workdir):
    """Returns the steps after which accuracies were measured."""
    lines = (workdir / 'metrics.jsonl').read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [row['step'] for row in rows if 'test_top1/0.25' in row]

  @parameterized.parameters('subnet', 'uniform', 'none')
  def test_loaded_it_gives_the_accuracies_of_the_results(self, calibration):
    images, labels = self._test_split()
    net = adaptanet_jax.load(
        str(self.workdir), backend='switch', calibration=calibration
    )
    found = self._results()['usnet']['by_calibration'][calibration]
    entries = {
        '-'.join([width] * 4): entry
        for width, entry in found['uniform'].items()
    }
    if calibration == 'uniform':
      with self.assertRaisesRegex(UsageError, 'were not calibrated'):
        net(images, '0.25-1.0-1.0-0.25')
    else:
      entries |= found['mixed']
    for name, entry in entries.items():
      correct = np.argmax(net(images, name), -1) == labels
      self.assertAlmostEqual(float(correct.mean()), entry['top1'], msg=name)
    by_stages = adaptanet_jax.load(
        str(self.workdir), calibration=calibration, backend='stages'
    )
    for name in list(entries)[1::2]:
      np.testing.assert_allclose(
          by_stages(images, name), net(images, name), rtol=1e-4, atol=1e-5
      )

  def test_a_stage_border_has_no_deltas_and_no_routes(self):
    net = adaptanet_jax.load(str(self.workdir))
    images, _ = self._test_split()
    with self.assertRaisesRegex(UsageError, 'trained none'):
      net(images, '1.0d-1.0-1.0-1.0')
    with self.assertRaisesRegex(UsageError, "calibration='none'"):
      net.route(images, 'joint/pull_up')
    net = adaptanet_jax.load(str(self.workdir), calibration='none')
    with self.assertRaisesRegex(UsageError, 'has no policies.*no baseline'):
      net.route(images, 'joint/pull_up')

  def test_statistics_that_are_gone_are_missed(self):
    copy = self.folder / 'copy'
    shutil.copytree(self.workdir, copy)
    (copy / 'statistics.npz').unlink()
    with self.assertRaisesRegex(UsageError, 'were never calibrated; expected'):
      adaptanet_jax.load(str(copy))
    with self.assertRaisesRegex(UsageError, "Unknown calibration 'all'"):
      adaptanet_jax.load(str(copy), calibration='all')
    self.assertIsNotNone(adaptanet_jax.load(str(copy), calibration='none'))

  def test_loaded_it_runs_as_it_was_measured_whatever_was_set_later(self):
    copy = self.folder / 'set_later'
    shutil.copytree(self.workdir, copy)
    config = json.loads((copy / 'config.json').read_text())
    config['evaluation']['calibration'] = 'none'
    (copy / 'config.json').write_text(json.dumps(config))
    images, _ = self._test_split()
    # It can only route with calibration='none', the statistics of training.
    with self.assertRaisesRegex(UsageError, "expected load.*'none'"):
      adaptanet_jax.load(str(copy)).route(images)

  def test_another_network_and_both_in_one_report(self):
    dsnet = self.folder / 'dsnet'
    flags = ('--config=configs/baselines.py:dsnet,digits:smoke', *_FLAGS[1:])
    done = testing.run(dsnet, *flags, f'--config.compare={self.workdir}')
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn('x0.25', done.stdout)
    section = json.loads((dsnet / 'results.json').read_text())['dsnet']
    self.assertEqual(section['norm'], 'gn_ws')
    self.assertEqual(self._measured(dsnet), [4, 8])
    # Batch statistics that widths share say nothing during training.
    self.assertEqual(self._measured(self.workdir), [])
    text = (dsnet / 'report.html').read_text()
    for part in ('DSNet on digits', 'Table II, all networks', 'At equal MAdds',
                 'USNet (bn)', 'DSNet (gn_ws)'):
      self.assertIn(part, text)
    self.assertTrue((dsnet / 'figures' / 'comparison.png').exists())
    # A run on other data is refused at once, and the setting is not kept.
    other = self.folder / 'other'
    other.mkdir()
    (other / 'results.json').write_text('{"dataset": {"name": "mnist"}}')
    with self.assertRaisesRegex(UsageError, "other has other data.*name: 'mn"):
      experiment.run(
          testing.config(*flags, f'--config.compare={other}'), str(dsnet)
      )
    # The runs to compare with are remembered.
    again = testing.run(dsnet, *flags)
    self.assertEqual(again.returncode, 0, again.stderr)
    self.assertIn('Everything is done', again.stdout)
    self.assertEqual((dsnet / 'report.html').read_text(), text)
    # If they are gone, the report is made without them.
    config = json.loads((dsnet / 'config.json').read_text())
    config['compare'] = str(self.folder / 'gone')
    (dsnet / 'config.json').write_text(json.dumps(config))
    experiment.run(
        testing.config(*flags, '--config.phases=report'), str(dsnet)
    )
    text = (dsnet / 'report.html').read_text()
    self.assertNotIn('all networks', text)
    self.assertIn('Not compared: config.compare names', text)
    # They can be forgotten.
    flags = (*flags, '--config.phases=report', '--config.compare=none')
    experiment.run(testing.config(*flags), str(dsnet))
    text = (dsnet / 'report.html').read_text()
    self.assertNotIn('Not compared', text)
    config = json.loads((dsnet / 'config.json').read_text())
    self.assertEqual(config['compare'], '')

  def test_a_workdir_to_compare_that_is_none_is_refused_at_once(self):
    workdir = self.folder / 'none'
    done = testing.run(workdir, *_FLAGS, '--config.compare=/nowhere/*')
    self.assertNotEqual(done.returncode, 0)
    self.assertIn("config.compare names '/nowhere/*'", done.stderr)
    self.assertFalse(workdir.exists())


if __name__ == '__main__':
  absltest.main()
