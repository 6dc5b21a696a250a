# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.models.importance."""

from absl.testing import absltest, parameterized
import chex
import jax
import numpy as np

from adaptanet_jax import trees
from adaptanet_jax.models import importance, slimmable
from adaptanet_jax.models.resnet import ResNet


def _net(norm):
  return ResNet('resnet26x16', 'cifar_half', norm, 10, (16, 16, 1))


class SortChannelsTest(parameterized.TestCase):

  @parameterized.parameters('gn', 'gn_ws', 'gn32', 'ln', 'bn')
  def test_the_network_computes_what_it_did(self, norm):
    net = _net(norm)
    variables = trees.draw_like(net.shapes())
    images = np.random.default_rng(1).standard_normal(
        (3, 16, 16, 1), np.float32
    )
    run = jax.jit(net.forward)
    after = importance.sort_channels(net, variables)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, variables)
    logits, anchors = run(variables, images)
    new_logits, new_anchors = run(after, images)
    chex.assert_trees_all_close(new_logits, logits, rtol=1e-3, atol=1e-3)
    for name, anchor in anchors.items():
      # The channels are the same, in another order.
      self.assertGreater(np.abs(new_anchors[name] - anchor).max(), 0.1)
      chex.assert_trees_all_close(
          np.sort(new_anchors[name], -1), np.sort(anchor, -1),
          rtol=1e-3, atol=1e-3,
      )

  def test_channels_that_are_read_most_come_first(self):
    net = _net('bn')
    variables = trees.draw_like(net.shapes())
    backbone = variables['params']['backbone']
    # The weights that read a channel are twice those of the channel before.
    rising = 2.0 ** np.arange(16).reshape(1, 1, 16, 1)
    block = backbone['stage1']['block1']
    block['conv2']['kernel'] = np.broadcast_to(rising, (3, 3, 16, 16))
    block['conv1']['norm']['scale'] = np.ones(16)
    written = block['conv1']['kernel']
    after = importance.sort_channels(net, variables)['params']['backbone']
    block = after['stage1']['block1']
    np.testing.assert_array_equal(
        block['conv2']['kernel'][0, 0, :, 0], 2.0 ** np.arange(16)[::-1]
    )
    # Its input channels are sorted by the importance of the stem's channels.
    self.assertEqual(
        _as_set(block['conv1']['kernel'][..., 0]), _as_set(written[..., -1])
    )

  def test_it_standardizes_as_the_network_does(self):
    kernel = np.random.default_rng(0).standard_normal((3, 3, 8, 4))
    np.testing.assert_allclose(
        importance._effective(_net('gn_ws'), kernel),
        slimmable.standardize(jax.numpy.asarray(kernel)),
        rtol=1e-4,
        atol=1e-6,
    )
    head = kernel[0, 0]
    for net, given in (('gn_ws', head), ('gn', kernel)):
      self.assertIs(importance._effective(_net(net), given), given)

  def test_groups_of_a_norm_move_as_a_whole(self):
    net = _net('gn')
    variables = trees.draw_like(net.shapes())
    norm = variables['params']['backbone']['stage1']['block1']['conv1']['norm']
    # A norm of 16 channels has groups of 4.
    norm['bias'] = np.arange(16)
    after = importance.sort_channels(net, variables)['params']['backbone']
    groups = after['stage1']['block1']['conv1']['norm']['bias'].reshape(4, 4)
    np.testing.assert_array_equal(groups - groups[:, :1], [[0, 1, 2, 3]] * 4)
    self.assertCountEqual(groups[:, 0].tolist(), [0, 4, 8, 12])

  def test_the_length_of_a_standardized_kernel_does_not_matter(self):
    net = _net('gn_ws')
    variables = trees.draw_like(net.shapes())
    longer = jax.tree.map(np.array, variables)
    kernel = longer['params']['backbone']['stage1']['block1']['conv2']['kernel']
    # One output channel; before, what it reads counted 1000 times.
    kernel[..., 0] *= 1000.0
    after, other = (
        net.fold(importance.sort_channels(net, each))
        for each in (variables, longer)
    )
    chex.assert_trees_all_close(other, after, rtol=1e-4, atol=1e-5)

  def test_sorting_twice_changes_nothing_more(self):
    net = _net('gn')
    once = importance.sort_channels(net, trees.draw_like(net.shapes()))
    chex.assert_trees_all_equal(importance.sort_channels(net, once), once)


def _as_set(kernel):
  return set(np.round(kernel, 6).ravel().tolist())


if __name__ == '__main__':
  absltest.main()
