# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of networks without anchors, such as USNet's and DSNet's."""

import dataclasses
import functools

from absl.testing import absltest, parameterized
import chex
import jax
import numpy as np

from adaptanet_jax import trees
from adaptanet_jax.models import supernet
from adaptanet_jax.models.resnet import ResNet, anchor_name, stage_numbers
from adaptanet_jax.models.subnet import LARGEST, MIXED, UNIFORM, Subnet

_NET = ResNet('resnet26x8', 'cifar', 'gn', 10, (16, 16, 1), anchors=False)
_close = functools.partial(chex.assert_trees_all_close, rtol=1e-5, atol=1e-5)


def _images():
  return np.random.default_rng(1).standard_normal((2, 16, 16, 1), np.float32)


@functools.cache
def _switched():
  num_traces = []

  def run(variables, images, choices):
    num_traces.append(1)
    return supernet.forward(_NET, variables, images, choices)

  return jax.jit(run), num_traces


@functools.cache
def _static(subnet):
  run = jax.jit(functools.partial(_NET.forward, subnet=subnet))
  return run(trees.draw_like(_NET.shapes()), _images())


class NetworkTest(parameterized.TestCase):

  @parameterized.parameters(*UNIFORM[:2], *MIXED)
  def test_zero_padded_borders_equal_true_slicing(self, subnet):
    # Between two stages the switched form reads all channels, zeros included,
    # and the static form only the active ones.
    run, num_traces = _switched()
    actual = run(trees.draw_like(_NET.shapes()), _images(), subnet.encode())
    _close(actual, _static(subnet))
    self.assertLen(num_traces, 1)

  @parameterized.parameters(MIXED[0], Subnet.parse('0.75-0.5-0.25-1.0'))
  def test_a_border_is_zero_where_nothing_was_written(self, subnet):
    _, features = _static(subnet)
    for n, choice in zip(stage_numbers(), subnet.stages):
      border = np.asarray(features[anchor_name(n)])
      active = round(choice.rho * border.shape[-1])
      np.testing.assert_array_equal(border[..., active:], 0.0)
      written = (border[..., :active] != 0.0).any(axis=(0, 1, 2))
      self.assertGreater(written.mean(), 0.8)

  @parameterized.parameters('ln', 'bn')
  def test_half_the_width_is_a_network_of_half_the_channels(self, norm):
    # The narrow network has half the planes everywhere, and the leading
    # weights.
    wide = ResNet(
        'resnet26x16', 'cifar', norm, 10, (16, 16, 1), anchors=False
    )
    narrow = dataclasses.replace(wide, architecture='resnet26x8', anchors=True)
    variables = trees.draw_like(wide.shapes())
    cut = jax.tree.map(
        lambda leaf, like: leaf[tuple(map(slice, like.shape))],
        variables,
        narrow.shapes(),
    )
    actual, features = jax.jit(
        functools.partial(wide.forward, subnet=Subnet.uniform(0.5))
    )(variables, _images())
    expected, narrow_features = jax.jit(narrow.forward)(cut, _images())
    _close(actual, expected)
    for name, feature in narrow_features.items():
      _close(features[name][..., : feature.shape[-1]], feature)

  def test_at_full_width_it_is_the_network_with_anchors(self):
    with_anchors = dataclasses.replace(_NET, anchors=True)
    chex.assert_trees_all_equal_shapes(_NET.shapes(), with_anchors.shapes())
    expected = jax.jit(with_anchors.forward)(
        trees.draw_like(_NET.shapes()), _images()
    )
    _close(_static(LARGEST), expected)

  def test_delta_substitutes_need_anchors(self):
    with self.assertRaisesRegex(ValueError, 'expected a network with anchors'):
      dataclasses.replace(_NET, delta='conv3x3')


if __name__ == '__main__':
  absltest.main()
