# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The HTTP surface of a service, an ASGI application; see docs/serving.md."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent import futures
import contextlib
import functools
import hmac
import importlib.resources
import json
import logging
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

import adaptanet_jax
from adaptanet_jax.errors import UsageError
from adaptanet_jax.serving import payloads, protocol
from adaptanet_jax.serving.controller import Profile
from adaptanet_jax.serving.engine import Engine
from adaptanet_jax.serving.failures import failure
from adaptanet_jax.serving.items import (
  Answer,
)
from adaptanet_jax.serving.refusals import Limits, RequestError, too_large
from adaptanet_jax.serving.service import Service
from adaptanet_jax.serving.tensors import INPUT

# Of a picture up to so many pixels decoding takes no longer than a switch to
# another thread.
_PIXELS_AT_ONCE = 128 * 128
_DECODERS = 2
_VERSION = '1'
# A client that sends its body more slowly than this is let go.
_BODY_SECONDS = 10.0

# Returns the engine and the profile of a model that is asked for.
Loader = Callable[[str], tuple[Engine, Profile]]
_Handler = Callable[[Request], Awaitable[Response]]


class _App:
  """The routes, and what they share."""

  def __init__(
      self,
      service: Service,
      *,
      loader: Loader | None,
      shorter_side: int,
      token: str | None,
      token_for_all: bool,
      limits: Limits,
  ) -> None:
    self._service, self._loader = service, loader
    self._shorter_side, self._limits = shorter_side, limits
    self._token, self._token_for_all = token, token_for_all
    self._pool = futures.ThreadPoolExecutor(_DECODERS, 'pictures')
    self._loading = asyncio.Lock()
    page = importlib.resources.files(adaptanet_jax.serving) / 'page.html'
    self._page = page.read_text('utf-8')

  def routes(self) -> list[Route]:
    """Returns all routes, the one that is asked most first."""
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
                self._route(path + '/ready', self._ready),
            )
        ),
        self._route('/v2/repository/index', self._index, 'POST'),
        self._route(
            '/v2/repository/models/{model}/load', self._load, 'POST'
        ),
    ]

  def _route(self, path: str, handler: _Handler, method: str = 'GET') -> Route:
    """Returns a route whose every answer is counted."""
    name = path.replace('/versions/{version}', '')

    async def run(request: Request) -> Response:
      try:
        self._check_model(request)
        response = await handler(request)
      except Exception as error:
        response = failure(error)
      self._service.metrics.request(name, response.status_code)
      return response

    return Route(path, run, methods=[method], name=handler.__name__.strip('_'))

  def _check_model(self, request: Request) -> None:
    name = request.path_params.get('model', self._service.name)
    version = request.path_params.get('version', _VERSION)
    if name != self._service.name or version != _VERSION:
      raise RequestError(
          404,
          f'There is no model {name[:40]!r} of version {version[:40]!r}; '
          f'expected {self._service.name!r}, version {_VERSION!r}.',
      )

  def _authorize(self, request: Request, *, always: bool = False) -> None:
    """Raises RequestError unless a token is given where one is needed."""
    if not (always or self._token_for_all):
      return
    given = request.headers.get('authorization', '')
    wanted = f'Bearer {self._token}'
    if not self._token or not hmac.compare_digest(
        given.encode(), wanted.encode()
    ):
      raise RequestError(
          401, 'The token is missing or wrong; expected Authorization: Bearer.'
      )

  async def _body(self, request: Request) -> bytes:
    """Reads a body, no more than may be, and inflates it."""
    limit = self._limits.body
    length = request.headers.get('content-length', '0')
    if length.isdigit() and int(length) > limit:
      raise too_large(f'{length} bytes', limit)
    parts, total = [], 0
    try:
      async with asyncio.timeout(_BODY_SECONDS):
        async for part in request.stream():
          parts.append(part)
          total += len(part)
          if total > limit:
            raise too_large(f'more than {limit:,} bytes', limit)
    except TimeoutError as error:
      raise RequestError(
          408, f'The body did not come within {_BODY_SECONDS:.0f} s.'
      ) from error
    encoding = request.headers.get('content-encoding', '')
    return payloads.inflate(b''.join(parts), encoding, limit)

  async def _pictures(self, encoded: tuple[bytes, ...]) -> list[Any]:
    """Decodes pictures, large ones beside the event loop."""
    shape = self._service.engine.image_shape
    pixels = sum(payloads.check_picture(e, self._limits) for e in encoded)

    def read() -> list[Any]:
      return [
          payloads.read_picture(e, shape, self._shorter_side, self._limits)
          for e in encoded
      ]

    if pixels <= _PIXELS_AT_ONCE:
      return read()
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(self._pool, read)

  async def _answers(
      self,
      request: Request,
      images: Any,
      parameters: dict[str, Any],
      *,
      start: int = 0,
  ) -> list[Answer]:
    """Waits for the answers to images, as long as the client does."""
    pending = self._service.submit(images, parameters, start=start)
    gone = asyncio.ensure_future(_left(request))
    everything: asyncio.Future[Any]
    everything = asyncio.gather(*pending) if len(pending) > 1 else pending[0]
    try:
      await asyncio.wait(
          (everything, gone), return_when=asyncio.FIRST_COMPLETED
      )
      if not everything.done():
        raise ClientDisconnect
      found = everything.result()
      return found if isinstance(found, list) else [found]
    finally:
      gone.cancel()
      everything.cancel()
      for future in pending:
        future.cancel()

  async def _infer(self, request: Request) -> Response:
    self._authorize(request)
    body = await self._body(request)
    asked = protocol.parse(
        body,
        request.headers.get(protocol.JSON_LENGTH),
        shape=self._service.engine.image_shape,
        anchors=self._service.engine.anchor_shapes(),
        limits=self._limits,
    )
    images: Any = asked.images
    if images is None:
      images = await self._pictures(asked.pictures)
    answers = await self._answers(
        request, images, asked.parameters, start=asked.start
    )
    content, headers = protocol.encode(
        asked,
        answers,
        model=self._service.name,
        class_names=self._service.engine.class_names,
    )
    content, more = payloads.deflate(
        content, request.headers.get('accept-encoding', '')
    )
    return Response(content, headers=headers | more)

  async def _classify(self, request: Request) -> Response:
    self._authorize(request)
    parameters = protocol.query_parameters(request.query_params)
    body = await self._body(request)
    (answer,) = await self._answers(
        request, await self._pictures((body,)), parameters
    )
    names = self._service.engine.class_names
    return JSONResponse({
        'label': names[int(answer.logits.argmax())],
        'confidence': float(protocol.confidences(answer.logits)),
        'subnet': answer.subnet,
        'accuracy': answer.accuracy,
    })

  async def _server(self, request: Request) -> Response:
    return JSONResponse({
        'name': 'adaptanet_jax',
        'version': adaptanet_jax.__version__,
        'extensions': ['binary_tensor_data', 'model_repository'],
    })

  async def _live(self, request: Request) -> Response:
    return _state(self._service.is_live, 'live')

  async def _ready(self, request: Request) -> Response:
    return _state(self._service.is_ready, 'ready')

  async def _model(self, request: Request) -> Response:
    classes = len(self._service.engine.class_names)
    profile = self._service.profile
    return JSONResponse({
        'name': self._service.name,
        'versions': [_VERSION],
        'platform': 'adaptanet_jax',
        'inputs': [{
            'name': INPUT,
            'datatype': 'UINT8',
            'shape': [-1, *self._service.engine.image_shape],
        }],
        'outputs': [
            {
                'name': name,
                'datatype': datatype,
                'shape': [-1, classes] if name == 'logits' else [-1],
            }
            for name, datatype in protocol.OUTPUTS.items()
        ],
        'anchors': self._service.engine.anchor_shapes(),
        'menu': [
            {
                'subnet': entry.name,
                'accuracy': entry.accuracy,
                'madds': entry.madds,
                'images_per_second': rate,
            }
            for entry, rate in zip(profile.entries, profile.capacity.tolist())
        ],
    })

  async def _index(self, request: Request) -> Response:
    ready = self._service.is_ready
    return JSONResponse([{
        'name': self._service.name,
        'version': _VERSION,
        'state': 'READY' if ready else 'UNAVAILABLE',
        'reason': '',
    }])

  async def _load(self, request: Request) -> Response:
    """Loads the model again, or the one that the parameter `model` names."""
    self._authorize(request, always=True)
    if not self._loader:
      raise RequestError(409, 'This server cannot load another model.')
    model = protocol.load_parameter(await self._body(request))
    if self._loading.locked():
      raise RequestError(409, 'A model is being loaded already.')
    async with self._loading:
      load = functools.partial(self._loader, model)
      try:
        return JSONResponse(await self._service.replace(load))
      except UsageError as error:
        logging.warning('Not loaded: %s', error)
        # What the sentence says of files here is for the log alone.
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
           'seconds': self._service.seconds}
    )

  async def _live_page(self, request: Request) -> Response:
    return HTMLResponse(
        self._page.replace('{{ model }}', json.dumps(self._service.name))
    )


def create_app(
    service: Service,
    *,
    loader: Loader | None = None,
    shorter_side: int = 0,
    token: str | None = None,
    token_for_all: bool = False,
    limits: Limits | None = None,
) -> Starlette:
  """Makes the application of a service.

  Args:
    service: which it starts.
    loader: loads another model; None: there is none.
    shorter_side: what a picture's shorter side is scaled to, see `About`.
    token: that loading a model needs; None: no model can be loaded.
    token_for_all: whether to infer needs it, too.
    limits: how large requests may be.
  """
  app = _App(
      service,
      loader=loader,
      shorter_side=shorter_side,
      token=token,
      token_for_all=token_for_all,
      limits=limits or Limits(),
  )

  @contextlib.asynccontextmanager
  async def lifespan(_: Starlette) -> Any:
    service.start()
    yield
    service.batcher.close()

  async def refuse(request: Request, error: Any) -> Response:
    service.metrics.request('unknown', error.status_code)
    return failure(error)

  return Starlette(
      routes=app.routes(),
      lifespan=lifespan,
      exception_handlers={HTTPException: refuse},
  )


def _state(value: bool, name: str) -> Response:
  return JSONResponse({name: value}, 200 if value else 503)


async def _left(request: Request) -> None:
  """Returns when the client went away."""
  while (await request.receive())['type'] != 'http.disconnect':
    pass
