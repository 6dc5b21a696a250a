# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of exported folders, and of the runtime that they bring along."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np
import onnx
from PIL import Image

from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation import policies
from adaptanet_jax.export import folder as folder_lib, runtime
from adaptanet_jax.inference import pictures
from adaptanet_jax.inference.network import Supernet
from adaptanet_jax.models.subnet import CHOICES
from tests import testing
from tests.inference import bundle_test

_FILES = ('export.json', 'subnets.csv', 'example.npz', 'runtime.py')
_SUBNETS = ('1.0-1.0-1.0-1.0', '0.25-0.5d-0.75-1.0d')
# JAX, and all that is ours, as if they were not there.
_ALONE = """
import sys
class Hidden:
  def find_spec(self, name, path=None, target=None):
    if name.split('.')[0] in {hidden!r}:
      raise ImportError(name)
sys.meta_path.insert(0, Hidden())
sys.path.insert(0, {folder!r})
import numpy as np
import runtime
"""


def _random_rule(rng, bins):
  """A rule that reads some gates, and goes by the bins of all."""
  return policies.Rule(
      int(rng.integers(8)),
      tuple(rng.random((bins,) * n) < 0.7 for n in range(3)),
      tuple(rng.integers(0, 8, (bins,) * (n + 1)) for n in range(3)),
  )


def supernet():
  """A network with two policies of many ways."""
  net = bundle_test.supernet()
  rng = np.random.default_rng(0)
  mixtures = [
      policies.Mixture(_random_rule(rng, 3), _random_rule(rng, 3), share)
      for share in (0.4, 1.0)
  ]
  # About where the confidences of such gates lie.
  edges = [
      np.sort(rng.normal(0.0, 0.3, (8**n, 2)), -1).astype(np.float32)
      for n in (1, 2, 3)
  ]
  return Supernet(
      net.net,
      net.gates,
      net.variables,
      subnets=net.subnets,
      policy_table=policies.to_json(
          {'joint': dict(zip(('budget', 'pull_up'), mixtures))},
          edges,
          net.gates.confidence,
      ),
      about=net.about,
  )


class FolderTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.root = pathlib.Path(tempfile.mkdtemp())
    cls.addClassCleanup(shutil.rmtree, cls.root)
    cls.net = supernet()
    cls.folder = cls.root / 'exported'
    cls.net.export(str(cls.folder))
    cls.exported = runtime.load(str(cls.folder))
    cls.images = bundle_test.images(8)

  def _run_alone(self, folder, code, *hidden):
    done = subprocess.run(
        [
            sys.executable,
            '-c',
            _ALONE.format(hidden=hidden, folder=str(folder)) + code,
        ],
        cwd=self.root,
        env=os.environ | {'PYTHONPATH': ''},
        capture_output=True,
        text=True,
        check=False,
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    return done.stdout

  def test_it_has_its_files_and_no_others(self):
    self.assertCountEqual(
        [path.name for path in self.folder.iterdir()], ['model.onnx', *_FILES]
    )

  def test_it_says_what_it_is_and_that_it_was_tried(self):
    about = json.loads((self.folder / 'export.json').read_text())
    self.assertEqual(about['class_names'][3], 'three')
    self.assertEqual(about['policies'], ['joint/budget', 'joint/pull_up'])
    self.assertGreaterEqual(about['verified']['subnets'], 20)
    self.assertLess(about['verified']['largest_difference'], 2e-5)
    self.assertCountEqual(
        about['sha256'], {'model.onnx', *_FILES} - {'export.json'}
    )
    model = onnx.load(self.folder / 'model.onnx')
    carried = {prop.key: prop.value for prop in model.metadata_props}
    self.assertEqual(json.loads(carried['class_names']), about['class_names'])

  def test_it_runs_where_there_is_no_jax(self):
    code = f"""
net = runtime.load()
images = np.load({str(self.root / 'images.npy')!r})
np.save({str(self.root / 'logits.npy')!r}, net(images, {_SUBNETS[1]!r}))
print(net.check() < 2e-5, net.within(madds=2000.0), net.route(images)[1][0])
"""
    np.save(self.root / 'images.npy', self.images)
    hidden = ('jax', 'jaxlib', 'flax', 'adaptanet_jax', 'onnx', 'PIL')
    said = self._run_alone(self.folder, code, *hidden).split()
    _, routed = self.net.route(self.images)
    self.assertEqual(
        said, ['True', str(self.net.within(2000.0)), str(routed[0])]
    )
    np.testing.assert_allclose(
        np.load(self.root / 'logits.npy'),
        self.net(self.images, _SUBNETS[1]),
        atol=2e-5,
    )

  @parameterized.parameters('joint/budget', 'joint/pull_up')
  def test_images_are_routed_as_jax_routes_them(self, policy):
    images = np.random.default_rng(7).integers(
        0, 256, (64, 16, 16, 1), np.uint8
    )
    images[::2] //= 3
    logits, subnets = self.exported.route(images, policy)
    expected, expected_subnets = self.net.route(images, policy)
    self.assertEqual(subnets, [str(subnet) for subnet in expected_subnets])
    self.assertGreater(len(set(subnets)), 2)
    np.testing.assert_allclose(logits, expected, atol=1e-4)

  def test_times_are_taken_added_up_and_kept(self):
    seconds = {(0, 0, 0, 0): 9.0}
    for n in range(4):
      for code in range(1, 8):
        single = tuple(np.eye(4, dtype=int)[n] * code)
        seconds[single] = 9.0 - (n + 1) * code / 8
    with mock.patch.object(runtime, '_times', return_value=seconds):
      found = self.exported.measure(save=True)
    self.addCleanup(os.remove, self.folder / 'latency.csv')
    self.assertLen(found, 4096)
    self.assertAlmostEqual(
        found['0.5-1.0-1.0d-0.25d'], 9 - (1 * 2 + 3 * 4 + 4 * 7) / 8
    )
    again = runtime.load(str(self.folder))
    best = again.within(milliseconds=5.0)
    self.assertLessEqual(found[best], 5.0)
    top1 = {name: row['expected_top1'] for name, row in again.table.items()}
    self.assertEqual(
        top1[best], max(top1[n] for n in found if found[n] <= 5.0)
    )

  def test_a_few_subnets_are_timed_each(self):
    folder = self.root / 'few'
    self.net.export(str(folder), subnets=_SUBNETS, verify=False)
    few = runtime.load(str(folder))
    self.assertEqual(few.policies, [])
    self.assertCountEqual(few.measure(rounds=1, runs=1), _SUBNETS)

  @parameterized.named_parameters(
      ('unknown subnet', lambda net, x: net(x, '1.0-1.0'), 'is not in this ex'),
      ('floats', lambda net, x: net(x / 255.0), r'are float64\[8, 16, 16, 1\]'),
      ('another side', lambda net, x: net(x[:, :8]), r'uint8\[B, 16, 16, 1\]'),
      ('no image', lambda net, x: net(x[:0]), 'B at least 1'),
      ('no policy', lambda net, x: net.route(x, 'a/b'), "Unknown policy 'a/b'"),
      ('too cheap', lambda net, x: net.within(madds=-1.0), 'No subnet takes'),
      ('untimed', lambda net, x: net.within(milliseconds=1), 'expected meas'),
      ('neither', lambda net, x: net.within(), 'either madds or milliseconds'),
  )
  def test_the_runtime_refuses(self, run, message):
    with self.assertRaisesRegex(ValueError, message):
      run(self.exported, self.images)

  @parameterized.parameters(
      ({'format': 'else'}, "of format 'else', version 1; expected"),
      ({'version': 2}, 'version 2; expected'),
  )
  def test_another_format_is_refused(self, changes, message):
    folder = pathlib.Path(tempfile.mkdtemp(dir=self.root))
    about = json.loads((self.folder / 'export.json').read_text())
    (folder / 'export.json').write_text(json.dumps(about | changes))
    with self.assertRaisesRegex(ValueError, message):
      runtime.load(str(folder))

  def test_pictures_are_read_as_ours_are(self):
    pixels = np.random.default_rng(1).integers(0, 256, (37, 50, 4), np.uint8)
    path = self.root / 'picture.png'
    Image.fromarray(pixels, 'RGBA').save(path)
    for shape, side in (((16, 16, 1), 0), ((24, 24, 3), 30)):
      np.testing.assert_array_equal(
          runtime.read(str(path), shape, side),
          pictures.to_pixels(path, shape, side),
      )

  @parameterized.parameters('static', 'stages')
  def test_other_formats_run_the_same(self, format):
    folder = self.root / format
    self.net.export(str(folder), format=format, subnets=_SUBNETS[1:])
    exported = runtime.load(str(folder))
    self.assertEqual(exported.subnets, [_SUBNETS[1]])
    self.assertLess(exported.check(), 2e-5)
    models = [p.stem for p in folder.glob('*.onnx')]
    stages = ['stage1_0.25', 'stage2_0.5d', 'stage3_0.75', 'stage4_1.0d']
    self.assertCountEqual(
        models, ['model'] if format == 'static' else [*stages, 'head']
    )
    self.assertNotIn('If', _kinds(folder))
    self.assertIn('If', _kinds(self.folder))

  def test_what_differs_from_jax_is_not_written(self):
    folder = self.root / 'wrong'
    with mock.patch.object(
        runtime.Network, '__call__', lambda self, x, s: np.ones((len(x), 10))
    ):
      with self.assertRaisesRegex(UsageError, 'otherwise than JAX, by'):
        self.net.export(str(folder), subnets=_SUBNETS)
    with mock.patch.object(
        runtime.Network, 'route', lambda self, x, p: (None, ['else'])
    ):
      with self.assertRaisesRegex(UsageError, 'routes images by joint/budget'):
        self.net.export(str(folder))
    self.assertEmpty([p for p in self.root.iterdir() if 'wrong' in p.name])

  def test_the_command_exports_a_bundle(self):
    bundle, out = self.root / 'bundle', self.root / 'by_command'
    self.net.save(str(bundle))

    env = testing.environment()
    env['XLA_FLAGS'] += f' {testing.xla_flags()}'  # Compiles sooner.

    def run(*flags):
      return subprocess.run(
          [sys.executable, '-m', 'adaptanet_jax.export', f'--model={bundle}',
           f'--out={out}', *flags],
          cwd=testing.ROOT,
          env=env,
          capture_output=True,
          text=True,
          check=False,
      )

    done = run('--format=tflite')
    self.assertNotEqual(done.returncode, 0)
    self.assertRegex(done.stderr, "^adaptanet_jax.export: Unknown format 'tfl")
    self.assertFalse(out.exists())
    done = run(f'--subnets={",".join(_SUBNETS)}', '--memory=small')
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertEqual(runtime.load(str(out)).subnets, list(_SUBNETS))
    said = subprocess.run(
        [sys.executable, str(out / 'runtime.py')],
        capture_output=True, text=True, check=True,
    ).stdout
    self.assertRegex(said, r'Largest difference from the expected .*e-0[67]')

  def test_names_of_choices_are_those_of_the_network(self):
    self.assertEqual(runtime.CHOICES, tuple(map(str, CHOICES)))
    self.assertContainsSubset(folder_lib.FORMATS, runtime._RUNS)


def _kinds(folder):
  """Returns the kinds of nodes of all models of a folder."""
  return {
      node.op_type
      for path in folder.glob('*.onnx')
      for node in onnx.load(path).graph.node
  }


if __name__ == '__main__':
  absltest.main()
