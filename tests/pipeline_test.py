# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests the whole program as a user runs it: all phases, killed, resumed."""

import csv
import functools
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from unittest import mock

from absl.testing import absltest
import chex
import numpy as np
import orbax.checkpoint as ocp

import adaptanet_jax
from adaptanet_jax import experiment
from adaptanet_jax.data import sources
from adaptanet_jax.errors import UsageError
from adaptanet_jax.inference import trained as loading
from tests import testing

PHASES = (
    'teacher',
    *(f'cascade{n}' for n in (1, 2, 3, 4)),
    'lock_in',
    *(f'delta_cascade{n}' for n in (1, 2, 3, 4)),
    'delta_lock_in',
    'joint',
    'gates',
)
ANALYSES = ('evaluation', 'policies', 'latency')
# 64 examples in batches of 16 make four steps an epoch.
STEPS = {phase: 4 for phase in PHASES} | {'teacher': 8, 'cascade2': 16}


def _results(workdir):
  return json.loads((workdir / 'results.json').read_text())


def _rows(workdir):
  """Returns the metrics without wall times, which may differ."""
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  return [{k: v for k, v in row.items() if k != 'seconds'} for row in rows]


def _subnets(workdir):
  """Returns the table of all subnets by name, read with Python's csv."""
  with open(workdir / 'subnets.csv', encoding='utf-8', newline='') as file:
    return {
        row.pop('subnet'): {name: float(text) for name, text in row.items()}
        for row in csv.DictReader(file)
    }


def _restore(workdir, phase):
  path = workdir / 'checkpoints' / phase / str(STEPS[phase]) / 'variables'
  with ocp.StandardCheckpointer() as checkpointer:
    return checkpointer.restore(path.absolute())


class PipelineTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = pathlib.Path(tempfile.mkdtemp())
    cls.addClassCleanup(shutil.rmtree, cls.folder)
    cls.workdir = cls.folder / 'base'
    cls.done = testing.run(cls.workdir, *testing.TINY)

  def test_one_command_gives_the_table(self):
    self.assertEqual(self.done.returncode, 0, self.done.stderr)
    for text in (
        *('teacher', 'x0.25', '0.25-1.0-1.0-0.25', 'runtime-random'),
        *('ours, delta, %', 'All 4,096 subnets', 'joint/pull_up', 'layer norm'),
    ):
      self.assertIn(text, self.done.stdout)
    self.assertIn('img/s', self.done.stderr)
    self.assertRegex(
        self.done.stderr,
        r'Data \w+: \d+ images to train on, .*\d+ to test on, of \d+ classes, ',
    )
    report = self.workdir / 'report.html'
    self.assertEndsWith(self.done.stdout, f'\nReport: {report}\n')
    self.assertTrue(report.exists())

  def test_results_follow_the_schema(self):
    results = _results(self.workdir)
    self.assertEqual(results['schema'], 1)
    self.assertEqual(results['config'], 'digits:smoke')
    self.assertEqual(
        results['dataset'],
        {
            'name': 'digits',
            'train_examples': 64,
            'held_out_examples': 16,
            'test_examples': 40,
            'num_classes': 10,
            'class_names': list('0123456789'),
            'image_shape': [16, 16, 1],
        },
    )
    self.assertEqual(results['device']['platform'], 'cpu')
    self.assertEqual(set(results['teacher']), {'top1', 'madds', 'params'})
    for part in ('supernet', 'delta'):
      section = results[part]
      widths = ['1.0', '0.75', '0.5', '0.25']
      self.assertEqual(list(section['uniform']), widths)
      self.assertLen(section['mixed'], 4)
      self.assertEqual(section['exact']['subnets'], 256)
      self.assertEqual(section['random']['passes'], 10)
    supernet = results['supernet']
    self.assertEqual(
        supernet['uniform']['1.0']['madds'], results['teacher']['madds']
    )
    self.assertEqual(set(results['seconds']), {*PHASES, *ANALYSES})
    subnets = results['subnets']
    self.assertEqual(subnets['count'], 4096)
    self.assertEqual(set(results['gates']), {'1', '2', '3', '4'})
    for gate in results['gates'].values():
      self.assertLen(gate['bins'], 8 * 8)
      self.assertEqual(
          set(gate['bins'][0]), {'subnet', 'confidence', 'top1'}
      )
    self.assertEqual(set(results['policies']), {'joint', 'width', 'depth'})
    for by_name in results['policies'].values():
      self.assertContainsSubset({'pull_up', 'pull_down'}, by_name)
      for name, entry in by_name.items():
        if entry['madds_gates']:
          self.assertLessEqual(entry['madds'], entry['madds_executed'])
          self.assertGreater(entry['seconds'], 0.0)
        else:  # It is not run as such.
          self.assertEqual(name, 'budget')
          self.assertNotIn('seconds', entry)
    for row in results['latency']:
      self.assertContainsSubset(
          {'network', 'norm', 'batch', 'watts', 'millijoules'}, row
      )
      self.assertLessEqual(row['ms_median'], row['ms_p90'])
    self.assertEqual(
        [row['network'] for row in results['latency'][:5]],
        ['batch_norm', 'layer_norm', 'group_norm', 'teacher', 'delta'],
    )

  def test_the_table_of_all_subnets_agrees_with_the_results(self):
    by_name = _subnets(self.workdir)
    self.assertLen(by_name, 4096)
    results = _results(self.workdir)
    for part, mark in (('supernet', ''), ('delta', 'd')):
      for rho, entry in results[part]['uniform'].items():
        row = by_name['-'.join([rho + mark] * 4)]
        self.assertEqual(row['top1'], entry['top1'])
        self.assertEqual(row['madds'], entry['madds'])
    # Latencies are left out if the machine was too busy to measure them.
    trusted = results['stage_latency']['trusted']
    for row in by_name.values():
      self.assertEqual('latency_ms' in row, trusted)
      self.assertBetween(row['calibration_top1'], 0.0, 1.0)

  def test_the_report_is_there(self):
    text = (self.workdir / 'report.html').read_text()
    for table in ('Table I.', 'Table II.', 'Table III.', 'Figure 4.'):
      self.assertIn(table, text)
    names = {path.name for path in (self.workdir / 'figures').iterdir()}
    for name in ('confidence', 'madds'):
      self.assertContainsSubset({f'{name}.svg', f'{name}.png'}, names)
    trusted = _results(self.workdir)['stage_latency']['trusted']
    self.assertEqual('latency.svg' in names, trusted)

  def test_a_report_needs_no_data(self):
    copy = self.folder / 'copied'
    shutil.copytree(self.workdir, copy)
    (copy / 'report.html').unlink()
    was = json.loads((copy / 'config.json').read_text())
    config = testing.config(
        *testing.TINY, '--config.phases=report', '--config.data.dir=/nowhere'
    )
    with mock.patch.object(sources, 'load', side_effect=AssertionError):
      experiment.run(config, str(copy))
    # The setting is not kept, so a loaded network still finds its data.
    self.assertEqual(json.loads((copy / 'config.json').read_text()), was)
    text = (copy / 'report.html').read_text()
    self.assertEqual(text, (self.workdir / 'report.html').read_text())

  def test_a_loaded_supernet_gives_the_accuracies_of_the_results(self):
    images, labels = adaptanet_jax.examples(str(self.workdir))
    self.assertEqual((len(images), len(labels)), (40, 40))
    first = adaptanet_jax.examples(str(self.workdir), 3)
    chex.assert_trees_all_equal(first, (images[:3], labels[:3]))

    def top1(logits):
      return float((np.argmax(logits, -1) == labels).mean())

    supernet = adaptanet_jax.load(str(self.workdir), backend='switch')
    results = _results(self.workdir)
    for name, entry in results['supernet']['mixed'].items():
      self.assertAlmostEqual(top1(supernet(images, name)), entry['top1'])
    by_stages = adaptanet_jax.load(str(self.workdir), backend='stages')
    for name in ('1.0-0.5d-0.25-1.0', '0.5d-0.5d-0.5d-0.5d'):
      chex.assert_trees_all_close(
          by_stages(images, name), supernet(images, name), rtol=1e-5, atol=1e-5
      )
    uniform = results['delta']['uniform']['0.5']
    logits = supernet(images, '0.5d-0.5d-0.5d-0.5d')
    self.assertAlmostEqual(top1(logits), uniform['top1'])

    self.assertIn(
        ': 4,096 subnets, uint8[16, 16, 1] to 10 classes>', repr(supernet)
    )
    self.assertContainsSubset(['joint/pull_up'], supernet.policies)
    logits, subnets = supernet.route(images, 'joint/pull_up')
    entry = results['policies']['joint']['pull_up']
    self.assertAlmostEqual(top1(logits), entry['top1'])
    rows = _subnets(self.workdir)
    mean = np.mean([rows[str(subnet)]['madds'] for subnet in subnets])
    self.assertEqual(round(mean) + entry['madds_gates'], entry['madds'])

    limit = 1_000_000
    chosen = str(supernet.within(limit))
    best = max(
        row['expected_top1']
        for row in rows.values()
        if row['madds'] <= limit
    )
    self.assertLessEqual(rows[chosen]['madds'], limit)
    self.assertEqual(rows[chosen]['expected_top1'], best)

    for call, text in (
        (lambda: supernet(images, '1.0-0.3-1.0-1.0'), "Unknown subnet '1.0-0"),
        (lambda: supernet(images[..., 0]), r'uint8\[40, 16, 16\]; expected'),
        (lambda: supernet(images / 255.0), 'float64.*expected uint8'),
        (lambda: supernet(images[:0]), r'uint8\[0, 16.*B at least 1'),
        (lambda: supernet([[0]]), r'int64\[1, 1\]; expected uint8'),
        (lambda: supernet.within('few'), "madds = 'few'; expected a number"),
        (lambda: supernet.within(10**400), 'madds = 10+; expected a number'),
        (lambda: supernet.route(images, 'joint/best'), 'one of joint/pull_up'),
        (lambda: supernet.within(10), 'No subnet takes at most 10 MAdds'),
        (lambda: adaptanet_jax.load('/nowhere'), "no model '/nowhere'"),
        (lambda: adaptanet_jax.examples('/nowhere'), "no model '/nowhere'"),
        (lambda: adaptanet_jax.examples(None), 'model = None; expected the'),
        (
            lambda: adaptanet_jax.examples(str(self.workdir), 2.5),
            '2.5 examples were asked for; expected 1 to 40',
        ),
        (
            lambda: adaptanet_jax.load(str(self.workdir), gates=3),
            'gates = 3; expected the workdir',
        ),
        (
            lambda: adaptanet_jax.examples(str(self.workdir), 41),
            '41 examples were asked for; expected 1 to 40',
        ),
        (
            lambda: adaptanet_jax.load(str(self.workdir), backend='onnx'),
            "backend 'onnx'; expected one of auto, switch",
        ),
    ):
      with self.assertRaisesRegex(UsageError, text):
        call()

  def test_other_gates_on_the_same_backbone(self):
    workdir = self.folder / 'gates'
    flags = (
        *testing.TINY,
        f'--config.reuse={self.workdir}',
        '--config.gates.divergence=literal',
    )
    done = testing.run(workdir, *flags, '--config.phases=gates,policies')
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn('Reusing teacher, cascade1', done.stderr)
    # Only gates were trained and are kept here.
    trained = [path.name for path in (workdir / 'checkpoints').iterdir()]
    self.assertEqual(trained, ['gates'])
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 1), np.uint8)
    first = adaptanet_jax.load(str(self.workdir))
    swapped = adaptanet_jax.load(str(self.workdir), gates=str(workdir))
    for part in ('backbone', 'delta'):
      chex.assert_trees_all_equal(
          first.variables['params'][part], swapped.variables['params'][part]
      )
    kernels = [
        s.variables['params']['gates']['gate2']['log_variance']['kernel']
        for s in (first, swapped, adaptanet_jax.load(str(workdir)))
    ]
    self.assertFalse(np.array_equal(kernels[0], kernels[1]))
    np.testing.assert_array_equal(kernels[1], kernels[2])
    np.testing.assert_array_equal(first(images), swapped(images))
    logits, _ = swapped.route(images, 'width/pull_down')
    chex.assert_tree_all_finite(logits)

  def test_a_bundle_is_equal_to_the_workdir_to_the_bit(self):
    out = self.folder / 'bundle'
    command = [sys.executable, '-m', 'adaptanet_jax.bundle', f'--out={out}']
    run = functools.partial(
        subprocess.run, cwd=testing.ROOT, capture_output=True, text=True,
        env=testing.environment(), check=False,
    )
    done = run([*command, f'--workdir={self.workdir}'])
    self.assertEqual(done.returncode, 0, done.stderr)
    taken = adaptanet_jax.load(str(out))
    own = adaptanet_jax.load(str(self.workdir))
    images, _ = adaptanet_jax.examples(str(self.workdir), 16)
    for subnet in ('1.0-1.0-1.0-1.0', '0.5d-0.25-1.0-0.75d'):
      np.testing.assert_array_equal(taken(images, subnet), own(images, subnet))
    np.testing.assert_array_equal(
        taken.route(images, 'joint/pull_up')[0],
        own.route(images, 'joint/pull_up')[0],
    )
    self.assertEqual(taken.policies, own.policies)
    self.assertEqual(taken.about, own.about)
    # An existing folder is not overwritten.
    again = run([*command, f'--workdir={self.workdir}'])
    self.assertEqual(again.returncode, 1)
    self.assertRegex(
        again.stderr.splitlines()[-1],
        '^adaptanet_jax.bundle: .*is not empty',
    )

  def test_policies_go_by_the_confidence_that_they_were_cut_from(self):
    other = self.folder / 'confidence'
    shutil.copytree(self.workdir, other)
    config = json.loads((other / 'config.json').read_text())
    # What a later command with this setting and phases=latency would leave.
    config['policies']['confidence'] = 'margin'
    (other / 'config.json').write_text(json.dumps(config))
    net = adaptanet_jax.load(str(other))
    self.assertEqual(net.gates.confidence, 'variance')
    # Without gates there are no policies, even if their file exists.
    shutil.rmtree(other / 'checkpoints' / 'gates')
    net = adaptanet_jax.load(str(other))
    self.assertEmpty(net.policies)

  def test_gates_of_other_weights_are_refused(self):
    other = self.folder / 'other'
    other.symlink_to(self.workdir)
    restore = loading._restore

    def altered(workdir):
      config, results, variables = restore(workdir)
      if workdir == str(other):
        head = variables['params']['backbone']['head']
        head['bias'] = head['bias'] + 1.0
      return config, results, variables

    with mock.patch.object(loading, '_restore', altered):
      with self.assertRaisesRegex(UsageError, 'deltas have other weights'):
        adaptanet_jax.load(str(self.workdir), gates=str(other))

  def test_a_phase_that_did_not_end_is_left_out_and_told_of(self):
    workdir = self.folder / 'unlocked'
    shutil.copytree(self.workdir, workdir)
    shutil.rmtree(workdir / 'checkpoints' / 'joint' / str(STEPS['joint']))
    with self.assertLogs('absl', 'WARNING') as logs:
      net = adaptanet_jax.load(str(workdir))
    self.assertIn('training of joint has not ended', logs.output[0])
    kernel = net.variables['params']['backbone']['stage2']['block1']['conv1'][
        'kernel'
    ]
    before = _restore(self.workdir, 'lock_in')['params']['backbone']['stage2']
    np.testing.assert_array_equal(kernel, before['block1']['conv1']['kernel'])

  def test_metrics_have_every_step_of_every_phase(self):
    rows = _rows(self.workdir)
    for phase in PHASES:
      steps = [r['step'] for r in rows if r['phase'] == phase and 'loss' in r]
      self.assertEqual(steps, list(range(1, STEPS[phase] + 1)))

  def test_training_learns(self):
    losses = [r['loss'] for r in _rows(self.workdir)
              if r['phase'] == 'cascade2' and 'loss' in r]
    self.assertLess(np.mean(losses[-4:]), np.mean(losses[:4]))

  def test_a_checkpoint_holds_what_its_phase_trains_and_nothing_else(self):
    def parts(phase):
      params = _restore(self.workdir, phase)['params']
      return {f'{part}/{name}' for part in params for name in params[part]}

    stages = ('stage1', 'stage2', 'stage3', 'stage4')
    everything = {f'backbone/{name}' for name in ('stem', *stages, 'head')}
    deltas = {f'delta/{name}' for name in stages}
    self.assertEqual(
        {phase: parts(phase) for phase in PHASES},
        {
            'teacher': everything,
            'cascade1': {'backbone/stem', 'backbone/stage1'},
            'cascade2': {'backbone/stage2'},
            'cascade3': {'backbone/stage3'},
            'cascade4': {'backbone/stage4', 'backbone/head'},
            'lock_in': everything,
            **{f'delta_cascade{n}': {f'delta/stage{n}'} for n in (1, 2, 3, 4)},
            'delta_lock_in': deltas,
            'joint': everything | deltas,
            'gates': {f'gates/gate{n}' for n in (1, 2, 3, 4)},
        },
    )

  def test_second_run_says_that_all_is_done(self):
    paths = [path for path in self.workdir.rglob('*') if path.is_file()]
    self.assertContainsSubset(
        ['results.json', 'config.json', 'report.html', 'madds.png'],
        [path.name for path in paths],
    )
    before = {path: path.stat().st_mtime_ns for path in paths}
    again = testing.run(self.workdir, *testing.TINY)
    self.assertEqual(again.returncode, 0, again.stderr)
    self.assertIn('Everything is done', again.stdout)
    self.assertIn('runtime-random', again.stdout)
    self.assertEqual({path: path.stat().st_mtime_ns for path in paths}, before)

  def _kill_at(self, path, workdir, *flags):
    """Starts a run and kills it as soon as a path exists."""
    process = subprocess.Popen(
        testing.command(workdir, *flags),
        cwd=testing.ROOT,
        env=testing.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not path.exists() and time.monotonic() < deadline:
      time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    self.assertTrue(path.exists())

  def _copy_without(self, phase, workdir):
    """Copies the base run without the weights of a phase and of later ones."""
    shutil.copytree(self.workdir, workdir)
    for later in PHASES[PHASES.index(phase) :]:
      shutil.rmtree(workdir / 'checkpoints' / later)

  def test_killed_run_goes_on_to_the_same_bits(self):
    workdir = self.folder / 'killed'
    self._copy_without('cascade2', workdir)
    # The other phases run the same loop.
    flags = (*testing.TINY, '--config.phases=cascade')
    # Killed in the second module, which has a checkpoint but not its last.
    self._kill_at(workdir / 'checkpoints' / 'cascade2' / '4', workdir, *flags)
    self.assertFalse((workdir / 'checkpoints' / 'cascade3').exists())
    # What a kill in the middle of a write would leave.
    with open(workdir / 'metrics.jsonl', 'a', encoding='utf-8') as file:
      file.write('{"phase": "casc')

    again = testing.run(workdir, *flags)
    self.assertEqual(again.returncode, 0, again.stderr)
    self.assertIn('Done before: teacher, cascade1.', again.stderr)
    self.assertRegex(again.stderr, r'cascade2: resumes from step 4/\d')
    trained = ('cascade2', 'cascade3', 'cascade4')
    for phase in trained:
      chex.assert_trees_all_equal(
          _restore(workdir, phase), _restore(self.workdir, phase)
      )
      once, resumed = (
          [row for row in _rows(run) if row['phase'] == phase]
          for run in (self.workdir, workdir)
      )
      self.assertEqual(resumed, once)

  def test_training_again_discards_what_was_measured(self):
    workdir = self.folder / 'parts'
    self._copy_without('lock_in', workdir)
    for phases in ('lock_in', 'evaluation,report'):
      done = testing.run(workdir, *testing.TINY, f'--config.phases={phases}')
      self.assertEqual(done.returncode, 0, done.stderr)
      if phases == 'lock_in':
        self.assertNotIn('supernet', _results(workdir))
        self.assertFalse((workdir / 'subnets.csv').exists())
    chex.assert_trees_all_equal(
        _restore(workdir, 'lock_in'), _restore(self.workdir, 'lock_in')
    )
    results = _results(workdir)
    steps = sum(STEPS[phase] for phase in PHASES[: PHASES.index('lock_in') + 1])
    self.assertEqual(results['supernet']['training']['steps'], steps)
    # The table has only widths, because there are no deltas.
    self.assertEqual(results['subnets']['count'], 256)
    self.assertNotIn('delta', results)
    self.assertIn('Table II', (workdir / 'report.html').read_text())
    with self.assertRaisesRegex(UsageError, 'delta stage.*trained none'):
      adaptanet_jax.load(str(workdir))(
          np.zeros((1, 16, 16, 1), np.uint8), '1.0d-1.0-1.0-1.0'
      )


if __name__ == '__main__':
  absltest.main()
