# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Why a request is refused, in one sentence: what was got, what is expected."""

import dataclasses
from typing import Any


class RequestError(Exception):
  """A request that cannot be answered, and the HTTP status that says so."""

  def __init__(self, status: int, message: str) -> None:
    super().__init__(message)
    self.status = status


@dataclasses.dataclass(frozen=True)
class Limits:
  """How large a request may be.

  Attributes:
    body: bytes, uncompressed.
    pixels: of a picture before it is scaled.
    images: of one request.
  """

  body: int = 16 * 2**20
  pixels: int = 2**24
  images: int = 32


def too_large(what: str, limit: int) -> RequestError:
  """Returns the error of a body that is too large."""
  return RequestError(
      413, f'The body is {what}; expected at most {limit:,} bytes.'
  )


def short(value: Any) -> str:
  """Returns a value as a sentence can name it."""
  text = repr(value) if not isinstance(value, list) else (
      '[' + ', '.join(repr(v)[:20] for v in value[:4])
      + (f', ... {len(value)} in all]' if len(value) > 4 else ']')
  )
  return text if len(text) <= 60 else f'{text[:57]}...'


def line(error: Exception) -> str:
  """Returns what an error says, on one line."""
  return ' '.join(str(error).split())[:120]


def string(value: Any, what: str) -> str:
  """Returns a string as it is; raises RequestError if it is none."""
  if not isinstance(value, str):
    raise RequestError(400, f'{what} is {short(value)}; expected a string.')
  return value


def mapping(value: Any, what: str) -> dict[str, Any]:
  """Returns an object as it is, `{}` for None; raises RequestError if not."""
  if value is None:
    return {}
  if not isinstance(value, dict):
    raise RequestError(400, f'{what} is {short(value)}; expected an object.')
  return value
