# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Makes a service and its server from the flags."""

import argparse
from collections.abc import Callable
import dataclasses
import functools
import logging
import re
import socket
import sys

from starlette.applications import Starlette

from adaptanet_jax.errors import UsageError
from adaptanet_jax.inference.load import is_included
from adaptanet_jax.models.subnet import UNIFORM
from adaptanet_jax.serving import app, profile
from adaptanet_jax.serving.controller import SIZES, Profile
from adaptanet_jax.serving.engine import Engine
from adaptanet_jax.serving.engines import load_engine
from adaptanet_jax.serving.refusals import Limits, RequestError
from adaptanet_jax.serving.server import Server
from adaptanet_jax.serving.service import Service

# Measures the whole menu, given a function that counts the batches begun.
_Rest = Callable[[Callable[[], int]], tuple[Engine, Profile]]


def create_server(
    args: argparse.Namespace, token: str | None, listening: socket.socket
) -> Server:
  """Loads the model that the flags name, and returns its server.

  If its menu was not measured before, the server starts with two subnets, which
  takes seconds, and measures the others once it runs.

  Args:
    args: values of the flags.
    token: see `flags.check_service`.
    listening: the socket that the server will use.

  Raises:
    UsageError: the model cannot be served.
  """
  asked = _asked(args)
  engine = load_engine(args.model)
  measured, rest = _first(engine, asked)
  name = args.name or model_name(args.model, engine.name)
  service = _service(args, name, engine, measured)

  def load(model: str) -> tuple[Engine, Profile]:
    other = load_engine(model or service.engine.source)
    return other, profile.create(
        other, asked, begun=lambda: service.batcher.begun
    )

  return Server(
      service,
      create_app(args, service, token=token, loader=load),
      drain_seconds=args.drain_seconds,
      keep_alive_seconds=args.keep_alive_seconds,
      on_start=functools.partial(_begin, args, service, listening, rest),
      ssl_certfile=args.ssl_certfile,
      ssl_keyfile=args.ssl_keyfile,
  )


def create_service(args: argparse.Namespace, name: str) -> Service:
  """Loads the model that the flags name, and measures its whole menu.

  Args:
    args: values of the flags.
    name: name of the model.

  Raises:
    UsageError: the model cannot be served.
  """
  asked = _asked(args)  # First: what loading compiles is kept, too.
  engine = load_engine(args.model)
  return _service(args, name, engine, profile.create(engine, asked))


def create_app(
    args: argparse.Namespace,
    service: Service,
    *,
    token: str | None,
    loader: app.Loader | None = None,
) -> Starlette:
  """Returns the application of a service.

  Args:
    args: values of the flags.
    service: the service.
    token: see `flags.check_service`.
    loader: loads another model; None: the server cannot load one.
  """
  return app.create_app(
      service,
      loader=loader,
      token=token,
      token_for_all=args.require_token,
      limits=Limits(
          body=int(args.max_body_mb * 2**20), pixels=args.max_pixels
      ),
  )


def model_name(model: str, own: str) -> str:
  """Returns the name of a model in addresses.

  Args:
    model: what the flag names; an included model keeps this name.
    own: the name of its configuration.
  """
  name = model if is_included(model) else own
  return re.sub(r'[^A-Za-z0-9_.-]', '-', name)


def _asked(args: argparse.Namespace) -> profile.Asked:
  return profile.Asked(
      folder=profile.prepare(args.cache_dir),
      sizes=tuple(size for size in SIZES if size <= args.max_batch),
      names=args.menu,
      policy=args.policy,
  )


def _service(
    args: argparse.Namespace, name: str, engine: Engine, measured: Profile
) -> Service:
  return Service(
      name,
      engine,
      measured,
      seconds=1e-3 * args.slo_ms,
      queue_limit=args.queue_limit,
  )


def _first(
    engine: Engine, asked: profile.Asked
) -> tuple[Profile, _Rest | None]:
  """Returns the menu to start with, and what measures the whole one, if any."""
  if asked.names or asked.policy or profile.is_kept(engine, asked):
    return profile.create(engine, asked), None
  few = dataclasses.replace(
      asked,
      sizes=tuple(sorted({1, asked.sizes[-1]})),
      names=(str(UNIFORM[-1]), str(UNIFORM[0])),
  )
  return profile.create(engine, few), lambda begun: (
      engine, profile.create(engine, asked, begun=begun)
  )


async def _begin(
    args: argparse.Namespace,
    service: Service,
    listening: socket.socket,
    rest: _Rest | None,
) -> None:
  """Prints what is served, and measures the rest of the menu."""
  _describe(args, service, listening)
  if not rest:
    return
  print(
      'This machine is new to it: the whole menu is being compiled and '
      'measured, for minutes, and until then answers are slower.',
      file=sys.stderr,
      flush=True,
  )

  try:
    await service.replace(
        functools.partial(rest, lambda: service.batcher.begun)
    )
  except (RequestError, UsageError, OSError) as error:
    logging.error('The rest of the menu is not measured: %s', error)
  except Exception:
    logging.exception('The rest of the menu is not measured.')
  else:
    _describe(args, service, listening)


def _describe(
    args: argparse.Namespace, service: Service, listening: socket.socket
) -> None:
  """Prints to standard error what is served, and where."""
  scheme = 'https' if args.ssl_certfile else 'http'
  host = f'[{args.host}]' if ':' in args.host else args.host
  most = f'ms, {args.max_batch}'
  rows = [
      f'{"subnet":<24} {"accuracy":>8} {"ms, 1":>8} {most:>8} '
      f'{"images/s":>9}'
  ]
  menu = service.profile
  for entry, seconds, rate in zip(menu.entries, menu.seconds, menu.capacity):
    rows.append(
        f'{entry.name:<24} {entry.accuracy:8.2%} {1e3 * seconds[0]:8.2f} '
        f'{1e3 * seconds[-1]:8.2f} {rate:9,.0f}'
    )
  rows.append(
      f'Serving {service.name} at {scheme}://{host}:'
      f'{listening.getsockname()[1]}, within '
      f'{args.slo_ms:g} ms up to {menu.capacity.max():,.0f} images/s '
      'by these times.'
  )
  print('\n'.join(rows), file=sys.stderr, flush=True)
