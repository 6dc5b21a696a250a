# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A classification data set, and what a run notes about it.

H = height, W = width, C = colours.
"""

import dataclasses
from typing import Any

from adaptanet_jax.data.splits import Split


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


def describe(dataset: Dataset) -> dict[str, Any]:
  """Returns the `dataset` section of results.json."""
  held_out = dataset.held_out
  return {
      'name': dataset.name,
      'train_examples': len(dataset.train),
      **({'held_out_examples': len(held_out)} if held_out else {}),
      'test_examples': len(dataset.test),
      'num_classes': dataset.num_classes,
      'image_shape': list(dataset.image_shape),
  }
