# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of exported folders, and of the runtime that they bring along."""

import importlib.util
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np
import onnx
import onnxruntime
from PIL import Image

from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation import policies
from adaptanet_jax.export import (
  __main__ as command,
  folder as folder_lib,
  runtime,
  runtime_latency,
  runtime_models,
)
from adaptanet_jax.inference import pictures
from adaptanet_jax.inference.network import Supernet
from adaptanet_jax.models.subnet import CHOICES
from tests import testing
from tests.inference import bundle_test

_FILES = (
    *('export.json', 'subnets.csv', 'example.npz', 'runtime.py'),
    *('runtime_latency.py', 'runtime_models.py', 'runtime_pictures.py'),
)
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
          {'joint': dict(zip(('pull_up', 'budget'), mixtures))}, edges
      ),
      about=net.about,
  )


def _pictures():
  """Returns functions that write pictures of all kinds, by their names."""
  rng = np.random.default_rng(1)
  pixels = rng.integers(0, 256, (37, 50, 4), np.uint8)
  deep = rng.integers(0, 65536, (37, 50))
  rgba = Image.fromarray(pixels)
  rgb = Image.fromarray(pixels[..., :3])
  exif = Image.Exif()
  exif[274] = 6  # It lies on its side.

  def write(image, **options):
    return lambda path: image.save(path, **options)

  return {
      'transparent.png': write(rgba),
      '16_bits.png': write(Image.fromarray(deep.astype(np.uint16))),
      'integers.tiff': write(Image.fromarray(deep.astype(np.int32))),
      'too_large.tiff': write(Image.fromarray((deep * 9).astype(np.int32))),
      'floats.tiff': write(Image.fromarray(deep.astype(np.float32))),
      'palette.png': write(rgb.convert('P')),
      'cmyk.jpg': write(rgb.convert('CMYK')),
      'turned.jpg': write(rgb, exif=exif),
      'damaged_exif.jpg': write(rgb, exif=b'Exif\0\0II*\0\xff\xff\xff\xff'),
      'strip.png': write(Image.new('L', (3000, 2), 77)),
      'postscript.png': lambda path: path.write_bytes(b'%!PS-Adobe-3.0 EPSF'),
      'cut.png': lambda path: path.write_bytes(b'\x89PNG\r\n\x1a\n'),
  }


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
    # As a device has it, without our package around it.
    with mock.patch.object(sys, 'path', [str(cls.folder), *sys.path]):
      spec = importlib.util.spec_from_file_location(
          'runtime', cls.folder / 'runtime.py'
      )
      cls._alone = importlib.util.module_from_spec(spec)
      spec.loader.exec_module(cls._alone)
      cls._alone._pictures()

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
    self.assertEqual(about['policies'], ['joint/pull_up', 'joint/budget'])
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

  @parameterized.parameters((), 'joint/budget', 'joint/pull_up')
  def test_images_are_routed_as_jax_routes_them(self, *policy):
    images = np.random.default_rng(7).integers(
        0, 256, (64, 16, 16, 1), np.uint8
    )
    images[::2] //= 3
    logits, subnets = self.exported.route(images, *policy)
    expected, expected_subnets = self.net.route(images, *policy)
    self.assertEqual(subnets, [str(subnet) for subnet in expected_subnets])
    self.assertGreater(len(set(subnets)), 2)
    np.testing.assert_allclose(logits, expected, atol=1e-4)

  def _copy(self):
    folder = pathlib.Path(tempfile.mkdtemp(dir=self.root)) / 'copy'
    shutil.copytree(self.folder, folder)
    return folder

  def test_times_are_taken_added_up_and_kept(self):
    seconds = {(0, 0, 0, 0): 9.0}
    for n in range(4):
      for code in range(1, 8):
        single = tuple(np.eye(4, dtype=int)[n] * code)
        seconds[single] = 9.0 - (n + 1) * code / 8
    folder = self._copy()
    with mock.patch.object(runtime_latency, '_times', return_value=seconds):
      found = runtime.load(str(folder)).measure(save=True)
    self.assertLen(found, 4096)
    self.assertAlmostEqual(
        found['0.5-1.0-1.0d-0.25d'], 9 - (1 * 2 + 3 * 4 + 4 * 7) / 8
    )
    again = runtime.load(str(folder))
    best = again.within(milliseconds='5.0')
    self.assertLessEqual(found[best], 5.0)
    top1 = {name: row['expected_top1'] for name, row in again.table.items()}
    self.assertEqual(
        top1[best], max(top1[n] for n in found if found[n] <= 5.0)
    )

  def test_times_of_another_device_do_not_count(self):
    folder = self._copy()
    runtime_latency.write(
        str(folder), self.exported._run.surroundings(),
        dict.fromkeys(self.exported.subnets, 1.0),
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 3
    with mock.patch.object(platform, 'node', return_value='elsewhere'):
      moved = runtime.load(str(folder))
    for net, message in (
        (moved, "do not hold here: host was '.*' and is 'elsewhere'; expected"),
        (
            runtime.load(str(folder), sess_options=options),
            "do not hold here: threads was '0, 0' and is '3, 0'; expected me",
        ),
    ):
      self.assertEqual(net.milliseconds, {})
      with self.assertRaisesRegex(ValueError, message):
        net.within(milliseconds=2.0)
    (folder / 'latency.json').write_text('{')
    with self.assertRaisesRegex(ValueError, 'latency.json is damaged'):
      runtime.load(str(folder)).within(milliseconds=2.0)

  def test_a_few_subnets_are_timed_each(self):
    folder = self.root / 'few'
    self.net.export(
        str(folder), subnets=(s for s in _SUBNETS), verify=False
    )
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
      ('no number', lambda net, x: net.within(madds='few'), "'few' MAdds; exp"),
      ('no runs', lambda net, x: net.measure(runs=0), 'runs = 0; expected at'),
      ('neither', lambda net, x: net.within(), 'either madds or milliseconds'),
  )
  def test_the_runtime_refuses(self, run, message):
    with self.assertRaisesRegex(ValueError, message):
      run(self.exported, self.images)

  @parameterized.parameters(
      ({'format': 'else'}, "of format 'else', version 1; expected"),
      ({'version': 2}, 'version 2; expected'),
      ({'kind': 'tflite'}, "of kind 'tflite'; expected one of onnx"),
      ({'sha256': {}}, 'example.npz is damaged: its SHA-256'),
  )
  def test_another_format_is_refused(self, changes, message):
    folder = self._copy()
    about = json.loads((self.folder / 'export.json').read_text())
    (folder / 'export.json').write_text(json.dumps(about | changes))
    with self.assertRaisesRegex(ValueError, message):
      runtime.load(str(folder))
    (folder / 'export.json').write_text('[1]')
    with self.assertRaisesRegex(ValueError, 'export.json is damaged'):
      runtime.load(str(folder))

  @parameterized.parameters('model.onnx', 'subnets.csv', 'example.npz')
  def test_a_damaged_or_missing_file_is_refused_by_name(self, name):
    folder = self._copy()
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with self.assertRaisesRegex(ValueError, f'{name} is damaged: its SHA-256'):
      runtime.load(str(folder))
    (folder / name).unlink()
    with self.assertRaisesRegex(ValueError, f'copy lacks {name}'):
      runtime.load(str(folder))
    with self.assertRaisesRegex(ValueError, 'no .*nowhere/export.json; expec'):
      runtime.load(str(self.root / 'nowhere'))

  def test_answers_in_other_classes_are_refused(self):
    with mock.patch.object(
        runtime.Network, '__call__', lambda self, x, s: np.eye(10)[:len(x)]
    ):
      with self.assertRaisesRegex(ValueError, 'puts the examples into classes'):
        self.exported.check()

  @parameterized.parameters(
      ('onnxruntime', 'net = runtime.load()'),
      ('PIL', "runtime.read('a.png', (16, 16, 1))"),
  )
  def test_a_package_that_is_missing_is_named(self, package, code):
    said = self._run_alone(self.folder, f"""
try:
  {code}
except ValueError as error:
  print(error)
""", package, 'adaptanet_jax')
    self.assertRegex(said, 'cannot be imported .*expected it to be installed')
    self.assertLen(said.splitlines(), 1)

  def test_options_that_do_not_do_are_refused(self):
    with self.assertRaisesRegex(ValueError, 'model.onnx cannot be loaded'):
      runtime.load(str(self.folder), sess_options=3)

  @parameterized.parameters(*_pictures())
  def test_pictures_are_read_as_ours_are(self, name):
    path = self.root / name
    _pictures()[name](path)
    for shape, side in (((16, 16, 1), 0), ((24, 24, 3), 30)):
      try:
        expected = pictures.to_pixels(path, shape, side)
      except UsageError as error:
        with self.assertRaisesRegex(ValueError, re.escape(str(error))):
          self._alone.read(str(path), shape, side)
        continue
      np.testing.assert_array_equal(
          self._alone.read(str(path), shape, side), expected
      )

  def test_the_command_takes_times_and_pictures(self):
    folder = self.root / 'command'
    self.net.export(str(folder), subnets=_SUBNETS, verify=False)
    good, bad = self.root / 'good.png', self.root / 'bad.png'
    Image.fromarray(self.images[0, ..., 0]).save(good)
    bad.write_bytes(b'%!PS')

    def run(*args):
      return subprocess.run(
          [sys.executable, str(folder / 'runtime.py'), *args],
          capture_output=True, text=True, check=False,
      )

    done = run('--subnet', _SUBNETS[1], str(bad), str(good))
    self.assertEqual(done.returncode, 1)
    (answer,) = self.net.classify(str(good), _SUBNETS[1])
    self.assertEqual(
        done.stdout, f'{good}  {answer.label}  {answer.confidence:.2%}\n'
    )
    self.assertRegex(done.stderr, '^runtime: .*bad.png: it is no JPEG.*\n$')
    done = run('--measure')
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertRegex(done.stdout, r'^2 subnets, [\d.]+ to [\d.]+ ms; kept\n$')
    self.assertCountEqual(runtime.load(str(folder)).milliseconds, _SUBNETS)
    done = run('--subnet', _SUBNETS[1])
    self.assertRegex(done.stderr, '--subnet is for pictures')

  def test_one_subnet_alone_runs_the_same(self):
    folder = self.root / 'static'
    self.net.export(str(folder), format='static', subnets=_SUBNETS[1:])
    exported = runtime.load(str(folder))
    self.assertEqual(exported.subnets, [_SUBNETS[1]])
    self.assertLess(exported.check(), 2e-5)
    self.assertEqual([p.name for p in folder.glob('*.onnx')], ['model.onnx'])
    self.assertNotIn('If', _kinds(folder))
    self.assertIn('If', _kinds(self.folder))

  def test_stages_run_the_same_in_any_order(self):
    folder = self.root / 'stages'
    mixed = [_SUBNETS[1], '0.25-1.0-0.75-1.0', '1.0-0.5d-1.0-1.0d']
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
      with self.assertRaisesRegex(UsageError, 'otherwise than JAX, by'):
        self.net.export(str(folder), subnets=_SUBNETS)
    with mock.patch.object(
        runtime.Network, 'route', lambda self, x, p: (None, ['else'])
    ):
      with self.assertRaisesRegex(UsageError, 'routes images by joint/pull_up'):
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
    self.assertRegex(said, r'expected logits: ([\d.]+e[-+]\d+)\n$')
    self.assertLess(float(said.split()[-1]), 2e-5)

  def test_names_of_choices_are_those_of_the_network(self):
    self.assertEqual(runtime_models.CHOICES, tuple(map(str, CHOICES)))
    self.assertContainsSubset(folder_lib.FORMATS, runtime_models.KINDS)

  def test_the_command_exports_with_other_batch_statistics(self):
    bundle, out = self.root / 'bn', self.root / 'uniform'
    bundle_test.calibrated().save(str(bundle))
    flags = [f'--model={bundle}', f'--out={out}']
    with self.assertRaisesRegex(SystemExit, "loaded with calibration='none'"):
      command.main(flags)
    command.main([*flags, '--calibration=uniform'])
    self.assertLen(runtime.load(str(out)).subnets, 4)


def _kinds(folder):
  """Returns the kinds of nodes of all models of a folder."""
  return {
      node.op_type
      for path in folder.glob('*.onnx')
      for node in onnx.load(path).graph.node
  }


if __name__ == '__main__':
  absltest.main()
