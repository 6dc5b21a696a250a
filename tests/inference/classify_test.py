# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of classifying a user's pictures: `Supernet.classify`, the command."""

import contextlib
import io
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
from PIL import Image

from adaptanet_jax import classify
from adaptanet_jax.data import images as images_lib
from adaptanet_jax.errors import UsageError
from adaptanet_jax.inference import pictures
from adaptanet_jax.inference.network import Supernet
from tests import testing
from tests.inference import bundle_test

# The command, with answers that no network gave.
_WITHOUT_A_NETWORK = """
import glob, os, runpy, sys, types
import adaptanet_jax

def answer(images, **chosen):
  return [adaptanet_jax.Answer('Käse', 1.0, 'x1.0')] * len(images)

adaptanet_jax.load = lambda model: types.SimpleNamespace(
    net=types.SimpleNamespace(image_shape=(16, 16, 1)),
    about=types.SimpleNamespace(class_names=('Käse',), shorter_side=0),
    answer=answer,
)
sys.argv[1:] = ['--model=none', *glob.glob('*.png') * 200]
runpy.run_module('adaptanet_jax.classify', run_name='__main__')
"""


class ClassifyTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.root = pathlib.Path(tempfile.mkdtemp())
    cls.addClassCleanup(shutil.rmtree, cls.root)
    cls.net = bundle_test.supernet()
    cls.net.save(str(cls.root / 'bundle'))
    pixels = np.random.default_rng(1).integers(0, 256, (3, 20, 30), np.uint8)
    cls.files = []
    for n, grey in enumerate(pixels):
      cls.files.append(str(cls.root / f'{n}.png'))
      Image.fromarray(grey).save(cls.files[-1])

  def _command(self, *args):
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
      try:
        classify.main([f'--model={self.root / "bundle"}', *args])
      except SystemExit as stop:
        code = stop.code
    return code, out.getvalue(), err.getvalue()

  def test_answers_are_the_network_s(self):
    pixels = np.stack([
        images_lib.decode(pathlib.Path(f).read_bytes(), (16, 16, 1))
        for f in self.files
    ])
    subnet = '0.5-0.5d-1.0-0.25'
    logits = np.asarray(self.net(pixels, subnet))
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    answers = self.net.classify(self.files, subnet)
    self.assertEqual(
        [answer.label for answer in answers],
        [self.net.about.class_names[n] for n in logits.argmax(-1)],
    )
    np.testing.assert_allclose(
        [answer.confidence for answer in answers], shares.max(-1), rtol=1e-5
    )
    self.assertEqual({str(answer.subnet) for answer in answers}, {subnet})

  def test_paths_images_and_arrays_are_one(self):
    path = self.files[0]
    with Image.open(path) as image:
      image.load()
    array = np.asarray(image)[..., None]
    expected = self.net.classify(path)
    for picture in (pathlib.Path(path), image, array, [path]):
      self.assertEqual(self.net.classify(picture), expected)
    self.assertLen(expected, 1)

  @parameterized.parameters('CMYK', 'P', 'RGBA', 'YCbCr', 'LA', '1')
  def test_an_open_image_of_any_colours_is_what_its_file_is(self, mode):
    rgb = np.random.default_rng(2).integers(0, 256, (16, 16, 3), np.uint8)
    image = Image.fromarray(rgb).convert('L' if mode == 'LA' else 'RGB')
    image = image.convert(mode)
    file = io.BytesIO()
    image.save(file, 'TIFF' if mode in ('CMYK', 'YCbCr') else 'PNG')
    np.testing.assert_array_equal(
        pictures.to_pixels(image, (16, 16, 3), 0),
        images_lib.decode(file.getvalue(), (16, 16, 3)),
    )

  def test_a_subnet_and_a_policy_are_too_much(self):
    with self.assertRaisesRegex(UsageError, 'Both subnet 1.0-.* are given'):
      self.net.classify(
          self.files, '1.0-1.0-1.0-1.0', policy='joint/budget'
      )

  def test_a_policy_chooses_for_each(self):
    answers = self.net.classify(self.files, policy='joint/budget')
    pixels = np.stack([
        pictures.to_pixels(file, (16, 16, 1), 0) for file in self.files
    ])
    _, subnets = self.net.route(pixels, 'joint/budget')
    self.assertEqual([answer.subnet for answer in answers], subnets)

  def test_any_number_of_pictures_is_taken(self):
    several = self.net.classify(pathlib.Path(file) for file in self.files)
    self.assertEqual(several, self.net.classify(self.files))
    for pictures_ in (None, 3):
      with self.assertRaisesRegex(UsageError, f'pictures = {pictures_}; expec'):
        self.net.classify(pictures_)
    self.assertEqual(self.net.classify([]), [])

  @parameterized.parameters(
      (3, 'A picture is a int; expected the path'),
      (np.zeros((4, 4), np.uint8), r'uint8\[4, 4\]; expected uint8\[H, W, C'),
      (np.zeros((4, 4, 3)), r'float64\[4, 4, 3\]; expected uint8'),
      (np.zeros((0, 4, 3), np.uint8), 'A picture: it has no pixels. Expected'),
      (Image.new('F', (4, 4)), 'A picture: its pixels are of Pillow mode F'),
      ('/nowhere.png', '/nowhere.png: No such file or directory. Expected'),
      ('a\0.png', 'embedded null byte. Expected a picture'),
      (__file__, 'classify_test.py: it is no JPEG.* Expected a picture'),
  )
  def test_what_is_no_picture_is_refused(self, picture, message):
    with self.assertRaisesRegex(UsageError, message):
      self.net.classify([picture])

  def test_the_command_prints_a_line_for_each_file(self):
    code, out, _ = self._command(*self.files)
    self.assertEqual(code, 0)
    lines = out.splitlines()
    self.assertLen(lines, 3)
    for file, line in zip(self.files, lines):
      self.assertStartsWith(line, file)
      self.assertEndsWith(line, '1.0-1.0-1.0-1.0')

  def test_json_has_the_keys_that_programs_read(self):
    code, out, _ = self._command(
        '--json', '--subnet=0.25-0.25-0.25-0.25', str(self.root / '*.png')
    )
    self.assertEqual(code, 0)
    rows = json.loads(out)
    self.assertEqual([row['file'] for row in rows], self.files)
    for row in rows:
      self.assertEqual(list(row), ['file', 'label', 'confidence', 'subnet'])
      self.assertEqual(row['subnet'], '0.25-0.25-0.25-0.25')
      self.assertBetween(row['confidence'], 0.1, 1.0)

  @parameterized.parameters((), ('--json',))
  def test_files_that_cannot_be_read_are_told_and_left_out(self, *flags):
    damaged = self.root / 'damaged.gif'
    damaged.write_bytes(b'GIF89a')
    files = [self.files[0], str(damaged), __file__, *self.files[1:]]
    with mock.patch.object(classify, '_BATCH_SIZE', 2):
      code, out, err = self._command(*flags, *files)
    self.assertEqual(code, 1)
    if flags:
      found = [row['file'] for row in json.loads(out)]
    else:
      found = [line.split()[0] for line in out.splitlines()]
    self.assertEqual(found, self.files)
    self.assertRegex(
        err,
        r'^adaptanet_jax.classify: .*damaged.gif: .*\n'
        r'adaptanet_jax.classify: .*classify_test.py: it is no JPEG.*\n$',
    )

  def test_answers_are_printed_as_they_come(self):
    with mock.patch.object(classify, '_BATCH_SIZE', 2), mock.patch.object(
        Supernet, 'answer', side_effect=[
            self.net.classify(self.files[:2]), UsageError('stop')
        ]
    ):
      code, out, _ = self._command(*self.files)
    self.assertEqual(code, 'adaptanet_jax.classify: stop')
    self.assertLen(out.splitlines(), 2)

  def test_a_budget_or_a_policy_chooses_the_subnet(self):
    _, out, _ = self._command('--json', '--madds=2000', self.files[0])
    self.assertEqual(
        json.loads(out)[0]['subnet'], str(self.net.within(2000.0))
    )
    _, out, _ = self._command('--json', '--policy=joint/budget', self.files[0])
    pixels = images_lib.decode(
        pathlib.Path(self.files[0]).read_bytes(), (16, 16, 1)
    )
    _, (chosen,) = self.net.route(pixels[np.newaxis], 'joint/budget')
    self.assertEqual(json.loads(out)[0]['subnet'], str(chosen))

  @parameterized.parameters(
      ('head -n 1', r'\A.*\\udcff.png  K.*se  [^\n]*\n\Z'),
      ('true', r'\A\Z'),
  )
  def test_any_name_is_printed_until_the_reader_ends(self, reader, expected):
    root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    name = os.fsencode(root) + b'/\xff.png'
    shutil.copy(self.files[0], name)
    (root / 'run.py').write_text(_WITHOUT_A_NETWORK, 'utf-8')
    done = subprocess.run(
        f'{sys.executable} run.py | {reader}',
        shell=True,
        cwd=root,
        env=testing.environment() | {
            'PYTHONIOENCODING': 'ascii', 'PYTHONPATH': str(testing.ROOT)
        },
        capture_output=True,
        text=True,
        check=False,
    )
    self.assertRegex(done.stdout, expected)
    self.assertEqual(done.stderr, '')

  @parameterized.parameters(
      (('--subnet=1.0-0.3-1.0-1.0', 'F'), "Unknown subnet '1.0-0.3-1.0-1.0'"),
      (('--policy=joint/best', 'F'), "Unknown policy 'joint/best'"),
      (('--madds=-1', 'F'), 'No subnet takes at most -1 MAdds'),
      (('/nowhere/*.png',), r'There is no /nowhere/\*.png; expected a picture'),
  )
  def test_bad_input_is_one_line(self, args, message):
    args = [self.files[0] if arg == 'F' else arg for arg in args]
    code, out, _ = self._command(*args)
    self.assertEqual(out, '')
    self.assertRegex(str(code), f'adaptanet_jax.classify: .*{message}')
    self.assertLen(str(code).splitlines(), 1)


if __name__ == '__main__':
  absltest.main()
