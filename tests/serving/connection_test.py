# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of clients that send slowly, too much or nothing, or that leave."""

import concurrent.futures
import contextlib
import json
import socket
import threading
import time
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np

from adaptanet_jax.serving import (
  payloads,
  protocol,
  reader,
  server as server_lib,
)
from adaptanet_jax.serving.service import Service
from tests.serving import fakes

_PATH = '/v2/models/fake/infer'


def _body():
  return fakes.body(fakes.images(1)).encode()


class ConnectionTest(fakes.HttpTest):

  def test_a_deadline_that_passes_in_the_queue(self):
    self.running.engine.gate.clear()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
      first = pool.submit(self.running.infer, fakes.images(1))
      while not self.running.engine.batches:
        time.sleep(0.01)
      self.running.service.batcher._busy_until = 0.0
      status, values = self.running.infer(
          fakes.images(1), {'timeout': 100_000}
      )
      self.assertEqual(status, 504)
      self.assertRegex(values['error'], 'The deadline passed')
      self.running.engine.gate.set()
      self.assertEqual(first.result()[0], 200)

  def test_the_time_that_a_handler_waits_to_begin_counts(self):
    whole = server_lib.HttpToolsProtocol.on_headers_complete

    def then_blocked(self):
      whole(self)
      time.sleep(0.2)

    with mock.patch.object(
        server_lib.HttpToolsProtocol, 'on_headers_complete', then_blocked
    ):
      status, values = self.running.infer(
          fakes.images(1), {'timeout': 100_000}
      )
    self.assertEqual(status, 503)
    self.assertRegex(values['error'], '0 ms are left')

  def test_who_goes_away_leaves_the_queue(self):
    self.running.engine.gate.clear()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
      first = pool.submit(self.running.infer, fakes.images(1))
      while not self.running.engine.batches:
        time.sleep(0.01)
      batcher = self.running.service.batcher
      batcher._busy_until = 0.0
      body = _body()
      with socket.create_connection(('127.0.0.1', self.running.port)) as gone:
        gone.sendall(
            f'POST {_PATH} HTTP/1.1\r\nHost: x\r\n'
            f'Content-Length: {len(body)}\r\n\r\n'.encode() + body
        )
        while not batcher.waiting:
          time.sleep(0.01)
      end = time.monotonic() + 10.0
      while batcher.waiting and time.monotonic() < end:
        time.sleep(0.01)
      self.assertEqual(batcher.waiting, 0)
      self.running.engine.gate.set()
      self.assertEqual(first.result()[0], 200)
    self.assertEqual(sum(n for _, n in self.running.engine.batches), 1)

  def _connect(self):
    return contextlib.closing(
        socket.create_connection(('127.0.0.1', self.running.port), 20.0)
    )

  def _rest(self, connection, trickle=b''):
    """Sends `trickle` over and over; returns what comes until the end."""
    found = b''
    connection.settimeout(0.02)
    end = time.monotonic() + 20.0
    while True:
      self.assertLess(time.monotonic(), end)
      try:
        part = connection.recv(1000)
        if not part:
          return found
        found += part
      except TimeoutError:
        with contextlib.suppress(OSError):
          connection.sendall(trickle)
      except ConnectionError:
        return found

  @parameterized.parameters(
      # Nothing; a head that never ends; one after a complete request.
      (b'', b''),
      (b'GET / HTTP/1.1\r\nA: ', b'x'),
      (b'GET /v2 HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nA: ', b'x'),
      # The body of a request that expects none.
      (b'GET /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n', b'x'),
  )
  def test_who_sends_no_request_is_let_go(self, first, trickle):
    self.running.server.config.timeout_keep_alive = 0.2
    with mock.patch.object(server_lib, '_HEAD_SECONDS', 0.2):
      with self._connect() as connection:
        connection.sendall(first)
        found = self._rest(connection, trickle)
    self.assertEqual(found[:12], b'HTTP/1.1 200' if b'/v2' in first else b'')

  def test_a_head_without_an_end(self):
    with self._connect() as connection:
      connection.sendall(b'GET /v2 HTTP/1.1\r\nA: ')
      found = self._rest(connection, bytes(1000).replace(b'\0', b'x'))
    self.assertIn(b'400 Bad Request', found)
    self.assertIn(b'head of the request is too long', found)

  @parameterized.parameters(
      # The body is read, or it is not.
      (b'POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked'
       b'\r\n\r\n1\r\na\r\n0\r\n', b'A: x\r\n'),
      (b'GET /v2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked'
       b'\r\n\r\n0\r\nA: ', b'x'),
  )
  def test_lines_without_an_end_after_a_body(self, first, more):
    with self._connect() as connection:
      connection.sendall(first)
      with self.assertRaises(ConnectionError):
        for _ in range(5000):
          connection.sendall(4096 * more)

  def test_who_does_not_read_its_answers_is_let_go(self):
    self.running.server.config.timeout_keep_alive = 0.2
    # Long, so that few of them wait for the one before.
    request = b'GET / HTTP/1.1\r\nA: ' + 8000 * b'x' + b'\r\n\r\n'
    with self._connect() as connection:
      with self.assertRaises(ConnectionError):
        connection.sendall(2000 * request)

  def test_who_asks_far_ahead_is_let_go(self):
    with self._connect() as connection:
      with contextlib.suppress(ConnectionError):
        connection.sendall(1000 * b'GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n')
      self.assertLess(self._rest(connection).count(b'200 OK'), 1000)

  def test_a_body_after_an_offer_of_another_protocol_is_no_request(self):
    body = b'GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n'
    with self._connect() as connection:
      connection.sendall(
          f'POST {_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}'
          '\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n'
          .encode()
      )
      found = self._rest(connection, body)
    self.assertIn(b"has Upgrade: 'h2c'; expected HTTP/1.1 without", found)
    self.assertNotIn(b'200 OK', found)

  @parameterized.parameters(
      (_PATH, 9999, b'408 '),
      (_PATH, 99_999, b'413 '),
      ('/nowhere', 9999, b'404 '),
      ('/v2/repository/models/fake/load', 9999, b'401 '),
  )
  def test_who_is_refused_before_its_body_was_read(self, path, length, status):
    with (
        mock.patch.object(reader, '_BODY_SECONDS', 0.2),
        mock.patch.object(reader, '_DRAIN_SECONDS', 0.2),
        self._connect() as slow,
    ):
      slow.sendall(
          f'POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}'
          '\r\n\r\n{'.encode()
      )
      found = self._rest(slow, b'x')
    self.assertIn(status, found.splitlines()[0])
    self.assertIn(b'connection: close', found)
    self.assertEqual(self.running.infer(fakes.images(1))[0], 200)

  def test_bodies_together_are_limited(self):
    head = f'POST {_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n'
    with contextlib.ExitStack() as stack:
      # Their last bytes are still to come, so 16 bodies are being read.
      for _ in range(16):
        connection = stack.enter_context(self._connect())
        connection.sendall(head.encode() + bytes(9990))
      fakes.until(
          lambda: self.running.ask('POST', _PATH, bytes(500))[0] == 503
      )
    fakes.until(lambda: self.running.infer(fakes.images(1))[0] == 200)

  def test_pictures_that_are_decoded_count_and_have_their_time(self):
    service = Service(
        'fake', fakes.FakeEngine(), fakes.profile(), seconds=600.0,
        queue_limit=1,
    )
    running = self.enter_context(fakes.Running(service=service))
    encoded = fakes.png(np.zeros((200, 200), np.uint8))
    begun, go_on = threading.Event(), threading.Event()

    def read(*args):
      del args
      begun.set()
      go_on.wait()
      return fakes.images(1)[0]

    with (
        mock.patch.object(payloads, 'read_picture', read),
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
      self.addCleanup(go_on.set)
      # The deadline passes while the picture is decoded.
      late = running.ask('POST', '/classify?timeout=50000', encoded)
      self.refused(late, 504, 'before the pictures were decoded')
      begun.clear()
      first = pool.submit(running.ask, 'POST', '/classify', encoded)
      self.assertTrue(begun.wait(20.0))
      second = running.ask('POST', '/classify', encoded)
      self.refused(second, 503, '1 images wait, and 1 is the limit')
      self.assertEqual(second[1]['Retry-After'], '1')
      go_on.set()
      self.assertEqual(first.result()[0], 200)
    # More images than may ever wait: trying again would not help.
    self.assertEqual(running.infer(fakes.images(2))[0], 413)

  def test_a_picture_that_takes_long_delays_nobody_else(self):
    begun, go_on = threading.Semaphore(0), threading.Event()

    def check(*args):
      del args
      begun.release()
      go_on.wait()
      return 1

    # A few kilobytes may hold megabytes of text and colour profiles.
    encoded = fakes.png(np.random.default_rng(0).integers(
        0, 256, (64, 64), np.uint8
    ))
    with (
        mock.patch.object(payloads, 'check_pictures', check),
        concurrent.futures.ThreadPoolExecutor(4) as pool,
    ):
      self.addCleanup(go_on.set)
      first = pool.submit(self.running.ask, 'POST', '/classify', encoded)
      self.assertTrue(begun.acquire(timeout=20.0))
      self.assertEqual(self.running.infer(fakes.images(1))[0], 200)
      # Nor does any number of them delay a large tensor.
      running = self.enter_context(fakes.Running())
      for _ in range(3):
        pool.submit(running.ask, 'POST', '/classify', encoded)
      for _ in range(2):  # As many as there are threads for them.
        self.assertTrue(begun.acquire(timeout=20.0))
      large = fakes.body(fakes.images(1)) + 100_000 * ' '
      self.assertEqual(
          running.ask('POST', '/v2/models/fake/infer', large)[0], 200
      )
      # It has a deadline, too.
      late = self.running.ask('POST', '/classify?timeout=50000', encoded)
      self.refused(late, 504, 'before the pictures were decoded')
      go_on.set()
      self.assertEqual(first.result()[0], 200)

  def test_a_long_answer_is_written_outside_the_event_loop(self):
    written, write = [], protocol.encode

    def encode(*args, **options):
      written.append(threading.current_thread().name)
      return write(*args, **options)

    running = self.enter_context(fakes.Running())
    with mock.patch.object(protocol, 'encode', encode):
      for name in ('a', 100_000 * 'a'):
        self.assertEqual(running.infer(fakes.images(1), id=name)[0], 200)
    self.assertStartsWith(written.pop(), 'bodies')
    self.assertNotStartsWith(written.pop(), 'bodies')

  def test_a_request_s_time_runs_from_its_arrival(self):
    values = json.loads(_body()) | {'parameters': {'timeout': 100_000}}
    body = json.dumps(values).encode()
    with self._connect() as slow:
      slow.sendall(
          f'POST {_PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n'
          f'Content-Length: {len(body)}\r\n\r\n'.encode() + body[:-1]
      )
      time.sleep(0.3)
      slow.sendall(body[-1:])
      found = self._rest(slow)
    self.assertIn(b'503 ', found.splitlines()[0])
    self.assertIn(b'and 0 ms are left', found)


if __name__ == '__main__':
  absltest.main()
