# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.trees."""

from absl.testing import absltest, parameterized
import chex
import numpy as np

from adaptanet_jax import trees


def _tree():
  return {
      'backbone': {
          'stage1': {'kernel': np.ones((2, 3)), 'bias': np.zeros(3)},
          'stage10': {'kernel': np.full(4, 2.0)},
          'head': {'kernel': np.full((3, 1), 3.0)},
      },
      'gates': {'1': {'kernel': np.full(5, 4.0)}},
  }


class SplitTest(parameterized.TestCase):

  @parameterized.parameters(
      ((),),
      (('backbone/stage1',),),
      (('backbone/stage1/bias', 'gates'),),
      # One prefix inside another.
      (('backbone', 'backbone/head'),),
      (('backbone', 'gates'),),
  )
  def test_merge_puts_both_parts_together_again(self, prefixes):
    inside, outside = trees.split(_tree(), prefixes)
    chex.assert_trees_all_equal(trees.merge(inside, outside), _tree())
    chex.assert_trees_all_equal(trees.merge(outside, inside), _tree())

  def test_a_prefix_is_a_whole_path(self):
    # 'stage1' is not the beginning of 'stage10'.
    inside, outside = trees.split(_tree(), ['backbone/stage1'])
    tree = _tree()
    stage1 = tree['backbone'].pop('stage1')
    chex.assert_trees_all_equal(inside, {'backbone': {'stage1': stage1}})
    chex.assert_trees_all_equal(outside, tree)

  def test_a_prefix_may_be_a_leaf(self):
    inside, outside = trees.split(_tree(), ['backbone/stage1/bias'])
    self.assertEqual(list(inside['backbone']['stage1']), ['bias'])
    self.assertEqual(list(outside['backbone']['stage1']), ['kernel'])

  def test_without_prefixes_everything_is_outside(self):
    inside, outside = trees.split(_tree(), [])
    self.assertEqual(inside, {})
    chex.assert_trees_all_equal(outside, _tree())

  def test_with_every_prefix_nothing_is_outside(self):
    inside, outside = trees.split(_tree(), ['backbone', 'gates'])
    chex.assert_trees_all_equal(inside, _tree())
    self.assertEqual(outside, {})

  @parameterized.parameters('backbone/stage', 'stage1', 'backbone/', 'nothing')
  def test_what_a_tree_lacks_is_left_out(self, prefix):
    inside, outside = trees.split(_tree(), ['gates', prefix])
    expected = trees.split(_tree(), ['gates'])
    chex.assert_trees_all_equal((inside, outside), expected)

  def test_leaves_are_passed_on_and_not_copied(self):
    tree = _tree()
    inside, _ = trees.split(tree, ['gates'])
    self.assertIs(
        inside['gates']['1']['kernel'], tree['gates']['1']['kernel']
    )


class MergeTest(parameterized.TestCase):

  def test_a_later_leaf_replaces_an_earlier_one(self):
    merged = trees.merge({'a': {'x': 1, 'y': 2}}, {'a': {'y': 3}, 'b': 4})
    self.assertEqual(merged, {'a': {'x': 1, 'y': 3}, 'b': 4})

  def test_nothing_merged_is_empty(self):
    self.assertEqual(trees.merge({}, {}), {})

  def test_arguments_stay_as_they_are(self):
    first, second = {'a': {'x': 1}}, {'a': {'x': 2}}
    trees.merge(first, second)
    self.assertEqual((first, second), ({'a': {'x': 1}}, {'a': {'x': 2}}))


class OverlayTest(parameterized.TestCase):

  def test_takes_the_leaves_of_the_same_name_and_shape(self):
    tree = _tree()
    other = {
        'backbone': {
            # One of the same shape, one of another, one of another rank.
            'stage1': {'kernel': np.full((2, 3), 7.0), 'bias': np.ones(4)},
            'head': {'kernel': np.full(3, 9.0)},
            'extra': {'kernel': np.ones(1)},
        }
    }
    result = trees.overlay(tree, other)
    expected = _tree()
    expected['backbone']['stage1']['kernel'] = np.full((2, 3), 7.0)
    chex.assert_trees_all_equal(result, expected)
    # The tree itself is unchanged.
    chex.assert_trees_all_equal(tree, _tree())

  def test_of_itself_is_itself(self):
    chex.assert_trees_all_equal(trees.overlay(_tree(), _tree()), _tree())


class DrawLikeTest(parameterized.TestCase):

  def test_draws_by_name_and_not_twice_the_same(self):
    shapes = {'kernel': np.zeros((3, 3, 50, 8)), 'scale': np.zeros(1000)}
    drawn = trees.draw_like(shapes)
    chex.assert_trees_all_equal_shapes(drawn, shapes)
    np.testing.assert_allclose(drawn['kernel'].std(), 0.0667, rtol=0.1)
    np.testing.assert_allclose(drawn['scale'].mean(), 1.0, atol=0.02)
    chex.assert_trees_all_equal(trees.draw_like(shapes), drawn)
    other = trees.draw_like(shapes, seed=1)
    self.assertFalse(np.array_equal(other['scale'], drawn['scale']))


if __name__ == '__main__':
  absltest.main()
