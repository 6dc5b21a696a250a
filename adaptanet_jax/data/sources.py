# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Data sets: the bundled digits, a folder, any set of TFDS, and a fake one.

N = examples, H = height, W = width, C = colours.
"""

import dataclasses
import types

from absl import logging
import ml_collections
import numpy as np

from adaptanet_jax.data import folder, tfds
from adaptanet_jax.data.dataset import Dataset, MissingDataError
from adaptanet_jax.data.images import resize
from adaptanet_jax.data.splits import InMemorySplit, Split
from adaptanet_jax.errors import UsageError

# Data sets that are not read from files of images.
WITHOUT_FILES = ('digits', 'fake')


def load(config: ml_collections.ConfigDict) -> Dataset:
  """Loads the data set that `config.data` names.

  Args:
    config: the whole configuration; only its `data` section is read.

  Returns:
    The data set. Its splits have the first `data.train_examples` and
    `data.test_examples` where these are not 0; then the share `data.held_out`
    of the training split is set apart.

  Raises:
    UsageError: the set is missing, unreadable or not one of images and labels.
  """
  data = config.data
  if data.name == 'digits':
    dataset = _digits(data)
  elif data.name == 'fake':
    dataset = _fake(data)
  else:
    dataset = _own_or_fake(data)
  side = dataset.image_shape[0]
  if 0 < data.shorter_side < side:
    raise UsageError(
        f'config.data.shorter_side = {data.shorter_side}; expected 0 or at '
        f'least {side}, the side of the images.'
    )
  train, held_out = _hold_out(dataset.train, data.held_out)
  return dataclasses.replace(dataset, train=train, held_out=held_out)


def load_test(
    config: ml_collections.ConfigDict,
) -> tuple[tuple[str, ...], Split]:
  """Loads only the test split, whose images are decoded on demand.

  Starts no other processes, so that any script may call it.

  Args:
    config: as for `load`.

  Returns:
    The names of the classes, by label, and the test split.

  Raises:
    UsageError: as for `load`.
  """
  data = config.data
  if data.name in WITHOUT_FILES:
    dataset = load(config)
    return dataset.class_names, dataset.test
  return _module(data).load_test(data)


def _hold_out(split: Split, share: float) -> tuple[Split, Split | None]:
  """Splits off a random share, the same one for every run and network."""
  count = round(share * len(split))
  if not count:
    return split, None
  order = np.random.default_rng(0).permutation(len(split))
  return split.subset(np.sort(order[count:])), split.subset(
      np.sort(order[:count])
  )


def _in_memory(
    images: np.ndarray, labels: np.ndarray, *, count: int = 0
) -> Split:
  """Returns a split of the first `count` examples; 0: of all."""
  return InMemorySplit(
      labels[: count or None].astype(np.int32), images.__getitem__
  )


def _module(data: ml_collections.ConfigDict) -> types.ModuleType:
  return folder if data.name == folder.NAME else tfds


def _digits(data: ml_collections.ConfigDict) -> Dataset:
  """Loads scikit-learn's 1,797 scanned digits; 500 are the test split."""
  from sklearn import (
    datasets,
    model_selection,
  )

  scans, labels = datasets.load_digits(return_X_y=True)
  # The scans are 8x8 with 17 shades.
  pixels = (scans.reshape(-1, 8, 8, 1) * (255 / 16)).round().astype(np.uint8)
  images = np.stack(
      [resize(one, data.image_size or 8, data.shorter_side) for one in pixels]
  )
  train, test, train_labels, test_labels = model_selection.train_test_split(
      images, labels, test_size=500, random_state=0, stratify=labels
  )
  return Dataset(
      'digits',
      tuple(map(str, range(10))),
      images.shape[1:],
      _in_memory(train, train_labels, count=data.train_examples),
      _in_memory(test, test_labels, count=data.test_examples),
  )


def _fake(data: ml_collections.ConfigDict) -> Dataset:
  """Makes a learnable set of noise around one pattern per class."""
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
      tuple(map(str, range(data.fake_classes))),
      shape,
      split(data.train_examples or 512),
      split(data.test_examples or 128),
  )


def _own_or_fake(data: ml_collections.ConfigDict) -> Dataset:
  try:
    return _module(data).load(data)
  except MissingDataError as error:
    if not data.fake_if_missing:
      raise
    logging.warning('%s\nContinuing with FAKE data.', error)
    return _fake(data)
