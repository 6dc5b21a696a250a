# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the live page's script, without a browser."""

import json
import re
import shutil
import subprocess
import unittest

from absl.testing import absltest

from tests.serving import fakes

# Elements and drawing that do nothing; `base` is the server's address.
_BROWSER = """
const nodes = {}, nothing = () => {}, node = () => ({
  style: {}, append: nothing, replaceChildren: nothing,
  addEventListener: nothing, clientWidth: 9, clientHeight: 9,
  getContext: () => ({ fillRect: nothing, fillText: nothing, scale: nothing }),
});
const document = { createElement: node, body: null,
  getElementById: id => nodes[id] ||= node() };
const window = {}, location = { search: '' }, setInterval = nothing;
const getComputedStyle = () => ({}), ask = fetch;
let base = 'http://127.0.0.1:1';
const asked = [];
fetch = (path, options) => {
  asked.push(path);
  return ask(base + path, options);
};
const until = async holds => {
  while (!holds()) await new Promise(done => setTimeout(done, 20));
};
"""
# The server comes, refuses a load without a token, and goes.
_STORY = """
(async () => {
  const told = {}, text = id => nodes[id]?.textContent;
  await until(() => text('attainment') === 'gone');
  base = 'http://127.0.0.1:%d';
  await until(() => text('name'));
  told.name = text('name');
  told.disabled = nodes.pin.disabled;
  load(0, 'stop');
  told.idle = nodes.double.disabled;
  load(1000, 'start');
  told.busy = nodes.double.disabled;
  before -= 1000;
  send();
  await until(() => !text('said').startsWith('Load'));
  told.refused = text('said');
  base = 'http://127.0.0.1:1';
  await classify({ name: 'a.png' });
  told.gone = text('said');
  told.described = asked.filter(path => path === '/v2/models/fake').length;
  console.log(JSON.stringify(told));
  process.exit();
})();
"""


@unittest.skipUnless(shutil.which('node'), 'node is not installed')
class PageTest(absltest.TestCase):

  def test_it_says_what_the_server_refuses_and_that_it_is_gone(self):
    running = self.enter_context(
        fakes.Running(token=fakes.TOKEN, token_for_all=True)
    )
    page = running.ask('GET', '/')[2].decode()
    script = re.search(r'<script>(.*)</script>', page, re.DOTALL)[1]
    done = subprocess.run(
        ['node', '-'],
        input=_BROWSER + script + _STORY % running.port,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    told = json.loads(done.stdout)
    self.assertStartsWith(told.pop('refused'), 'The token is missing')
    self.assertEqual(told, {
        'name': 'fake',
        'disabled': True,  # The menu has no x1.0.
        'idle': True,
        'busy': False,
        'gone': 'a.png: the server did not answer',
        'described': 1,
    })


if __name__ == '__main__':
  absltest.main()
