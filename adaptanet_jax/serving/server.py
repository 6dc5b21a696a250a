# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs an application until it is asked to stop, or until it has failed.

After SIGTERM the server is not ready any more but still answers requests,
because a load balancer takes a few seconds to notice; then it finishes what has
arrived, and ends. After SIGINT it does so at once. A second signal ends it
immediately. If the thread that runs batches is dead or hangs, only a new
process helps: the server ends with a status that says so.
"""

import asyncio
from collections.abc import Callable, Coroutine
import logging
import os
import signal
import time
from types import FrameType
from typing import Any

from starlette.applications import Starlette
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from adaptanet_jax.serving.app import ARRIVED
from adaptanet_jax.serving.service import Service

# Tells a supervisor to start the server again.
EXIT_CODE = os.EX_SOFTWARE
_WATCH_SECONDS = 0.5
# How long a dead server still reports that it is dead before it ends.
_LAST_SECONDS = 1.0
# Most seconds that the head of a request may take, and most bytes of it, or of
# the lines that may follow a body sent in chunks.
_HEAD_SECONDS, _HEAD_BYTES = 10.0, 64 * 2**10
# Most requests of a connection that wait for the one before them.
_MOST_PIPELINED = 64
# Most seconds to finish open requests when the server ends.
_FINISH_SECONDS = 10


class _Protocol(HttpToolsProtocol):
  """Closes a connection that sends no request; uvicorn would wait for ever.

  While no request is unfinished, the head of the next one has a deadline, which
  only the complete head lifts. Answers that are not read have one as well.
  """

  scope: Any  # uvicorn's type allows no entry of our own.

  def __init__(self, *args: Any, **options: Any) -> None:
    super().__init__(*args, **options)
    self._deadline: asyncio.TimerHandle | None = None
    self._unread: asyncio.TimerHandle | None = None
    # Whether a head has begun and is not complete.
    self._in_head = False
    # Bytes received since the parser last reported a complete head or a piece
    # of a body: what it has to hold.
    self._open_bytes = 0
    self._got_part = False

  def connection_made(self, transport: Any) -> None:
    super().connection_made(transport)
    self._close_in(_HEAD_SECONDS)

  def connection_lost(self, exc: Exception | None) -> None:
    super().connection_lost(exc)
    self._close_in(None)
    self._stop_unread_timer()

  def pause_writing(self) -> None:
    super().pause_writing()
    self._unread = self.loop.call_later(
        self.timeout_keep_alive, self.transport.abort
    )

  def resume_writing(self) -> None:
    super().resume_writing()
    self._stop_unread_timer()

  def _stop_unread_timer(self) -> None:
    if self._unread:
      self._unread.cancel()
      self._unread = None

  def data_received(self, data: bytes) -> None:
    self._got_part = False
    super().data_received(data)
    # The parser keeps the lines of a head, and those after a body in chunks.
    self._open_bytes = 0 if self._got_part else self._open_bytes + len(data)
    if self._open_bytes > _HEAD_BYTES and not self.transport.is_closing():
      self.send_400_response(
          'The head of the request is too long, or what follows its body.'
      )

  def on_message_begin(self) -> None:
    super().on_message_begin()
    self._in_head = self._got_part = True
    if self.cycle is None or self.cycle.response_complete:
      self._close_in(_HEAD_SECONDS)

  def on_headers_complete(self) -> None:
    self._close_in(None)
    self._in_head, self._got_part = False, True
    self.scope[ARRIVED] = time.monotonic()
    super().on_headers_complete()
    if self.parser.should_upgrade():
      # The parser passes over the body, which would be read as a request.
      self.cycle.keep_alive = False
    # Each answer lets in as many more as were sent meanwhile.
    if len(self.pipeline) > _MOST_PIPELINED:
      self.transport.abort()

  def _unsupported_upgrade_warning(self) -> None:
    """Logs nothing: `Reader` refuses such a request if it has a body."""

  def on_body(self, body: bytes) -> None:
    super().on_body(body)
    self._got_part = True

  def on_response_complete(self) -> None:
    super().on_response_complete()
    if self.cycle.response_complete and not self.transport.is_closing():
      self._close_in(
          _HEAD_SECONDS if self._in_head else self.timeout_keep_alive
      )

  def _close_in(self, seconds: float | None) -> None:
    if self._deadline:
      self._deadline.cancel()
      self._deadline = None
    if seconds is not None:
      self._deadline = self.loop.call_later(seconds, self.transport.abort)


class Server(uvicorn.Server):
  """uvicorn's server, with draining."""

  def __init__(
      self,
      service: Service,
      app: Starlette,
      *,
      drain_seconds: float,
      keep_alive_seconds: int = 75,
      on_start: Callable[[], Coroutine[Any, Any, None]] | None = None,
      **options: Any,
  ) -> None:
    """Does not listen yet.

    Args:
      service: service of the application.
      app: the application.
      drain_seconds: seconds from SIGTERM to the end, in which it still answers.
      keep_alive_seconds: seconds that a connection without a request is kept.
      on_start: runs as a task once it listens.
      **options: options of `uvicorn.Config`.
    """
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws='none',
        access_log=False,
        log_level='warning',
        server_header=False,
        timeout_graceful_shutdown=_FINISH_SECONDS,
        timeout_keep_alive=keep_alive_seconds,
        **options,
    )
    super().__init__(config)
    self._service, self._drain_seconds = service, drain_seconds
    self._on_start = on_start
    self._loop: asyncio.AbstractEventLoop | None = None
    self._tasks: set[asyncio.Task[None]] = set()

  async def startup(self, sockets: Any = None) -> None:
    """Starts to listen, and to watch the service."""
    await super().startup(sockets)
    self._loop = asyncio.get_running_loop()
    self._tasks.add(asyncio.create_task(self._watch()))
    if self._on_start:
      self._tasks.add(asyncio.create_task(self._on_start()))
    # It may hold a model, whose memory can be freed when the task has ended.
    self._on_start = None

  def handle_exit(self, sig: int, frame: FrameType | None) -> None:
    """Drains at SIGTERM, finishes at SIGINT, ends at a second signal."""
    if self._service.draining:
      # By uvicorn's own way out, cancelled tasks would log tracebacks.
      os._exit(128 + sig)
    elif sig == signal.SIGINT or not self._loop:
      self.should_exit = True
    else:
      self._loop.call_soon_threadsafe(
          self._loop.call_later, self._drain_seconds, self._stop
      )
    self._service.draining = True

  def _stop(self) -> None:
    self.should_exit = True

  async def _watch(self) -> None:
    while not self.should_exit:
      if not self._service.is_live:
        logging.critical(
            'The thread that runs batches is dead, hangs, or only fails.'
        )
        await asyncio.sleep(_LAST_SECONDS)
        # It may only have been stopped for a while, with the whole process.
        if not self._service.is_live:
          # Nothing else ends a process with a thread that hangs.
          os._exit(EXIT_CODE)
      await asyncio.sleep(_WATCH_SECONDS)
