# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Serves a model over HTTP; docs/serving.md describes the requests:

  python -m adaptanet_jax.serve --model=digits --host=127.0.0.1 --port=8000

Under load it runs smaller subnets to answer in time.
"""

import argparse
import logging
import os
import signal
import socket
import sys
from typing import Any

from adaptanet_jax import commands
from adaptanet_jax.errors import UsageError, missing_package
from adaptanet_jax.serving import flags

_COMMAND = 'adaptanet_jax.serve'


def _parser() -> argparse.ArgumentParser:
  parser = commands.parser_for_model(
      _COMMAND, 'Serves a model over HTTP.', more='; or an exported folder'
  )
  flags.add_server(parser)
  flags.add_service(parser)
  return parser


def main(argv: list[str]) -> None:
  """Loads, measures and serves a model until it is asked to stop."""
  args = _parser().parse_args(argv)
  _end_at_signals()
  with commands.one_line_errors(_COMMAND):
    flags.check_server(args)
    token = flags.check_service(args)
    # Bound first, because the rest takes a while.
    listening = _bind(args.host, args.port)
    _check_packages()
    # Imported late, to report a mistyped flag without loading JAX.
    from adaptanet_jax.serving import start

    server = start.create_server(args, token, listening)
  server.run(sockets=[listening])
  if server.started:
    print(f'{_COMMAND}: Stopped.', file=sys.stderr, flush=True)
  # A thread that nothing can end may still be loading a model.
  os._exit(0 if server.started else 1)


def _end_at_signals() -> None:
  """Lets signals end the process at once, until the server handles them."""
  # The first process of a container ignores signals that it does not handle.
  signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

  def interrupt(*_: Any) -> None:
    os.write(2, f'{_COMMAND}: Interrupted.\n'.encode())
    os._exit(128 + signal.SIGINT)

  # In a callback of the garbage collector, a KeyboardInterrupt would be lost.
  if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, interrupt)


def _bind(host: str, port: int) -> socket.socket:
  """Returns a listening socket; clients are answered once all is loaded.

  If it did not listen yet, another server could bind the same port and fail
  late.

  Raises:
    UsageError: the address is not available.
  """
  try:
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    )[0]
    return socket.create_server(address, family=family)
  except (OSError, UnicodeError) as error:  # The second: it is no name at all.
    strerror = getattr(error, 'strerror', None) or 'not a name'
    reason, _, _ = strerror.partition(' (while')
    raise UsageError(
        f'Cannot listen at {host}:{port} ({reason}); expected an address of '
        'this machine and a port that is free.'
    ) from error


def _check_packages() -> None:
  """Raises UsageError if a package of the extra `serve` is missing."""
  try:
    import httptools  # noqa: F401
    import prometheus_client  # noqa: F401
    import starlette  # noqa: F401
    import uvicorn  # noqa: F401
  except ImportError as error:
    raise missing_package(error.name, 'serve') from error


if __name__ == '__main__':
  logging.basicConfig(format='%(levelname)s %(message)s')
  main(sys.argv[1:])
