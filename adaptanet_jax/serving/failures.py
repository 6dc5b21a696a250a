# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Responses to requests that get no answer."""

import logging

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from adaptanet_jax.serving.refusals import NotAnsweredError


def failure(error: Exception) -> Response:
  """Returns the response to an error: one sentence, no details of the machine.
  """
  if isinstance(error, NotAnsweredError):
    return JSONResponse({'error': str(error)}, error.status, error.headers)
  if isinstance(error, ClientDisconnect):  # Nobody reads it.
    return Response(status_code=499)
  if isinstance(error, HTTPException):
    return JSONResponse(
        {'error': f'{error.detail}; expected GET /v2, POST /classify, or '
                  "another path and method of the server's documentation."},
        error.status_code,
        error.headers,
    )
  logging.error('A request failed.', exc_info=error)
  return JSONResponse({'error': 'The server has failed.'}, 500)
