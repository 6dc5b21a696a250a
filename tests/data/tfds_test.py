# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.data.tfds and decoding, with sets written by TFDS."""

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
import tensorflow_datasets as tfds

from adaptanet_jax.data import decoding, images, sources, tfds as tfds_lib
from adaptanet_jax.data.splits import DamagedError
from adaptanet_jax.errors import UsageError
from configs import common

# The folder of a prepared CIFAR-100, if there is one.
_REAL = os.environ.get('ADAPTANET_TFDS_DIR', '')


def _load(**data):
  config = common.get_config()
  config.data.update({'held_out': 0.0} | data)
  return sources.load(config)


def _pixels(split):
  return split.gather(np.arange(len(split)))


def _png(pixels):
  # A file, as in a real data set: TFDS would encode an array with TensorFlow.
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'PNG')
  file.seek(0)
  return file


def _uneven_image(number):
  """Returns an image of one colour, 4 to 9 pixels high and 6 wide."""
  return np.full((4 + number, 6, 3), 10 * number, np.uint8)


def _fixed_image(number):
  return np.arange(25, dtype=np.uint8).reshape(5, 5) + 30 * number


class _TinySet(tfds.core.GeneratorBasedBuilder):
  """Six training and four test examples; labels are numbers modulo 3."""

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


# Not registered, so that TFDS has to find them in their folder by name.
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


  class TinyWide(TinyFixed):
    name = 'tiny_wide'

    def inputs(self):
      return {'image': tfds.features.Image(shape=(5, 10, 1))}

    def example(self, number):
      return {'image': _png(np.tile(_fixed_image(number), (1, 2)))}

  class TinyUnlabelled(TinyFixed):
    name = 'tiny_unlabelled'

    def example(self, number):
      return super().example(number) | {'label': -1 if number == 2 else 0}

  class TinyNumbered(TinyFixed):
    name = 'tiny_numbered'

    def inputs(self):
      return super().inputs() | {'label': np.int64}

  class TinyTagged(TinyFixed):
    name = 'tiny_tagged'

    def inputs(self):
      label = tfds.features.ClassLabel(num_classes=3)
      return super().inputs() | {'label': tfds.features.Sequence(label)}

    def example(self, number):
      return super().example(number) | {'label': [0, number % 3]}

  class TinyNamed(TinyFixed):
    name = 'tiny_named'

    def inputs(self):
      label = tfds.features.ClassLabel(names=['ant', 'bee', 'cat'])
      return super().inputs() | {'label': label}

  class TinyDamaged(TinyUneven):
    """A set whose fourth image is cut off and whose fifth is no image."""

    name = 'tiny_damaged'

    def example(self, number):
      file = super().example(number)['image']
      if number == 3:
        file = io.BytesIO(file.getvalue()[:-30])
      if number == 4:
        file = io.BytesIO(b'<html>not found</html>')
      return {'image': file}


_SETS = (
    *(TinyUneven, TinyFixed, TinyWords, TinyWide, TinyUnlabelled),
    *(TinyNumbered, TinyTagged, TinyNamed, TinyDamaged),
)


class TfdsTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    tfds.disable_progress_bar()
    cls.folder = tempfile.mkdtemp()
    cls.addClassCleanup(shutil.rmtree, cls.folder)
    for builder in _SETS:
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
      # TFDS shuffles examples; the first pixel identifies them.
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
    # Image n has value 10 n everywhere, also when it is scaled.
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
      # The test split of 4 images fits into memory; the training split does
      # not.
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
      dataset = _load(name=name, **data)
      whole = dataset.test
      config = common.get_config()
      config.data.update(name=name, **data)
      with mock.patch.object(futures, 'ProcessPoolExecutor') as pool:
        class_names, alone = sources.load_test(config)
        np.testing.assert_array_equal(_pixels(alone), _pixels(whole))
      np.testing.assert_array_equal(alone.labels, whole.labels)
      self.assertEqual(class_names, dataset.class_names)
      pool.assert_not_called()

  def test_many_chunks_are_decoded_in_order_by_processes(self):
    whole = self._tiny('tiny_fixed')
    with (
        mock.patch.object(decoding, '_CHUNK', 2),
        mock.patch.object(
            futures, 'ProcessPoolExecutor', wraps=futures.ProcessPoolExecutor
        ) as pool,
    ):
      chunked = self._tiny('tiny_fixed')
    # Only the training split has more than two chunks: three.
    self.assertEqual(pool.call_count, 1)
    np.testing.assert_array_equal(_pixels(chunked.train), _pixels(whole.train))
    np.testing.assert_array_equal(chunked.train.labels, whole.train.labels)

  def test_processes_that_are_ended_from_outside_are_one_line(self):
    with (
        mock.patch.object(decoding, '_CHUNK', 2),
        mock.patch.object(
            futures.ProcessPoolExecutor,
            'map',
            side_effect=futures.process.BrokenProcessPool,
        ),
    ):
      self._assert_refused(
          'was killed, most likely because memory ran out',
          name='tiny_fixed',
          dir=self.folder,
      )

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

  @parameterized.parameters(
      *('/data/pictures', './pictures', '..', '', 'tiny-fixed', 'TinyFixed '),
      *('tiny_fixed:9.9.9', 'tiny_fixed:1', 'tiny_fixed:', 'tiny_fixed/other'),
      *('tiny_fixed/other:1.0.0', 'cifar100/coarse', 'mnist,cifar10'),
      *('http://host/set', 'gs://host/set', 'kaggle:set'),
  )
  def test_a_name_that_tfds_cannot_read_is_refused_in_one_line(self, name):
    with self.assertRaises(UsageError) as caught:
      _load(name=name, dir=self.folder, fake_if_missing=True)
    text = str(caught.exception)
    self.assertStartsWith(text, f'Unknown data set {name!r} (')
    self.assertIn('"folder" for pictures', text)
    self.assertNotIn('\n', text)
    self.assertLess(len(text), 600)

  @parameterized.parameters(
      'train[:50%', 'train[x]', '', '[', 'train[:101%]', 'train[50%]',
      'train[9:]', 'train+val', 'train[:0]', 'train[90%:10%]', 'train[4:2]',
  )
  def test_a_split_that_is_none_is_refused_in_one_line(self, split):
    with self.assertRaises(UsageError) as caught:
      self._tiny('tiny_fixed', train_split=split)
    text = str(caught.exception)
    self.assertIn(repr(split), text)
    self.assertIn('such as "train[', text)
    self.assertNotIn('\n', text)

  def test_slices_of_a_split_are_splits(self):
    whole = self._tiny('tiny_fixed')
    parts = self._tiny(
        'tiny_fixed', train_split='train[:50%]', test_split='train[50%:]'
    )
    both = [_pixels(part) for part in (parts.train, parts.test)]
    self.assertEqual([len(part) for part in both], [3, 3])
    np.testing.assert_array_equal(np.concatenate(both), _pixels(whole.train))
    every = self._tiny('tiny_fixed', train_split='train+test').train
    self.assertLen(every, 10)

  def test_examples_that_are_trained_and_tested_on_are_warned_of(self):
    with self.assertLogs('absl', 'WARNING') as logs:
      self._tiny(
          'tiny_fixed', train_split='train[:4]', test_split='train[50%:]+test'
      )
    # The fourth training example is in both.
    self.assertIn("1 examples of 'tiny_fixed' are both in", logs.output[0])
    with self.assertNoLogs('absl', 'WARNING'):
      self._tiny('tiny_fixed', train_split='train[:3]', test_split='train[3:]')

  def test_examples_that_repeat_in_the_training_split_are_warned_of(self):
    with self.assertLogs('absl', 'WARNING') as logs:
      self._tiny('tiny_fixed', train_split='train[:4]+train[2:]')
    self.assertLen(logs.output, 1)
    self.assertIn("2 examples of 'tiny_fixed' are repeated", logs.output[0])

  def test_classes_have_the_names_that_the_set_gives_them(self):
    named = self._tiny('tiny_named')
    self.assertEqual(named.class_names, ('ant', 'bee', 'cat'))
    self.assertEqual(self._tiny('tiny_fixed').class_names, ('0', '1', '2'))

  def test_images_that_are_no_square_are_refused_as_they_are(self):
    self._assert_refused(
        "'tiny_wide' are 5 x 10, which is not square",
        'config.data.image_size',
        name='tiny_wide',
        dir=self.folder,
    )
    wide = self._tiny('tiny_wide', image_size=4)
    self.assertEqual(wide.image_shape, (4, 4, 1))

  @parameterized.parameters(0, 1)
  def test_a_label_of_none_is_refused_by_split_position_and_range(self, large):
    with mock.patch.object(
        decoding, 'MAX_BYTES_IN_MEMORY', 0 if large else 2**30
    ):
      with self.assertRaisesRegex(
          UsageError,
          r"Example \d of split 'train' of 'tiny_unlabelled' has label -1; "
          'expected 0 to 2.*config.data.train_split',
      ):
        # Streamed examples are checked when they are read.
        _pixels(self._tiny('tiny_unlabelled').train)

  def test_a_label_beyond_the_classes_is_refused(self):
    examples = [{'image': b'', 'label': np.int64(n)} for n in (2, 3)]
    source = tfds_lib.TfdsSource(examples, 'set', 'test', 3)
    self.assertEqual(source.read(0), (b'', 2))
    with self.assertRaisesRegex(UsageError, "Example 1 .*'test'.*label 3;"):
      source.read(1)
    with self.assertRaisesRegex(UsageError, 'label 3'):
      source.labels(np.arange(2))

  @parameterized.parameters(
      ('tiny_numbered', 'a Tensor'), ('tiny_tagged', 'a Sequence')
  )
  def test_a_label_of_another_kind_is_refused(self, name, kind):
    self._assert_refused(
        f"Feature 'label' of {name!r} is {kind}; expected ClassLabel, one",
        name=name,
        dir=self.folder,
    )

  @parameterized.parameters(2**30, 0)
  def test_a_damaged_example_is_named(self, memory):
    with mock.patch.object(decoding, 'MAX_BYTES_IN_MEMORY', memory):
      with self.assertRaisesRegex(
          DamagedError,
          r"^Example \d of split 'train' of 'tiny_damaged' cannot be used: "
          '.*(truncated|html).*config.data.damaged=skip',
      ):
        _pixels(self._tiny('tiny_damaged', image_size=4).train)

  @parameterized.parameters(2**30, 0)
  def test_damaged_examples_are_left_out_counted_and_named(self, memory):
    with (
        mock.patch.object(decoding, 'MAX_BYTES_IN_MEMORY', memory),
        self.assertLogs('absl', 'WARNING') as logs,
    ):
      found = self._tiny('tiny_damaged', image_size=4, damaged='skip')
    # Numbers 3 and 4 of six training and 3 of four test examples.
    self.assertRegex(
        '\n'.join(logs.output),
        r"(?s)Left out 2 of 6 .*Example \d of split 'train' of 'tiny_damaged' "
        r'\(.*\).*Left out 1 of 4 ',
    )
    colours = _pixels(found.train).max((1, 2, 3))
    self.assertEqual(sorted(colours), [0, 10, 20, 50])
    np.testing.assert_array_equal(found.train.labels, colours // 10 % 3)
    self.assertLen(found.test, 3)

  def test_the_test_split_alone_leaves_out_the_same(self):
    config = common.get_config()
    config.data.update(
        name='tiny_damaged', dir=self.folder, image_size=4, damaged='skip'
    )
    self.assertLen(sources.load_test(config)[1], 3)

  def test_nothing_that_can_be_used_is_refused(self):
    with mock.patch.object(
        images, 'decode', side_effect=images.ImageError('it is empty')
    ):
      self._assert_refused(
          'None of the 6 examples of a split can be used: Example 0 of split',
          'and 3 more. Expected pictures',
          name='tiny_uneven',
          dir=self.folder,
          image_size=4,
          damaged='skip',
      )

  @parameterized.parameters(100, 2**16)
  def test_files_that_cannot_be_read_are_named_as_damaged(self, size):
    """Asserts that a truncated file is refused by the name of its set."""
    other = self.enterContext(tempfile.TemporaryDirectory())
    shutil.copytree(
        pathlib.Path(self.folder, 'tiny_fixed'),
        pathlib.Path(other, 'tiny_fixed'),
    )
    (path,) = pathlib.Path(other).rglob('*-train.array_record*')
    path.write_bytes(path.read_bytes()[:size])
    with self.assertRaises(UsageError) as caught:
      _load(name='tiny_fixed', dir=other)
    self.assertIn("'train' of 'tiny_fixed' cannot be", str(caught.exception))

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
    # All classes have equally many examples.
    np.testing.assert_array_equal(np.bincount(cifar.train.labels), [500] * 100)
    np.testing.assert_array_equal(np.bincount(cifar.test.labels), [100] * 100)


if __name__ == '__main__':
  absltest.main()
