# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads image-classification sets prepared by TFDS, without TensorFlow.

H = height, W = width, C = colours.
"""

from collections.abc import Sequence
from concurrent import futures
import functools
import itertools
import os
import sys
from typing import Any

from absl import logging
import ml_collections
import numpy as np

from adaptanet_jax.data import decoding
from adaptanet_jax.data.dataset import Dataset, MissingDataError
from adaptanet_jax.data.images import ON_HOST
from adaptanet_jax.data.splits import DamagedError, Split
from adaptanet_jax.errors import UsageError, first_line
from adaptanet_jax.machine import num_cores


class TfdsSource:
  """A split of a prepared set."""

  def __init__(
      self, examples: Sequence[Any], name: str, split: str, num_classes: int
  ) -> None:
    """Stores the examples of a split.

    Args:
      examples: the examples, with encoded images.
      name: name of the set.
      split: name of the split, or a slice of one.
      num_classes: number of classes in the set.
    """
    self._examples = examples
    self._name, self._split, self._num_classes = name, split, num_classes

  def __len__(self) -> int:
    return len(self._examples)

  def where(self, position: int) -> str:
    """See `splits.Source`."""
    return f'Example {position} of split {self._split!r} of {self._name!r}'

  def read(self, position: int) -> tuple[bytes, int]:
    """See `splits.Source`; raises UsageError for an invalid label."""
    try:
      example = self._examples[position]
      if example['label'] is None:  # A file that lacks records is no error.
        raise ValueError('its file has no such record')
    except Exception as error:  # Each file format has its own errors.
      raise DamagedError(self.where(position), first_line(error)) from error
    label = int(example['label'])
    if not 0 <= label < self._num_classes:
      raise UsageError(
          f'{self.where(position)} has label {label}; expected 0 to '
          f'{self._num_classes - 1}. Splits that have no labels say -1: name '
          'others with config.data.train_split and config.data.test_split.'
      )
    return example['image'], label

  def labels(self, positions: np.ndarray) -> np.ndarray:
    """See `splits.Source`; reads the examples."""
    with futures.ThreadPoolExecutor(num_cores()) as pool:
      labels = pool.map(lambda n: self.read(int(n))[1], positions)
      return np.array(list(labels), np.int32)


def load(data: ml_collections.ConfigDict) -> Dataset:
  """Loads a prepared set.

  Args:
    data: section `data` of the configuration.

  Returns:
    The data set.

  Raises:
    UsageError: the set is missing, unreadable or not one of images and labels.
  """
  class_names, shape = _classes_and_shape(data)
  _warn_of_shared(data)
  return Dataset(
      data.name,
      class_names,
      shape,
      # Each epoch takes other crops of the training images.
      train=_split(
          data,
          data.train_split,
          shape,
          count=data.train_examples,
          random_crops=data.augment in ON_HOST,
      ),
      test=_split(data, data.test_split, shape, count=data.test_examples),
  )


def load_test(
    data: ml_collections.ConfigDict,
) -> tuple[tuple[str, ...], Split]:
  """Loads only the test split; see `sources.load_test`."""
  class_names, shape = _classes_and_shape(data)
  return class_names, _split(
      data, data.test_split, shape, count=data.test_examples, streamed=True
  )


def _warn_of_shared(data: ml_collections.ConfigDict) -> None:
  """Logs how many examples are in both splits, or repeat in the training one.
  """
  splits = _builder(data.name, data.dir).info.splits
  try:
    train, test = (
        [
            (part.filename, part.skip, part.skip + part.take)
            for part in splits[name].file_instructions
        ]
        for name in (data.train_split, data.test_split)
    )
  except Exception:  # `_open` reports a wrong name.
    return
  for pairs, where in (
      (
          itertools.product(train, test),
          f'both in the training split {data.train_split!r} and in the test '
          f'split {data.test_split!r}',
      ),
      (
          itertools.combinations(train, 2),
          f'repeated in the training split {data.train_split!r}, so that some '
          'may be trained on and held out',
      ),
  ):
    shared = sum(
        max(0, min(end, other_end) - max(start, other_start))
        for (file, start, end), (other_file, other_start, other_end) in pairs
        if file == other_file
    )
    if shared:
      logging.warning('%d examples of %r are %s.', shared, data.name, where)


def _split(
    data: ml_collections.ConfigDict,
    name: str,
    shape: tuple[int, int, int],
    **options: Any,
) -> Split:
  open_source = functools.partial(_open, data.name, data.dir, name)
  return decoding.make_split(open_source, shape, data, **options)


def _open(name: str, data_dir: str, split: str) -> TfdsSource:
  """Opens one split of a prepared set, its images still encoded.

  Raises:
    UsageError: the set is unknown or not prepared, or the split does not exist,
      is empty or is in another format.
  """
  import tensorflow_datasets as tfds

  builder = _builder(name, data_dir)
  info = builder.info
  try:
    count = info.splits[split].num_examples
  except Exception as error:
    raise UsageError(
        f'Data set {name!r} has no split {split!r} ({first_line(error)}); '
        f'expected one of {sorted(info.splits)}, or a slice of one, such as '
        '"train[:80%]".'
    ) from error
  if count <= 0:
    raise UsageError(
        f'Split {split!r} of {name!r} has no examples; expected a slice from '
        'lower to higher, such as "train[80%:]".'
    )
  try:
    undecoded = {'image': tfds.decode.SkipDecoding()}
    examples = builder.as_data_source(split=split, decoders=undecoded)
  except NotImplementedError as error:
    where = _folder(data_dir)
    raise UsageError(
        f'Data set {name!r} under {where!r} is in the format '
        f'{info.file_format.value!r}; expected "array_record". '
        + _how_to_prepare(name, where)
    ) from error
  return TfdsSource(examples, name, split, info.features['label'].num_classes)


def _builder(name: str, data_dir: str) -> Any:
  """Returns the TFDS builder of a prepared set.

  Raises:
    UsageError: the set is unknown or not prepared.
  """
  import tensorflow_datasets as tfds

  where = _folder(data_dir)
  logger = logging.get_absl_logger()
  level = logger.level
  # TFDS warns of a missing folder, which is reported as an error below.
  logger.setLevel('ERROR')
  try:
    builder = tfds.builder(name, data_dir=where, try_gcs=False)
    is_prepared = builder.is_prepared()
  except Exception as error:  # TFDS has many kinds of errors for names.
    raise UsageError(
        f'Unknown data set {name!r} ({first_line(error)}); expected "digits", '
        '"fake", "folder" for pictures under config.data.dir, or a TFDS name '
        'such as "cifar10", "cifar100" or "imagenet2012", with a configuration '
        'or version that TFDS has.'
    ) from error
  finally:
    logger.setLevel(level)
  if not is_prepared:
    raise MissingDataError(
        f'Data set {name!r} is not prepared under {where!r}. '
        + _how_to_prepare(name, where)
    )
  return builder


def _classes_and_shape(
    data: ml_collections.ConfigDict,
) -> tuple[tuple[str, ...], tuple[int, int, int]]:
  """Returns the names of a set's labels, and the shape of its images.

  Raises:
    UsageError: images or labels are missing or of unsupported kinds.
  """
  import tensorflow_datasets as tfds

  features = _builder(data.name, data.dir).info.features
  kinds = {
      'image': (tfds.features.Image, 'one picture'),
      'label': (tfds.features.ClassLabel, 'one class'),
  }
  is_dict = isinstance(features, tfds.features.FeaturesDict)
  names = sorted(features) if is_dict else []
  for key, (kind, what) in kinds.items():
    if key not in names:
      raise UsageError(
          f'Data set {data.name!r} has features {names}; expected "image" and '
          '"label".'
      )
    if not isinstance(features[key], kind):
      raise UsageError(
          f'Feature {key!r} of {data.name!r} is a '
          f'{type(features[key]).__name__}; expected {kind.__name__}, {what} '
          'for each example.'
      )
  image = features['image']
  if image.np_dtype not in (np.uint8, np.uint16):
    raise UsageError(
        f'The images of {data.name!r} are {np.dtype(image.np_dtype).name}; '
        'expected uint8 or uint16.'
    )
  height, width, colours = image.shape
  side = data.image_size
  if not side and height is not None and height == width:
    side = height
  if not side:
    sizes = 'differ in size'
    if None not in (height, width):
      sizes = f'are {height} x {width}, which is not square'
    raise UsageError(
        f'The images of {data.name!r} {sizes}; expected config.data.image_size '
        'to be the side to scale and crop them to, in pixels.'
    )
  if colours not in (1, 3):
    raise UsageError(
        f'The images of {data.name!r} have {colours} channels; expected 1 '
        '(grey) or 3 (colour).'
    )
  return tuple(features['label'].names), (side, side, colours)


def _folder(data_dir: str) -> str:
  from tensorflow_datasets.core import constants

  return os.path.expanduser(data_dir or constants.DATA_DIR)


def _how_to_prepare(name: str, where: str) -> str:
  return (
      f'Prepare it once with: {sys.executable} -m pip install -e ".[prepare]" '
      '&& '
      f'{sys.executable} -c "import tensorflow_datasets as tfds; '
      f"tfds.builder('{name}', data_dir='{where}', "
      "file_format='array_record').download_and_prepare()\"; or name another "
      'folder with --config.data.dir=DIR.'
  )
