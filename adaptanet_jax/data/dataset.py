# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A classification data set, and its description in results.json.

H = height, W = width, C = colours.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from adaptanet_jax.data.splits import Split
from adaptanet_jax.errors import UsageError


class MissingDataError(UsageError):
  """A data set is known, but not on this machine."""


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A classification data set.

  Attributes:
    name: name of the set; `fake` for a made-up one.
    class_names: names of the classes, by label.
    image_shape: `(H, W, C)` of every image.
    train: training split.
    test: test split.
    held_out: examples of the set's training split that no phase trains on;
      None if there are none.
  """

  name: str
  class_names: tuple[str, ...]
  image_shape: tuple[int, int, int]
  train: Split
  test: Split
  held_out: Split | None = None

  @property
  def num_classes(self) -> int:
    """Number of classes."""
    return len(self.class_names)


def describe(dataset: Dataset) -> dict[str, Any]:
  """Returns the `dataset` section of results.json."""
  held_out = dataset.held_out
  return {
      'name': dataset.name,
      'train_examples': len(dataset.train),
      **({'held_out_examples': len(held_out)} if held_out else {}),
      'test_examples': len(dataset.test),
      'num_classes': dataset.num_classes,
      'class_names': list(dataset.class_names),
      'image_shape': list(dataset.image_shape),
  }


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
  """Lists `key: old value -> new value` where two descriptions differ.

  Args:
    old: what `describe` returned for one run. If either description predates
      class names, these are not compared.
    new: what `describe` returned for another run.
  """
  keys = sorted(old.keys() | new.keys())
  if not ('class_names' in old and 'class_names' in new):
    keys = [key for key in keys if key != 'class_names']
  return [
      f'{key}: {_short(old.get(key))} -> {_short(new.get(key))}'
      for key in keys
      if old.get(key) != new.get(key)
  ]


def _short(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 120 else f'{text[:117]}...'
