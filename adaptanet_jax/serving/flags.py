# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Flags of a service and of its server, and what they may be.

Loads no JAX, to report a mistyped flag at once.
"""

import argparse
import re
import ssl

from adaptanet_jax.errors import UsageError
from adaptanet_jax.serving.controller import SIZES
from adaptanet_jax.serving.refusals import Limits


def add_server(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of a server that listens at an address of its own."""
  add = parser.add_argument
  add(
      '--host', default='127.0.0.1',
      help='address to listen at; default: %(default)s',
  )
  add(
      '--port', type=int, default=8000,
      help='0: any free port; default: %(default)s',
  )
  add('--name', help='name of the model in addresses; default: its own')
  add(
      '--drain_seconds', type=float, default=5.0,
      help='how long it still answers after SIGTERM; default: %(default)g',
  )
  add(
      '--keep_alive_seconds', type=int, default=75,
      help='how long an idle connection is kept; longer than a proxy keeps it; '
      'default: %(default)s',
  )
  add('--ssl_certfile', help='certificate, for HTTPS')
  add('--ssl_keyfile', help='key of the certificate')


def add_service(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of a service, on one machine or on several."""
  add = parser.add_argument
  add(
      '--slo_ms', type=float, default=50.0,
      help='deadline of a request without a timeout, in milliseconds; default: '
      '%(default)g',
  )
  add(
      '--queue_limit', type=int, default=256,
      help='how many images may wait; default: %(default)s',
  )
  add(
      '--max_batch', type=int, default=32, choices=SIZES,
      help='how many images may run together; default: %(default)s',
  )
  add(
      '--menu', type=_names, default=(),
      help='subnets, joined by commas; default: chosen by measuring',
  )
  add(
      '--policy',
      help='such as joint/budget, for requests with the parameter policy',
  )
  add(
      '--cache_dir',
      help='folder for measured times and compiled programs; default: '
      '~/.cache/adaptanet_jax',
  )
  add('--token_file', help='file with the token that loading a model needs')
  add(
      '--require_token', action='store_true',
      help='inference needs the token as well',
  )
  add(
      '--max_body_mb', type=float, default=Limits.body / 2**20,
      help='size limit of a request; default: %(default)g',
  )
  add(
      '--max_pixels', type=int, default=Limits.pixels,
      help='limit for all pictures of a request together; default: %(default)s',
  )


def _names(text: str) -> tuple[str, ...]:
  return tuple(text.split(',')) if text else ()


def check_service(args: argparse.Namespace) -> str | None:
  """Checks the flags of a service.

  Returns:
    The token; None if there is none.

  Raises:
    UsageError: a flag is not valid.
  """
  check_ranges(
      args, ('slo_ms', 1, 60_000), ('queue_limit', 1, 1_000_000),
      # Pillow itself refuses pictures of more than 178,956,970 pixels.
      ('max_body_mb', 0.001, 1024), ('max_pixels', 1, 2**27),
  )
  if args.require_token and not args.token_file:
    raise UsageError('--require_token; expected --token_file with it.')
  return _token(args.token_file)


def check_ranges(
    args: argparse.Namespace, *ranges: tuple[str, float, float]
) -> None:
  """Raises UsageError if a flag is not a number of its range.

  Args:
    args: values of the flags.
    *ranges: name, least and most of each.
  """
  for name, least, most in ranges:
    value = getattr(args, name)
    if not least <= value <= most:
      raise UsageError(
          f'--{name}={value}; expected a number from {least} to {most}.'
      )


def _token(path: str | None) -> str | None:
  if not path:
    return None
  with open(path, 'rb') as file:
    token = file.read().strip()
  if not re.fullmatch(rb'[!-~]{16,}', token):
    raise UsageError(
        f'{path} holds no token; expected a line of at least 16 '
        'printable characters without spaces.'
    )
  return token.decode()


def check_server(args: argparse.Namespace) -> None:
  """Raises UsageError if a flag of `add_server` is not valid."""
  check_ranges(
      args, ('port', 0, 65535), ('drain_seconds', 0, 3600),
      ('keep_alive_seconds', 1, 3600),
  )
  if args.name and not re.fullmatch(r'[\w-][\w.-]{0,99}', args.name, re.ASCII):
    raise UsageError(
        f'--name={args.name!r}; expected up to 100 letters, digits, _, - and '
        'dots.'
    )
  if bool(args.ssl_certfile) != bool(args.ssl_keyfile):
    raise UsageError('Expected both of --ssl_certfile and --ssl_keyfile.')
  if args.ssl_certfile:
    _check_certificate(args.ssl_certfile, args.ssl_keyfile)


def _check_certificate(certificate: str, key: str) -> None:
  try:
    # Without this argument OpenSSL would prompt for a password.
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
        certificate, key, password=''
    )
  except (OSError, ValueError) as error:
    raise UsageError(
        f'--ssl_certfile={certificate} with --ssl_keyfile={key}: {error}; '
        'expected a certificate and its key, not encrypted, as PEM.'
    ) from error
