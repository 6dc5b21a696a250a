# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the runtime that an exported folder contains."""

import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np
import onnxruntime
from PIL import Image

from adaptanet_jax import machine
from adaptanet_jax.errors import UsageError
from adaptanet_jax.export import (
  folder as folder_lib,
  runtime,
  runtime_latency,
  runtime_models,
)
from adaptanet_jax.inference import pictures
from adaptanet_jax.models.subnet import CHOICES
from tests.export import folder_test

SUBNETS = folder_test.SUBNETS


def _pictures():
  """Returns, by file name, functions that write pictures of all kinds."""
  rng = np.random.default_rng(1)
  pixels = rng.integers(0, 256, (37, 50, 4), np.uint8)
  deep = rng.integers(0, 65536, (37, 50))
  rgba = Image.fromarray(pixels)
  rgb = Image.fromarray(pixels[..., :3])
  exif = Image.Exif()
  exif[274] = 6  # The picture lies on its side.

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


class RuntimeTest(folder_test.ExportTestCase):

  verify = False

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    # Imports the copy in the folder, as on a device without our package.
    with mock.patch.object(sys, 'path', [str(cls.folder), *sys.path]):
      spec = importlib.util.spec_from_file_location(
          'runtime', cls.folder / 'runtime.py'
      )
      cls._alone = importlib.util.module_from_spec(spec)
      spec.loader.exec_module(cls._alone)
      cls._alone._pictures()

  def _copy(self):
    folder = pathlib.Path(tempfile.mkdtemp(dir=self.root)) / 'copy'
    shutil.copytree(self.folder, folder)
    return folder

  def test_times_are_taken_added_up_and_kept(self):
    def times(run, subnets, *unused):
      return {
          own: 9.0 - sum(n * code / 8 for n, code in enumerate(own, 1))
          for own in subnets
      }

    folder = self._copy()
    with mock.patch.object(runtime_latency, '_times', times):
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

  def test_times_that_do_not_add_up_are_not_kept(self):
    rng = np.random.default_rng(0)

    def times(run, subnets, *unused):
      return {own: rng.uniform(1.0, 40.0) for own in subnets}

    folder = self._copy()
    net = runtime.load(str(folder))
    with mock.patch.object(runtime_latency, '_times', times):
      with self.assertRaisesRegex(ValueError, 'do not add up.*other work'):
        net.measure(save=True)
    self.assertEqual(net.milliseconds, {})
    self.assertFalse((folder / 'latency.json').exists())

  def test_times_of_no_time_are_not_kept(self):
    # Sums are right, and negative for the narrowest.
    def times(run, subnets, *unused):
      return {own: 9.0 - sum(own) for own in subnets}

    folder = self._copy()
    net = runtime.load(str(folder))
    with mock.patch.object(runtime_latency, '_times', times):
      with self.assertRaisesRegex(
          ValueError, r'add up to -19\.000 ms for 0\.25d(-0\.25d){3}; expe'
      ):
        net.measure(save=True)
    self.assertEqual(net.milliseconds, {})
    self.assertFalse((folder / 'latency.json').exists())

  def test_times_of_another_device_do_not_count(self):
    folder = self._copy()
    runtime_latency.write(
        str(folder), self.exported.surroundings,
        dict.fromkeys(self.exported.subnets, 1.0),
    )
    few, patient = (onnxruntime.SessionOptions() for _ in range(2))
    few.intra_op_num_threads = 3
    patient.add_session_config_entry('session.intra_op.allow_spinning', '0')
    with mock.patch.object(machine, 'processor', return_value='another'):
      moved = runtime.load(str(folder))
    for net, message in (
        (moved, "do not hold here: processor was '.*' and is 'another'; expec"),
        (
            runtime.load(str(folder), sess_options=few),
            "do not hold here: threads was '0, 0' and is '3, 0'; expected net",
        ),
        (
            runtime.load(str(folder), sess_options=patient),
            "do not hold here: spinning was 'default' and is '0'; expected net",
        ),
    ):
      self.assertEqual(net.milliseconds, {})
      with self.assertRaisesRegex(ValueError, message):
        net.within(milliseconds=2.0)
    # Another export of the same network is copied over this one.
    index = folder / 'export.json'
    index.write_text(index.read_text() + '\n')
    with self.assertRaisesRegex(ValueError, "do not hold here: export was '"):
      runtime.load(str(folder)).within(milliseconds=2.0)
    (folder / 'latency.json').write_text('{')
    with self.assertRaisesRegex(ValueError, 'latency.json is damaged'):
      runtime.load(str(folder)).within(milliseconds=2.0)

  def test_a_few_subnets_are_timed_each(self):
    folder = self.root / 'few'
    self.net.export(
        str(folder), subnets=(s for s in SUBNETS), verify=False
    )
    few = runtime.load(str(folder))
    self.assertEqual(few.policies, [])
    self.assertCountEqual(few.measure(rounds=1, runs=1), SUBNETS)

  def test_one_choice_for_all_stages_has_a_short_name(self):
    np.testing.assert_array_equal(
        self.exported(self.images, 'x0.5d'),
        self.exported(self.images, '0.5d-0.5d-0.5d-0.5d'),
    )

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

  def test_a_folder_is_found_from_another_working_directory(self):
    self.addCleanup(os.chdir, os.getcwd())
    os.chdir(self.root)
    net = runtime.load('exported')
    os.chdir('/')
    self.assertLess(net.check(), 2e-5)

  def test_logits_that_are_no_numbers_are_told(self):
    def run(net, images, subnet):
      logits = np.array(self.exported(images, subnet))
      # The largest, so that `argmax` still finds the expected class.
      logits[np.arange(len(logits)), logits.argmax(-1)] = np.nan
      return logits

    with mock.patch.object(self._alone.Network, '__call__', run):
      self.assertTrue(np.isnan(self._alone.load().check()))

  def test_zeros_alone_differ_from_themselves_by_nothing(self):
    zeros = np.zeros((2, 10), np.float32)
    self.assertEqual(runtime.difference(zeros, zeros), 0.0)
    self.assertEqual(runtime.difference(zeros, np.full_like(zeros, 2)), 1.0)

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
    said = self.run_alone(self.folder, f"""
try:
  {code}
except ValueError as error:
  print(error)
""", package, 'adaptanet_jax')
    self.assertRegex(said, 'cannot be imported .*expected it to be installed')
    self.assertLen(said.splitlines(), 1)

  def test_a_file_of_the_folder_that_is_missing_is_named(self):
    path = self.enterContext(tempfile.TemporaryDirectory())
    shutil.copy(self.folder / 'runtime.py', path)
    done = subprocess.run(
        [sys.executable, f'{path}/runtime.py'],
        check=False, capture_output=True, text=True,
    )
    self.assertEqual(
        done.stderr,
        'runtime: runtime_latency.py is missing; expected all files of the '
        'exported folder.\n',
    )

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
    self.net.export(str(folder), subnets=SUBNETS, verify=False)
    good, bad = self.root / 'good.png', self.root / 'bad.png'
    Image.fromarray(self.images[0, ..., 0]).save(good)
    bad.write_bytes(b'%!PS')

    def run(*args):
      return subprocess.run(
          [sys.executable, str(folder / 'runtime.py'), *args],
          capture_output=True, text=True, check=False,
      )

    done = run('--subnet', SUBNETS[1], str(bad), str(good))
    self.assertEqual(done.returncode, 1)
    (answer,) = self.net.classify(str(good), SUBNETS[1])
    self.assertEqual(
        done.stdout, f'{good}  {answer.label}  {answer.confidence:.2%}\n'
    )
    self.assertRegex(done.stderr, '^runtime: .*bad.png: it is no JPEG.*\n$')
    done = run('--measure')
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertRegex(done.stdout, r'^2 subnets, [\d.]+ to [\d.]+ ms; kept\n$')
    self.assertCountEqual(runtime.load(str(folder)).milliseconds, SUBNETS)
    done = run('--subnet', SUBNETS[1])
    self.assertRegex(done.stderr, '--subnet is for pictures')

  def test_the_command_says_that_it_was_interrupted(self):
    said = self.run_alone(self.folder, f"""
import runpy
import runtime_latency

def stop(*unused):
  raise KeyboardInterrupt

runtime_latency.measure = stop
sys.argv[1:] = ['--measure']
try:
  runpy.run_path({str(self.folder / 'runtime.py')!r}, run_name='__main__')
except SystemExit as end:
  print(end.code)
""")
    self.assertEqual(said, '130\n')

  def test_names_of_choices_are_those_of_the_network(self):
    self.assertEqual(runtime_models.CHOICES, tuple(map(str, CHOICES)))
    self.assertContainsSubset(folder_lib.FORMATS, runtime_models.KINDS)


if __name__ == '__main__':
  absltest.main()
