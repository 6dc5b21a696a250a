# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads bodies, within a limit on all of them together.

Work on large ones runs in threads, outside the event loop; that on pictures,
which takes longest, in threads of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent import futures
import contextlib
import functools
import re
from typing import Any, TypeVar

from PIL import Image
from starlette.requests import Request

from adaptanet_jax.serving import payloads
from adaptanet_jax.serving.refusals import (
  Limits,
  RefusedError,
  RequestError,
  short,
  too_large,
)

# Work on up to this many bytes takes no longer than a switch of threads.
BYTES_AT_ONCE = 64 * 2**10
_THREADS = 2
# Most seconds that a client may take to send its body.
_BODY_SECONDS = 10.0
# Most seconds for which the rest of a refused request is read.
_DRAIN_SECONDS = 1.0
# Largest ratio of a body's inflated size to its compressed size.
_MOST_INFLATED = 1032

_T = TypeVar('_T')


class Reader:
  """Reads the bodies of requests."""

  def __init__(self, limits: Limits) -> None:
    self._limits, self._under_way = limits, 0
    # Pillow imports its formats at the first picture that is none of the most
    # common ones: a damaged one would take longer than its deadline.
    Image.init()
    self._bodies = futures.ThreadPoolExecutor(_THREADS, 'bodies')
    self._pictures = futures.ThreadPoolExecutor(_THREADS, 'pictures')

  def close(self) -> None:
    """Ends its threads once they are idle."""
    self._bodies.shutdown(wait=False)
    self._pictures.shutdown(wait=False)

  @contextlib.asynccontextmanager
  async def body(self, request: Request) -> AsyncIterator[bytes]:
    """Yields a body, inflated; it counts as under way until the block ends.

    Raises:
      RequestError: the body is too large, too slow, or cannot be inflated.
      RefusedError: too much is under way.
    """
    taken = 0

    def take(count: int) -> None:
      nonlocal taken
      taken += count
      self._under_way += count
      if self._under_way > self._limits.under_way:
        raise RefusedError(
            f'More than {self._limits.under_way:,} bytes of bodies are under '
            'way.',
            1.0,
        )

    try:
      raw = await self._read(request, take)
      encoding = request.headers.get('content-encoding', '')
      text = await self.aside(
          _MOST_INFLATED * len(raw) if encoding else 0,
          payloads.inflate, raw, encoding, self._limits.body,
      )
      take(len(text) if text is not raw else 0)
      yield text
    finally:
      self._under_way -= taken

  async def _read(
      self, request: Request, take: Callable[[int], None]
  ) -> bytes:
    limit = self._limits.body
    # The parser does not read the body of a request that offers to upgrade.
    offered = request.headers.get('upgrade')
    if offered and 'upgrade' in request.headers.get('connection', '').lower():
      raise RequestError(
          400, f'The request has Upgrade: {short(offered)}; expected HTTP/1.1 '
          'without it, in Java by version(HttpClient.Version.HTTP_1_1).'
      )
    length = request.headers.get('content-length', '0')
    if not re.fullmatch('[0-9]{1,20}', length) or int(length) > limit:
      raise too_large(f'{length[:20]} bytes', limit)
    parts, total = [], 0
    try:
      async with asyncio.timeout(_BODY_SECONDS):
        async for part in request.stream():
          parts.append(part)
          take(len(part))
          total += len(part)
          if total > limit:
            raise too_large(f'more than {limit:,} bytes', limit)
    except TimeoutError as error:
      raise RequestError(
          408, f'The body did not come within {_BODY_SECONDS:.0f} s.'
      ) from error
    request.state.is_read = True
    return b''.join(parts)

  async def aside(
      self, size: int, function: Callable[..., _T], *args: Any, **options: Any
  ) -> _T:
    """Calls a function, in another thread if it works on many bytes.

    Args:
      size: number of bytes that it works on.
      function: function to call.
      *args: its positional arguments.
      **options: its keyword arguments.
    """
    return await _call(
        self._bodies, size, functools.partial(function, *args, **options)
    )

  async def decode(
      self, size: int, function: Callable[..., _T], *args: Any
  ) -> _T:
    """Calls a function that works on pictures; see `aside`."""
    return await _call(
        self._pictures, size, functools.partial(function, *args)
    )


async def _call(
    pool: futures.Executor, size: int, function: Callable[[], _T]
) -> _T:
  if size <= BYTES_AT_ONCE:
    return function()
  return await asyncio.get_running_loop().run_in_executor(pool, function)


async def drain(request: Request) -> bool:
  """Reads the rest of a refused request, for a while.

  If the connection were closed at once, a client that is still sending would be
  cut off before it could read the reason.

  Returns:
    Whether nothing more of this request can come.
  """
  headers = request.headers
  has_body = 'transfer-encoding' in headers or (
      headers.get('content-length', '0') != '0'
  )
  if getattr(request.state, 'is_read', False) or not has_body:
    return True
  if 'expect' in headers:  # The client waits to be asked for the body.
    return False
  with contextlib.suppress(TimeoutError):
    async with asyncio.timeout(_DRAIN_SECONDS):
      while True:
        message = await request.receive()
        if message['type'] == 'http.disconnect':
          return False
        if not message.get('more_body', False):
          return True
  return False
