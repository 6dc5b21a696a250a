# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The HTTP interface of a service, an ASGI application; see docs/serving.md."""

import asyncio
from collections.abc import Awaitable, Callable
import contextlib
import functools
import hmac
import importlib.resources
import json
import logging
import time
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

import adaptanet_jax
from adaptanet_jax.errors import UsageError
from adaptanet_jax.serving import metadata, payloads, protocol
from adaptanet_jax.serving.controller import Profile
from adaptanet_jax.serving.engine import Engine
from adaptanet_jax.serving.failures import failure
from adaptanet_jax.serving.items import Answer
from adaptanet_jax.serving.reader import Reader, drain
from adaptanet_jax.serving.refusals import (
  Limits,
  NotAnsweredError,
  RefusedError,
  RequestError,
)
from adaptanet_jax.serving.service import Images, Service

# How much work a pixel, a logit in JSON, and a byte of a picture are, in bytes
# of `Reader.aside`, which moves large work to a thread. A compressed profile
# makes one byte of a picture as costly as many.
_BYTES_OF_PIXEL, _BYTES_OF_LOGIT, _BYTES_OF_BYTE = 4, 20, 64
# Where the server's protocol notes in the scope when the head of a request was
# read. Under load its handler begins later than that.
ARRIVED = 'adaptanet_jax.arrived'

# Returns the engine and the profile of the model that is named.
Loader = Callable[[str], tuple[Engine, Profile]]
_Handler = Callable[[Request], Awaitable[Response]]


class _App:
  """The routes and the state that they share."""

  def __init__(
      self,
      service: Service,
      *,
      loader: Loader | None,
      token: str | None,
      token_for_all: bool,
      limits: Limits,
  ) -> None:
    self._service, self._loader = service, loader
    self._limits, self._reader = limits, Reader(limits)
    self._token, self._token_for_all = token, token_for_all
    page = importlib.resources.files(adaptanet_jax.serving) / 'page.html'
    self._page = page.read_text('utf-8')

  def routes(self) -> list[Route]:
    """Returns all routes, the most frequent one first."""
    models = '/v2/models/{model}'
    versions = models + '/versions/{version}'
    return [
        self._route(models + '/infer', self._infer, 'POST'),
        self._route('/', self._live_page),
        self._route('/last_minute', self._last_minute),
        self._route('/metrics', self._metrics),
        self._route('/classify', self._classify, 'POST'),
        self._route('/v2', self._server),
        self._route('/v2/health/live', self._live),
        self._route('/v2/health/ready', self._ready),
        self._route(versions + '/infer', self._infer, 'POST'),
        *(
            route
            for path in (models, versions)
            for route in (
                self._route(path, self._model),
                self._route(path + '/ready', self._model_ready),
            )
        ),
        self._route('/v2/repository/index', self._index, 'POST'),
        self._route(
            '/v2/repository/models/{model}/load', self._load, 'POST'
        ),
    ]

  def _route(self, path: str, handler: _Handler, method: str = 'GET') -> Route:
    """Returns a route whose responses are counted."""
    name = path.replace('/versions/{version}', '')

    async def run(request: Request) -> Response:
      try:
        self._check_model(request)
        response = await handler(request)
      except asyncio.CancelledError:
        if not self._service.draining:
          raise
        # The server ends, and has waited long enough.
        ended = RefusedError('The server ends.', 1.0)
        return self._counted(failure(ended), name)
      except Exception as error:
        return await self.refuse(request, error, route=name)
      return self._counted(response, name)

    return Route(path, run, methods=[method])

  def close(self) -> None:
    """Ends its threads once they are idle."""
    self._reader.close()

  async def refuse(
      self, request: Request, error: Exception, *, route: str = 'unknown'
  ) -> Response:
    """Returns the response to a request that gets no answer, and counts it.

    Args:
      request: request that is refused.
      error: reason for it.
      route: name that the request is counted under.
    """
    response = failure(error)
    if not await drain(request):
      response.headers['connection'] = 'close'
    return self._counted(response, route)

  def _counted(self, response: Response, route: str) -> Response:
    self._service.metrics.request(route, response.status_code)
    if self._service.draining:  # The client's next request goes elsewhere.
      response.headers['connection'] = 'close'
    return response

  def _check_model(self, request: Request) -> None:
    name = request.path_params.get('model', self._service.name)
    version = request.path_params.get('version', protocol.VERSION)
    if name != self._service.name or version != protocol.VERSION:
      raise RequestError(
          404,
          f'There is no model {name[:40]!r} of version {version[:40]!r}; '
          f'expected {self._service.name!r}, version {protocol.VERSION!r}.',
      )

  def _authorize(self, request: Request, *, always: bool = False) -> None:
    """Raises RequestError if a token is needed and is missing or wrong."""
    if not (always or self._token_for_all):
      return
    if not self._token:
      raise RequestError(
          401, 'A token is needed, and this server has none (--token_file).'
      )
    scheme, _, given = request.headers.get('authorization', '').partition(' ')
    is_token = hmac.compare_digest(given.encode(), self._token.encode())
    if not is_token or scheme.lower() != 'bearer':
      raise RequestError(
          401, 'The token is missing or wrong; expected Authorization: Bearer.'
      )

  async def _decode(self, encoded: tuple[bytes, ...]) -> Images:
    """Decodes pictures, if they have not too many pixels."""
    engine, decode = self._service.engine, self._reader.decode
    size = _BYTES_OF_BYTE * sum(map(len, encoded))
    pixels = await decode(
        size, payloads.check_pictures, encoded, self._limits
    )

    def read() -> Images:
      return [
          payloads.read_picture(e, engine.image_shape, engine.shorter_side)
          for e in encoded
      ]

    return await decode(max(size, _BYTES_OF_PIXEL * pixels), read)

  async def _answers(
      self,
      request: Request,
      images: np.ndarray | tuple[bytes, ...],
      parameters: dict[str, Any],
      *,
      arrived: float,
      start: int = 0,
  ) -> list[Answer]:
    """Waits for the answers to images or pictures until the client leaves."""
    asked: Any = images
    if isinstance(images, tuple):
      asked = functools.partial(self._decode, images)
    answers = asyncio.ensure_future(self._service.answer(
        asked,
        parameters,
        count=len(images),
        arrived=arrived,
        start=start,
    ))
    gone = asyncio.ensure_future(_left(request))
    try:
      await asyncio.wait(
          (answers, gone), return_when=asyncio.FIRST_COMPLETED
      )
      if not answers.done():
        raise ClientDisconnect
      return answers.result()
    finally:
      gone.cancel()
      answers.cancel()

  async def _infer(self, request: Request) -> Response:
    arrived = _arrived(request)
    self._authorize(request)
    if request.query_params:
      raise RequestError(
          400, f'The address has parameters ({request.url.query[:40]}); '
          'expected those of infer in the body.'
      )
    engine, aside = self._service.engine, self._reader.aside
    async with self._reader.body(request) as body:
      asked = await aside(
          len(body),
          protocol.parse,
          body,
          request.headers.get(protocol.JSON_LENGTH),
          shape=engine.image_shape,
          anchors=engine.anchor_shapes,
          limits=self._limits,
      )
      answers = await self._answers(
          request,
          asked.images,
          asked.parameters,
          arrived=arrived,
          start=asked.start,
      )
      names = self._service.engine.class_names
      content, headers = await aside(
          _BYTES_OF_LOGIT * len(answers) * len(names) + len(asked.id),
          self._written,
          asked,
          answers,
          names,
          request.headers.get('accept-encoding', ''),
      )
    self._service.written(answers)
    return Response(content, headers=headers)

  def _written(
      self,
      asked: protocol.Request,
      answers: list[Answer],
      class_names: tuple[str, ...],
      accepted: str,
  ) -> tuple[bytes, dict[str, str]]:
    content, headers = protocol.encode(
        asked, answers, model=self._service.name, class_names=class_names
    )
    content, more = payloads.deflate(content, accepted)
    return content, headers | more

  async def _classify(self, request: Request) -> Response:
    arrived = _arrived(request)
    self._authorize(request)
    parameters = protocol.query_parameters(request.query_params)
    async with self._reader.body(request) as body:
      (answer,) = await self._answers(
          request, (body,), parameters, arrived=arrived
      )
    names = self._service.engine.class_names
    self._service.written([answer])
    return JSONResponse({
        'label': names[int(answer.logits.argmax())],
        'confidence': float(protocol.confidences(answer.logits)),
        'subnet': answer.subnet,
        'accuracy': answer.accuracy,
    })

  async def _server(self, request: Request) -> Response:
    return JSONResponse(metadata.server())

  async def _live(self, request: Request) -> Response:
    return _state(self._service.is_live, 'live')

  async def _ready(self, request: Request) -> Response:
    return _state(self._service.is_ready, 'ready')

  async def _model_ready(self, request: Request) -> Response:
    return _state(self._service.is_ready, 'ready', name=self._service.name)

  async def _model(self, request: Request) -> Response:
    return JSONResponse(metadata.model(self._service))

  async def _index(self, request: Request) -> Response:
    return JSONResponse(metadata.index(self._service))

  async def _load(self, request: Request) -> Response:
    """Loads the model again, or the one that the parameter `model` names."""
    self._authorize(request, always=True)
    if not self._loader:
      raise RequestError(409, 'This server cannot load another model.')
    async with self._reader.body(request) as body:
      model = protocol.load_parameter(body)
    load = functools.partial(self._loader, model)
    try:
      return JSONResponse(await self._service.replace(load))
    except NotAnsweredError:
      raise
    except Exception as error:  # Such as one of XLA, out of memory.
      known = isinstance(error, (UsageError, OSError))
      logging.warning('Not loaded: %s', error, exc_info=not known)
      # The message may name files of this machine, so only the log has it.
      raise RequestError(
          409, 'The model cannot be loaded, and the old one stays; the log '
          'of the server says why.'
      ) from error

  async def _metrics(self, request: Request) -> Response:
    batcher = self._service.batcher
    text, content_type = self._service.metrics.exposition(
        waiting=batcher.waiting,
        margin=batcher.slowdown,
        ready=self._service.is_ready,
    )
    return Response(text, headers={'content-type': content_type})

  async def _last_minute(self, request: Request) -> Response:
    batcher = self._service.batcher
    return JSONResponse(
        self._service.metrics.last_minute()
        | {'waiting': batcher.waiting, 'margin': batcher.slowdown,
           'seconds': self._service.seconds,
           'weights': self._service.engine.weights,
           'menu': [e.name for e in self._service.profile.entries]}
    )

  async def _live_page(self, request: Request) -> Response:
    name = json.dumps(self._service.name)
    return HTMLResponse(self._page.replace('{{ model }}', name))


def create_app(
    service: Service,
    *,
    loader: Loader | None = None,
    token: str | None = None,
    token_for_all: bool = False,
    limits: Limits | None = None,
) -> Starlette:
  """Creates the application of a service.

  Args:
    service: the service, which the application starts.
    loader: loads another model; None: the server cannot load one.
    token: token for loading a model; None: no model can be loaded.
    token_for_all: whether inference needs the token, too.
    limits: how large requests may be.
  """
  app = _App(
      service,
      loader=loader,
      token=token,
      token_for_all=token_for_all,
      limits=limits or Limits(),
  )

  @contextlib.asynccontextmanager
  async def lifespan(_: Starlette) -> Any:
    service.start()
    yield
    service.batcher.close()
    app.close()

  handlers = {HTTPException: app.refuse}
  found = Starlette(
      routes=app.routes(), lifespan=lifespan, exception_handlers=handlers
  )
  # Behind a proxy, a redirect would send clients and their tokens to http.
  found.router.redirect_slashes = False
  return found


def _state(value: bool, state: str, **more: str) -> Response:
  return JSONResponse(more | {state: value}, 200 if value else 503)


def _arrived(request: Request) -> float:
  return float(request.scope.get(ARRIVED) or time.monotonic())


async def _left(request: Request) -> None:
  """Returns once the client has disconnected."""
  while (await request.receive())['type'] != 'http.disconnect':
    pass
