# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The one tensor of a request to infer, in JSON or as bytes after it.

All functions raise RequestError if the tensor is not valid.

n = images, H = height, W = width, C = colours.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
import itertools
import math
from typing import Any

import numpy as np

from adaptanet_jax.serving.refusals import (
  Limits,
  RequestError,
  line,
  mapping,
  short,
  string,
)

INPUT = 'images'
_ANCHORS = {'UINT8': 'u1', 'FP16': '<f2'}
_OF_ANCHORS = {'binary_data_size', 'scale'}
# Most axes of a shape, and bound of their lengths: products would take long.
_MOST_DIMS, _MOST_LENGTH = 8, 2**31


def head(tensor: Any) -> tuple[str, str, list[int]]:
  """Returns name, type and shape of a tensor."""
  if not isinstance(tensor, dict):
    raise RequestError(
        400, f'An input is {short(tensor)}; expected an object.'
    )
  name = string(tensor.get('name'), 'The name of an input')
  datatype = string(tensor.get('datatype'), f'The datatype of {short(name)}')
  dims = tensor.get('shape')
  if not isinstance(dims, list) or len(dims) > _MOST_DIMS or not all(
      type(n) is int and 0 <= n < _MOST_LENGTH for n in dims
  ):
    raise RequestError(
        400, f'The shape of {short(name)} is {short(dims)}; expected a list of '
        f'up to {_MOST_DIMS} numbers.'
    )
  return name, datatype, dims


def check_count(dims: Sequence[int], limits: Limits) -> None:
  """Raises RequestError unless there are images, and not too many."""
  if not dims or dims[0] < 1:
    raise RequestError(400, f'The shape is {list(dims)}; expected an image.')
  if dims[0] > limits.images:
    raise RequestError(
        413, f'The shape is {list(dims)}, so there are {dims[0]} images; '
        f'expected at most {limits.images}.'
    )


def raw_of(tensor: Mapping[str, Any], binary: bytes) -> bytes | None:
  """Returns the bytes of a binary tensor; None if it has JSON data."""
  size = mapping(tensor.get('parameters'), 'parameters').get('binary_data_size')
  if size is None:
    if binary:
      raise RequestError(
          400, 'Bytes follow the JSON; expected a tensor with binary_data_size.'
      )
    return None
  if type(size) is not int or size != len(binary):
    raise RequestError(
        400,
        f'binary_data_size is {short(size)}, and {len(binary)} bytes follow '
        'the JSON; expected the same.',
    )
  return binary


def pixels(
    tensor: Mapping[str, Any],
    raw: bytes | None,
    dims: Sequence[int],
    shape: tuple[int, int, int],
) -> np.ndarray:
  """Returns images, `uint8[n, H, W, C]`."""
  if tuple(dims[1:]) != shape:
    raise RequestError(
        400,
        f'The shape of {INPUT} is {list(dims)}; expected '
        f'[n, {", ".join(map(str, shape))}].',
    )
  if 'scale' in mapping(tensor.get('parameters'), 'parameters'):
    raise RequestError(
        400, f'The tensor {INPUT} has a scale, which only anchors have; '
        'expected pixels from 0 to 255 without one.'
    )
  count = math.prod(dims)
  if raw is not None:
    if len(raw) != count:
      raise RequestError(
          400, f'{INPUT} has {len(raw)} bytes; expected {count}.'
      )
    return np.frombuffer(raw, np.uint8).reshape(dims)
  values = _flat(tensor.get('data'), len(dims))
  try:
    # NumPy would allocate n times the size of the longest string in the list.
    if len(values) != count or set(map(type, values)) != {int}:
      raise ValueError
    return np.frombuffer(bytes(values), np.uint8).reshape(dims)
  except ValueError as error:
    raise RequestError(
        400,
        f'The data of {INPUT} is {short(tensor.get("data"))}; expected '
        f'{count} numbers from 0 to 255.',
    ) from error


def _flat(data: Any, levels: int) -> list[Any]:
  """Flattens nested lists; returns `[]` for what is not a list."""
  values = data if isinstance(data, list) else []
  for _ in range(levels - 1):
    if not all(isinstance(value, list) for value in values):
      break
    values = list(itertools.chain.from_iterable(values))
  return values


def anchor(
    tensor: Mapping[str, Any],
    raw: bytes | None,
    datatype: str,
    dims: Sequence[int],
    shape: tuple[int, int, int],
) -> np.ndarray:
  """Returns an anchor, `float16[n, H, W, C]`: its numbers, times a scale.

  While it waits it takes at most twice the memory of its bytes.
  """
  if datatype not in _ANCHORS or tuple(dims[1:]) != shape or raw is None:
    raise RequestError(
        400,
        f'An anchor is {short(datatype)} {list(dims)}; expected UINT8 or '
        f'FP16 [n, {", ".join(map(str, shape))}] as a binary tensor.',
    )
  dtype = np.dtype(_ANCHORS[datatype])
  count = math.prod(dims) * dtype.itemsize
  if len(raw) != count:
    raise RequestError(
        400, f'The anchor has {len(raw)} bytes; expected {count}.'
    )
  values = np.frombuffer(raw, dtype).reshape(dims)
  # With a mistyped or missing scale, bytes would be no values of an anchor.
  if unknown := tensor['parameters'].keys() - _OF_ANCHORS:
    raise RequestError(
        400, f'Unknown parameter {min(unknown)[:40]!r} of an anchor; expected '
        f'some of {", ".join(sorted(_OF_ANCHORS))}.'
    )
  scale = tensor['parameters'].get('scale', 1.0 if datatype == 'FP16' else None)
  if type(scale) not in (int, float) or not 0.0 < scale < 1e6:
    raise RequestError(
        400,
        f'The scale of an anchor is {short(scale)}; expected a number above 0, '
        'which its values are multiplied by.',
    )
  if scale != 1.0:
    # What is too large for 16 bits becomes infinite, and is refused.
    with np.errstate(over='ignore'):
      values = (values * np.float32(scale)).astype(np.float16)
  values = values.astype(np.float16, copy=False)
  if not np.isfinite(values).all():
    raise RequestError(
        400, 'The anchor, times its scale, has numbers that are not finite in '
        '16 bits.'
    )
  return values


def encoded(
    tensor: Mapping[str, Any], raw: bytes | None, dims: Sequence[int]
) -> tuple[bytes, ...]:
  """Returns encoded pictures."""
  if math.prod(dims) != dims[0]:
    raise RequestError(
        400, f'The shape of {INPUT} is {list(dims)}; expected [n] for BYTES.'
    )
  if raw is not None:
    pictures = _prefixed(raw, dims[0])
  else:
    texts = _flat(tensor.get('data'), len(dims))
    if not all(isinstance(text, str) for text in texts):
      raise RequestError(
          400,
          f'The data of {INPUT} is {short(texts)}; expected strings: encoded '
          'pictures in base64.',
      )
    try:
      pictures = [base64.b64decode(text, validate=True) for text in texts]
    except (binascii.Error, ValueError) as error:
      raise RequestError(
          400, f'A picture in {INPUT} is not base64 ({line(error)}).'
      ) from error
  if len(pictures) != dims[0]:
    raise RequestError(
        400, f'{INPUT} has {len(pictures)} pictures; expected {dims[0]}.'
    )
  return tuple(pictures)


def _prefixed(raw: bytes, count: int) -> list[bytes]:
  """Splits bytes into strings, each preceded by its length in four bytes.

  Stops after one more than `count`: millions of empty ones would take seconds.
  """
  found: list[bytes] = []
  place = 0
  while place < len(raw) and len(found) <= count:
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
