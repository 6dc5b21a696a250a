# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs an application until it is asked to stop, or until it has failed.

SIGTERM: not ready any more, but requests are still answered, for it takes a
balancer some seconds to notice; then what has come is finished. A second one
ends it at once. Where the thread that runs batches is dead or hangs, nothing
else will help than another process: it ends with a status that says so.
"""

import asyncio
from collections.abc import Callable
import logging
import os
import signal
from types import FrameType
from typing import Any

from starlette.applications import Starlette
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from adaptanet_jax.serving.service import Service

# For a supervisor: start it again.
EXIT_CODE = os.EX_SOFTWARE
_WATCH_SECONDS = 0.5
# How long a dead server says so before it ends.
_LAST_SECONDS = 1.0
# A connection without a whole request is closed after these.
_IDLE_SECONDS = 10.0
# What is being answered has so long once the rest is done.
_FINISH_SECONDS = 10


class _Protocol(HttpToolsProtocol):
  """Closes a connection that sends no request; uvicorn waits for ever."""

  def connection_made(self, transport: Any) -> None:
    super().connection_made(transport)
    self.loop.call_later(_IDLE_SECONDS, self._check_begun)

  def _check_begun(self) -> None:
    if self.cycle is None and not self.transport.is_closing():
      self.transport.close()


class Server(uvicorn.Server):
  """uvicorn's, which drains."""

  def __init__(
      self,
      service: Service,
      app: Starlette,
      *,
      drain_seconds: float,
      on_start: Callable[[], None] = lambda: None,
      **options: Any,
  ) -> None:
    """Listens to nothing yet.

    Args:
      service: of the application.
      app: what answers.
      drain_seconds: between SIGTERM and the end, in which it still answers.
      on_start: called once it listens.
      **options: of `uvicorn.Config`.
    """
    config = uvicorn.Config(
        app,
        http=_Protocol,
        access_log=False,
        log_level='warning',
        server_header=False,
        timeout_graceful_shutdown=_FINISH_SECONDS,
        **options,
    )
    super().__init__(config)
    self._service, self._drain_seconds = service, drain_seconds
    self._on_start = on_start
    self._tasks: set[asyncio.Task[None]] = set()

  async def startup(self, sockets: Any = None) -> None:
    """Starts to listen, and to watch the service."""
    await super().startup(sockets)
    self._loop = asyncio.get_running_loop()
    self._tasks.add(asyncio.create_task(self._watch()))
    self._on_start()

  def handle_exit(self, sig: int, frame: FrameType | None) -> None:
    """Drains at the first signal, ends at the second."""
    if self._service.draining or sig == signal.SIGINT:
      self.should_exit = True
      self.force_exit = self._service.draining
      return
    self._service.draining = True
    self._loop.call_soon_threadsafe(
        self._loop.call_later, self._drain_seconds, self._stop
    )

  def _stop(self) -> None:
    self.should_exit = True

  async def _watch(self) -> None:
    while self._service.is_live:
      await asyncio.sleep(_WATCH_SECONDS)
      if self.should_exit:
        return
    logging.critical('The thread that runs batches is dead, or hangs.')
    await asyncio.sleep(_LAST_SECONDS)
    # No other way ends a process one of whose threads hangs.
    os._exit(EXIT_CODE)
