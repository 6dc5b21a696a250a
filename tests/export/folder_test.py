# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of exported folders, and of the runtime that they contain."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import jax
import numpy as np
import onnx

from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation import policies
from adaptanet_jax.export import (
  __main__ as command,
  runtime,
)
from adaptanet_jax.inference.network import Supernet
from tests import testing
from tests.inference import bundle_test

_FILES = (
    *('export.json', 'subnets.csv', 'example.npz', 'runtime.py'),
    *('runtime_latency.py', 'runtime_machine.py', 'runtime_models.py'),
    'runtime_pictures.py',
)
SUBNETS = ('1.0-1.0-1.0-1.0', '0.25-0.5d-0.75-1.0d')
# Runs a folder's runtime with some packages hidden, as if not installed.
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
  """Returns a rule that reads some gates, and has choices for all bins."""
  return policies.Rule(
      int(rng.integers(8)),
      tuple(rng.random((bins,) * n) < 0.7 for n in range(3)),
      tuple(rng.integers(0, 8, (bins,) * (n + 1)) for n in range(3)),
  )


def supernet():
  """Returns a network with policies of random rules and of a second look."""
  net = bundle_test.supernet()
  rng = np.random.default_rng(0)
  mixtures = [
      policies.Mixture(_random_rule(rng, 3), _random_rule(rng, 3), share)
      for share in (0.4, 1.0)
  ]
  # About half of some images are clearer than that.
  look = policies.SecondLook(np.full(101, 0.4), np.zeros(101))
  fixed = [
      policies.Rule.fixed(subnet, 3) for subnet in ((2,) * 4, (5,) * 4)
  ]
  mixtures.append(policies.Mixture(*fixed, 0.5, look))
  # The confidences of random gates lie in about this range.
  edges = [
      np.sort(rng.normal(0.0, 0.3, (8**n, 2)), -1).astype(np.float32)
      for n in (1, 2, 3)
  ]
  return dataclasses.replace(
      net,
      policy_table=policies.to_json(
          {'joint': dict(zip(('pull_up', 'budget', 'look'), mixtures))},
          edges,
          net.gates.confidence,
      ),
  )


class ExportTestCase(parameterized.TestCase):
  """Base of tests with a network and the folder that it was exported to."""

  verify = True

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.root = pathlib.Path(tempfile.mkdtemp())
    cls.addClassCleanup(shutil.rmtree, cls.root)
    cls.net = supernet()
    cls.folder = cls.root / 'exported'
    cls.net.export(str(cls.folder), verify=cls.verify)
    cls.exported = runtime.load(str(cls.folder))
    cls.images = bundle_test.images(8)

  def run_alone(self, folder, code, *hidden):
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


class FolderTest(ExportTestCase):

  def test_it_has_its_files_and_no_others(self):
    self.assertCountEqual(
        [path.name for path in self.folder.iterdir()], ['model.onnx', *_FILES]
    )

  def test_it_says_what_it_is_and_that_it_was_tried(self):
    about = json.loads((self.folder / 'export.json').read_text())
    self.assertEqual(about['class_names'][3], 'three')
    self.assertEqual(
        about['policies'], ['joint/pull_up', 'joint/budget', 'joint/look']
    )
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
np.save({str(self.root / 'logits.npy')!r}, net(images, {SUBNETS[1]!r}))
print(net.check() < 2e-5, net.within(madds=2000.0), net.route(images)[1][0])
"""
    np.save(self.root / 'images.npy', self.images)
    hidden = ('jax', 'jaxlib', 'flax', 'adaptanet_jax', 'onnx', 'PIL')
    said = self.run_alone(self.folder, code, *hidden).split()
    _, routed = self.net.route(self.images)
    self.assertEqual(
        said, ['True', str(self.net.within(2000.0)), str(routed[0])]
    )
    np.testing.assert_allclose(
        np.load(self.root / 'logits.npy'),
        self.net(self.images, SUBNETS[1]),
        atol=2e-5,
    )

  @parameterized.parameters((), 'joint/budget', 'joint/pull_up', 'joint/look')
  def test_images_are_routed_as_jax_routes_them(self, *policy):
    images = np.random.default_rng(7).integers(
        0, 256, (64, 16, 16, 1), np.uint8
    )
    images[::2] //= 3
    logits, subnets = self.exported.route(images, *policy)
    expected, expected_subnets = self.net.route(images, *policy)
    self.assertEqual(subnets, [str(subnet) for subnet in expected_subnets])
    self.assertGreater(len(set(subnets)), 2 - ('joint/look' in policy))
    np.testing.assert_allclose(logits, expected, atol=1e-4)

  def test_one_subnet_alone_runs_the_same(self):
    folder = self.root / 'static'
    self.net.export(str(folder), format='static', subnets=SUBNETS[1:])
    exported = runtime.load(str(folder))
    self.assertEqual(exported.subnets, [SUBNETS[1]])
    self.assertLess(exported.check(), 2e-5)
    self.assertEqual([p.name for p in folder.glob('*.onnx')], ['model.onnx'])
    self.assertNotIn('If', _kinds(folder))
    self.assertIn('If', _kinds(self.folder))

  def test_stages_run_the_same_in_any_order(self):
    folder = self.root / 'stages'
    mixed = [SUBNETS[1], '0.25-1.0-0.75-1.0', '1.0-0.5d-1.0-1.0d']
    self.net.export(str(folder), format='stages', subnets=mixed)
    exported = runtime.load(str(folder))
    for name in mixed:
      np.testing.assert_allclose(
          exported(self.images, name), self.net(self.images, name), atol=2e-5
      )
    stages = {
        f'stage{n}_{choice}'
        for name in mixed for n, choice in enumerate(name.split('-'), 1)
    }
    self.assertCountEqual(
        [path.stem for path in folder.glob('*.onnx')], [*stages, 'head']
    )
    self.assertNotIn('If', _kinds(folder))

  def test_what_differs_from_jax_is_not_written(self):
    folder = self.root / 'wrong'
    with mock.patch.object(
        runtime.Network, '__call__', lambda self, x, s: np.ones((len(x), 10))
    ):
      with self.assertRaisesRegex(UsageError, 'differ from those of JAX by'):
        self.net.export(str(folder), subnets=SUBNETS)
    with mock.patch.object(
        runtime.Network, 'route', lambda self, x, p: (None, ['else'])
    ):
      with self.assertRaisesRegex(UsageError, 'routes images by joint/pull_up'):
        self.net.export(str(folder))
    self.assertEmpty([p for p in self.root.iterdir() if 'wrong' in p.name])

  def test_it_is_compared_with_products_of_float32(self):
    seen = set()

    def call(images, subnet):
      del subnet
      seen.add(jax.config.jax_default_matmul_precision)
      return np.full((len(images), 10), 1e3)

    with mock.patch.object(Supernet, '__call__', side_effect=call):
      with self.assertRaisesRegex(UsageError, 'differ from those of JAX'):
        self.net.export(str(self.root / 'precise'), format='static')
    self.assertEqual(seen, {'float32'})
    self.assertIsNone(jax.config.jax_default_matmul_precision)

  def test_the_command_exports_a_bundle(self):
    bundle, out = self.root / 'bundle', self.root / 'by_command'
    self.net.save(str(bundle))

    env = testing.environment()
    env['XLA_FLAGS'] += f' {testing.xla_flags()}'  # Compiles faster.

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
    done = run(f'--subnets={",".join(SUBNETS)}', '--memory=small')
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertEqual(runtime.load(str(out)).subnets, list(SUBNETS))
    said = subprocess.run(
        [sys.executable, str(out / 'runtime.py')],
        capture_output=True, text=True, check=True,
    ).stdout
    self.assertRegex(said, r'expected logits: ([\d.]+e[-+]\d+)\n$')
    self.assertLess(float(said.split()[-1]), 2e-5)

  def test_the_command_exports_with_other_batch_statistics(self):
    bundle, out = self.root / 'bn', self.root / 'uniform'
    bundle_test.calibrated().save(str(bundle))
    flags = [f'--model={bundle}', f'--out={out}']
    with self.assertRaisesRegex(SystemExit, "loaded with calibration='none'"):
      command.main(flags)
    command.main([*flags, '--calibration=uniform'])
    self.assertLen(runtime.load(str(out)).subnets, 4)


def _kinds(folder):
  """Returns the kinds of nodes in all models of a folder."""
  return {
      node.op_type
      for path in folder.glob('*.onnx')
      for node in onnx.load(path).graph.node
  }


if __name__ == '__main__':
  absltest.main()
