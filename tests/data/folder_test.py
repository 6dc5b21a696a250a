# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.data.folder, on parts of photographs."""

import functools
import hashlib
import os
import pathlib
import pickle
import shutil
import tempfile
from unittest import mock

from absl import flags
from absl.testing import absltest, parameterized
import numpy as np
from PIL import Image
from sklearn import datasets

from adaptanet_jax.data import decoding, images, pipeline, sources
from adaptanet_jax.data.dataset import MissingDataError, describe
from adaptanet_jax.data.splits import (
  DamagedError,
  InMemorySplit,
  StreamedSplit,
)
from adaptanet_jax.errors import UsageError
from configs import pictures

# Pillow's name of each suffix's format.
_FORMATS = {
    '.jpg': 'JPEG', '.JPEG': 'JPEG', '.png': 'PNG', '.webp': 'WEBP',
    '.gif': 'GIF', '.bmp': 'BMP', '.tif': 'TIFF', '.TIFF': 'TIFF',
}
_SUFFIXES = tuple(_FORMATS)


_photograph = functools.cache(datasets.load_sample_image)


def _part(name, number):
  """Returns a part, of random size, of one of scikit-learn's photographs."""
  rng = np.random.default_rng(number)
  whole = Image.fromarray(_photograph(name))
  width, height = rng.integers(20, 90, 2)
  left, top = rng.integers(0, 300, 2)
  return whole.crop((left, top, left + width, top + height))


def write(folder, count, classes=('china', 'flower'), *, suffixes=_SUFFIXES):
  """Writes pictures of each class, cycling through the formats."""
  folder = pathlib.Path(folder)
  for label, name in enumerate(classes):
    (folder / name).mkdir(parents=True)
    for number in range(count):
      suffix = suffixes[number % len(suffixes)]
      photo = ('china.jpg', 'flower.jpg')[label % 2]
      path = folder / name / f'{number:03}{suffix}'
      _part(photo, (label, number)).save(path, _FORMATS[suffix])


def _pixels(split):
  return split.gather(np.arange(len(split)))


class FolderTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory())
    )

  def _load(self, **data):
    config = pictures.get_config()
    config.data.update(dir=str(self.folder), image_size=16, held_out=0.0)
    config.data.update(data)
    return sources.load(config)

  def _assert_refused(self, *texts, **data):
    with self.assertRaises(UsageError) as caught:
      self._load(**data)
    for text in texts:
      self.assertIn(text, str(caught.exception))
    self.assertNotIn('\n', str(caught.exception))

  def test_a_split_of_its_own_is_taken_as_it_is(self):
    write(self.folder / 'train', 9)
    write(self.folder / 'test', 4)
    found = self._load()
    self.assertEqual(
        describe(found),
        {
            'name': 'folder',
            'train_examples': 18,
            'test_examples': 8,
            'num_classes': 2,
            'class_names': ['china', 'flower'],
            'image_shape': [16, 16, 3],
        },
    )
    for split, count in ((found.train, 9), (found.test, 4)):
      self.assertIsInstance(split, InMemorySplit)
      self.assertEqual(np.bincount(split.labels).tolist(), [count] * 2)
      self.assertEqual(split.labels.dtype, np.int32)
      self.assertEqual(_pixels(split).shape, (2 * count, 16, 16, 3))

  @parameterized.parameters('test', 'val', 'validation', 'valid')
  def test_the_test_split_has_one_of_its_usual_names(self, name):
    write(self.folder / 'train', 3)
    write(self.folder / name, 2)
    self.assertLen(self._load().test, 4)

  def test_the_one_that_is_asked_for_comes_first(self):
    write(self.folder / 'training', 3)
    write(self.folder / 'test', 2)
    write(self.folder / 'dev', 1)
    with self.assertLogs('absl', 'WARNING') as logs:
      found = self._load(train_split='training', test_split='dev')
    self.assertLen(found.train, 6)
    self.assertLen(found.test, 2)
    self.assertIn('1 x folder', logs.output[0])

  @parameterized.parameters('train_split', 'test_split')
  def test_one_that_is_asked_for_and_not_there_is_refused(self, key):
    for split in ('train', 'test'):
      write(self.folder / split, 1)
    self._assert_refused(
        f"config.data.{key} = 'other' is no folder", 'one of test, train.',
        **{key: 'other'},
    )

  def test_images_and_labels_belong_together_whatever_the_format(self):
    write(self.folder / 'train', 8)
    write(self.folder / 'val', 1)
    train = self._load().train
    # Pictures are ordered by the hashes of their names, then by class.
    names = sorted(
        (hashlib.sha256(f'{n:03}{suffix}'.encode()).digest(), label, n, suffix)
        for label in range(2)
        for n, suffix in enumerate(_SUFFIXES)
    )
    for position, (_, label, number, suffix) in enumerate(names):
      name = ('china', 'flower')[label]
      path = self.folder / 'train' / name / f'{number:03}{suffix}'
      expected = images.decode(path.read_bytes(), (16, 16, 3), 0)
      actual = train.gather(np.array([position]))[0]
      np.testing.assert_array_equal(actual, expected)
      self.assertEqual(train.labels[position], label)

  def test_a_fifth_is_tested_if_there_is_no_split(self):
    write(self.folder, 100, suffixes=('.png',))
    found = self._load(image_size=4)
    self.assertEqual(len(found.train) + len(found.test), 200)
    tested = [
        n for n in range(100)
        if int(hashlib.sha256(b'%03d.png' % n).hexdigest(), 16) % 5 == 0
    ]
    # The name of a file decides, and its class does not.
    self.assertEqual(np.bincount(found.test.labels).tolist(), [len(tested)] * 2)
    self.assertBetween(len(tested), 10, 30)

  def test_pictures_stay_in_their_split_when_others_come(self):
    write(self.folder, 30, suffixes=('.bmp',))
    before = {image.tobytes() for image in _pixels(self._load().test)}
    write(self.folder, 30, ('more',), suffixes=('.bmp',))
    test = self._load().test
    self.assertLen(test, len(before) * 3 // 2)
    after = {image.tobytes() for image in _pixels(test)}
    self.assertEmpty(before - after)
    trained = {image.tobytes() for image in _pixels(self._load().train)}
    self.assertEmpty(before & trained)

  def test_the_first_examples_are_of_all_classes(self):
    write(self.folder, 40, ('a', 'b', 'c'), suffixes=('.png',))
    cut = self._load(train_examples=30)
    self.assertLen(cut.train, 30)
    self.assertGreater(np.bincount(cut.train.labels).min(), 4)

  def test_a_share_can_be_held_out(self):
    write(self.folder / 'train', 10)
    write(self.folder / 'test', 2)
    whole, cut = self._load(), self._load(held_out=0.25)
    self.assertLen(cut.held_out, 5)
    both = np.concatenate([_pixels(cut.train), _pixels(cut.held_out)])
    self.assertEqual(
        sorted(image.tobytes() for image in both),
        sorted(image.tobytes() for image in _pixels(whole.train)),
    )

  def test_classes_are_in_sorted_order(self):
    write(self.folder, 12, ('b', 'a10', 'a9', 'Ä', 'B'), suffixes=('.png',))
    found = self._load()
    self.assertEqual(found.class_names, ('B', 'a10', 'a9', 'b', 'Ä'))

  def test_what_is_no_picture_is_passed_over_with_a_count(self):
    write(self.folder / 'train', 3)
    write(self.folder / 'test', 2)
    china = self.folder / 'train' / 'china'
    (china / '.DS_Store').write_bytes(b'')
    (china / '._000.jpg').write_bytes(b'')
    (china / 'notes.txt').write_bytes(b'')
    (china / 'more.TXT').write_bytes(b'')
    (china / 'README').write_bytes(b'')
    (china / 'folder.jpg').mkdir()
    os.symlink('/nowhere.png', china / 'gone.png')
    (self.folder / 'train' / '.cache').mkdir()
    (self.folder / 'labels.csv').write_bytes(b'')
    with self.assertLogs('absl', 'WARNING') as logs:
      self.assertLen(self._load().train, 6)
    self.assertLen(logs.output, 1)
    for text in ('3 x hidden', '2 x .txt', '1 x no suffix', '1 x .png',
                 '1 x folder in a class', '1 x file in no class'):
      self.assertIn(text, logs.output[0])

  def test_links_are_followed(self):
    write(self.folder / 'there', 12)
    os.symlink(self.folder / 'there', self.folder / 'link')
    found = self._load(dir=str(self.folder / 'link'))
    self.assertEqual(len(found.train) + len(found.test), 24)

  def test_a_name_in_no_known_encoding_is_a_name(self):
    write(self.folder, 20, suffixes=('.png',))
    os.rename(
        os.fsencode(self.folder / 'flower'),
        os.fsencode(self.folder) + b'/\xff\xfe',
    )
    found = self._load()
    self.assertEqual(found.class_names, ('china', '\udcff\udcfe'))
    self.assertGreater(np.bincount(found.train.labels).min(), 10)

  @parameterized.parameters(('', MissingDataError), ('/no/such', UsageError))
  def test_a_folder_that_is_not_there_is_refused(self, folder, kind):
    with self.assertRaisesRegex(
        UsageError, f"config.data.dir = '{folder}' is not a folder.*DIR/C"
    ) as caught:
      self._load(dir=folder)
    self.assertIs(type(caught.exception), kind)

  def test_a_file_for_a_folder_is_refused(self):
    (self.folder / 'x.zip').write_bytes(b'')
    self._assert_refused('is not a folder', dir=str(self.folder / 'x.zip'))

  def test_fake_data_replace_no_folder_but_not_a_mistyped_one(self):
    with self.assertRaisesRegex(UsageError, "dir = '/no/such' is not a fo"):
      self._load(dir='/no/such', fake_if_missing=True)
    with self.assertLogs('absl', 'WARNING'):
      found = self._load(dir='', fake_if_missing=True, train_examples=20)
    self.assertEqual(found.name, 'fake')
    self.assertEqual(found.class_names, tuple('0123456789'))

  def test_a_folder_without_classes_is_refused_with_the_layouts(self):
    self._assert_refused('has no folders of classes; expected DIR/CLASS/*')
    (self.folder / 'a.png').write_bytes(b'')
    self._assert_refused('has no folders of classes', '.jpeg')

  def test_a_class_without_pictures_is_refused(self):
    write(self.folder, 10)
    (self.folder / 'empty').mkdir()
    self._assert_refused('no pictures to train on of empty; expected')

  def test_a_training_split_alone_is_refused(self):
    write(self.folder / 'train', 3)
    self._assert_refused('no pictures to train on of train; expected DIR/CLAS')

  def test_classes_that_only_the_test_has_are_refused(self):
    write(self.folder / 'train', 3)
    write(self.folder / 'test', 2, ('china', 'flour'))
    self._assert_refused('/test has classes that', 'lacks: flour')

  def test_nothing_to_test_on_is_refused(self):
    write(self.folder, 1, suffixes=('.png',))  # 000.png goes to training.
    self._assert_refused('has no pictures to test on', 'these 2')

  def test_sizes_have_to_be_said(self):
    write(self.folder, 10)
    self._assert_refused('config.data.image_size = 0', image_size=0)

  def test_one_class_is_warned_of(self):
    write(self.folder, 20, ('only',), suffixes=('.png',))
    with self.assertLogs('absl', 'WARNING') as logs:
      self.assertEqual(self._load().num_classes, 1)
    self.assertIn('only one class, only', logs.output[0])

  @parameterized.parameters('train', 'test')
  def test_a_test_of_the_training_pictures_is_warned_of(self, test_split):
    write(self.folder / 'train', 3)
    os.symlink('train', self.folder / 'test')
    with self.assertLogs('absl', 'WARNING') as logs:
      self._load(test_split=test_split)
    self.assertIn(f'/{test_split}, are the training pic', ' '.join(logs.output))

  def test_a_class_that_is_not_tested_is_warned_of(self):
    write(self.folder / 'train', 3, ('a', 'b', 'c'))
    write(self.folder / 'test', 2, ('a', 'c'))
    with self.assertLogs('absl', 'WARNING') as logs:
      found = self._load()
    self.assertIn('no pictures to test on of b', logs.output[0])
    self.assertEqual(sorted(found.test.labels), [0, 0, 2, 2])

  @parameterized.parameters('none', 'resized_crop')
  def test_a_damaged_picture_is_named(self, augment):
    write(self.folder / 'train', 4)
    write(self.folder / 'test', 2)
    path = self.folder / 'train' / 'flower' / '000.jpg'
    path.write_bytes(path.read_bytes()[:-200])
    with self.assertRaisesRegex(
        DamagedError,
        rf'^{path}, number \d of its split, cannot be used: .*truncated.*=skip',
    ):
      _pixels(self._load(augment=augment).train)
    with self.assertLogs('absl', 'WARNING') as logs:
      found = self._load(augment=augment, damaged='skip')
    self.assertLen(found.train, 7)
    self.assertEqual(_pixels(found.train).shape[0], 7)
    self.assertRegex(logs.output[0], rf'Left out 1 of 8 examples: {path}, numb')

  def test_a_picture_that_is_gone_is_named_as_it_is_read(self):
    write(self.folder / 'train', 4)
    write(self.folder / 'test', 2)
    train = self._load(augment='resized_crop').train
    self.assertIsInstance(train, StreamedSplit)
    shutil.rmtree(self.folder / 'train' / 'china')
    with self.assertRaisesRegex(DamagedError, 'china/.*No such file'):
      _pixels(train)

  def test_of_a_million_only_names_are_read_at_first(self):
    write(self.folder / 'train', 8)
    write(self.folder / 'test', 3)
    with (
        mock.patch.object(decoding, 'MAX_BYTES_IN_MEMORY', 0),
        mock.patch.object(images, 'decode', wraps=images.decode) as decode,
    ):
      large = self._load(augment='crop')
      self.assertEqual(np.bincount(large.train.labels).tolist(), [8, 8])
      decode.assert_not_called()
      for split in (large.train, large.test):
        self.assertIsInstance(split, StreamedSplit)
    small = self._load(augment='crop')
    np.testing.assert_array_equal(_pixels(large.train), _pixels(small.train))
    np.testing.assert_array_equal(large.test.labels, small.test.labels)

  def _batches(self, split):
    return list(
        pipeline.train_batches(
            split, batch_size=4, seed=0, phase='p', steps=range(3),
            num_devices=1,
        )
    )

  def test_workers_change_nothing_and_send_on_what_is_damaged(self):
    write(self.folder / 'train', 4)
    write(self.folder / 'test', 2)
    if not flags.FLAGS.is_parsed():  # As in main.py, for Grain's workers.
      flags.FLAGS.mark_as_parsed()
    alone, several = (
        self._load(augment='resized_crop', workers=n).train for n in (0, 1)
    )
    for one, other in zip(self._batches(alone), self._batches(several)):
      np.testing.assert_array_equal(one['image'], other['image'])
    path = self.folder / 'train' / 'china' / '002.png'
    path.write_bytes(b'<html>')
    for split in (alone, several):
      with self.assertRaises(UsageError) as caught:
        self._batches(split)
      self.assertStartsWith(str(caught.exception), f'{path}, number')

  def test_the_test_split_alone_is_the_same(self):
    write(self.folder, 20, suffixes=('.png',))
    dataset = self._load()
    config = pictures.get_config()
    config.data.update(dir=str(self.folder), image_size=16)
    class_names, alone = sources.load_test(config)
    self.assertEqual(class_names, dataset.class_names)
    np.testing.assert_array_equal(_pixels(alone), _pixels(dataset.test))
    np.testing.assert_array_equal(alone.labels, dataset.test.labels)

  def test_an_error_survives_what_processes_do_to_it(self):
    error = DamagedError('here', 'it is empty')
    copy = pickle.loads(pickle.dumps(error))
    self.assertEqual(str(copy), str(error))
    self.assertEqual(copy.short, 'here (it is empty)')


if __name__ == '__main__':
  absltest.main()
