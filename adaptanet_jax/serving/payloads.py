# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Unpacks bodies and pictures, within limits on their size.

H = height, W = width, C = colours.
"""

from collections.abc import Iterator, Sequence
import io
import re
import struct
import zlib

import numpy as np
from PIL import Image, UnidentifiedImageError

from adaptanet_jax.data.images import ImageError, decode
from adaptanet_jax.serving.refusals import (
  Limits,
  RequestError,
  short,
  too_large,
)

# What clients may send, and its name in messages. A file of another format can
# make Pillow work for many seconds: a TIFF by the number of its strips.
_FORMATS = ('JPEG', 'PNG', 'WEBP')
_KINDS = 'a JPEG, PNG or WebP'
# Most scans of a JPEG, and compressed texts and profiles of a PNG: Pillow goes
# over all pixels for each of the first, and inflates a megabyte for the others.
_MOST_COSTLY = 64
_COSTLY_CHUNKS = (b'iCCP', b'iTXt', b'zTXt')
# Most parts of either besides one for each 1,024 bytes. Some take Pillow an
# object each.
_MOST_PARTS, _BYTES_OF_PART = 4096, 1024
_START, _SCAN, _END = b'\xff\xd8', b'\xff\xda', b'\xff\xd9'
# Markers of a JPEG, and those after which no segment with its length follows.
_MARKER = re.compile(rb'\xff[\xc0-\xcf\xd8-\xfe]')
_ALONE = re.compile(rb'\xff[\xc8\xd8\xd9\xf0-\xfd]')


def inflate(body: bytes, encoding: str, limit: int) -> bytes:
  """Decompresses a body.

  Args:
    body: body as it was received.
    encoding: 'gzip', 'deflate', 'identity' or ''.
    limit: most bytes of the result.

  Raises:
    RequestError: the encoding is another, or the body is damaged or too large.
  """
  encoding = encoding.strip().lower()
  if encoding in ('', 'identity'):
    return body
  if encoding not in ('gzip', 'deflate'):
    raise RequestError(
        415,
        f'Content-Encoding is {short(encoding)}; expected gzip or deflate.',
    )
  try:
    # Adding 32 detects which of the two headers it has.
    stream = zlib.decompressobj(32 + zlib.MAX_WBITS)
    text = stream.decompress(body, limit + 1)
  except zlib.error as error:
    raise RequestError(400, f'The body is not {encoding} ({error}).') from error
  if len(text) > limit:
    raise too_large(f'more than {limit:,} bytes when it is inflated', limit)
  if not stream.eof:
    raise RequestError(400, f'The {encoding} of the body was cut off.')
  if stream.unused_data:
    raise RequestError(
        400, f'{len(stream.unused_data)} bytes follow the {encoding}; expected '
        'none.'
    )
  return text


def deflate(body: bytes, accepted: str) -> tuple[bytes, dict[str, str]]:
  """Compresses a body if the client asks for it.

  Args:
    body: body to send.
    accepted: the header Accept-Encoding; gzip is preferred to deflate.

  Returns:
    The body, and its headers.
  """
  bits_of = {'gzip': 16 + zlib.MAX_WBITS, 'deflate': zlib.MAX_WBITS}
  names = _accepted(accepted)
  for name, bits in bits_of.items():
    if name in names:
      stream = zlib.compressobj(1, wbits=bits)
      body = stream.compress(body) + stream.flush()
      return body, {'content-encoding': name}
  return body, {}


def _accepted(header: str) -> set[str]:
  """Returns the encodings that Accept-Encoding names, except those refused."""
  found = set()
  for part in header.lower().split(','):
    name, _, quality = part.partition(';')
    if not re.fullmatch(r'\s*q\s*=\s*0(\.0*)?\s*', quality):
      found.add(name.strip())
  return found


def read_picture(
    encoded: bytes,
    shape: tuple[int, int, int],
    shorter_side: int,
) -> np.ndarray:
  """Decodes a picture that has passed `check_pictures`.

  Args:
    encoded: a JPEG, PNG or WebP.
    shape: `(H, W, C)` of the result.
    shorter_side: see `images.resize`.

  Returns:
    `uint8[H, W, C]`.

  Raises:
    RequestError: it cannot be decoded.
  """
  try:
    return decode(encoded, shape, shorter_side)
  except ImageError as error:
    raise RequestError(
        400, f'A picture cannot be read: {error}; expected {_KINDS}.'
    ) from error


def check_pictures(encoded: Sequence[bytes], limits: Limits) -> int:
  """Returns how many pixels pictures have in all, by their headers.

  Raises:
    RequestError: 400, one is not a picture; 413, they have too many pixels.
  """
  total = sum(_pixels(picture, limits) for picture in encoded)
  if total > limits.pixels:
    raise RequestError(
        413,
        f'The pictures have {total:,} pixels; expected at most '
        f'{limits.pixels:,} in all (--max_pixels of the server).',
    )
  return total


def _check_parts(encoded: bytes) -> None:
  """Raises RequestError if a small picture would take long to decode."""
  most = _MOST_PARTS + len(encoded) // _BYTES_OF_PART
  count = costly = 0
  for steps, is_costly in _parts(encoded):
    count += steps
    costly += is_costly
    if costly > _MOST_COSTLY or count > most:
      raise RequestError(
          400, f'A picture has more than {_MOST_COSTLY} scans, or compressed '
          f'texts and profiles, or more than {most:,} parts.'
      )


def _parts(encoded: bytes) -> Iterator[tuple[int, bool]]:
  """Yields what Pillow loops over: steps, and whether the last is costly."""
  if encoded.startswith(b'\x89PNG'):
    place = 8
    while place + 8 <= len(encoded):
      length, kind = struct.unpack_from('>I4s', encoded, place)
      yield 1, kind in _COSTLY_CHUNKS
      if kind == b'IEND':
        return
      place += 12 + length
  elif encoded[:2] == _START:
    # Up to the first scan, Pillow passes over other bytes one by one.
    place, is_scanned = 2, False
    while found := _MARKER.search(encoded, place):
      steps = 1 if is_scanned else 1 + found.start() - place
      place, marker = found.end(), found[0]
      if is_scanned and marker == _END:  # Some cameras append a film.
        return
      yield steps, marker == _SCAN
      is_scanned = is_scanned or marker == _SCAN
      if not _ALONE.fullmatch(marker):
        length = int.from_bytes(encoded[place : place + 2], 'big')
        place += max(2, length)


def _pixels(encoded: bytes, limits: Limits) -> int:
  _check_parts(encoded)
  try:
    with Image.open(io.BytesIO(encoded), formats=_FORMATS) as picture:
      width, height = picture.size
  except Image.DecompressionBombError as error:
    raise RequestError(
        413, f'A picture is too large; expected at most {limits.pixels:,} '
        'pixels.'
    ) from error
  except UnidentifiedImageError as error:
    found = f'A picture starts with {encoded[:8]!r}'
    if encoded.startswith(b'--'):  # As curl -F sends it.
      found += ', as a form does'
    raise RequestError(
        400,
        f'{found if encoded else "A picture has no bytes"}; expected the bytes '
        f'of {_KINDS}, as curl --data-binary @FILE sends them.',
    ) from error
  except Exception as error:  # Each format has errors of its own.
    raise RequestError(
        400, f'A picture is damaged; expected {_KINDS}.'
    ) from error
  if width * height > limits.pixels:
    raise RequestError(
        413,
        f'A picture has {width} x {height} pixels; expected at most '
        f'{limits.pixels:,} in all (--max_pixels of the server).',
    )
  return width * height
