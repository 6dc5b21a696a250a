# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.data.images."""

import io
from unittest import mock
import zlib

from absl.testing import absltest, parameterized
from hypothesis import strategies as st
import numpy as np
from PIL import ExifTags, Image
from sklearn import datasets

from adaptanet_jax.data import images
from tests import fuzz


def _photo(mode='RGB', file_format='JPEG'):
  """Returns one of scikit-learn's photographs, 640 by 427 pixels, encoded."""
  picture = Image.fromarray(datasets.load_sample_image('china.jpg'))
  file = io.BytesIO()
  picture.convert(mode).save(file, file_format, quality=95)
  return file.getvalue()


def _encoded(picture, file_format='PNG', **options):
  file = io.BytesIO()
  picture.save(file, file_format, **options)
  return file.getvalue()


def _exif(orientation):
  exif = Image.Exif()
  exif[ExifTags.Base.Orientation] = orientation
  return exif


def _square(values, dtype=np.uint8):
  """Returns a picture of two by two pixels."""
  return Image.fromarray(np.array(values, dtype).reshape(2, 2, *np.shape(
      values)[1:]))


class ResizeTest(parameterized.TestCase):

  def test_an_image_that_fits_is_returned_itself(self):
    image = np.zeros((4, 4, 3), np.uint8)
    self.assertIs(images.resize(image, 4), image)

  @parameterized.product(colours=(1, 3), tall=(False, True))
  def test_the_centre_square_is_cut(self, colours, tall):
    # Columns are 0, 10, ..., 70; the middle four are the third to the sixth.
    row = np.arange(0, 80, 10, dtype=np.uint8)
    image = np.broadcast_to(row[None, :, None], (4, 8, colours))
    expected = np.broadcast_to(
        np.array([20, 30, 40, 50])[None, :, None], (4, 4, colours)
    )
    if tall:
      image, expected = image.swapaxes(0, 1), expected.swapaxes(0, 1)
    np.testing.assert_array_equal(images.resize(image, 4), expected)

  def test_enlarging_interpolates_between_pixels(self):
    image = np.array([[0, 100], [0, 100]], np.uint8)[..., None]
    # New pixels' centres lie at -1/4, 1/4, 3/4 and 5/4 of the way from one old
    # centre to the other; outside the old centres the border continues.
    row = [0, 25, 75, 100]
    np.testing.assert_array_equal(images.resize(image, 4)[..., 0], [row] * 4)

  def test_the_shorter_side_may_be_scaled_to_more_than_is_cut(self):
    row = np.arange(0, 80, 10, dtype=np.uint8)
    image = np.broadcast_to(row[None, :, None], (8, 8, 1))
    # The middle four of eight columns, unscaled.
    np.testing.assert_array_equal(
        images.resize(image, 4, 8)[..., 0], [[20, 30, 40, 50]] * 4
    )
    # Scaled first, then cut to the old size.
    self.assertEqual(images.resize(image, 8, 16).shape, (8, 8, 1))
    self.assertGreater(images.resize(image, 8, 16).min(), 10)

  def test_colours_stay_apart(self):
    image = np.broadcast_to(np.array([10, 200, 90], np.uint8), (7, 9, 3))
    expected = np.broadcast_to(np.array([10, 200, 90]), (5, 5, 3))
    np.testing.assert_array_equal(images.resize(image, 5), expected)


  @parameterized.parameters((1, 60000), (60000, 1))
  def test_of_a_strip_only_the_middle_is_scaled(self, height, width):
    """Scaled as a whole, it would have 64 x 3,840,000 pixels."""
    image = np.zeros((height, width, 3), np.uint8)
    image[height // 2, width // 2] = 200
    scaled = images.resize(image, 64)
    self.assertEqual(scaled.shape, (64, 64, 3))
    self.assertGreater(scaled.max(), 150)


class PixelsTest(parameterized.TestCase):
  """Tests how each kind of pixel is decoded."""

  def _decode(self, encoded, colours=1):
    return images.decode(encoded, (2, 2, colours))

  @parameterized.parameters('PNG', 'TIFF')
  def test_of_16_bits_the_whole_range_is_kept(self, file_format):
    # 257 k becomes k; 40,000 becomes 155.6.
    picture = _square([0, 257 * 100, 40000, 65535], np.uint16)
    encoded = _encoded(picture, file_format)
    grey = self._decode(encoded)
    np.testing.assert_array_equal(grey.ravel(), [0, 100, 156, 255])
    colours = self._decode(encoded, 3)
    np.testing.assert_array_equal(colours, np.repeat(grey, 3, -1))
    crop = images.decode_random_crop(
        encoded, (2, 2, 1), np.random.default_rng(0)
    )
    self.assertLess(crop.min(), 100)
    self.assertIsNone(images.check(encoded))

  def test_the_same_picture_in_8_and_16_bits_is_the_same(self):
    photo = datasets.load_sample_image('flower.jpg')[..., 1]
    wide = Image.fromarray(photo.astype(np.uint16) * 257)
    for decode in (
        lambda encoded: images.decode(encoded, (32, 32, 3), 40),
        lambda encoded: images.decode_random_crop(
            encoded, (32, 32, 3), np.random.default_rng(3)
        ),
    ):
      np.testing.assert_array_equal(
          decode(_encoded(wide)), decode(_encoded(Image.fromarray(photo)))
      )

  def test_of_12_bits_the_whole_range_is_kept(self):
    # Pillow only reads such files: 0 and 4095, then 2048 and 257.
    encoded = bytearray(_encoded(_square([0] * 4, np.uint16), 'TIFF'))
    start = Image.open(io.BytesIO(encoded)).tag_v2[273][0]
    encoded[start : start + 6] = b'\x00\x0f\xff\x80\x01\x01'
    entry = encoded.index(b'\x02\x01\x03\x00\x01\x00\x00\x00\x10\x00')
    encoded[entry + 8] = 12
    pixels = self._decode(bytes(encoded))
    np.testing.assert_array_equal(pixels.ravel(), [0, 255, 128, 16])

  @parameterized.parameters(np.uint8, np.uint16)
  def test_where_zero_is_white_it_is_turned_into_white(self, dtype):
    step = np.iinfo(dtype).max // 255
    encoded = bytearray(
        _encoded(_square(np.array([0, 100, 200, 255]) * step, dtype), 'TIFF')
    )
    entry = encoded.index(b'\x06\x01\x03\x00\x01\x00\x00\x00\x01')
    encoded[entry + 8] = 0  # The tag PhotometricInterpretation.
    pixels = self._decode(bytes(encoded))
    np.testing.assert_array_equal(pixels.ravel(), [255, 155, 55, 0])

  def test_numbers_of_32_bits_are_taken_if_16_hold_them(self):
    values = [0, 257, 65535, 65535]
    picture = _square(values, np.int32)
    self.assertEqual(picture.mode, 'I')
    pixels = self._decode(_encoded(picture, 'TIFF'))
    np.testing.assert_array_equal(pixels.ravel(), [0, 1, 255, 255])
    picture = _square([-1, 0, 0, 70000], np.int32)
    with self.assertRaisesRegex(images.ImageError, 'from -1 to 70000'):
      self._decode(_encoded(picture, 'TIFF'))

  def test_numbers_without_a_known_range_are_refused(self):
    encoded = _encoded(_square([0, 0.25, 0.5, 1.0], np.float32), 'TIFF')
    for read in (
        self._decode,
        images.check,
        lambda e: images.decode_random_crop(
            e, (2, 2, 1), np.random.default_rng(0)
        ),
    ):
      with self.assertRaisesRegex(images.ImageError, 'mode F.*8 or 16 bits'):
        read(encoded)

  def test_one_bit_is_black_or_white(self):
    picture = _square([0, 255, 255, 0]).convert('1')
    np.testing.assert_array_equal(
        self._decode(_encoded(picture)).ravel(), [0, 255, 255, 0]
    )

  @parameterized.parameters('LA', 'RGBA', 'PA', 'P')
  def test_what_is_transparent_lies_on_white(self, mode):
    # A black picture: one pixel opaque, one half transparent, two invisible.
    picture = Image.new('RGBA', (2, 2))
    picture.putalpha(_square([255, 127, 0, 0]))
    file_format = 'PNG'
    expected = [0, 128, 255, 255]
    if mode == 'P':  # One palette entry is invisible.
      picture, file_format = _square([1, 1, 0, 0]), 'GIF'
      picture.putpalette([0, 0, 0, 0, 0, 0])
      encoded = _encoded(picture, file_format, transparency=0)
      expected = [0, 0, 255, 255]
    elif mode == 'PA':
      encoded = _encoded(picture, 'WEBP', lossless=True, exact=True)
    else:
      encoded = _encoded(picture.convert(mode))
    np.testing.assert_array_equal(self._decode(encoded).ravel(), expected)
    np.testing.assert_array_equal(
        self._decode(encoded, 3)[..., 1].ravel(), expected
    )

  @parameterized.parameters(
      ('L', np.uint8, 255), ('I;16', np.uint16, 65535)
  )
  def test_a_grey_that_counts_as_transparent_is_white(self, mode, dtype, most):
    picture = _square([7, 0, most, 7], dtype)
    self.assertEqual(picture.mode, mode)
    pixels = self._decode(_encoded(picture, transparency=7))
    np.testing.assert_array_equal(pixels.ravel(), [255, 0, 255, 255])

  @parameterized.product(
      orientation=tuple(range(1, 9)),
      file_format=('JPEG', 'PNG', 'WEBP', 'TIFF'),
  )
  def test_a_picture_is_put_upright(self, orientation, file_format):
    # Dark left, brightest at the top right: every turn or flip changes it.
    upright = np.zeros((16, 16), np.uint8)
    upright[:, 8:], upright[:8, 8:] = 100, 250
    # How a camera in this orientation stores the picture.
    undo = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.T,
        6: lambda x: np.rot90(x),
        7: lambda x: x.T[::-1, ::-1],
        8: lambda x: np.rot90(x, -1),
    }[orientation]
    picture = Image.fromarray(np.ascontiguousarray(undo(upright)))
    options = {'lossless': True} if file_format == 'WEBP' else {}
    if file_format == 'TIFF':
      options = {'tiffinfo': {ExifTags.Base.Orientation: orientation}}
    else:
      options['exif'] = _exif(orientation)
    encoded = _encoded(picture, file_format, **options)
    pixels = images.decode(encoded, (16, 16, 1))[..., 0].astype(int)
    self.assertLess(np.abs(pixels - upright).mean(), 4.0)

  @parameterized.parameters('GIF', 'WEBP', 'TIFF')
  def test_of_several_frames_the_first_is_taken(self, file_format):
    frames = [Image.new('RGB', (2, 2), (c, c, c)) for c in (40, 200)]
    options = {'lossless': True} if file_format == 'WEBP' else {}
    encoded = _encoded(
        frames[0], file_format, save_all=True, append_images=frames[1:],
        **options,
    )
    np.testing.assert_array_equal(self._decode(encoded).ravel(), [40] * 4)


class DamagedTest(parameterized.TestCase):

  def assert_refused(self, encoded, *texts):
    for read in (
        lambda: images.decode(encoded, (16, 16, 3), 20),
        lambda: images.decode_random_crop(
            encoded, (16, 16, 3), np.random.default_rng(0)
        ),
        lambda: images.check(encoded),
    ):
      with self.assertRaises(images.ImageError) as caught:
        read()
      self.assertNotIn('\n', str(caught.exception))
      for text in texts:
        self.assertIn(text, str(caught.exception))

  @parameterized.parameters(*images.FORMATS)
  def test_a_file_that_is_cut_off_is_refused(self, file_format):
    whole = _photo('P' if file_format == 'GIF' else 'RGB', file_format)
    self.assertIsNone(images.check(whole))
    self.assert_refused(whole[: len(whole) // 2])
    self.assert_refused(whole[:20])

  def test_a_file_with_damaged_pixels_is_refused(self):
    picture = Image.open(io.BytesIO(_photo())).resize((64, 48))
    for place in range(1000, 4000, 500):
      encoded = bytearray(_encoded(picture))
      encoded[place] ^= 0x55
      self.assert_refused(bytes(encoded))

  @parameterized.parameters(
      (b'', 'it is empty'),
      (b'<!DOCTYPE html><html>404</html>', "starts with b'<!DOCTYPE html>"),
      (b'%!PS-Adobe-3.0 EPSF-3.0', 'it is no JPEG, PNG'),
      (b'version https://git-lfs.github.com/spec/v1', "b'version https://"),
      (bytes(5000), 'it is no JPEG'),
  )
  def test_what_is_no_picture_is_refused(self, encoded, text):
    self.assert_refused(encoded, text)

  def test_a_picture_that_would_fill_the_memory_is_refused(self):
    # The header claims 20,000 by 20,000 pixels.
    encoded = bytearray(_encoded(Image.new('L', (16, 16))))
    encoded[16:24] = (20000).to_bytes(4, 'big') * 2
    encoded[29:33] = zlib.crc32(encoded[12:29]).to_bytes(4, 'big')
    self.assert_refused(bytes(encoded), 'exceeds limit')

  def test_damaged_exif_loses_no_picture(self):
    for exif in (b'Exif\0\0', b'Exif\0\0MM\0*\0\0', b'Exif\0\0' + b'\xff' * 40):
      encoded = _encoded(Image.new('L', (16, 16), 9), 'JPEG', exif=exif)
      pixels = images.decode(encoded, (16, 16, 1))
      np.testing.assert_array_equal(pixels, np.full((16, 16, 1), 9))


def _files():
  """Returns a small picture in all formats and their modes."""
  picture = Image.fromarray(datasets.load_sample_image('china.jpg'))
  picture = picture.resize((24, 17))
  deep = Image.fromarray(np.arange(408, dtype=np.uint16).reshape(17, 24) * 160)
  alpha = picture.convert('RGBA')
  alpha.putalpha(picture.convert('L'))
  made = [
      (picture.convert(mode), file_format, {'exif': _exif(6)})
      for file_format, modes in {
          'JPEG': ('RGB', 'L', 'CMYK', 'YCbCr'),
          'PNG': ('RGB', 'L', '1', 'P'),
          'WEBP': ('RGB',),
      }.items()
      for mode in modes
  ]
  made += [(picture, 'JPEG', {'progressive': True})]
  made += [(alpha, name, {}) for name in ('PNG', 'WEBP', 'TIFF', 'BMP')]
  made += [(deep, 'PNG', {}), (deep, 'TIFF', {})]
  made += [
      (picture.convert(mode), 'TIFF', {'compression': compression})
      for mode in ('RGB', 'L', 'CMYK')
      for compression in (None, 'tiff_lzw', 'tiff_deflate', 'jpeg')
  ]
  made += [(picture.convert('1'), 'TIFF', {'compression': 'group4'})]
  made += [(picture.convert(mode), 'GIF', {}) for mode in ('P', 'L')]
  made += [(picture.convert(mode), 'BMP', {}) for mode in ('RGB', 'L', '1')]
  return [_encoded(one, name, **options) for one, name, options in made]


class FuzzTest(absltest.TestCase):

  def assert_decoded_or_refused(self, encoded):
    for colours in (1, 3):
      shape = (8, 8, colours)
      for read in (
          lambda shape=shape: images.decode(encoded, shape, 10),
          lambda shape=shape: images.decode_random_crop(
              encoded, shape, np.random.default_rng(0)
          ),
      ):
        try:
          pixels = read()
        except images.ImageError as error:
          self.assertNotIn('\n', str(error))
        else:
          self.assertEqual((pixels.shape, pixels.dtype), (shape, np.uint8))

  def test_the_files_are_whole(self):
    for encoded in _files():
      self.assertIsNone(images.check(encoded))

  @fuzz.given(fuzz.damaged(_files()))
  def test_a_damaged_file_is_decoded_or_refused(self, encoded):
    self.assert_decoded_or_refused(encoded)

  @fuzz.given(st.binary(max_size=200))
  def test_bytes_are_decoded_or_refused(self, encoded):
    self.assert_decoded_or_refused(encoded)

  @fuzz.given(
      st.sampled_from(('L', 'LA', 'RGB', 'RGBA', 'I;16')),
      st.integers(0, 255),
      st.tuples(st.integers(1, 300), st.integers(1, 300)),
      st.integers(1, 8),
      st.sampled_from(('PNG', 'TIFF')),
  )
  def test_a_picture_of_one_grey_stays_so(
      self, mode, grey, size, orientation, file_format
  ):
    if mode == 'I;16':
      pixels = np.full(size[::-1], grey * 257, np.uint16)
      picture = Image.fromarray(pixels)
    else:
      picture = Image.new('L', size, grey).convert(mode)
    encoded = _encoded(picture, file_format, exif=_exif(orientation))
    for pixels in (
        images.decode(encoded, (9, 9, 3), 12),
        images.decode_random_crop(
            encoded, (9, 9, 3), np.random.default_rng(grey)
        ),
    ):
      np.testing.assert_array_equal(pixels, np.full((9, 9, 3), grey))


class DecodeTest(parameterized.TestCase):

  @parameterized.parameters(
      ('RGB', 'JPEG'), ('L', 'JPEG'), ('CMYK', 'JPEG'), ('RGB', 'PNG'),
      ('L', 'PNG'), ('P', 'PNG'),
  )
  def test_any_colours_become_those_asked_for(self, mode, file_format):
    encoded = _photo(mode, file_format)
    expected = images.decode(_photo(), (64, 64, 3), 80).astype(int)
    actual = images.decode(encoded, (64, 64, 3), 80)
    self.assertEqual((actual.shape, actual.dtype), ((64, 64, 3), np.uint8))
    if mode == 'L':
      self.assertEqual(np.ptp(actual, -1).max(), 0)
      expected = expected.mean(-1, keepdims=True)
    self.assertLess(np.abs(actual - expected).mean(), 12.0)
    grey = images.decode(encoded, (64, 64, 1), 80)
    self.assertEqual(grey.shape, (64, 64, 1))
    crop = images.decode_random_crop(
        encoded, (32, 32, 3), np.random.default_rng(0)
    )
    self.assertEqual((crop.shape, crop.dtype), ((32, 32, 3), np.uint8))

  def test_evaluation_sees_the_centre_of_the_scaled_image(self):
    photo = _photo(file_format='PNG')
    actual = images.decode(photo, (64, 64, 3), 80)
    with Image.open(io.BytesIO(photo)) as picture:
      scaled = picture.resize((120, 80), Image.Resampling.BILINEAR)
    expected = np.asarray(scaled)[8:72, 28:92]
    np.testing.assert_array_equal(actual, expected)

  @parameterized.parameters(
      ((640, 424), 26, 0, (80, 53)),
      ((640, 424), 20, 27, (160, 106)),  # An eighth would be below twice 27.
      ((640, 424), 107, 0, (640, 424)),
      ((640, 420), 26, 0, (160, 105)),  # No multiple of 8.
      ((640, 427), 26, 0, (640, 427)),
      ((640, 144), 9, 0, (640, 144)),  # A strip.
      ((424, 640), 26, 0, (53, 80), 'L'),
      ((640, 424), 26, 0, (80, 53), 'CMYK'),
      ((640, 424), 26, 0, (53, 80), 'RGB', 6),  # Lies on its side.
  )
  def test_a_large_jpeg_is_decoded_at_a_part_of_its_size(
      self, size, side, shorter_side, decoded, mode='RGB', orientation=1
  ):
    with Image.open(io.BytesIO(_photo())) as photo:
      cut = photo.crop((0, 0, *size)).convert(mode)
    encoded = _encoded(cut, 'JPEG', quality=95, exif=_exif(orientation))
    shape = (side, side, 3)
    with mock.patch.object(images, '_plain', wraps=images._plain) as plain:
      actual = images.decode(encoded, shape, shorter_side)
    self.assertEqual(plain.call_args.args[0].size, decoded)
    # A picture that the caller has opened is decoded, and stays, whole.
    with Image.open(io.BytesIO(encoded)) as picture:
      whole = images.decode(picture, shape, shorter_side)
      self.assertEqual(picture.size, size)
    apart = np.abs(actual.astype(int) - whole)
    self.assertLess(apart.mean(), 1.0)
    self.assertLessEqual(apart.max(), 8)

  def test_a_random_crop_is_a_part_of_the_image_decoded_at_any_size(self):
    """Compares with the crop cut and scaled from the whole decoded image."""
    with Image.open(io.BytesIO(_photo())) as picture:
      whole = np.asarray(picture)
    for seed in range(12):
      rng, again = (np.random.default_rng(seed) for _ in range(2))
      actual = images.decode_random_crop(_photo(), (32, 32, 3), rng)
      left, top, width, height = images._random_box((640, 427), again)
      expected = Image.fromarray(whole).resize(
          (32, 32),
          Image.Resampling.BILINEAR,
          (left, top, left + width, top + height),
      )
      expected = np.asarray(expected).astype(int)
      if again.random() < 0.5:
        expected = expected[:, ::-1]
      # Decoding at reduced size scales slightly differently.
      self.assertLess(np.abs(actual - expected).mean(), 3.0)

  def test_boxes_have_the_areas_and_aspects_that_are_said(self):
    rng = np.random.default_rng(0)
    boxes = np.array([images._random_box((640, 427), rng) for _ in range(4000)])
    left, top, width, height = boxes.T
    self.assertGreaterEqual(min(left.min(), top.min()), 0.0)
    self.assertLessEqual((left + width).max(), 640.0 + 1e-9)
    self.assertLessEqual((top + height).max(), 427.0 + 1e-9)
    area = width * height / (640 * 427)
    self.assertBetween(area.min(), 0.08 - 1e-9, 0.1)
    # The largest box is as high as the image and has the largest aspect.
    self.assertBetween(area.max(), 0.85, 427 * 4 / 3 / 640)
    self.assertBetween(area.mean(), 0.35, 0.45)
    aspect = width / height
    self.assertBetween(aspect.min(), 0.75 - 1e-9, 0.77)
    self.assertBetween(aspect.max(), 1.3, 4 / 3 + 1e-9)

  def test_turned_pictures_are_cropped_as_they_stand(self):
    """Compares an upright and a turned JPEG, at reduced and at full size."""
    picture = Image.fromarray(datasets.load_sample_image('china.jpg'))
    lying = picture.transpose(Image.Transpose.ROTATE_90)
    for size in (16, 200):
      for seed in range(6):
        upright, turned = (
            images.decode_random_crop(
                _encoded(one, 'JPEG', quality=95, **exif),
                (size, size, 3),
                np.random.default_rng(seed),
            ).astype(int)
            for one, exif in ((picture, {}), (lying, {'exif': _exif(6)}))
        )
        self.assertLess(np.abs(upright - turned).mean(), 3.0)

  @parameterized.parameters((1000, 10), (10, 1000))
  def test_of_a_strip_the_middle_is_taken(self, width, height):
    box = images._random_box((width, height), np.random.default_rng(0))
    long, short = (13.333333, 10.0), (10.0, 13.333333)
    np.testing.assert_allclose(box[2:], long if width > height else short)
    np.testing.assert_allclose(box[0] + box[2] / 2, width / 2)
    np.testing.assert_allclose(box[1] + box[3] / 2, height / 2)


if __name__ == '__main__':
  absltest.main()
