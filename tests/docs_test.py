# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests that snippets, commands and links of the documentation work."""

import contextlib
import importlib.util
import io
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

from absl.testing import absltest, parameterized
import numpy as np
from PIL import Image

import adaptanet_jax
from adaptanet_jax import commands
from configs import common
from tests import testing

_ROOT = pathlib.Path(testing.ROOT)
_PAGES = sorted(
    str(path.relative_to(_ROOT))
    for path in (*_ROOT.glob('*.md'), *_ROOT.glob('docs/*.md'))
)
_LINK = re.compile(r'\]\(([^)]+)\)')
_CODE = re.compile(r'(?:^    .*\n|^\n(?=    ))+', re.MULTILINE)
_COMMAND = re.compile(
    r'([A-Z_]+=\S+ )*(launch/|benchmarks/|\./|\.venv/|python|pip|sbatch|curl)'
)
# Placeholders in snippets for the user's own models and pictures.
_MODELS = re.compile(r'/tmp/(digits|own|bundle)\b')
_PICTURES = re.compile(r"'([\w*]+\.(?:png|jpg))'")


def _blocks(page):
  """Returns the indented blocks of code of a page."""
  text = (_ROOT / page).read_text()
  return [re.sub('^    ', '', block, flags=re.MULTILINE).strip('\n')
          for block in _CODE.findall(text)
          if block.strip()]


def _commands(page):
  """Returns the command lines of a page, split into words."""
  lines = '\n'.join(
      block for block in _blocks(page) if not block.startswith('import ')
  ).replace('\\\n', ' ')
  return [
      words
      for line in lines.splitlines()
      if _COMMAND.match(line)
      for words in [shlex.split(line, comments=True)]
  ]


def _snippets():
  return [
      (page, n, block)
      for page in _PAGES
      for n, block in enumerate(_blocks(page))
      if block.startswith('import adaptanet_jax')
  ]


def _anchor(title):
  kept = re.sub(r'[^\w\- ]', '', title.strip().lower())
  return kept.replace(' ', '-')


class DocsTest(parameterized.TestCase):

  @parameterized.parameters(*_PAGES)
  def test_links_lead_somewhere(self, page):
    text = (_ROOT / page).read_text()
    for link in _LINK.findall(text):
      if '://' in link:
        continue
      name, _, anchor = link.partition('#')
      target = (_ROOT / page).parent / name if name else _ROOT / page
      self.assertTrue(target.exists(), f'{page}: {link}')
      if anchor:
        titles = re.findall(r'^#+ (.*)$', target.read_text(), re.MULTILINE)
        self.assertIn(anchor, map(_anchor, titles), f'{page}: {link}')

  def test_the_site_can_be_built_and_has_all_pages(self):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    done = subprocess.run(
        [sys.executable, '-m', 'mkdocs', 'build', '--strict', '-d', folder],
        cwd=_ROOT,
        env=os.environ | {'NO_MKDOCS_2_WARNING': '1'},
        capture_output=True,
        text=True,
        check=False,
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertNotIn('not included in the "nav"', done.stderr)
    api = pathlib.Path(folder, 'api', 'index.html').read_text()
    self.assertIn('Multiply-accumulates'.lower(), api.lower())

  @parameterized.parameters(*_PAGES)
  def test_commands_name_what_there_is(self, page):
    for words in _commands(page):
      for word in words:
        if word.startswith(('launch/', './', 'benchmarks/', 'tests/')):
          self.assertTrue((_ROOT / word).exists(), f'{page}: {word}')
        if word.startswith('--config=configs/'):
          self._check_config(word.removeprefix('--config='), page)
        if word.startswith('--config.'):
          node = common.get_config()
          for key in word.removeprefix('--config.').split('=')[0].split('.'):
            self.assertIn(key, node, f'{page}: {word}')
            node = node[key]
      self._check_module(words, page)

  def _check_config(self, config, page):
    file, _, arg = config.partition(':')
    spec = importlib.util.spec_from_file_location('shown', _ROOT / file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    self.assertIn('teacher', module.get_config(arg), f'{page}: {config}')

  def _check_module(self, words, page):
    if '-m' not in words:
      return
    at = words.index('-m') + 1
    spec = importlib.util.find_spec(words[at])
    self.assertIsNotNone(spec, f'{page}: {words[at]}')
    source = pathlib.Path(spec.origin).read_text()
    if '__main__' not in source or words[at] == 'adaptanet_jax.main':
      return
    if 'parser_for_model' in source:
      source += pathlib.Path(commands.__file__).read_text()
    if words[at].startswith('benchmarks.'):
      source += (_ROOT / 'benchmarks' / 'harness.py').read_text()
    for word in words[at + 1 :]:
      if word.startswith('--') and not word.startswith('--config'):
        flag = word.removeprefix('--').split('=')[0]
        self.assertRegex(source, rf"'(--)?{flag}'", f'{page}: {word}')

  @parameterized.parameters(*_snippets())
  def test_snippets_run(self, page, _, code):
    folder = tempfile.mkdtemp()
    self.addCleanup(shutil.rmtree, folder)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20), np.uint8)
    for name in _PICTURES.findall(code):
      Image.fromarray(pixels).save(os.path.join(folder, name))
    code = _MODELS.sub('digits', code)
    self.addCleanup(os.chdir, os.getcwd())
    os.chdir(folder)
    values, out = {}, io.StringIO()
    with contextlib.redirect_stdout(out):
      exec(compile(code, page, 'exec'), values)  # It is this project's.
    self.assertIsInstance(values['net'], adaptanet_jax.Supernet)
    # Numbers that comments promise, such as `print(...)  # 96 right`.
    promised = re.findall(r'^print\(.*# (\d+)\b', code, re.MULTILINE)
    self.assertEqual(bool(promised), page == 'README.md')
    if promised:
      self.assertEqual(out.getvalue().split()[-len(promised) :], promised)


if __name__ == '__main__':
  absltest.main()
