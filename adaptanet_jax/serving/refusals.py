# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Refusals, whose one sentence says what was received and what is expected."""

import dataclasses
import reprlib
from typing import Any

# Bounds the text of any value, and leaves nothing in it that cannot be encoded.
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60


class RequestError(Exception):
  """A request that cannot be answered, and the HTTP status that says so."""

  def __init__(self, status: int, message: str) -> None:
    super().__init__(message)
    self.status = status


@dataclasses.dataclass(frozen=True)
class Limits:
  """How large a request may be.

  Attributes:
    body: most bytes of a body, uncompressed.
    pixels: most pixels of all pictures of one request, before they are scaled.
    images: most images of one request.
  """

  body: int = 16 * 2**20
  pixels: int = 2**24
  images: int = 32

  @property
  def under_way(self) -> int:
    """Most bytes of all bodies together, each until its answer is written."""
    return 16 * self.body


def too_large(what: str, limit: int) -> RequestError:
  """Returns the error of a body that is too large."""
  return RequestError(
      413, f'The body is {what}; expected at most {limit:,} bytes.'
  )


def short(value: Any) -> str:
  """Returns a value as a short text for a sentence."""
  text = _REPR.repr(value) if not isinstance(value, list) else (
      '[' + ', '.join(_REPR.repr(v)[:20] for v in value[:4])
      + (f', ... {len(value)} in all]' if len(value) > 4 else ']')
  )
  return text if len(text) <= 60 else f'{text[:57]}...'


def line(error: Exception) -> str:
  """Returns what an error says, on one line."""
  return ' '.join(str(error).split())[:120]


def string(value: Any, what: str) -> str:
  """Returns a value that is a string; raises RequestError if it is not."""
  if not isinstance(value, str):
    raise RequestError(400, f'{what} is {short(value)}; expected a string.')
  return value


def boolean(value: Any, what: str) -> bool:
  """Returns a value that is a boolean; raises RequestError if it is not."""
  if not isinstance(value, bool):
    raise RequestError(
        400, f'{what} is {short(value)}; expected true or false.'
    )
  return value


def mapping(value: Any, what: str) -> dict[str, Any]:
  """Returns an object, or `{}` for None; otherwise raises RequestError."""
  if value is None:
    return {}
  if not isinstance(value, dict):
    raise RequestError(400, f'{what} is {short(value)}; expected an object.')
  return value
