# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Serves a model over HTTP; docs/serving.md says how to ask it:

  python -m adaptanet_jax.serve --model=digits --host=127.0.0.1 --port=8000

Under load it runs narrower subnets, so as to answer in time.
"""

import argparse
import asyncio
import functools
import logging
import os
import re
import socket
import sys
from typing import Any

from adaptanet_jax import commands
from adaptanet_jax.errors import UsageError

_COMMAND = 'adaptanet_jax.serve'
# Loops hold tasks weakly.
_TASKS: set[Any] = set()


def _parser() -> argparse.ArgumentParser:
  parser = commands.parser_for_model(
      _COMMAND,
      'Serves a model over HTTP.',
      formatter_class=argparse.ArgumentDefaultsHelpFormatter,
  )
  add = parser.add_argument
  add('--host', default='127.0.0.1', help='address to listen at')
  add('--port', type=int, default=8000, help='0: any that is free')
  add('--name', help='of the model in addresses; default: its own')
  add(
      '--slo_ms', type=float, default=50.0,
      help='milliseconds that a request without a timeout has',
  )
  add('--queue_limit', type=int, default=256, help='most images that wait')
  add(
      '--max_batch', type=int, default=32, choices=(1, 2, 4, 8, 16, 32),
      help='most images that run together',
  )
  add('--menu', help='subnets, joined by commas; default: the best, measured')
  add(
      '--policy',
      help='such as joint/budget, for requests with the parameter policy',
  )
  add('--cache_dir', help='of measured times and compiled programs')
  add(
      '--drain_seconds', type=float, default=5.0,
      help='between SIGTERM and the end',
  )
  add('--token_file', help='holds what loading another model needs')
  add(
      '--require_token', action='store_true',
      help='whether to infer needs the token, too',
  )
  add('--max_body_mb', type=float, default=16.0, help='of a request')
  add('--max_pixels', type=int, default=2**24, help='of a picture')
  add('--ssl_certfile', help='for HTTPS')
  add('--ssl_keyfile', help='for HTTPS')
  return parser


def _token(path: str | None) -> str | None:
  if not path:
    return None
  with open(path, encoding='utf-8') as file:
    token = file.read().strip()
  if not re.fullmatch(r'[!-~]{16,}', token):
    raise UsageError(
        f'{path} holds no token; expected a line of at least 16 letters.'
    )
  return token


def _check(args: argparse.Namespace) -> None:
  """Raises UsageError where a flag does not do."""
  for name, least, most in (
      ('port', 0, 65535), ('slo_ms', 1, 60_000), ('queue_limit', 1, 1_000_000),
      ('drain_seconds', 0, 3600), ('max_body_mb', 0.001, 1024),
      ('max_pixels', 1, 2**28),
  ):
    value = getattr(args, name)
    if not least <= value <= most:
      raise UsageError(
          f'--{name}={value}; expected a number from {least} to {most}.'
      )
  if args.require_token and not args.token_file:
    raise UsageError('--require_token; expected --token_file with it.')
  if bool(args.ssl_certfile) != bool(args.ssl_keyfile):
    raise UsageError('Expected both of --ssl_certfile and --ssl_keyfile.')


def main(argv: list[str]) -> None:
  """Loads, measures and serves a model until it is asked to stop."""
  args = _parser().parse_args(argv)
  with commands.one_line_errors(_COMMAND):
    _check(args)
    token = _token(args.token_file)
    # First, for the rest takes a while.
    listening = _bind(args.host, args.port)
    server = _create(args, token, listening)
  server.run(sockets=[listening])
  # A model may still be being loaded, in a thread that nothing can end.
  os._exit(0 if server.started else 1)


def _bind(host: str, port: int) -> socket.socket:
  """Returns a socket that does not listen yet.

  Raises:
    UsageError: the address is not to be had.
  """
  try:
    family, kind, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    )[0]
    found = socket.socket(family, kind)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(address)
  except OSError as error:
    raise UsageError(
        f'Cannot listen at {host}:{port} ({error.strerror}); expected an '
        'address of this machine and a port that is free.'
    ) from error
  return found


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
    raise UsageError(
        f"{error.name} is missing; run pip install '.[serve]' in the clone."
    ) from error
  # Late: a mistyped flag need not wait for JAX.
  from adaptanet_jax.serving import app, profile, refusals, server, service

  folder = os.path.expanduser(args.cache_dir or profile.default_folder())
  profile.keep_programs(folder)
  load = functools.partial(_load, args, folder=folder)
  engine, measured, rest = _first(args, folder)
  about = engine.net.about
  served = service.Service(
      args.name or re.sub(r'[^A-Za-z0-9_.-]', '-', about.name),
      engine,
      measured,
      seconds=1e-3 * args.slo_ms,
      queue_limit=args.queue_limit,
  )
  application = app.create_app(
      served,
      loader=lambda model: load(model or args.model),
      shorter_side=about.shorter_side,
      token=token,
      token_for_all=args.require_token,
      limits=refusals.Limits(
          body=int(args.max_body_mb * 2**20), pixels=args.max_pixels
      ),
  )
  return server.Server(
      served,
      application,
      drain_seconds=args.drain_seconds,
      on_start=functools.partial(_begin, args, served, listening, rest),
      ssl_certfile=args.ssl_certfile,
      ssl_keyfile=args.ssl_keyfile,
  )


def _options(args: argparse.Namespace, folder: str) -> dict[str, Any]:
  """Returns what `profile.create` is asked for."""
  names = tuple(args.menu.split(',')) if args.menu else ()
  return {'folder': folder, 'names': names, 'policy': args.policy}


def _load(args: argparse.Namespace, model: str, *, folder: str) -> Any:
  """Returns the engine of a model and its profile, all programs warm."""
  from adaptanet_jax.serving import engine, profile

  loaded = engine.load_engine(model, args.max_batch)
  options = _options(args, folder)
  return loaded, profile.create(loaded.net, loaded, **options)


def _first(args: argparse.Namespace, folder: str) -> Any:
  """Returns what the server starts with.

  Where nothing was measured yet, that is two subnets at few sizes, in seconds.

  Returns:
    An engine, its profile, and what loads the rest; None: there is no more.
  """
  from adaptanet_jax.models.subnet import UNIFORM
  from adaptanet_jax.serving import engine, profile

  whole = engine.load_engine(args.model, args.max_batch)
  options = _options(args, folder)
  rest = functools.partial(profile.create, whole.net, whole, **options)
  if args.menu or args.policy or profile.is_kept(whole, **options):
    return whole, rest(), None
  few = engine.JaxEngine(whole.net, sizes=tuple(sorted({1, args.max_batch})))
  names = (str(UNIFORM[-1]), str(UNIFORM[0]))
  measured = profile.create(few.net, few, folder=folder, names=names)
  return few, measured, lambda: (whole, rest())


def _begin(
    args: argparse.Namespace, served: Any, listening: socket.socket, rest: Any
) -> None:
  """Says what is served, and has the rest of the menu measured meanwhile."""
  _describe(args, served, listening)
  if not rest:
    return
  print(
      'This machine is new to it: the whole menu is being compiled and '
      'measured, for minutes, and until then answers are slower.',
      file=sys.stderr,
      flush=True,
  )

  def done(task: Any) -> None:
    if not task.cancelled() and task.exception():
      logging.error('The menu stays as it is.', exc_info=task.exception())
    elif not task.cancelled():
      _describe(args, served, listening)

  task = asyncio.ensure_future(served.replace(rest))
  _TASKS.add(task)
  task.add_done_callback(done)


def _describe(
    args: argparse.Namespace, served: Any, listening: socket.socket
) -> None:
  """Says on the error output what is served, and where."""
  scheme = 'https' if args.ssl_certfile else 'http'
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
      f'Serving {served.name} at {scheme}://{args.host}:'
      f'{listening.getsockname()[1]}, within '
      f'{args.slo_ms:g} ms up to {served.profile.capacity.max():,.0f} images/s '
      'by these times.'
  )
  print('\n'.join(rows), file=sys.stderr, flush=True)


if __name__ == '__main__':
  logging.basicConfig(format='%(levelname)s %(message)s')
  main(sys.argv[1:])
