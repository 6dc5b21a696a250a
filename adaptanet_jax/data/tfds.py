# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Image-classification sets that TFDS has prepared, read without TensorFlow.

H = height, W = width, C = colours.
"""

import functools
import os
import sys
from typing import Any

from absl import logging
import ml_collections

from adaptanet_jax.data import decoding
from adaptanet_jax.data.dataset import Dataset
from adaptanet_jax.data.images import ON_HOST
from adaptanet_jax.data.splits import Split
from adaptanet_jax.errors import UsageError


class MissingDataError(UsageError):
  """A data set that is known, but not on this machine."""


def load(data: ml_collections.ConfigDict) -> Dataset:
  """Loads a prepared set.

  Args:
    data: section `data` of the configuration.

  Returns:
    The data set.

  Raises:
    UsageError: it is missing, unreadable or not one of images and labels.
  """
  class_names, shape = _labels_and_shape(data)
  return Dataset(
      data.name,
      class_names,
      shape,
      # Every pass over the training split has other crops of its images.
      train=_split(
          data,
          data.train_split,
          shape,
          count=data.train_examples,
          random_crops=data.augment in ON_HOST,
      ),
      test=_split(data, data.test_split, shape, count=data.test_examples),
  )


def load_test(data: ml_collections.ConfigDict) -> Split:
  """Loads the test split alone; see `sources.load_test`."""
  _, shape = _labels_and_shape(data)
  return _split(
      data, data.test_split, shape, count=data.test_examples, streamed=True
  )


def _split(
    data: ml_collections.ConfigDict,
    name: str,
    shape: tuple[int, int, int],
    **options: Any,
) -> Split:
  opened = functools.partial(_source, data.name, data.dir, name)
  return decoding.make_split(opened, shape, data, **options)


def _labels_and_shape(
    data: ml_collections.ConfigDict,
) -> tuple[tuple[str, ...], tuple[int, int, int]]:
  """Returns the names of a set's labels, and the shape of its images."""
  info = _source(data.name, data.dir, data.train_split).dataset_info
  features = info.features
  size = data.image_size or features['image'].shape[0]
  if size is None:
    raise UsageError(
        f'The images of {data.name!r} differ in size; expected '
        'config.data.image_size to say the side to scale them to, in pixels.'
    )
  shape = (size, size, features['image'].shape[-1])
  if shape[-1] not in (1, 3):
    raise UsageError(
        f'The images of {data.name!r} have {shape[-1]} channels; expected 1 '
        '(grey) or 3 (colour).'
    )
  return tuple(features['label'].names), shape


def _source(name: str, data_dir: str, split: str) -> Any:
  """Opens one split of a prepared TFDS set, its images still encoded.

  Raises:
    UsageError: the set is unknown, not prepared, not in the array_record
      format, has no such split, or lacks images or labels.
  """
  import tensorflow_datasets as tfds

  where = os.path.expanduser(data_dir or tfds.core.constants.DATA_DIR)
  logger = logging.get_absl_logger()
  level = logger.level
  # TFDS warns of a folder that is not there; below that is an error.
  logger.setLevel('ERROR')
  try:
    builder = tfds.builder(name, data_dir=where, try_gcs=False)
    is_prepared = builder.is_prepared()
  except tfds.core.DatasetNotFoundError as error:
    raise UsageError(
        f'Unknown data set {name!r}; expected "digits", "fake" or a TFDS name '
        'such as "cifar10", "cifar100" or "imagenet2012".'
    ) from error
  finally:
    logger.setLevel(level)
  if not is_prepared:
    raise MissingDataError(
        f'Data set {name!r} is not prepared under {where!r}. '
        + _how_to_prepare(name, where)
    )
  if split not in builder.info.splits:
    raise UsageError(
        f'Data set {name!r} has no split {split!r}; expected one of '
        f'{sorted(builder.info.splits)}.'
    )
  if not {'image', 'label'} <= set(builder.info.features):
    raise UsageError(
        f'Data set {name!r} has features {sorted(builder.info.features)}; '
        'expected "image" and "label".'
    )
  try:
    undecoded = {'image': tfds.decode.SkipDecoding()}
    return builder.as_data_source(split=split, decoders=undecoded)
  except NotImplementedError as error:
    raise UsageError(
        f'Data set {name!r} under {where!r} is in the format '
        f'{builder.info.file_format.value!r}; expected "array_record". '
        + _how_to_prepare(name, where)
    ) from error


def _how_to_prepare(name: str, where: str) -> str:
  return (
      f'Prepare it once with: {sys.executable} -m pip install -e ".[prepare]" '
      '&& '
      f'{sys.executable} -c "import tensorflow_datasets as tfds; '
      f"tfds.builder('{name}', data_dir='{where}', "
      "file_format='array_record').download_and_prepare()\"; or name another "
      'folder with --config.data.dir=DIR.'
  )
