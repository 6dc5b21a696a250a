# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests that the clients in docs/serving.md get answers from a server."""

import ast
import contextlib
import io
import json
import pathlib
import tempfile

from absl.testing import absltest
import numpy as np
from PIL import Image

from adaptanet_jax import examples
from adaptanet_jax.serving.controller import Entry, Profile
from adaptanet_jax.serving.service import Service
from tests import docs_test
from tests.serving import fakes

# Two seconds may be too short on a machine with other work.
_TIMES = {'=2000000': '=20000000', '=2_000_000': '=20_000_000'}


class _Engine(fakes.FakeEngine):
  """A fake engine for images of the shape of `digits`."""

  def __init__(self):
    super().__init__()
    self.image_shape = (16, 16, 1)
    self._kernels = {'wide': np.ones((256, 5), np.float32)}


class SnippetsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    engine = _Engine()
    menu = Profile(
        (Entry('wide', 0.99, 40),), fakes.SIZES, fakes.profile().seconds[1:]
    )
    service = Service('digits', engine, menu, seconds=20.0)
    self.running = self.enter_context(fakes.Running(engine, service=service))
    folder = self.enter_context(tempfile.TemporaryDirectory())
    self.enter_context(contextlib.chdir(folder))
    pixels = np.zeros((20, 20), np.uint8)
    pathlib.Path('picture.png').write_bytes(fakes.png(pixels))

  def _printed(self, text):
    """Runs the snippet that contains a text; returns what it prints."""
    (code,) = [
        block for block in docs_test._blocks('docs/serving.md') if text in block
    ]
    self.assertIn('127.0.0.1:8000', code)
    code = code.replace(':8000', f':{self.running.port}')
    for old, new in _TIMES.items():
      code = code.replace(old, new)
    with contextlib.redirect_stdout(io.StringIO()) as out:
      exec(compile(code, 'docs/serving.md', 'exec'), {})  # Our own code.
    return out.getvalue()

  def test_the_picture_is_the_example(self):
    (code,) = [
        block
        for block in docs_test._blocks('docs/serving.md')
        if block.startswith('from PIL import Image')
    ]
    exec(compile(code, 'docs/serving.md', 'exec'), {})  # Our own code.
    with Image.open('picture.png') as picture:
      np.testing.assert_array_equal(
          picture, examples('digits')[0][22].squeeze()
      )

  def test_json(self):
    (output,) = ast.literal_eval(self._printed("blank = {'name': 'images'"))
    self.assertEqual(output['name'], 'label')
    self.assertEqual((output['shape'], output['data']), ([1], ['zero']))

  def test_the_standard_library(self):
    printed = self._printed("with open('picture.png', 'rb')")
    values = json.loads(printed.replace("'", '"'))
    self.assertEqual(
        list(values), ['label', 'confidence', 'subnet', 'accuracy']
    )
    self.assertEqual((values['subnet'], values['accuracy']), ('wide', 0.99))

  def test_tritonclient(self):
    printed = self._printed('import tritonclient.http')
    self.assertEqual(printed.count("b'zero'"), 3)
    self.assertEqual(printed.count("b'wide'"), 3)
    self.assertEqual(printed.count('0.99'), 3)


if __name__ == '__main__':
  absltest.main()
