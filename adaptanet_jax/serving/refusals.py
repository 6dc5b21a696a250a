# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Errors of requests that get no answer.

The message of each is one sentence that says what was received and what is
expected.
"""

import dataclasses
import math
import reprlib
from typing import Any

# Bounds the text of any value, and leaves nothing in it that cannot be encoded.
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60


class NotAnsweredError(Exception):
  """A request gets no answer; the message is for its client.

  Attributes:
    status: the HTTP status.
    headers: headers of the response.
    outcome: what its images count as, one of `metrics.OUTCOMES`; None: they do
      not count.
  """

  status: int
  outcome: str | None

  def __init__(self, message: str) -> None:
    super().__init__(message)
    self.headers: dict[str, str] = {}


class RequestError(NotAnsweredError):
  """The request is not valid."""

  outcome = None

  def __init__(self, status: int, message: str) -> None:
    super().__init__(message)
    self.status = status
    if status == 401:
      self.headers['www-authenticate'] = 'Bearer'


class RefusedError(NotAnsweredError):
  """The request is refused now; one in `retry_after` seconds may succeed."""

  status, outcome = 503, 'refused'

  def __init__(self, message: str, retry_after: float) -> None:
    super().__init__(message)
    self.headers['retry-after'] = str(max(1, math.ceil(retry_after)))


class DeadlineError(NotAnsweredError):
  """The deadline passed, or is sure to pass, before the request's turn."""

  status, outcome = 504, 'expired'


class BatchError(NotAnsweredError):
  """The batch that the request was part of failed."""

  status, outcome = 500, 'failed'


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
