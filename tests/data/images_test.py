# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.data.images."""

import io

from absl.testing import absltest, parameterized
import numpy as np
from PIL import Image
from sklearn import datasets

from adaptanet_jax.data import images


def _photo(mode='RGB', file_format='JPEG'):
  """A photograph of 640 by 427 pixels that scikit-learn carries, encoded."""
  picture = Image.fromarray(datasets.load_sample_image('china.jpg'))
  file = io.BytesIO()
  picture.convert(mode).save(file, file_format, quality=95)
  return file.getvalue()


class ResizeTest(parameterized.TestCase):

  def test_an_image_that_fits_is_returned_itself(self):
    image = np.zeros((4, 4, 3), np.uint8)
    self.assertIs(images.resize(image, 4), image)

  @parameterized.product(colours=(1, 3), tall=(False, True))
  def test_the_centre_square_is_cut(self, colours, tall):
    # Columns 0, 10, ..., 70; of eight, the middle four are the third to sixth.
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
    # Centres of the new pixels lie at -1/4, 1/4, 3/4 and 5/4 of the way from
    # one old centre to the other; beyond the old ones the border goes on.
    row = [0, 25, 75, 100]
    np.testing.assert_array_equal(images.resize(image, 4)[..., 0], [row] * 4)

  def test_the_shorter_side_may_be_scaled_to_more_than_is_cut(self):
    row = np.arange(0, 80, 10, dtype=np.uint8)
    image = np.broadcast_to(row[None, :, None], (8, 8, 1))
    # Of eight columns as they are, the middle four.
    np.testing.assert_array_equal(
        images.resize(image, 4, 8)[..., 0], [[20, 30, 40, 50]] * 4
    )
    # The same size, but scaled first.
    self.assertEqual(images.resize(image, 8, 16).shape, (8, 8, 1))
    self.assertGreater(images.resize(image, 8, 16).min(), 10)

  def test_colours_stay_apart(self):
    image = np.broadcast_to(np.array([10, 200, 90], np.uint8), (7, 9, 3))
    expected = np.broadcast_to(np.array([10, 200, 90]), (5, 5, 3))
    np.testing.assert_array_equal(images.resize(image, 5), expected)


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
    actual = images.decode(_photo(), (64, 64, 3), 80)
    with Image.open(io.BytesIO(_photo())) as picture:
      scaled = picture.resize((120, 80), Image.Resampling.BILINEAR)
    expected = np.asarray(scaled)[8:72, 28:92]
    np.testing.assert_array_equal(actual, expected)

  def test_a_random_crop_is_a_part_of_the_image_decoded_at_any_size(self):
    """Against a crop of the whole image, cut and scaled from all its pixels."""
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
      # Decoding at a part of the size is not quite the same scaling.
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
    # One as high as the image and of the largest aspect ratio.
    self.assertBetween(area.max(), 0.85, 427 * 4 / 3 / 640)
    self.assertBetween(area.mean(), 0.35, 0.45)
    aspect = width / height
    self.assertBetween(aspect.min(), 0.75 - 1e-9, 0.77)
    self.assertBetween(aspect.max(), 1.3, 4 / 3 + 1e-9)

  @parameterized.parameters((1000, 10), (10, 1000))
  def test_of_a_strip_the_middle_is_taken(self, width, height):
    box = images._random_box((width, height), np.random.default_rng(0))
    long, short = (13.333333, 10.0), (10.0, 13.333333)
    np.testing.assert_allclose(box[2:], long if width > height else short)
    np.testing.assert_allclose(box[0] + box[2] / 2, width / 2)
    np.testing.assert_allclose(box[1] + box[3] / 2, height / 2)


if __name__ == '__main__':
  absltest.main()
