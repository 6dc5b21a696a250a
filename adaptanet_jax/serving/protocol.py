# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The Open Inference Protocol, version 2: bytes to requests, answers to bytes.

With the extension for binary tensors: a header says how long the JSON is, and
what follows are the tensors that have no `data` in it. BYTES are encoded
pictures, in JSON as base64; everything that is wrong with a request is said in
one sentence, and no picture is decoded before its size is known.

n = images, H = height, W = width, C = colours.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
import dataclasses
import io
import json
import math
from typing import Any
import zlib

import numpy as np
from PIL import Image, UnidentifiedImageError

from adaptanet_jax.data.images import FORMATS, ImageError, decode
from adaptanet_jax.serving.batcher import Answer

INPUT = 'images'
# Names, types and lengths beside n of what is answered.
OUTPUTS = {
    'label': 'BYTES',
    'class': 'INT32',
    'confidence': 'FP32',
    'subnet': 'BYTES',
    'accuracy': 'FP32',
    'logits': 'FP32',
}
JSON_LENGTH = 'inference-header-content-length'
_DTYPES = {'INT32': '<i4', 'FP32': '<f4'}
_ANCHORS = {'UINT8': 'u1', 'FP16': '<f2'}
# Parameters that mean something here, and those of clients that do not.
PARAMETERS = ('timeout', 'subnet', 'policy', 'min_accuracy')
_PASSED_OVER = (
    'binary_data_output', 'priority', 'sequence_id', 'sequence_start',
    'sequence_end',
)
_MOST_MICROSECONDS = 60_000_000


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


@dataclasses.dataclass(frozen=True)
class Request:
  """What a client wants.

  Attributes:
    id: that it gave, to be given back.
    images: `uint8[n, H, W, C]`, or `float32` of an anchor; None where it sent
      pictures.
    start: number of the anchor; 0: images.
    pictures: encoded ones.
    parameters: those of `PARAMETERS` that were given.
    outputs: their names, and whether each is to be binary.
  """

  id: str
  images: np.ndarray | None
  start: int
  pictures: tuple[bytes, ...]
  parameters: dict[str, Any]
  outputs: tuple[tuple[str, bool], ...]


def inflate(body: bytes, encoding: str, limit: int) -> bytes:
  """Undoes the compression of a body.

  Args:
    body: what came.
    encoding: 'gzip', 'deflate', 'identity' or ''.
    limit: most bytes of the result.

  Raises:
    RequestError: it is something else, damaged, or too large.
  """
  if encoding in ('', 'identity'):
    return body
  if encoding not in ('gzip', 'deflate'):
    raise RequestError(
        415, f'Content-Encoding is {encoding!r}; expected gzip or deflate.'
    )
  try:
    # 32: whichever of the two heads it has.
    stream = zlib.decompressobj(32 + zlib.MAX_WBITS)
    text = stream.decompress(body, limit + 1)
  except zlib.error as error:
    raise RequestError(400, f'The body is no {encoding} ({error}).') from error
  if len(text) > limit:
    raise too_large(f'more than {limit:,} bytes when it is inflated', limit)
  if not stream.eof:
    raise RequestError(400, f'The body is {encoding} that was cut off.')
  return text


def deflate(body: bytes, accepted: str) -> tuple[bytes, dict[str, str]]:
  """Compresses a body if the client asks for it.

  Args:
    body: what is to go.
    accepted: the header Accept-Encoding; of `gzip, deflate` gzip is taken.

  Returns:
    The body, and its headers.
  """
  bits_of = {'gzip': 16 + zlib.MAX_WBITS, 'deflate': zlib.MAX_WBITS}
  for name, bits in bits_of.items():
    if name in accepted:
      stream = zlib.compressobj(1, wbits=bits)
      body = stream.compress(body) + stream.flush()
      return body, {'content-encoding': name}
  return body, {}


def too_large(what: str, limit: int) -> RequestError:
  """Returns the error of a body that is too large."""
  return RequestError(
      413, f'The body is {what}; expected at most {limit:,} bytes.'
  )


def parse(
    body: bytes,
    json_length: str | None,
    *,
    shape: tuple[int, int, int],
    anchors: Sequence[tuple[int, int, int]] = (),
    limits: Limits,
) -> Request:
  """Reads a request to infer.

  Args:
    body: of it, uncompressed.
    json_length: header of the binary extension, if it is there.
    shape: `(H, W, C)` of images.
    anchors: shapes of the anchors that may stand in for them.
    limits: how large it may be.

  Raises:
    RequestError: 400 or 413; says what was got and what is expected.
  """
  values, binary = _split(body, json_length)
  inputs = values.get('inputs')
  if not isinstance(inputs, list) or not inputs:
    raise RequestError(
        400, f'inputs is {_short(inputs)}; expected a list of one tensor.'
    )
  tensors = [_tensor_head(tensor) for tensor in inputs]
  known = [INPUT, *(f'anchor_{n}' for n in range(1, len(anchors) + 1))]
  if len(tensors) > 1 or tensors[0][0] not in known:
    names = ', '.join(head[0][:40] for head in tensors)
    raise RequestError(
        400, f'The inputs are {names}; expected {" or ".join(known)}.'
    )
  (name, datatype, dims), tensor = tensors[0], inputs[0]
  start = known.index(name)
  _check_count(dims, limits)
  raw = _raw(tensor, binary)
  images: np.ndarray | None = None
  pictures: tuple[bytes, ...] = ()
  if start:
    images = _anchor(tensor, raw, datatype, dims, anchors[start - 1])
  elif datatype == 'UINT8':
    images = _pixels(tensor, raw, dims, shape)
  elif datatype == 'BYTES':
    pictures = _encoded(tensor, raw, dims)
  else:
    raise RequestError(
        400,
        f'{INPUT} is {datatype!r}; expected UINT8, or BYTES for encoded '
        'pictures.',
    )
  given = _parameters(values.get('parameters'))
  return Request(
      _string(values.get('id', ''), 'id'),
      images,
      start,
      pictures,
      {name: given[name] for name in PARAMETERS if name in given},
      _outputs(values.get('outputs'), bool(given.get('binary_data_output'))),
  )


def _split(body: bytes, json_length: str | None) -> tuple[Any, bytes]:
  binary = b''
  if json_length is not None:
    if not json_length.isascii() or not json_length.isdigit() or (
        int(json_length) > len(body)
    ):
      raise RequestError(
          400,
          f'Inference-Header-Content-Length is {json_length[:20]!r}; expected '
          f'a number up to {len(body)}, the length of the body.',
      )
    body, binary = body[: int(json_length)], body[int(json_length) :]
  try:
    values = json.loads(body)
  except (ValueError, RecursionError) as error:
    raise RequestError(
        400, f'The body is not JSON ({_line(error)}).'
    ) from error
  if not isinstance(values, dict):
    raise RequestError(
        400, f'The body is {_short(values)}; expected a JSON object.'
    )
  return values, binary


def _tensor_head(tensor: Any) -> tuple[str, str, list[int]]:
  """Returns name, type and shape of a tensor."""
  if not isinstance(tensor, dict):
    raise RequestError(
        400, f'An input is {_short(tensor)}; expected an object.'
    )
  name = _string(tensor.get('name'), 'The name of an input')
  datatype = _string(tensor.get('datatype'), f'The datatype of {name}')
  dims = tensor.get('shape')
  if not isinstance(dims, list) or not all(
      type(n) is int and n >= 0 for n in dims
  ):
    raise RequestError(
        400, f'The shape of {name} is {_short(dims)}; expected a list of '
        'numbers.'
    )
  return name, datatype, dims


def _check_count(dims: Sequence[int], limits: Limits) -> None:
  if not dims or dims[0] < 1:
    raise RequestError(400, f'The shape is {list(dims)}; expected an image.')
  if dims[0] > limits.images:
    raise RequestError(
        413, f'There are {dims[0]} images; expected at most {limits.images}.'
    )


def _raw(tensor: Mapping[str, Any], binary: bytes) -> bytes | None:
  """Returns the bytes of a binary tensor; None if it has JSON data."""
  size = _dict(tensor.get('parameters'), 'parameters').get('binary_data_size')
  if size is None:
    if binary:
      raise RequestError(
          400, 'Bytes follow the JSON, and no binary_data_size tells whose.'
      )
    return None
  if type(size) is not int or size != len(binary):
    raise RequestError(
        400,
        f'binary_data_size is {_short(size)}, and {len(binary)} bytes follow '
        'the JSON; expected the same.',
    )
  return binary


def _pixels(
    tensor: Mapping[str, Any],
    raw: bytes | None,
    dims: Sequence[int],
    shape: tuple[int, int, int],
) -> np.ndarray:
  if tuple(dims[1:]) != shape:
    raise RequestError(
        400,
        f'The shape of {INPUT} is {list(dims)}; expected '
        f'[n, {", ".join(map(str, shape))}].',
    )
  count = math.prod(dims)
  if raw is not None:
    if len(raw) != count:
      raise RequestError(
          400, f'{INPUT} has {len(raw)} bytes; expected {count}.'
      )
    return np.frombuffer(raw, np.uint8).reshape(dims)
  try:
    values = np.array(tensor.get('data'))
  except (ValueError, OverflowError) as error:  # Lists of unequal lengths.
    raise RequestError(
        400, f'The data of {INPUT} is no array ({_line(error)}).'
    ) from error
  if values.dtype.kind != 'i' or values.size != count or not (
      0 <= values.min() and values.max() <= 255
  ):
    raise RequestError(
        400,
        f'The data of {INPUT} is {_short(tensor.get("data"))}; expected '
        f'{count} numbers from 0 to 255.',
    )
  return values.astype(np.uint8).reshape(dims)


def _anchor(
    tensor: Mapping[str, Any],
    raw: bytes | None,
    datatype: str,
    dims: Sequence[int],
    shape: tuple[int, int, int],
) -> np.ndarray:
  """Returns an anchor, `float32`: 16 bits, or 8 bits times a scale."""
  if datatype not in _ANCHORS or tuple(dims[1:]) != shape or raw is None:
    raise RequestError(
        400,
        f'An anchor is {datatype[:20]!r} {list(dims)[:9]}; expected UINT8 or '
        f'FP16 [n, {", ".join(map(str, shape))}] as a binary tensor.',
    )
  dtype = np.dtype(_ANCHORS[datatype])
  count = math.prod(dims) * dtype.itemsize
  if len(raw) != count:
    raise RequestError(
        400, f'The anchor has {len(raw)} bytes; expected {count}.'
    )
  values = np.frombuffer(raw, dtype).reshape(dims).astype(np.float32)
  scale = tensor['parameters'].get('scale', 1.0)
  if type(scale) not in (int, float) or not 0.0 < scale < 1e6:
    raise RequestError(
        400, f'scale is {_short(scale)}; expected a number above 0.'
    )
  if not np.isfinite(values).all():
    raise RequestError(400, 'The anchor has numbers that are not finite.')
  return values * np.float32(scale)


def _encoded(
    tensor: Mapping[str, Any], raw: bytes | None, dims: Sequence[int]
) -> tuple[bytes, ...]:
  if math.prod(dims) != dims[0]:
    raise RequestError(
        400, f'The shape of {INPUT} is {list(dims)}; expected [n] for BYTES.'
    )
  if raw is not None:
    pictures = _prefixed(raw)
  else:
    texts = tensor.get('data')
    if isinstance(texts, list) and dims[1:]:
      texts = [t[0] if isinstance(t, list) and t else t for t in texts]
    if not isinstance(texts, list) or not all(
        isinstance(text, str) for text in texts
    ):
      raise RequestError(
          400,
          f'The data of {INPUT} is {_short(texts)}; expected strings: encoded '
          'pictures in base64.',
      )
    try:
      pictures = [base64.b64decode(text, validate=True) for text in texts]
    except (binascii.Error, ValueError) as error:
      raise RequestError(
          400, f'A picture in {INPUT} is no base64 ({_line(error)}).'
      ) from error
  if len(pictures) != dims[0]:
    raise RequestError(
        400, f'{INPUT} has {len(pictures)} pictures; expected {dims[0]}.'
    )
  return tuple(pictures)


def _prefixed(raw: bytes) -> list[bytes]:
  """Returns strings of bytes, each after its length in four bytes."""
  found, place = [], 0
  while place < len(raw):
    end = place + 4 + int.from_bytes(raw[place : place + 4], 'little')
    if end > len(raw):
      raise RequestError(
          400,
          f'A picture in {INPUT} ends at byte {end}, and there are '
          f'{len(raw)}; expected its length in four bytes, then the picture.',
      )
    found.append(raw[place + 4 : end])
    place = end
  return found


def _parameters(given: Any) -> dict[str, Any]:
  values = _dict(given, 'parameters')
  unknown = values.keys() - {*PARAMETERS, *_PASSED_OVER}
  if unknown:
    raise RequestError(
        400,
        f'Unknown parameter {min(unknown)[:40]!r}; expected some of '
        f'{", ".join(PARAMETERS)}.',
    )
  timeout = values.get('timeout', 1)
  if type(timeout) is not int or not 0 < timeout <= _MOST_MICROSECONDS:
    raise RequestError(
        400,
        f'timeout is {_short(timeout)}; expected microseconds, 1 to '
        f'{_MOST_MICROSECONDS}.',
    )
  least = values.get('min_accuracy', 0.0)
  if type(least) not in (int, float) or not 0.0 <= least <= 1.0:
    raise RequestError(
        400, f'min_accuracy is {_short(least)}; expected a share, 0 to 1.'
    )
  for name in ('subnet', 'policy'):
    _string(values.get(name, ''), name)
  return values


def _outputs(given: Any, binary: bool) -> tuple[tuple[str, bool], ...]:
  if given is None or given == []:
    return tuple((name, binary) for name in OUTPUTS)
  if not isinstance(given, list):
    raise RequestError(400, f'outputs is {_short(given)}; expected a list.')
  found = []
  for output in given:
    name = output.get('name') if isinstance(output, dict) else output
    if not isinstance(name, str) or name not in OUTPUTS:
      raise RequestError(
          400,
          f'Unknown output {_short(name)}; expected some of '
          f'{", ".join(OUTPUTS)}.',
      )
    wanted = _dict(output.get('parameters'), 'parameters')
    found.append((name, bool(wanted.get('binary_data', binary))))
  return tuple(found)


def query_parameters(given: Mapping[str, str]) -> dict[str, Any]:
  """Reads the parameters of a request from its address.

  Args:
    given: texts by name, some of `PARAMETERS`.

  Raises:
    RequestError: a name is unknown, or a value does not do.
  """
  values: dict[str, Any] = dict(given)
  for name, kind in (('timeout', int), ('min_accuracy', float)):
    try:
      values |= {name: kind(given[name])} if name in given else {}
    except ValueError as error:
      raise RequestError(
          400, f'{name} is {_short(given[name])}; expected a number.'
      ) from error
  return _parameters(values)


def load_parameter(body: bytes) -> str:
  """Returns the model that a request to load names; '' where it names none."""
  values = _split(body, None)[0] if body.strip() else {}
  given = _dict(values.get('parameters'), 'parameters')
  return _string(given.get('model', ''), 'model')


def read_picture(
    encoded: bytes,
    shape: tuple[int, int, int],
    shorter_side: int,
    limits: Limits,
) -> np.ndarray:
  """Decodes a picture, if it is not too large.

  Args:
    encoded: a JPEG, a PNG or the like.
    shape: `(H, W, C)` of the result.
    shorter_side: see `images.resize`.
    limits: how large it may be.

  Returns:
    `uint8[H, W, C]`.

  Raises:
    RequestError: 400, it is no picture; 413, it has too many pixels.
  """
  check_picture(encoded, limits)
  try:
    return decode(encoded, shape, shorter_side)
  except ImageError as error:
    raise RequestError(
        400, f'A picture cannot be read: {error}; expected a JPEG or a PNG.'
    ) from error


def check_picture(encoded: bytes, limits: Limits) -> int:
  """Returns the pixels of a picture, by its head; see `read_picture`."""
  try:
    with Image.open(io.BytesIO(encoded), formats=FORMATS) as picture:
      width, height = picture.size
  except Image.DecompressionBombError as error:
    raise RequestError(
        413, f'A picture is too large; expected at most {limits.pixels:,} '
        'pixels.'
    ) from error
  except UnidentifiedImageError as error:
    raise RequestError(
        400,
        f'A picture starts with {encoded[:8]!r}; expected a JPEG or a PNG.',
    ) from error
  except Exception as error:  # Each format has errors of its own.
    raise RequestError(
        400, 'A picture is damaged; expected a JPEG or a PNG.'
    ) from error
  if width * height > limits.pixels:
    raise RequestError(
        413,
        f'A picture has {width} x {height} pixels; expected at most '
        f'{limits.pixels:,} in all.',
    )
  return width * height


def encode(
    request: Request,
    answers: Sequence[Answer],
    *,
    model: str,
    class_names: Sequence[str],
) -> tuple[bytes, dict[str, str]]:
  """Writes the answer to a request.

  Args:
    request: what was asked.
    answers: for each image.
    model: its name.
    class_names: by label.

  Returns:
    A body and its headers.
  """
  columns = _columns(answers, class_names)
  binary, outputs = [], []
  for name, is_binary in request.outputs:
    datatype, values = OUTPUTS[name], columns[name]
    shape = [len(answers)]
    if name == 'logits':
      shape.append(len(class_names))
    output: dict[str, Any] = {
        'name': name, 'datatype': datatype, 'shape': shape
    }
    if is_binary:
      binary.append(_bytes_of(datatype, values))
      output['parameters'] = {'binary_data_size': len(binary[-1])}
    elif isinstance(values, np.ndarray):
      output['data'] = values.ravel().tolist()
    else:
      output['data'] = values
    outputs.append(output)
  subnets = columns['subnet']
  text = json.dumps({
      'model_name': model,
      'model_version': '1',
      **({'id': request.id} if request.id else {}),
      'parameters': {
          'subnet': ','.join(subnets if len(set(subnets)) > 1 else subnets[:1]),
          'accuracy': sum(a.accuracy for a in answers) / len(answers),
      },
      'outputs': outputs,
  }).encode()
  if not binary:
    return text, {'content-type': 'application/json'}
  return b''.join([text, *binary]), {
      'content-type': 'application/octet-stream',
      JSON_LENGTH: str(len(text)),
  }


def _columns(
    answers: Sequence[Answer], class_names: Sequence[str]
) -> dict[str, Any]:
  logits = np.stack([answer.logits for answer in answers])
  best = logits.argmax(-1)
  return {
      'label': [class_names[n] for n in best.tolist()],
      'class': best,
      'confidence': confidences(logits),
      'subnet': [answer.subnet for answer in answers],
      'accuracy': np.array([answer.accuracy for answer in answers]),
      'logits': logits,
  }


def confidences(logits: np.ndarray) -> np.ndarray:
  """Returns the probability of the most likely class, `float[n]`."""
  return 1.0 / np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)


def _bytes_of(datatype: str, values: Any) -> bytes:
  if datatype == 'BYTES':
    texts = [text.encode() for text in values]
    return b''.join(len(t).to_bytes(4, 'little') + t for t in texts)
  return np.asarray(values, _DTYPES[datatype]).tobytes()


def _string(value: Any, what: str) -> str:
  if not isinstance(value, str):
    raise RequestError(400, f'{what} is {_short(value)}; expected a string.')
  return value


def _dict(value: Any, what: str) -> dict[str, Any]:
  if value is None:
    return {}
  if not isinstance(value, dict):
    raise RequestError(400, f'{what} is {_short(value)}; expected an object.')
  return value


def _short(value: Any) -> str:
  text = repr(value) if not isinstance(value, list) else (
      '[' + ', '.join(repr(v)[:20] for v in value[:4])
      + (f', ... {len(value)} in all]' if len(value) > 4 else ']')
  )
  return text if len(text) <= 60 else f'{text[:57]}...'


def _line(error: Exception) -> str:
  return ' '.join(str(error).split())[:120]
