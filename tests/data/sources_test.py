# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.data.sources."""

from concurrent import futures
import io
import json
import os
import pathlib
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np
from PIL import Image
from sklearn import datasets
import tensorflow_datasets as tfds

from adaptanet_jax.data import decoding, images, sources
from adaptanet_jax.errors import UsageError
from configs import common

# Where someone has prepared the real CIFAR-100; no test needs it.
_REAL = os.environ.get('ADAPTANET_TFDS_DIR', '')


def _load(**data):
  config = common.get_config()
  config.data.update({'held_out': 0.0} | data)
  return sources.load(config)


def _pixels(split):
  return split.gather(np.arange(len(split)))


def _sorted_rows(images):
  return sorted(image.tobytes() for image in images)


def _png(pixels):
  # A file, as a real data set has it: arrays TFDS encodes with TensorFlow.
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'PNG')
  file.seek(0)
  return file


def _uneven_image(number):
  """One colour all over; 4 to 9 pixels high, 6 wide."""
  return np.full((4 + number, 6, 3), 10 * number, np.uint8)


def _fixed_image(number):
  return np.arange(25, dtype=np.uint8).reshape(5, 5) + 30 * number


class _TinySet(tfds.core.GeneratorBasedBuilder):
  """Six training and four test examples, labelled by their number modulo 3."""

  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    label = tfds.features.ClassLabel(num_classes=3)
    features = tfds.features.FeaturesDict({'label': label} | self.inputs())
    return tfds.core.DatasetInfo(builder=self, features=features)

  def _split_generators(self, dl_manager):
    del dl_manager
    return {
        'train': self._generate_examples(6),
        'test': self._generate_examples(4),
    }

  def _generate_examples(self, count):
    for number in range(count):
      yield number, {'label': number % 3} | self.example(number)


# Unregistered, so that TFDS has to find them in their folder by name alone.
with tfds.core.registered.skip_registration():

  class TinyUneven(_TinySet):
    name = 'tiny_uneven'

    def inputs(self):
      return {'image': tfds.features.Image(shape=(None, None, 3))}

    def example(self, number):
      return {'image': _png(_uneven_image(number))}

  class TinyFixed(_TinySet):
    name = 'tiny_fixed'

    def inputs(self):
      return {'image': tfds.features.Image(shape=(5, 5, 1))}

    def example(self, number):
      return {'image': _png(_fixed_image(number))}

  class TinyWords(_TinySet):
    name = 'tiny_words'

    def inputs(self):
      return {'word': tfds.features.Text()}

    def example(self, number):
      return {'word': f'word {number}'}


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
    # Whole numbers cannot be nearer than that.
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
    # Shade k of 0 to 16 is 15.9375 k: 0, 15.94, 31.88, ..., 239.06, 255.
    shades = [0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207,
              223, 239, 255]
    np.testing.assert_array_equal(np.unique(images), shades)
    scans = datasets.load_digits().images.reshape(-1, 8, 8, 1)
    scans = np.array(shades, np.uint8)[scans.astype(int)]
    # Every scan is in one split, and in no more than one.
    self.assertEqual(_sorted_rows(images), _sorted_rows(scans))

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
    # A fifth of 1,297.
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


class TfdsTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    tfds.disable_progress_bar()
    cls.folder = tempfile.mkdtemp()
    cls.addClassCleanup(shutil.rmtree, cls.folder)
    for builder in (TinyUneven, TinyFixed, TinyWords):
      builder(
          data_dir=cls.folder, file_format='array_record'
      ).download_and_prepare()

  def _tiny(self, name, **data):
    return _load(name=name, dir=self.folder, **data)

  def _assert_refused(self, *texts, **data):
    with self.assertRaises(UsageError) as caught:
      _load(**data)
    for text in texts:
      self.assertIn(text, str(caught.exception))

  def test_images_of_one_size_load_as_they_are(self):
    tiny = self._tiny('tiny_fixed')
    self.assertEqual(tiny.name, 'tiny_fixed')
    self.assertEqual(tiny.num_classes, 3)
    self.assertEqual(tiny.image_shape, (5, 5, 1))
    for split, count in ((tiny.train, 6), (tiny.test, 4)):
      self.assertLen(split, count)
      self.assertEqual(split.labels.dtype, np.int32)
      images = _pixels(split)
      self.assertEqual(images.shape, (count, 5, 5, 1))
      self.assertEqual(images.dtype, np.uint8)
      # TFDS shuffles examples; the first pixel tells which one it is.
      numbers = images[:, 0, 0, 0] // 30
      self.assertEqual(sorted(numbers), list(range(count)))
      np.testing.assert_array_equal(split.labels, numbers % 3)
      for number, image in zip(numbers, images):
        np.testing.assert_array_equal(image[..., 0], _fixed_image(number))

  def test_uneven_images_are_scaled_to_one_square(self):
    tiny = self._tiny('tiny_uneven', image_size=4)
    self.assertEqual(tiny.image_shape, (4, 4, 3))
    images = _pixels(tiny.train)
    self.assertEqual(images.shape, (6, 4, 4, 3))
    # Image n is 10 n all over, however it is scaled.
    colours = images.max((1, 2, 3))
    np.testing.assert_array_equal(images.min((1, 2, 3)), colours)
    self.assertEqual(sorted(colours), [0, 10, 20, 30, 40, 50])
    np.testing.assert_array_equal(tiny.train.labels, colours // 10 % 3)

  def test_counts_cut_the_splits_from_their_start(self):
    whole = self._tiny('tiny_fixed')
    cut = self._tiny('tiny_fixed', train_examples=4, test_examples=3)
    self.assertLen(cut.train, 4)
    self.assertLen(cut.test, 3)
    np.testing.assert_array_equal(
        _pixels(cut.train), _pixels(whole.train)[:4]
    )
    np.testing.assert_array_equal(cut.test.labels, whole.test.labels[:3])

  def test_a_large_set_is_decoded_as_it_is_gathered(self):
    in_memory = self._tiny('tiny_uneven', image_size=4, train_examples=5)
    with (
        mock.patch.object(decoding, 'MAX_BYTES_IN_MEMORY', 4 * 4 * 3 * 5 - 1),
        mock.patch.object(images, 'resize', wraps=images.resize) as decode,
    ):
      large = self._tiny('tiny_uneven', image_size=4, train_examples=5)
      # The test split, 4 images, fits; the training split does not.
      self.assertEqual(decode.call_count, 4)
      positions = np.array([4, 0, 3, 3])
      gathered = large.train.gather(positions)
      self.assertEqual(decode.call_count, 4 + 4)
    np.testing.assert_array_equal(
        gathered, in_memory.train.gather(positions)
    )
    np.testing.assert_array_equal(large.train.labels, in_memory.train.labels)

  def test_the_test_split_alone_is_the_same_and_needs_no_processes(self):
    for name, data in (
        ('digits', {'image_size': 16, 'test_examples': 9}),
        ('fake', {'fake_classes': 3}),
        ('tiny_uneven', {'image_size': 4, 'dir': self.folder}),
        ('tiny_fixed', {'test_examples': 3, 'dir': self.folder}),
    ):
      whole = _load(name=name, **data).test
      config = common.get_config()
      config.data.update(name=name, **data)
      with mock.patch.object(futures, 'ProcessPoolExecutor') as pool:
        alone = sources.load_test(config)
        np.testing.assert_array_equal(_pixels(alone), _pixels(whole))
      np.testing.assert_array_equal(alone.labels, whole.labels)
      pool.assert_not_called()

  def test_many_chunks_are_decoded_in_order_by_processes(self):
    whole = self._tiny('tiny_fixed')
    with (
        mock.patch.object(decoding, '_CHUNK', 2),
        mock.patch.object(os, 'cpu_count', return_value=1),
        mock.patch.object(
            futures, 'ProcessPoolExecutor', wraps=futures.ProcessPoolExecutor
        ) as pool,
    ):
      chunked = self._tiny('tiny_fixed')
    # For the three chunks of the training split; the test split has but two.
    self.assertEqual(pool.call_count, 1)
    np.testing.assert_array_equal(_pixels(chunked.train), _pixels(whole.train))
    np.testing.assert_array_equal(chunked.train.labels, whole.train.labels)

  def test_a_set_that_is_not_prepared_is_refused_with_what_to_do(self):
    empty = self.enterContext(tempfile.TemporaryDirectory())
    self._assert_refused(
        f"'cifar10' is not prepared under '{empty}'",
        "tfds.builder('cifar10'",
        f"data_dir='{empty}', file_format='array_record'",
        'download_and_prepare()',
        '--config.data.dir=DIR',
        name='cifar10',
        dir=empty,
    )

  def test_an_unknown_set_is_refused_with_examples_of_names(self):
    self._assert_refused(
        "'no_such_set'",
        '"digits", "fake"',
        '"cifar100"',
        name='no_such_set',
        dir=self.folder,
    )

  @parameterized.parameters('train_split', 'test_split')
  def test_a_missing_split_is_refused_with_the_splits(self, key):
    self._assert_refused(
        "'tiny_fixed' has no split 'validation'",
        "['test', 'train']",
        name='tiny_fixed',
        dir=self.folder,
        **{key: 'validation'},
    )

  def test_uneven_images_without_a_size_are_refused(self):
    self._assert_refused(
        "'tiny_uneven' differ in size",
        'config.data.image_size',
        name='tiny_uneven',
        dir=self.folder,
    )

  def test_a_set_without_images_is_refused_with_its_features(self):
    self._assert_refused(
        "'tiny_words' has features ['label', 'word']",
        '"image" and "label"',
        name='tiny_words',
        dir=self.folder,
    )

  def test_another_file_format_is_refused_with_what_to_do(self):
    other = self.enterContext(tempfile.TemporaryDirectory())
    shutil.copytree(
        pathlib.Path(self.folder, 'tiny_fixed'),
        pathlib.Path(other, 'tiny_fixed'),
    )
    info = pathlib.Path(other, 'tiny_fixed', '1.0.0', 'dataset_info.json')
    fields = json.loads(info.read_text()) | {'fileFormat': 'tfrecord'}
    info.write_text(json.dumps(fields))
    self._assert_refused(
        "'tfrecord'",
        'expected "array_record"',
        'download_and_prepare()',
        name='tiny_fixed',
        dir=other,
    )

  def test_fake_if_missing_goes_on_with_fake_data_and_says_so(self):
    with self.assertLogs('absl', 'WARNING') as logs:
      fake = _load(
          name='cifar10',
          dir=self.folder,
          fake_if_missing=True,
          image_size=8,
          train_examples=12,
          test_examples=6,
      )
    self.assertEqual(fake.name, 'fake')
    self.assertEqual(fake.image_shape, (8, 8, 3))
    self.assertLen(fake.train, 12)
    self.assertRegex('\n'.join(logs.output), r"'cifar10'(.|\n)*FAKE data")

  def test_fake_if_missing_does_not_hide_a_misspelt_name(self):
    with self.assertRaisesRegex(UsageError, "'cifr100'"):
      _load(name='cifr100', dir=self.folder, fake_if_missing=True)

  def test_fake_if_missing_leaves_a_set_that_is_there(self):
    tiny = self._tiny('tiny_fixed', fake_if_missing=True)
    self.assertEqual(tiny.name, 'tiny_fixed')

  @absltest.skipUnless(
      _REAL and os.path.isdir(os.path.join(_REAL, 'cifar100')),
      'ADAPTANET_TFDS_DIR names no folder with a prepared cifar100.',
  )
  def test_the_real_cifar100_is_whole(self):
    cifar = _load(name='cifar100', dir=_REAL)
    self.assertEqual(cifar.num_classes, 100)
    self.assertEqual(cifar.image_shape, (32, 32, 3))
    self.assertLen(cifar.train, 50000)
    self.assertLen(cifar.test, 10000)
    self.assertEqual(_pixels(cifar.test).shape, (10000, 32, 32, 3))
    # As many of each class.
    np.testing.assert_array_equal(np.bincount(cifar.train.labels), [500] * 100)
    np.testing.assert_array_equal(np.bincount(cifar.test.labels), [100] * 100)


if __name__ == '__main__':
  absltest.main()
