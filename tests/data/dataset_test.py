# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.data.dataset."""

import json

from absl.testing import absltest
import numpy as np

from adaptanet_jax.data.dataset import Dataset, describe, differences
from adaptanet_jax.data.splits import InMemorySplit


def _split(count):
  images = np.zeros((count, 4, 4, 3), np.uint8)
  return InMemorySplit(np.zeros(count, np.int32), images.__getitem__)


def _described(**changes):
  fields = {
      'name': 'pets',
      'class_names': ('cat', 'dog'),
      'image_shape': (4, 4, 3),
      'train': _split(5),
      'test': _split(2),
  }
  return describe(Dataset(**(fields | changes)))


class DescribeTest(absltest.TestCase):

  def test_it_has_what_decides_whether_two_runs_compare(self):
    self.assertEqual(
        _described(held_out=_split(1)),
        {
            'name': 'pets',
            'train_examples': 5,
            'held_out_examples': 1,
            'test_examples': 2,
            'num_classes': 2,
            'class_names': ['cat', 'dog'],
            'image_shape': [4, 4, 3],
        },
    )
    self.assertNotIn('held_out_examples', _described())

  def test_it_is_the_same_once_read_from_a_file(self):
    read = json.loads(json.dumps(_described()))
    self.assertEqual(differences(read, _described()), [])


class DifferencesTest(absltest.TestCase):

  def test_what_differs_is_named_with_both_values(self):
    other = _described(class_names=('cat', 'cow', 'dog'), test=_split(3))
    self.assertEqual(
        differences(_described(), other),
        [
            "class_names: ['cat', 'dog'] -> ['cat', 'cow', 'dog']",
            'num_classes: 2 -> 3',
            'test_examples: 2 -> 3',
        ],
    )

  def test_a_run_of_before_class_names_counts_as_equal_in_them(self):
    old = _described()
    del old['class_names']
    self.assertEqual(differences(old, _described()), [])
    self.assertLen(differences(old, _described(name='cars')), 1)

  def test_of_many_names_the_message_has_the_first(self):
    names = tuple(f'class {n}' for n in range(1000))
    (text,) = differences(
        _described(class_names=names),
        _described(class_names=(*names[:-1], 'other')),
    )
    self.assertLess(len(text), 300)


if __name__ == '__main__':
  absltest.main()
