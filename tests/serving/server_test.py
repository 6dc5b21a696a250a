# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.serving.server: how a server stops."""

import asyncio
import contextlib
import http.client
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from unittest import mock

from absl.testing import absltest, parameterized

from adaptanet_jax.serving import server as server_lib, service as service_lib
from tests import testing
from tests.serving import fakes


class ServerTest(parameterized.TestCase):

  def _start(self, *args):
    process = subprocess.Popen(
        [sys.executable, '-m', 'tests.serving.fake_server', *args],
        cwd=testing.ROOT,
        env=testing.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    self.addCleanup(process.stdout.close)
    self.addCleanup(process.wait)
    self.addCleanup(process.kill)
    self.port = int(process.stdout.readline())
    return process

  def _ask(self, method, path, body=None):
    with contextlib.closing(
        http.client.HTTPConnection('127.0.0.1', self.port, timeout=20)
    ) as connection:
      connection.request(method, path, body)
      response = connection.getresponse()
      return response.status, response.read()

  def _infer(self, answers):
    body = fakes.body(fakes.images(1))
    try:
      answers.append(self._ask('POST', '/v2/models/fake/infer', body)[0])
    except (OSError, http.client.HTTPException) as error:
      answers.append(error)

  @unittest.skipUnless(shutil.which('openssl'), 'openssl is not installed')
  def test_it_speaks_https(self):
    folder = self.enter_context(tempfile.TemporaryDirectory())
    key, certificate = f'{folder}/key.pem', f'{folder}/certificate.pem'
    subprocess.run(
        ['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days',
         '1', '-subj', '/CN=localhost', '-addext',
         'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', certificate],
        check=True, capture_output=True,
    )
    options = {'ssl_keyfile': key, 'ssl_certfile': certificate}
    running = self.enter_context(fakes.Running(of_server=options))
    trusted = ssl.create_default_context(cafile=certificate)
    with contextlib.closing(http.client.HTTPSConnection(
        '127.0.0.1', running.port, timeout=20, context=trusted
    )) as connection:
      for _ in range(2):
        connection.request(
            'POST', '/v2/models/fake/infer', fakes.body(fakes.images(1))
        )
        response = connection.getresponse()
        self.assertEqual(response.status, 200, response.read())
        response.read()
    with self.assertRaises((OSError, http.client.HTTPException)):
      running.ask('GET', '/v2')

  def test_a_signal_drains(self):
    process = self._start()
    answers = []
    clients = [
        threading.Thread(target=self._infer, args=(answers,)) for _ in range(3)
    ]
    for client in clients:
      client.start()
    time.sleep(0.2)  # The first batch runs; the others wait.
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    status, _ = self._ask('GET', '/v2/health/ready')
    self.assertEqual(status, 503)
    # It asks clients that keep their connections to go elsewhere.
    with contextlib.closing(
        http.client.HTTPConnection('127.0.0.1', self.port, timeout=20)
    ) as connection:
      connection.request('GET', '/v2')
      self.assertEqual(connection.getresponse().headers['Connection'], 'close')
    # It is alive, and still answers clients that have not noticed.
    self.assertEqual(self._ask('GET', '/v2/health/live')[0], 200)
    self._infer(answers)
    for client in clients:
      client.join()
    self.assertEqual(answers, [200] * 4)
    self.assertEqual(process.wait(20), 0)

  def test_what_it_cannot_finish_may_be_sent_elsewhere(self):
    with mock.patch.object(server_lib, '_FINISH_SECONDS', 1):
      running = self.enter_context(fakes.Running())
    running.engine.gate.clear()
    self.port, answers = running.port, []
    client = threading.Thread(target=self._infer, args=(answers,))
    client.start()
    fakes.until(lambda: running.engine.batches)
    running.server.handle_exit(signal.SIGINT, None)
    client.join(20.0)
    self.assertEqual(answers, [503])

  def test_a_second_signal_ends_it_at_once(self):
    process = self._start('drain')
    process.send_signal(signal.SIGTERM)
    fakes.until(lambda: self._ask('GET', '/v2/health/ready')[0] == 503)
    self.assertEqual(self._ask('GET', '/v2/health/live')[0], 200)
    process.send_signal(signal.SIGTERM)
    self.assertEqual(process.wait(60), 128 + signal.SIGTERM)

  def test_what_each_signal_does(self):
    for signals, expected in (
        # Before it listens, it has no requests to finish.
        ((signal.SIGTERM,), []),
        ((signal.SIGINT,), []),
        ((signal.SIGINT, signal.SIGINT), [mock.call(130)]),
    ):
      server = fakes.Running().server
      with mock.patch.object(os, '_exit') as ended:
        for one in signals:
          server.handle_exit(one, None)
      self.assertTrue(server.should_exit)
      self.assertEqual(ended.mock_calls, expected)
      self.assertFalse(server._service.is_ready)

  def test_one_that_was_stopped_with_its_whole_process_goes_on(self):
    server = fakes.Running().server
    lives = [False, True]

    def is_live(service):
      del service
      server.should_exit = len(lives) == 1
      return lives.pop(0)

    with (
        mock.patch.object(service_lib.Service, 'is_live', property(is_live)),
        mock.patch.object(server_lib, '_LAST_SECONDS', 0.0),
        mock.patch.object(server_lib, '_WATCH_SECONDS', 0.0),
        mock.patch.object(os, '_exit') as end,
    ):
      asyncio.run(server._watch())
    end.assert_not_called()

  @parameterized.parameters('hang', 'die')
  def test_without_its_thread_it_is_dead_and_says_so(self, how):
    process = self._start(how)
    answers = []
    client = threading.Thread(target=self._infer, args=(answers,))
    client.start()
    end = time.monotonic() + 20.0
    status = 200
    while status == 200 and time.monotonic() < end:
      status, _ = self._ask('GET', '/v2/health/live')
      time.sleep(0.05)
    self.assertEqual(status, 503)
    self.assertEqual(process.wait(20), os.EX_SOFTWARE)
    client.join()
    self.assertNotEqual(answers, [200])


if __name__ == '__main__':
  absltest.main()
