# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Serves a model over HTTP; docs/serving.md describes the requests:

  python -m adaptanet_jax.serve --model=digits --host=127.0.0.1 --port=8000

Under load it runs smaller subnets to answer in time.
"""

import argparse
from collections.abc import Callable
import copy
import functools
import logging
import os
import re
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
    server = _create(args, token, listening)
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


def _create(
    args: argparse.Namespace, token: str | None, listening: socket.socket
) -> Any:
  """Returns the server, ready to run."""
  try:
    import httptools  # noqa: F401
    import prometheus_client  # noqa: F401
    import starlette  # noqa: F401
    import uvicorn  # noqa: F401
  except ImportError as error:
    raise missing_package(error.name, 'serve') from error
  # Imported late, to report a mistyped flag without loading JAX.
  from adaptanet_jax.serving import profile, server

  folder = profile.prepare(args.cache_dir)
  engine, measured, rest = _first(args, folder)
  served = create_service(args, _name(args, engine.name), engine, measured)

  def load(model: str) -> Any:
    return profile.load(
        model or served.engine.source,
        most=args.max_batch,
        folder=folder,
        names=args.menu,
        policy=args.policy,
        begun=lambda: served.batcher.begun,
    )

  return server.Server(
      served,
      create_app(args, served, token=token, loader=load),
      drain_seconds=args.drain_seconds,
      keep_alive_seconds=args.keep_alive_seconds,
      on_start=functools.partial(_begin, args, served, listening, rest),
      ssl_certfile=args.ssl_certfile,
      ssl_keyfile=args.ssl_keyfile,
  )


def _name(args: argparse.Namespace, own: str) -> str:
  """Returns the name of a model in addresses; `own` is the one that it has."""
  if args.name:
    return str(args.name)
  from adaptanet_jax.inference.load import is_included

  name = args.model if is_included(args.model) else own
  return re.sub(r'[^A-Za-z0-9_.-]', '-', name)


def create_service(
    args: argparse.Namespace, name: str, engine: Any, profile: Any
) -> Any:
  """Returns a service configured by the flags.

  Args:
    args: values of the flags.
    name: name of the model.
    engine: runs the model.
    profile: menu and times of the engine.
  """
  from adaptanet_jax.serving import service

  return service.Service(
      name,
      engine,
      profile,
      seconds=1e-3 * args.slo_ms,
      queue_limit=args.queue_limit,
  )


def create_app(
    args: argparse.Namespace,
    served: Any,
    *,
    token: str | None,
    loader: Callable[[str], Any] | None = None,
) -> Any:
  """Returns the application of a service, configured by the flags.

  Args:
    args: values of the flags.
    served: the service.
    token: see `flags.check_service`.
    loader: loads another model; None: the server cannot load one.
  """
  from adaptanet_jax.serving import app, refusals

  return app.create_app(
      served,
      loader=loader,
      token=token,
      token_for_all=args.require_token,
      limits=refusals.Limits(
          body=int(args.max_body_mb * 2**20), pixels=args.max_pixels
      ),
  )


def _first(args: argparse.Namespace, folder: str) -> Any:
  """Returns the engine and the profile that the server starts with.

  If its menu was not measured before, it starts with two subnets at one or two
  batch sizes, which takes seconds.

  Returns:
    An engine, its profile, and a function that loads the whole menu, given a
    function that counts the batches begun so far; None if the menu is whole.
  """
  from adaptanet_jax.models.subnet import UNIFORM
  from adaptanet_jax.serving import engine, profile

  whole = engine.load_engine(args.model, args.max_batch)
  options: dict[str, Any] = {
      'folder': folder,
      'names': args.menu,
      'policy': args.policy,
  }
  create = functools.partial(profile.create, whole, **options)
  if args.menu or args.policy or profile.is_kept(whole, **options):
    return whole, create(), None
  few = copy.copy(whole)
  few.sizes = tuple(sorted({1, args.max_batch}))
  names = (str(UNIFORM[-1]), str(UNIFORM[0]))
  measured = profile.create(few, folder=folder, names=names)
  return few, measured, lambda begun: (whole, create(begun=begun))


async def _begin(
    args: argparse.Namespace, served: Any, listening: socket.socket, rest: Any
) -> None:
  """Prints what is served, and measures the rest of the menu."""
  from adaptanet_jax.serving.refusals import RequestError

  _describe(args, served, listening)
  if not rest:
    return
  print(
      'This machine is new to it: the whole menu is being compiled and '
      'measured, for minutes, and until then answers are slower.',
      file=sys.stderr,
      flush=True,
  )
  try:
    await served.replace(
        functools.partial(rest, lambda: served.batcher.begun)
    )
  except (RequestError, UsageError, OSError) as error:
    logging.error('The rest of the menu is not measured: %s', error)
  except Exception:
    logging.exception('The rest of the menu is not measured.')
  else:
    _describe(args, served, listening)


def _describe(
    args: argparse.Namespace, served: Any, listening: socket.socket
) -> None:
  """Prints to standard error what is served, and where."""
  scheme = 'https' if args.ssl_certfile else 'http'
  host = f'[{args.host}]' if ':' in args.host else args.host
  most = f'ms, {args.max_batch}'
  rows = [
      f'{"subnet":<24} {"accuracy":>8} {"ms, 1":>8} {most:>8} '
      f'{"images/s":>9}'
  ]
  for entry, seconds, rate in zip(
      served.profile.entries, served.profile.seconds, served.profile.capacity
  ):
    rows.append(
        f'{entry.name:<24} {entry.accuracy:8.2%} {1e3 * seconds[0]:8.2f} '
        f'{1e3 * seconds[-1]:8.2f} {rate:9,.0f}'
    )
  rows.append(
      f'Serving {served.name} at {scheme}://{host}:'
      f'{listening.getsockname()[1]}, within '
      f'{args.slo_ms:g} ms up to {served.profile.capacity.max():,.0f} images/s '
      'by these times.'
  )
  print('\n'.join(rows), file=sys.stderr, flush=True)


if __name__ == '__main__':
  logging.basicConfig(format='%(levelname)s %(message)s')
  main(sys.argv[1:])
