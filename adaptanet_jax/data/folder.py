# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A folder of pictures, with a subfolder for each class.

It has one of two layouts:

  DIR/train/CLASS/*, with test (or val, validation, valid) next to train, or the
    names that config.data.train_split and config.data.test_split give;
  DIR/CLASS/*, a fifth of which is the test split: the pictures whose file name
    has a SHA-256 divisible by five. Adding pictures moves no other picture.

Classes are sorted by name and pictures by these hashes, so that the first
pictures of a split are a mix of all classes.
"""

import collections
import functools
import hashlib
import os
from typing import Any, NamedTuple

from absl import logging
import ml_collections
import numpy as np

from adaptanet_jax.data import decoding
from adaptanet_jax.data.dataset import Dataset, MissingDataError
from adaptanet_jax.data.images import ON_HOST
from adaptanet_jax.data.splits import DamagedError, Split
from adaptanet_jax.errors import UsageError, some

NAME = 'folder'
SUFFIXES = frozenset((
    *('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.webp', '.gif'),
    *('.bmp', '.dib', '.tif', '.tiff'),
))
# What the splits are called if nobody says otherwise.
_USUAL = {'train_split': 'train', 'test_split': 'test'}
# Names of a test split to try if there is none of its usual name.
_TEST_NAMES = ('test', 'val', 'validation', 'valid')
# One picture in this many is a test picture, if there is no test folder.
_TEST_SHARE = 5
# Photographs take long to decode, so processes pay off from a few hundred on.
_CHUNK = 128


class _Picture(NamedTuple):
  """A picture file; pictures are sorted by these fields in this order.

  Its path is relative to the folder of the whole set.
  """

  digest: bytes
  label: int
  path: str

  @property
  def is_test(self) -> bool:
    """Whether it is a test picture, if there is no test folder."""
    return int.from_bytes(self.digest, 'big') % _TEST_SHARE == 0


class FolderSource:
  """The pictures of one split."""

  def __init__(self, folder: str, pictures: list[_Picture]) -> None:
    self._folder = folder
    self._paths = [picture.path for picture in pictures]
    self._labels = np.array([picture.label for picture in pictures], np.int32)

  def __len__(self) -> int:
    return len(self._paths)

  def where(self, position: int) -> str:
    """See `splits.Source`."""
    path = os.path.join(self._folder, self._paths[position])
    return f'{path}, number {position} of its split,'

  def read(self, position: int) -> tuple[bytes, int]:
    """See `splits.Source`."""
    path = os.path.join(self._folder, self._paths[position])
    try:
      with open(path, 'rb') as file:
        return file.read(), int(self._labels[position])
    except OSError as error:
      reason = error.strerror or type(error).__name__
      raise DamagedError(self.where(position), reason) from error

  def labels(self, positions: np.ndarray) -> np.ndarray:
    """See `splits.Source`."""
    return self._labels[positions]


def load(data: ml_collections.ConfigDict) -> Dataset:
  """Loads a folder of pictures.

  Args:
    data: section `data` of the configuration.

  Returns:
    The data set.

  Raises:
    MissingDataError: no folder is named.
    UsageError: the folder does not exist, is empty or has another layout.
  """
  shape = _shape(data)
  names, train, test = _list(data)
  return Dataset(
      NAME,
      names,
      shape,
      train=_split(
          train,
          shape,
          data,
          count=data.train_examples,
          random_crops=data.augment in ON_HOST,
      ),
      test=_split(test, shape, data, count=data.test_examples),
  )


def load_test(
    data: ml_collections.ConfigDict,
) -> tuple[tuple[str, ...], Split]:
  """Loads only the test split; see `sources.load_test`."""
  names, _, test = _list(data)
  return names, _split(
      test, _shape(data), data, count=data.test_examples, streamed=True
  )


def _shape(data: ml_collections.ConfigDict) -> tuple[int, int, int]:
  side = data.image_size
  if not side:
    raise UsageError(
        'config.data.image_size = 0 does not suit a folder of pictures, which '
        'differ in size; expected the side to scale and crop them to, in '
        'pixels.'
    )
  return side, side, 3


def _split(source: FolderSource, *args: Any, **options: Any) -> Split:
  open_source = functools.partial(_itself, source)
  return decoding.make_split(open_source, *args, chunk=_CHUNK, **options)


def _itself(source: FolderSource) -> FolderSource:
  return source


def _list(
    data: ml_collections.ConfigDict,
) -> tuple[tuple[str, ...], FolderSource, FolderSource]:
  """Returns the names of the classes, and the pictures of both splits."""
  folder = os.path.abspath(os.path.expanduser(data.dir))
  if not data.dir or not os.path.isdir(folder):
    # Made-up pictures may replace those that nobody named, not a mistyped name.
    kind = UsageError if data.dir else MissingDataError
    raise kind(
        f'config.data.dir = {data.dir!r} is not a folder; expected one of '
        'pictures, DIR/CLASS/* or DIR/train/CLASS/* with DIR/test/CLASS/* '
        'beside it: --config.data.dir=DIR.'
    )
  others = collections.Counter[str]()
  found = _folders(folder, others)
  for key, usual in _USUAL.items():
    if data[key] != usual and data[key] not in found:
      raise UsageError(
          f'config.data.{key} = {data[key]!r} is no folder in {folder}; '
          f'expected one of {", ".join(found)}.'
      )
  train_name = data.train_split
  test_name = next(
      (n for n in (data.test_split, *_TEST_NAMES) if n in found), ''
  )
  if train_name in found and test_name:
    others += collections.Counter(
        'folder' for name in found if name not in (train_name, test_name)
    )
    train_folder, test_folder = (
        os.path.join(folder, name) for name in (train_name, test_name)
    )
    names = _folders(train_folder, others)
    test_names = _folders(test_folder, others)
    if unknown := sorted(set(test_names) - set(names)):
      raise UsageError(
          f'{test_folder} has classes that {train_folder} lacks: '
          f'{some(unknown)}; expected the same classes in both.'
      )
    if os.path.samefile(train_folder, test_folder):
      logging.warning(
          'The test pictures, %s, are the training pictures.', test_folder
      )
    train = _pictures(folder, train_name, names, others)
    test = _pictures(folder, test_name, names, others)
  else:
    names = found
    pictures = _pictures(folder, '', names, others)
    train = [picture for picture in pictures if not picture.is_test]
    test = [picture for picture in pictures if picture.is_test]
  if others:
    logging.warning(
        'Skipped in %s: %s.', folder,
        ', '.join(f'{count} x {kind}' for kind, count in others.most_common()),
    )
  _check(folder, names, train, test)
  return tuple(names), FolderSource(folder, train), FolderSource(folder, test)


def _folders(folder: str, others: collections.Counter[str]) -> list[str]:
  """Returns the sorted names of a folder's subfolders; counts other entries."""
  names = []
  for entry in _entries(folder):
    if entry.name.startswith('.'):
      others['hidden'] += 1
    elif entry.is_dir():
      names.append(entry.name)
    else:
      others['file in no class'] += 1
  return sorted(names)


def _pictures(
    folder: str,
    within: str,
    names: list[str],
    others: collections.Counter[str],
) -> list[_Picture]:
  """Returns the sorted pictures of all classes; counts other entries.

  Args:
    folder: the folder of the whole set.
    within: name of the split's folder in `folder`; may be empty.
    names: names of the classes.
    others: receives the number of other entries, by kind.
  """
  pictures = []
  for label, name in enumerate(names):
    path = os.path.join(within, name)
    if not os.path.isdir(os.path.join(folder, path)):
      continue  # A class without test pictures.
    for entry in _entries(os.path.join(folder, path)):
      suffix = os.path.splitext(entry.name)[1].lower()
      if entry.name.startswith('.'):
        others['hidden'] += 1
      elif entry.is_dir():
        others['folder in a class'] += 1
      elif suffix not in SUFFIXES or not entry.is_file():
        others[suffix or 'no suffix'] += 1
      else:
        digest = hashlib.sha256(os.fsencode(entry.name)).digest()
        pictures.append(_Picture(digest, label, os.path.join(path, entry.name)))
  return sorted(pictures)


def _entries(folder: str) -> list[os.DirEntry[str]]:
  with os.scandir(folder) as entries:
    return list(entries)


def _check(
    folder: str, names: list[str], train: list[_Picture], test: list[_Picture]
) -> None:
  """Raises UsageError if there is nothing to train on, or to test on."""
  layouts = (
      'expected DIR/CLASS/*, or DIR/train/CLASS/* with DIR/test/CLASS/* beside '
      'it, or whatever config.data.train_split and test_split are, of pictures '
      f'named {", ".join(sorted(SUFFIXES))}.'
  )
  if not names:
    raise UsageError(f'{folder} has no folders of classes; {layouts}')
  counts = np.bincount([p.label for p in train], minlength=len(names))
  if empty := [names[n] for n in np.flatnonzero(counts == 0)]:
    raise UsageError(
        f'{folder} has no pictures to train on of {some(empty)}; {layouts}'
    )
  if not test:
    raise UsageError(
        f'{folder} has no pictures to test on; expected a folder test beside '
        f'train, or more than these {len(train)}, of which one in '
        f'{_TEST_SHARE} is taken by a hash of its name.'
    )
  if len(names) == 1:
    logging.warning(
        '%s has only one class, %s: there is nothing to distinguish.',
        folder, names[0],
    )
  tested = {picture.label for picture in test}
  if untested := [n for label, n in enumerate(names) if label not in tested]:
    logging.warning(
        '%s has no pictures to test on of %s.', folder, some(untested)
    )
