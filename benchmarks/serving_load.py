# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Plays a trace of requests to a server on this machine: an open loop.

  python -m benchmarks.serving_load SPEC.npz OUT.npz

A request goes out when it is due, whatever became of those before, and its
latency counts from then: one that a busy client sends late is late. A process
of its own, so that client and server do not share an interpreter. Only to
127.0.0.1. SPEC.npz has `port`, `model`, `parameters` (JSON), `arrivals`
(seconds, `float[N]`), `images` (`uint8[n, H, W, C]`, taken in turns).
"""

import asyncio
from collections import deque
import json
import sys
import time
from typing import Any

import numpy as np

# Beyond so many connections at once requests wait here, and are late.
_MOST_CONNECTIONS = 600
_LAST_SECONDS = 10.0


class _Connection(asyncio.Protocol):
  """One request after the other; no more of HTTP than the server answers."""

  def __init__(self, idle, alive):
    self._idle, self._alive, self._buffer = idle, alive, b''
    self.answer: Any = None

  def connection_made(self, transport):
    self.transport = transport
    self._alive.add(self)

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
    self._idle.append(self)
    answer(int(head[9:12]), body)

  def connection_lost(self, error):
    del error
    self._alive.discard(self)
    if self in self._idle:
      self._idle.remove(self)
    if self.answer:
      self.answer(0, b'')


def requests(images, model, parameters):
  """Returns the bytes of a request for each image."""
  found = []
  for image in images:
    text = json.dumps({
        'parameters': parameters,
        'inputs': [{
            'name': 'images',
            'datatype': 'UINT8',
            'shape': [1, *image.shape],
            'parameters': {'binary_data_size': image.size},
        }],
        'outputs': [{'name': 'class'}],
    }).encode()
    body = text + image.tobytes()
    found.append(
        f'POST /v2/models/{model}/infer HTTP/1.1\r\nHost: localhost\r\n'
        f'Inference-Header-Content-Length: {len(text)}\r\n'
        f'Content-Length: {len(body)}\r\n\r\n'.encode() + body
    )
  return found


async def play(port, arrivals, bodies):
  """Sends requests when they are due.

  Returns:
    For each its status, 0 for none; seconds from when it was due to its
    answer; and the answer's body.
  """
  loop = asyncio.get_running_loop()
  count = len(arrivals)
  statuses, latencies = np.zeros(count, int), np.full(count, np.nan)
  texts = [b''] * count
  idle: deque[_Connection] = deque()
  alive: set[_Connection] = set()
  unsent: deque[int] = deque()  # For want of a connection.
  opening = 0
  tasks = []
  start = time.perf_counter() + 0.5

  def answered(number, status, body):
    latencies[number] = time.perf_counter() - start - arrivals[number]
    statuses[number], texts[number] = status, body
    go_on()

  def send(number, connection):
    connection.ask(
        bodies[number % len(bodies)],
        lambda status, body: answered(number, status, body),
    )

  async def send_anew(number):
    nonlocal opening
    try:
      _, connection = await loop.create_connection(
          lambda: _Connection(idle, alive), '127.0.0.1', port
      )
    finally:
      opening -= 1
    send(number, connection)

  def go_on():
    nonlocal opening
    while unsent and idle:
      send(unsent.popleft(), idle.pop())
    while unsent and len(alive) + opening < _MOST_CONNECTIONS:
      opening += 1
      tasks.append(asyncio.ensure_future(send_anew(unsent.popleft())))

  for number, due in enumerate(arrivals):
    ahead = start + due - time.perf_counter()
    # Now and then even where it is behind, so that answers are read.
    if ahead > 0 or number % 8 == 0:
      await asyncio.sleep(max(0.0, ahead))
    unsent.append(number)
    go_on()
  end = time.perf_counter() + _LAST_SECONDS
  while (statuses == 0).any() and time.perf_counter() < end:
    await asyncio.sleep(0.05)
  unsent.clear()
  await asyncio.gather(*tasks, return_exceptions=True)
  for connection in list(alive):
    connection.transport.close()
  await asyncio.sleep(0.01)  # Until they are.
  return statuses, latencies, texts


def main(spec_path, out_path):
  """Plays the trace of a file; writes what came of it."""
  import uvloop

  spec = np.load(spec_path)
  bodies = requests(
      spec['images'], str(spec['model']), json.loads(str(spec['parameters']))
  )
  with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    statuses, latencies, texts = runner.run(
        play(int(spec['port']), spec['arrivals'], bodies)
    )
  answers = [
      json.loads(text) if status == 200 else None
      for status, text in zip(statuses, texts)
  ]
  np.savez(
      out_path,
      statuses=statuses,
      latencies=latencies,
      classes=[a['outputs'][0]['data'][0] if a else -1 for a in answers],
      subnets=[a['parameters']['subnet'] if a else '' for a in answers],
  )


if __name__ == '__main__':
  main(*sys.argv[1:])
