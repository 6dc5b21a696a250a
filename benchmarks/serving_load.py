# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Plays a trace of requests to a server on this machine, as an open loop.

  python -m benchmarks.serving_load SPEC.npz OUT.npz

Each request is sent when it is due, whether or not earlier ones were answered.
Its latency counts from when it was due, even if a busy client sends it late. It
runs as a process of its own, so that client and server share no interpreter,
and only sends to 127.0.0.1. SPEC.npz has `port`, `model`, `parameters` (JSON),
`arrivals` (seconds, `float[N]`) and `images` (`uint8[r, k, H, W, C]`, the k
images of each of r requests, which are sent in rotation).
"""

import asyncio
from collections import deque
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

# Most connections at once; further requests wait in the client, and are late.
_MOST_CONNECTIONS = 600
_LAST_SECONDS = 10.0


class _Connection(asyncio.Protocol):
  """Sends one request at a time; parses only what our server's answers have."""

  def __init__(self, pool):
    self._pool, self._buffer = pool, b''
    self.answer: Any = None

  def connection_made(self, transport):
    self.transport = transport
    self._pool.alive.add(self)

  def ask(self, request, answer):
    self.answer = answer
    self.transport.write(request)

  def data_received(self, data):
    self._buffer += data
    end = self._buffer.find(b'\r\n\r\n')
    if end < 0:
      return
    head = self._buffer[:end].lower()
    place = head.index(b'content-length:') + len(b'content-length:')
    length = int(head[place:].split(b'\r\n', 1)[0])
    if len(self._buffer) < end + 4 + length:
      return
    body = self._buffer[end + 4 : end + 4 + length]
    self._buffer, answer, self.answer = b'', self.answer, None
    answer(int(head[9:12]), body)
    self._pool.idle.append(self)
    self._pool.go_on()

  def connection_lost(self, error):
    del error
    self._pool.alive.discard(self)
    if self in self._pool.idle:
      self._pool.idle.remove(self)
    if self.answer:
      self.answer(0, b'')
    self._pool.go_on()


class _Pool:
  """Connections, and the requests that wait for one."""

  def __init__(self, port):
    self.idle: deque[_Connection] = deque()
    self.alive: set[_Connection] = set()
    self._port, self._opening = port, 0
    self._waiting: deque[tuple[bytes, Any]] = deque()
    self._tasks: list[Any] = []

  def ask(self, request, answer):
    self._waiting.append((request, answer))
    self.go_on()

  def go_on(self):
    """Sends waiting requests, as far as there are connections."""
    while self._waiting and self.idle:
      self.idle.pop().ask(*self._waiting.popleft())
    while self._waiting and len(self.alive) + self._opening < _MOST_CONNECTIONS:
      self._opening += 1
      opened = self._open(*self._waiting.popleft())
      self._tasks.append(asyncio.ensure_future(opened))

  async def _open(self, request, answer):
    try:
      _, connection = await asyncio.get_running_loop().create_connection(
          lambda: _Connection(self), '127.0.0.1', self._port
      )
    finally:
      self._opening -= 1
    connection.ask(request, answer)

  async def close(self):
    self._waiting.clear()
    await asyncio.gather(*self._tasks, return_exceptions=True)
    for connection in list(self.alive):
      connection.transport.close()
    await asyncio.sleep(0.01)  # Lets them close.


def requests(images, model, parameters):
  """Returns the bytes of requests, given the images of each."""
  found = []
  for own in images:
    text = json.dumps({
        'parameters': parameters,
        'inputs': [{
            'name': 'images',
            'datatype': 'UINT8',
            'shape': own.shape,
            'parameters': {'binary_data_size': own.size},
        }],
        'outputs': [{'name': 'class'}, {'name': 'subnet'}],
    }).encode()
    body = text + own.tobytes()
    found.append(
        f'POST /v2/models/{model}/infer HTTP/1.1\r\nHost: localhost\r\n'
        f'Inference-Header-Content-Length: {len(text)}\r\n'
        f'Content-Length: {len(body)}\r\n\r\n'.encode() + body
    )
  return found


async def play(port, arrivals, bodies):
  """Sends requests when they are due.

  Returns:
    For each request: the status, 0 without an answer; seconds from when it was
    due to its answer; and the body of the answer.
  """
  count = len(arrivals)
  statuses, latencies = np.zeros(count, int), np.full(count, np.nan)
  texts = [b''] * count
  pool = _Pool(port)
  start = time.perf_counter() + 0.5

  def answered(number, status, body):
    latencies[number] = time.perf_counter() - start - arrivals[number]
    statuses[number], texts[number] = status, body

  for number, due in enumerate(arrivals):
    ahead = start + due - time.perf_counter()
    # Yield now and then even when behind, so that answers are read.
    if ahead > 0 or number % 8 == 0:
      await asyncio.sleep(max(0.0, ahead))
    pool.ask(
        bodies[number % len(bodies)], functools.partial(answered, number)
    )
  end = time.perf_counter() + _LAST_SECONDS
  while (statuses == 0).any() and time.perf_counter() < end:
    await asyncio.sleep(0.05)
  await pool.close()
  return statuses, latencies, texts


def replay(port, arrivals, images, parameters):
  """Plays a trace to the model named `model` from another process.

  Args:
    port: port of the server.
    arrivals: when each request is due, in seconds, `float[N]`.
    images: `uint8[r, k, H, W, C]`, of r requests that are sent in rotation.
    parameters: of all requests.

  Returns:
    For each request `statuses`, `latencies` (seconds), and the `classes` and
    `subnets` of its k images, -1 and '' without an answer.
  """
  with tempfile.TemporaryDirectory() as folder:
    paths = [os.path.join(folder, f'{n}.npz') for n in ('spec', 'out')]
    np.savez(
        paths[0], port=port, model='model', arrivals=arrivals, images=images,
        parameters=json.dumps(parameters),
    )
    subprocess.run(
        [sys.executable, '-m', 'benchmarks.serving_load', *paths], check=True
    )
    return dict(np.load(paths[1]))


def main(spec_path, out_path):
  """Plays the trace of a file; writes statuses, latencies and answers."""
  import uvloop

  spec = np.load(spec_path)
  bodies = requests(
      spec['images'], str(spec['model']), json.loads(str(spec['parameters']))
  )
  with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    statuses, latencies, texts = runner.run(
        play(int(spec['port']), spec['arrivals'], bodies)
    )
  count = spec['images'].shape[1]
  classes = np.full((len(texts), count), -1)
  subnets = np.full((len(texts), count), '', 'U64')
  for number, (status, text) in enumerate(zip(statuses, texts)):
    if status == 200:
      classes[number], subnets[number] = (
          output['data'] for output in json.loads(text)['outputs']
      )
  np.savez(
      out_path,
      statuses=statuses,
      latencies=latencies,
      classes=classes,
      subnets=subnets,
  )


if __name__ == '__main__':
  main(*sys.argv[1:])
