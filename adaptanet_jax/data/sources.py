# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Data sets: bundled digits, any TFDS image-classification set, and a fake one.

N = examples, H = height, W = width, C = colours.
"""

from concurrent import futures
import dataclasses
import functools
import multiprocessing
import os
import sys
from typing import Any

from absl import logging
import ml_collections
import numpy as np

from adaptanet_jax.data.images import ON_HOST, decode, resize
from adaptanet_jax.data.splits import (
  InMemorySplit,
  Split,
  StreamedSplit,
  num_cores,
)
from adaptanet_jax.errors import UsageError

# Decoded pixels kept in memory; a larger split is decoded as batches need it.
MAX_BYTES_IN_MEMORY = 8 * 2**30
# Examples that one worker decodes at a time.
_CHUNK = 2048


class MissingDataError(UsageError):
  """A data set that is known, but not on this machine."""


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A classification data set.

  Attributes:
    name: its name; `fake` for a made-up one.
    num_classes: number of labels.
    image_shape: `(H, W, C)` of every image.
    train: training split.
    test: test split.
    held_out: examples of the set's training split that no phase trains on;
      None if there are none.
  """

  name: str
  num_classes: int
  image_shape: tuple[int, int, int]
  train: Split
  test: Split
  held_out: Split | None = None


def load(config: ml_collections.ConfigDict) -> Dataset:
  """Loads the data set that `config.data` names.

  Args:
    config: the whole configuration; only its `data` section is read.

  Returns:
    The data set, its splits cut to `data.train_examples` and
    `data.test_examples` where those are not 0, and then a share of
    `data.held_out` of the training split set apart.

  Raises:
    UsageError: the set is missing, unreadable or not one of images and labels.
  """
  data = config.data
  if data.name == 'digits':
    dataset = _digits(data.image_size)
  elif data.name == 'fake':
    dataset = _fake(data)
  else:
    dataset = _tfds_or_fake(data)
  train, held_out = _hold_out(
      _first(dataset.train, data.train_examples), data.held_out
  )
  return dataclasses.replace(
      dataset,
      train=train,
      test=_first(dataset.test, data.test_examples),
      held_out=held_out,
  )


def load_test(config: ml_collections.ConfigDict) -> Split:
  """Loads the test split alone, whose images are decoded when asked for.

  Without other processes, so that any script may call it.

  Args:
    config: as for `load`.

  Returns:
    The split; raises as `load` does.
  """
  data = config.data
  if data.name in ('digits', 'fake'):
    return load(config).test
  _, shape = _labels_and_shape(data)
  return _tfds_split(
      data, data.test_split, shape, data.test_examples, streamed=True
  )


def _first(split: Split, count: int) -> Split:
  if not 0 < count < len(split):
    return split
  return split.subset(np.arange(count))


def _hold_out(split: Split, share: float) -> tuple[Split, Split | None]:
  """Splits off a share at random: the same for every run and network."""
  count = round(share * len(split))
  if not count:
    return split, None
  order = np.random.default_rng(0).permutation(len(split))
  return split.subset(np.sort(order[count:])), split.subset(
      np.sort(order[:count])
  )


def _in_memory(images: np.ndarray, labels: np.ndarray) -> Split:
  return InMemorySplit(labels.astype(np.int32), images.__getitem__)


def _digits(image_size: int) -> Dataset:
  """1,797 scanned digits that scikit-learn carries; 500 are the test split."""
  from sklearn import (
    datasets,
    model_selection,
  )

  scans, labels = datasets.load_digits(return_X_y=True)
  # Scans are 8x8 with 17 shades.
  pixels = (scans.reshape(-1, 8, 8, 1) * (255 / 16)).round().astype(np.uint8)
  images = np.stack([resize(image, image_size or 8) for image in pixels])
  train, test, train_labels, test_labels = model_selection.train_test_split(
      images, labels, test_size=500, random_state=0, stratify=labels
  )
  return Dataset(
      'digits',
      10,
      images.shape[1:],
      _in_memory(train, train_labels),
      _in_memory(test, test_labels),
  )


def _fake(data: ml_collections.ConfigDict) -> Dataset:
  """Noise around one pattern a class: learnable, and nothing to download."""
  size = data.image_size or 32
  shape = (size, size, 3)
  rng = np.random.default_rng(0)
  coarse = rng.integers(0, 256, (data.fake_classes, 4, 4, 3), np.uint8)
  patterns = np.stack([resize(pattern, size) for pattern in coarse])

  def split(count: int) -> Split:
    labels = rng.integers(0, data.fake_classes, count)
    noise = rng.integers(-64, 64, (count, *shape))
    images = np.clip(patterns[labels] + noise, 0, 255).astype(np.uint8)
    return _in_memory(images, labels)

  return Dataset(
      'fake',
      data.fake_classes,
      shape,
      split(data.train_examples or 512),
      split(data.test_examples or 128),
  )


def _tfds_or_fake(data: ml_collections.ConfigDict) -> Dataset:
  try:
    return _tfds(data)
  except MissingDataError as error:
    if not data.fake_if_missing:
      raise
    logging.warning('%s\nGoing on with FAKE data.', error)
    return _fake(data)


def _labels_and_shape(
    data: ml_collections.ConfigDict,
) -> tuple[int, tuple[int, int, int]]:
  """Returns the number of labels of a TFDS set, and the shape of its images."""
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
  return features['label'].num_classes, shape


def _tfds(data: ml_collections.ConfigDict) -> Dataset:
  num_classes, shape = _labels_and_shape(data)
  return Dataset(
      data.name,
      num_classes,
      shape,
      # Every pass over the training split has other crops of its images.
      train=_tfds_split(
          data,
          data.train_split,
          shape,
          data.train_examples,
          random_crops=data.augment in ON_HOST,
      ),
      test=_tfds_split(data, data.test_split, shape, data.test_examples),
  )


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


def _tfds_split(
    data: ml_collections.ConfigDict,
    split: str,
    shape: tuple[int, int, int],
    count: int,
    *,
    random_crops: bool = False,
    streamed: bool = False,
) -> Split:
  """Decodes a split once if that will do, else as batches need it."""
  location = (data.name, data.dir, split)
  source = _source(*location)
  count = min(count or len(source), len(source))
  size = count * int(np.prod(shape))
  if streamed or random_crops or size > MAX_BYTES_IN_MEMORY:
    return StreamedSplit(
        functools.partial(_source, *location),
        np.arange(count),
        shape,
        shorter_side=data.shorter_side,
        random_crops=random_crops,
        workers=data.workers,
    )
  starts = range(0, count, _CHUNK)
  chunks = [range(n, min(n + _CHUNK, count)) for n in starts]
  work = functools.partial(_decode_chunk, location, shape, data.shorter_side)
  if len(chunks) <= 2:
    parts = [work(chunk) for chunk in chunks]
  else:
    # Processes, not threads: for small images the interpreter lock makes two
    # threads slower than one.
    spawn = multiprocessing.get_context('spawn')
    workers = min(num_cores(), len(chunks))
    with futures.ProcessPoolExecutor(workers, spawn) as pool:
      parts = list(pool.map(work, chunks))
  return _in_memory(*(np.concatenate(column) for column in zip(*parts)))


def _decode_chunk(
    location: tuple[str, str, str],
    shape: tuple[int, int, int],
    shorter_side: int,
    chunk: range,
) -> tuple[np.ndarray, np.ndarray]:
  source = _source(*location)
  examples = [source[position] for position in chunk]
  images = [decode(e['image'], shape, shorter_side) for e in examples]
  return np.stack(images), np.array([e['label'] for e in examples], np.int32)
