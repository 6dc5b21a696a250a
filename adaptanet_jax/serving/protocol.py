# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The Open Inference Protocol, version 2: bytes to requests, answers to bytes.

The extension for binary tensors is included: a header gives the length of the
JSON, and after the JSON come the tensors that have no `data` in it. BYTES are
encoded pictures, in JSON as base64. A request that is wrong is refused with one
sentence, and no picture is decoded before its size is known.

n = images, H = height, W = width, C = colours.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
import math
import re
import statistics
from typing import Any

import numpy as np

from adaptanet_jax.serving import tensors
from adaptanet_jax.serving.items import (
  Answer,
)
from adaptanet_jax.serving.refusals import (
  Limits,
  RequestError,
  boolean,
  line,
  mapping,
  short,
  string,
)
from adaptanet_jax.serving.tensors import INPUT

# Names and types of the outputs.
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
VERSION = '1'
# Most values of a request besides the pixels of its images.
_OTHER_VALUES = 1000


_MOST_MICROSECONDS = 60_000_000


def _timeout(value: Any, name: str) -> None:
  if type(value) is not int or not 0 < value <= _MOST_MICROSECONDS:
    raise RequestError(
        400,
        f'{name} is {short(value)}; expected microseconds, 1 to '
        f'{_MOST_MICROSECONDS}.',
    )


def _share(value: Any, name: str) -> None:
  if type(value) not in (int, float) or not 0.0 <= value <= 1.0:
    raise RequestError(
        400, f'{name} is {short(value)}; expected a share, 0 to 1.'
    )


# Parameters that choose who answers, and when: what each is in a URL, and the
# check of its value.
PARAMETERS: dict[str, tuple[type, Callable[[Any, str], Any]]] = {
    'timeout': (int, _timeout),
    'subnet': (str, string),
    'policy': (str, string),
    'min_accuracy': (float, _share),
    'weights': (str, string),
}
# Others that clients send. Only `binary_data_output` has an effect: it is the
# default of `binary_data` of each output.
_PASSED_OVER = (
    'binary_data_output', 'priority', 'sequence_id', 'sequence_start',
    'sequence_end',
)


@dataclasses.dataclass(frozen=True)
class Request:
  """A request to infer.

  Attributes:
    id: the client's name of the request, to be returned.
    images: `uint8[n, H, W, C]`, `float16` anchors, or a tuple of encoded
      pictures.
    start: number of the anchor; 0: images.
    parameters: those of `PARAMETERS` that were given.
    outputs: names of the outputs, and whether each is to be binary.
  """

  id: str
  images: np.ndarray | tuple[bytes, ...]
  start: int
  parameters: dict[str, Any]
  outputs: tuple[tuple[str, bool], ...]


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
    body: uncompressed body of the request.
    json_length: header of the binary extension, if it was sent.
    shape: `(H, W, C)` of images.
    anchors: shapes of the anchors that may stand in for them.
    limits: how large the request may be.

  Raises:
    RequestError: 400 or 413; says what was received and what is expected.
  """
  values, binary = _split(body, json_length, limits.images * math.prod(shape))
  inputs = values.get('inputs')
  if not isinstance(inputs, list) or not inputs:
    raise RequestError(
        400, f'inputs is {short(inputs)}; expected a list of one tensor.'
    )
  heads = [tensors.head(tensor) for tensor in inputs]
  start = _start(heads, len(anchors))
  (_, datatype, dims), tensor = heads[0], inputs[0]
  tensors.check_count(dims, limits)
  raw = tensors.raw_of(tensor, binary)
  images: np.ndarray | tuple[bytes, ...]
  if start:
    images = tensors.anchor(tensor, raw, datatype, dims, anchors[start - 1])
  elif datatype == 'UINT8':
    images = tensors.pixels(tensor, raw, dims, shape)
  elif datatype == 'BYTES':
    images = tensors.encoded(tensor, raw, dims)
  else:
    raise RequestError(
        400,
        f'{INPUT} is {short(datatype)}; expected UINT8, or BYTES for encoded '
        'pictures.',
    )
  given = _parameters(values.get('parameters'))
  return Request(
      '' if values.get('id') is None else string(values['id'], 'id'),
      images,
      start,
      {name: given[name] for name in PARAMETERS if name in given},
      _outputs(
          values.get('outputs'),
          # What an answer to an anchor is worth is not known.
          [name for name in OUTPUTS if not (start and name == 'accuracy')],
          given.get('binary_data_output', False),
      ),
  )


def _start(heads: Sequence[tuple[str, str, list[int]]], count: int) -> int:
  """Returns the number of the anchor that the input is; 0: images."""
  known = [INPUT, *(f'anchor_{n}' for n in range(1, count + 1))]
  if len(heads) > 1 or heads[0][0] not in known:
    names = [head[0] for head in heads]
    raise RequestError(
        400, f'The inputs are {short(names)}; expected {" or ".join(known)}.'
    )
  return known.index(heads[0][0])


def _split(
    body: bytes, json_length: str | None, pixels: int
) -> tuple[Any, bytes]:
  """Returns the values of the JSON, and the bytes that follow it."""
  binary = b''
  if json_length is not None:
    # Python does not parse numbers with thousands of digits.
    if not re.fullmatch('[0-9]{1,20}', json_length) or (
        int(json_length) > len(body)
    ):
      raise RequestError(
          400,
          f'Inference-Header-Content-Length is {json_length[:20]!r}; expected '
          f'a number up to {len(body)}, the length of the body.',
      )
    body, binary = body[: int(json_length)], body[int(json_length) :]
  # While Python parses JSON, no other thread runs.
  count, most = body.count(b',') + 1, pixels + _OTHER_VALUES
  if count > most:
    raise RequestError(
        413, f'The JSON has {count:,} values; expected at most {most:,}.'
    )
  try:
    values = json.loads(body)
  except (ValueError, RecursionError) as error:
    raise RequestError(
        400, f'The body is not JSON ({line(error)}).'
    ) from error
  if not isinstance(values, dict):
    raise RequestError(
        400, f'The body is {short(values)}; expected a JSON object.'
    )
  return values, binary


def _check_names(values: Mapping[str, Any], known: Sequence[str]) -> None:
  if unknown := values.keys() - {*known}:
    raise RequestError(
        400,
        f'Unknown parameter {min(unknown)[:40]!r}; expected some of '
        f'{", ".join(PARAMETERS)}.',
    )


def _parameters(given: Any) -> dict[str, Any]:
  values = mapping(given, 'parameters')
  _check_names(values, (*PARAMETERS, *_PASSED_OVER))
  for name, (_, check) in PARAMETERS.items():
    if name in values:
      check(values[name], name)
  boolean(values.get('binary_data_output', False), 'binary_data_output')
  return values


def _outputs(
    given: Any, default: Sequence[str], binary: bool
) -> tuple[tuple[str, bool], ...]:
  if given is None or given == []:
    return tuple((name, binary) for name in default)
  if not isinstance(given, list):
    raise RequestError(400, f'outputs is {short(given)}; expected a list.')
  found: dict[str, bool] = {}
  for output in given:
    if not isinstance(output, dict):
      raise RequestError(
          400, f'An output is {short(output)}; expected an object.'
      )
    name = output.get('name')
    if not isinstance(name, str) or name not in OUTPUTS:
      raise RequestError(
          400,
          f'Unknown output {short(name)}; expected some of '
          f'{", ".join(OUTPUTS)}.',
      )
    if name in found:
      raise RequestError(400, f'Output {name} is asked for twice.')
    wanted = mapping(output.get('parameters'), 'parameters')
    if wanted.keys() - {'binary_data'}:
      raise RequestError(
          400, f'The parameters of {name} are {short(list(wanted))}; expected '
          'binary_data alone.'
      )
    found[name] = boolean(wanted.get('binary_data', binary), 'binary_data')
  return tuple(found.items())


def query_parameters(given: Mapping[str, str]) -> dict[str, Any]:
  """Reads the parameters of a request from its URL.

  Args:
    given: texts by name, some of `PARAMETERS`.

  Raises:
    RequestError: a name is unknown, or a value is not valid.
  """
  _check_names(given, tuple(PARAMETERS))
  values: dict[str, Any] = {}
  for name, text in given.items():
    kind, _ = PARAMETERS[name]
    try:
      values[name] = kind(text)
    except ValueError:  # The check says what is expected.
      values[name] = text
  return _parameters(values)


def load_parameter(body: bytes) -> str:
  """Returns the model that a request to load names; '' if it names none."""
  values = _split(body, None, 0)[0] if body.strip() else {}
  given = mapping(values.get('parameters'), 'parameters')
  unknown = [*(values.keys() - {'parameters'}), *(given.keys() - {'model'})]
  if unknown:  # Otherwise a mistyped name would load the old model again.
    raise RequestError(
        400, f'Unknown parameter {min(unknown)[:40]!r}; expected '
        '{"parameters": {"model": "FOLDER"}}.'
    )
  return string(given.get('model', ''), 'model')


def encode(
    request: Request,
    answers: Sequence[Answer],
    *,
    model: str,
    class_names: Sequence[str],
) -> tuple[bytes, dict[str, str]]:
  """Writes the answer to a request.

  Args:
    request: the request.
    answers: one answer for each image.
    model: name of the model.
    class_names: names of the classes, by label.

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
  subnets, accuracy = columns['subnet'], _mean(columns['accuracy'])
  text = json.dumps({
      'model_name': model,
      'model_version': VERSION,
      **({'id': request.id} if request.id else {}),
      'parameters': {
          'subnet': ','.join(subnets if len(set(subnets)) > 1 else subnets[:1]),
          # That of an anchor's answer is not known, and null is not allowed.
          **({} if accuracy is None else {'accuracy': accuracy}),
      },
      'outputs': outputs,
  }).encode()
  if not binary:
    return text, {'content-type': 'application/json'}
  return b''.join([text, *binary]), {
      'content-type': 'application/octet-stream',
      JSON_LENGTH: str(len(text)),
  }


def _mean(accuracies: Sequence[float | None]) -> float | None:
  """Returns a mean that no rounding makes less than all of them."""
  known = [accuracy for accuracy in accuracies if accuracy is not None]
  if len(known) < len(accuracies):
    return None
  least = min(known)
  return least + statistics.fmean(one - least for one in known)


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
      'accuracy': [answer.accuracy for answer in answers],
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


