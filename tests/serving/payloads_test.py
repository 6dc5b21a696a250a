# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.serving.payloads: pictures that would take long."""

import io
import struct
import zlib

from absl.testing import absltest, parameterized
import numpy as np
from PIL import Image

from adaptanet_jax.serving import payloads
from adaptanet_jax.serving.refusals import Limits, RequestError

_MANY = 65
_PIXELS = np.arange(256, dtype=np.uint8).reshape(16, 16)


def _encoded(kind, **options):
  file = io.BytesIO()
  Image.fromarray(_PIXELS).save(file, kind, **options)
  return file.getvalue()


def _png(count, kind=b'iCCP'):
  """Returns a PNG with compressed data of some kind before its pixels."""
  data = kind + b'a\0\0' + zlib.compress(bytes(1000))
  chunk = struct.pack('>I', len(data) - 4) + data + struct.pack(
      '>I', zlib.crc32(data)
  )
  plain = _encoded('PNG')
  head = 8 + 25  # The signature and IHDR.
  return plain[:head] + count * chunk + plain[head:]


def _jpeg(count):
  """Returns a progressive JPEG whose last scan comes some times more."""
  plain = _encoded('JPEG', progressive=True)
  last = plain[plain.rindex(b'\xff\xda') : -2]
  return plain[:-2] + count * last + plain[-2:]


class PicturesTest(parameterized.TestCase):

  @parameterized.parameters(
      _png(_MANY), _png(_MANY, b'zTXt'), _jpeg(_MANY),
      # In front of the scans, a marker without a length.
      _jpeg(_MANY)[:2] + b'\xff\x01\xff\xff' + _jpeg(_MANY)[2:],
  )
  def test_small_ones_that_would_take_long_are_refused(self, encoded):
    with self.assertRaisesRegex(RequestError, 'more than 64 scans, or comp'):
      payloads.check_pictures([encoded], Limits())

  @parameterized.parameters(
      # Pillow makes an object for each segment or chunk.
      _encoded('JPEG')[:2] + 10_000 * b'\xff\xe5\0\2' + _encoded('JPEG')[2:],
      _png(0)[:33] + 10_000 * b'\0\0\0\0teXt\0\0\0\0' + _png(0)[33:],
      # An end or a start before the first scan, and a marker without a length,
      # do not end its loop.
      *(
          _encoded('JPEG')[:2] + marker + 10_000 * b'\xff\xe5\0\2'
          for marker in (b'\xff\xd9', b'\xff\xd8', b'\xff\xf0')
      ),
      # Nor do single bytes, which it goes over one by one.
      _encoded('JPEG')[:2] + 10_000 * b'\xff' + _encoded('JPEG')[2:],
  )
  def test_so_are_those_of_many_parts(self, encoded):
    with self.assertRaisesRegex(RequestError, r'or more than 4,\d{3} parts'):
      payloads.check_pictures([encoded], Limits())

  @parameterized.parameters('TIFF', 'GIF', 'BMP')
  def test_formats_in_which_a_small_one_may_take_long_are_refused(self, kind):
    with self.assertRaisesRegex(RequestError, 'expected the bytes of a JPEG'):
      payloads.check_pictures([_encoded(kind)], Limits())

  @parameterized.parameters(
      (b'', 'has no bytes; expected the bytes of a JPEG, PNG or WebP'),
      (b'--------3f', "starts with b'--------', as a form does; expected the"),
      (b'<html>', "starts with b'<html>'; expected the bytes of a JPEG"),
  )
  def test_others_than_pictures_are_refused(self, encoded, message):
    with self.assertRaisesRegex(RequestError, message):
      payloads.check_pictures([encoded], Limits())

  @parameterized.parameters(
      _png(3), _jpeg(3), _encoded('WEBP', quality=100),
      # What looks like scans is a comment, or follows the end.
      _encoded('JPEG', comment=_MANY * b'\xff\xda'),
      _encoded('JPEG') + _MANY * b'\xff\xda',
      # Padding, as cameras and disks add it.
      _encoded('JPEG') + bytes(100_000), _png(0) + bytes(100_000),
  )
  def test_others_are_read(self, encoded):
    self.assertEqual(payloads.check_pictures([encoded], Limits()), 256)
    image = payloads.read_picture(encoded, (16, 16, 1), 0)
    np.testing.assert_allclose(image[..., 0], _PIXELS, atol=40)


if __name__ == '__main__':
  absltest.main()
