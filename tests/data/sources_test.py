# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.data.sources."""

from absl.testing import absltest, parameterized
import numpy as np
from sklearn import datasets

from adaptanet_jax.data import sources
from adaptanet_jax.data.images import resize
from configs import common


def _load(**data):
  config = common.get_config()
  config.data.update({'held_out': 0.0} | data)
  return sources.load(config)


def _pixels(split):
  return split.gather(np.arange(len(split)))


def _sorted_rows(images):
  return sorted(image.tobytes() for image in images)


class DigitsTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.digits = _load(name='digits', image_size=16)

  def test_sizes_and_shapes_are_as_documented(self):
    self.assertEqual(self.digits.name, 'digits')
    self.assertEqual(self.digits.num_classes, 10)
    self.assertEqual(self.digits.image_shape, (16, 16, 1))
    self.assertLen(self.digits.train, 1297)
    self.assertLen(self.digits.test, 500)
    images = self.digits.test.gather(np.array([0, 499, 7]))
    self.assertEqual(images.shape, (3, 16, 16, 1))
    self.assertEqual(images.dtype, np.uint8)

  def test_labels_are_the_ten_digits(self):
    for split in (self.digits.train, self.digits.test):
      self.assertEqual(split.labels.dtype, np.int32)
      self.assertEqual(set(split.labels.tolist()), set(range(10)))

  def test_both_splits_have_the_classes_in_equal_shares(self):
    train = np.bincount(self.digits.train.labels)
    test = np.bincount(self.digits.test.labels)
    expected = (train + test) * 500 / 1797
    # Whole numbers cannot be closer.
    self.assertLess(np.abs(test - expected).max(), 1)

  def test_a_second_load_is_identical(self):
    again = _load(name='digits', image_size=16)
    for split, other in (
        (self.digits.train, again.train),
        (self.digits.test, again.test),
    ):
      np.testing.assert_array_equal(split.labels, other.labels)
      np.testing.assert_array_equal(_pixels(split), _pixels(other))

  def test_image_size_0_keeps_the_scans_as_they_are(self):
    digits = _load(name='digits', image_size=0)
    self.assertEqual(digits.image_shape, (8, 8, 1))
    images = np.concatenate([_pixels(digits.train), _pixels(digits.test)])
    # Shade k of 0 to 16 becomes 15.9375 k: 0, 15.94, 31.88, ..., 239.06, 255.
    shades = [0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207,
              223, 239, 255]
    np.testing.assert_array_equal(np.unique(images), shades)
    scans = datasets.load_digits().images.reshape(-1, 8, 8, 1)
    scans = np.array(shades, np.uint8)[scans.astype(int)]
    # Every scan is in exactly one split.
    self.assertEqual(_sorted_rows(images), _sorted_rows(scans))

  def test_scans_are_scaled_and_cut_as_new_pictures_are(self):
    cut = _load(name='digits', image_size=16, shorter_side=20)
    scans = _pixels(_load(name='digits', image_size=0).test)
    np.testing.assert_array_equal(
        _pixels(cut.test), [resize(scan, 16, 20) for scan in scans]
    )

  def test_counts_cut_the_splits_from_their_start(self):
    cut = _load(
        name='digits', image_size=16, train_examples=100, test_examples=20
    )
    self.assertLen(cut.train, 100)
    self.assertLen(cut.test, 20)
    np.testing.assert_array_equal(
        cut.train.labels, self.digits.train.labels[:100]
    )
    np.testing.assert_array_equal(
        _pixels(cut.test), _pixels(self.digits.test)[:20]
    )

  def test_a_count_beyond_the_split_keeps_all_of_it(self):
    self.assertLen(_load(name='digits', train_examples=5000).train, 1297)


class HeldOutTest(parameterized.TestCase):

  def test_a_share_is_set_apart_and_nothing_is_lost(self):
    whole = _load(name='digits', image_size=0)
    cut = _load(name='digits', image_size=0, held_out=0.2)
    # A fifth of 1,297 images.
    self.assertLen(cut.held_out, 259)
    self.assertLen(cut.train, 1038)
    both = np.concatenate([_pixels(cut.train), _pixels(cut.held_out)])
    self.assertEqual(_sorted_rows(both), _sorted_rows(_pixels(whole.train)))
    np.testing.assert_array_equal(_pixels(cut.test), _pixels(whole.test))

  def test_it_is_the_same_whatever_the_seed_of_the_run(self):
    first = _load(name='digits', held_out=0.1)
    config = common.get_config()
    config.seed = 5
    config.data.update(name='digits', held_out=0.1)
    again = sources.load(config)
    np.testing.assert_array_equal(
        _pixels(again.held_out), _pixels(first.held_out)
    )

  def test_it_is_drawn_from_all_of_the_split(self):
    held_out = _load(name='digits', held_out=0.2).held_out
    self.assertEqual(set(held_out.labels.tolist()), set(range(10)))

  @parameterized.parameters(0.0, 0.0001)
  def test_none_of_them_is_no_split(self, share):
    cut = _load(name='digits', held_out=share)
    self.assertIsNone(cut.held_out)
    self.assertLen(cut.train, 1297)


class FakeTest(parameterized.TestCase):

  def test_sizes_are_the_configured_ones(self):
    fake = _load(
        name='fake',
        image_size=8,
        fake_classes=4,
        train_examples=30,
        test_examples=20,
    )
    self.assertEqual(fake.name, 'fake')
    self.assertEqual(fake.num_classes, 4)
    self.assertEqual(fake.image_shape, (8, 8, 3))
    self.assertLen(fake.train, 30)
    self.assertLen(fake.test, 20)
    self.assertEqual(_pixels(fake.train).shape, (30, 8, 8, 3))
    self.assertEqual(_pixels(fake.train).dtype, np.uint8)
    self.assertEqual(set(fake.train.labels.tolist()), set(range(4)))

  def test_zeros_stand_for_defaults(self):
    fake = _load(name='fake')
    self.assertEqual(fake.image_shape, (32, 32, 3))
    self.assertLen(fake.train, 512)
    self.assertLen(fake.test, 128)

  def test_nearest_class_mean_is_right_on_most_test_examples(self):
    fake = _load(name='fake', image_size=16)
    train = _pixels(fake.train).reshape(512, -1).astype(float)
    test = _pixels(fake.test).reshape(128, -1).astype(float)
    means = np.stack(
        [train[fake.train.labels == label].mean(0) for label in range(10)]
    )
    distances = np.square(test[:, None] - means[None]).sum(-1)
    right = distances.argmin(1) == fake.test.labels
    self.assertGreater(right.mean(), 0.9)

  def test_a_second_load_is_identical(self):
    first, second = (_load(name='fake', image_size=8) for _ in range(2))
    np.testing.assert_array_equal(_pixels(first.test), _pixels(second.test))
    np.testing.assert_array_equal(first.test.labels, second.test.labels)


if __name__ == '__main__':
  absltest.main()
