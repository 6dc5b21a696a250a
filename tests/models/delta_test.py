# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.models.delta, and of stages that run a delta."""

import dataclasses
import functools

from absl.testing import absltest, parameterized
import chex
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import trees
from adaptanet_jax.models import delta, slimmable, supernet
from adaptanet_jax.models.layers import Bottleneck
from adaptanet_jax.models.resnet import DELTA, ResNet, anchor_name
from adaptanet_jax.models.subnet import (
  CHOICES,
  WIDTHS,
  StageChoice,
  Subnet,
  WidthMask,
)

_close = functools.partial(chex.assert_trees_all_close, rtol=1e-4, atol=1e-4)


def _net(kind='conv3x3', norm='gn'):
  return ResNet('resnet26x8', 'cifar', norm, 10, (16, 16, 1), delta=kind)


@functools.cache
def _variables(kind='conv3x3', norm='gn'):
  return trees.draw_like(_net(kind, norm).shapes())


def _anchor1(seed=3):
  return np.random.default_rng(seed).standard_normal((2, 8, 8, 32), np.float32)


def _stage2(kind, rho, x, norm='gn'):
  choice = StageChoice(rho, delta=True)
  return _net(kind, norm).run_stage(_variables(kind, norm), x, 2, choice)[0]


class DepthwiseConvTest(parameterized.TestCase):

  @parameterized.product(rho=WIDTHS, strides=(1, 2), side=(5, 8))
  def test_equals_xla_s_grouped_convolution_of_the_slice(
      self, rho, strides, side
  ):
    rng = np.random.default_rng(0)
    mask = WidthMask.at(rho, 8)
    x = rng.standard_normal((2, side, side, mask.active), np.float32)
    kernel = rng.standard_normal((3, 3, 8), np.float32)
    expected = lax.conv_general_dilated(
        x,
        kernel[:, :, None, : mask.active],
        (strides, strides),
        ((1, 1), (1, 1)),
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        feature_group_count=mask.active,
    )
    actual = slimmable.depthwise_conv(x, kernel, mask, strides=strides)
    _close(actual, expected)


class DeltaStageTest(parameterized.TestCase):

  @parameterized.product(rho=WIDTHS, kind=tuple(delta.KINDS))
  def test_is_the_substitute_and_then_the_anchor_block(self, rho, kind):
    # Stage 2 of this network has 16 planes and a residual stream of 64
    # channels; anchor 1 has 32 channels.
    active, total = int(rho * 16), 16
    params = _variables(kind)['params']
    own, x = params['delta']['stage2'], _anchor1()
    kernel = own['conv']['kernel'][:, :, :active, :active]
    if kind == 'conv3x3':  # It reads only the first channels.
      x = x[..., :active]
    elif kind == 'bottleneck':
      reduce = own['reduce']
      x = jnp.einsum('bhwc,cd->bhwd', x, reduce['kernel'][0, 0, :, :active])
      x = jax.nn.relu(slimmable.group_norm(
          x, reduce['norm']['scale'], reduce['norm']['bias'],
          WidthMask(active, 16),
      ))
    else:
      mask = WidthMask.full(32)
      x = slimmable.depthwise_conv(x, own['depthwise'], mask, strides=2)
      if kind == 'stream':
        active, total = int(rho * 64), 64
      kernel = own['conv']['kernel'][..., :active]
    strides = 1 if kind in ('separable', 'stream') else 2
    pad = (kernel.shape[0] - 1) // 2
    y = lax.conv_general_dilated(
        x,
        kernel,
        (strides, strides),
        ((pad, pad), (pad, pad)),
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    norm = own['conv']['norm']
    mask = WidthMask(active, total)
    y = slimmable.group_norm(y, norm['scale'], norm['bias'], mask)
    y = jax.nn.relu(y)
    # No shortcut: the rest of the stream is zero.
    rest = jnp.zeros((*y.shape[:-1], 64 - active), y.dtype)
    block = Bottleneck('gn', 16, strides=1, project=False, anchor=True)
    expected, _ = block.apply(
        {'params': params['backbone']['stage2']['block2']},
        y,
        WidthMask(active, 64),
        rest,
        rho=rho,
        train=False,
    )
    _close(_stage2(kind, rho, _anchor1()), expected)

  @parameterized.parameters(('conv3x3', 8), ('separable', 32), ('stream', 32))
  def test_reads_the_channels_that_its_kind_says(self, kind, num_read):
    x = _anchor1()
    y = _stage2(kind, 0.5, x)
    moves = []
    for channel in range(32):
      changed = x.copy()
      changed[..., channel] += 1.0
      moves.append(not np.array_equal(_stage2(kind, 0.5, changed), y))
    self.assertEqual(moves, [n < num_read for n in range(32)])

  def test_substitutes_are_drawn_apart_and_merged(self):
    net = _net()
    backbone = jax.eval_shape(net.init, jax.random.key(0))
    own = jax.eval_shape(net.init_delta, jax.random.key(0))
    self.assertEqual(set(backbone['params']), {'backbone'})
    self.assertEqual(set(own['params']), {'delta'})
    self.assertEqual(
        own['params']['delta']['stage3']['conv']['kernel'].shape,
        (3, 3, 32, 32),
    )
    merged = trees.merge(backbone, own)
    self.assertEqual(set(merged['params']), {'backbone', 'delta'})
    chex.assert_trees_all_equal_shapes(merged, net.shapes())

  def test_an_unknown_kind_is_refused_with_the_choices(self):
    with self.assertRaisesRegex(ValueError, "'conv5x5'.*conv3x3.*separable"):
      _net('conv5x5')

  def test_batch_statistics_move_in_the_substitute_alone(self):
    net, variables = _net(norm='bn'), _variables(norm='bn')
    choice = StageChoice(0.5, delta=True)
    _, stats = net.run_stage(variables, _anchor1(), 2, choice, moving=(DELTA,))
    self.assertEqual(set(stats), {'delta'})
    old = variables['batch_stats']['delta']['stage2']['conv']['norm']['mean']
    new = stats['delta']['stage2']['conv']['norm']['mean']
    # Half of the 16 channels are active.
    np.testing.assert_array_equal(new != old, np.arange(16) < 8)

  def test_a_switch_returns_the_same_statistics_whatever_runs(self):
    net, variables = _net(norm='bn'), _variables(norm='bn')

    @jax.jit
    def switched(variables, x, index):
      return supernet.switch_stage(net, variables, x, 2, index, moving=(DELTA,))

    def run(index):
      return switched(variables, _anchor1(), index)[1]

    # A choice without a delta leaves the substitute's statistics unchanged.
    own = {'delta': {'stage2': variables['batch_stats']['delta']['stage2']}}
    chex.assert_trees_all_equal(run(1), own)
    moved = run(StageChoice(0.5, delta=True).index)
    chex.assert_trees_all_equal_shapes(moved, own)
    self.assertFalse(
        np.array_equal(*(s['delta']['stage2']['conv']['norm']['mean']
                         for s in (moved, own)))
    )


class DeltaSupernetTest(parameterized.TestCase):

  def test_one_program_equals_the_static_form_of_subnets_with_deltas(self):
    net, variables = _net(), _variables()
    images = np.random.default_rng(1).standard_normal(
        (2, 16, 16, 1), np.float32
    )
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(1)
    def run(variables, images, choices):
      return supernet.forward(net, variables, images, choices)

    @functools.cache
    def stage(number, choice):
      run = functools.partial(net.run_stage, number=number, choice=choice)
      return lambda x: jax.jit(run)(variables, x)[0]

    @functools.cache
    def anchor(stages):
      if not stages:
        return images
      return stage(len(stages), stages[-1])(anchor(stages[:-1]))

    # Together these subnets have every choice at every stage.
    rng = np.random.default_rng(0)
    codes = [np.roll(rng.permutation(8)[:4], n) for n in range(8)]
    codes += [(np.arange(4) * step + n) % 8 for step in (1, 3, 5)
              for n in range(8)]
    for n in range(4):
      self.assertEqual({code[n] for code in codes}, set(range(8)))
    for code in codes:
      subnet = Subnet.decode(code)
      logits, features = run(variables, images, subnet.encode())
      for n in range(1, 5):
        _close(features[anchor_name(n)], anchor(subnet.stages[:n]))
      _close(logits, net.run_head(variables, anchor(subnet.stages)))

  def test_a_frozen_backbone_changes_no_gradient_of_the_substitutes(self):
    # The switch computes gradients only for operands that are differentiated.
    net, variables = _net(), _variables()
    x = _anchor1()

    def loss(params, x, index):
      y, _ = supernet.switch_stage(net, {'params': params}, x, 2, index)
      return jnp.square(y).sum()

    def delta_loss(own, x, index):
      return loss(variables['params'] | {'delta': own}, x, index)

    params = variables['params']
    gradient = jax.jit(jax.grad(loss))
    delta_gradient = jax.jit(jax.grad(delta_loss))
    for choice in (CHOICES[2], CHOICES[6]):
      everything = gradient(params, x, choice.index)
      own = delta_gradient(params['delta'], x, choice.index)
      chex.assert_trees_all_close(own, everything['delta'], rtol=1e-5)
      is_zero = not np.any(own['stage2']['conv']['kernel'])
      self.assertEqual(is_zero, not choice.delta)


class NetworkTest(parameterized.TestCase):

  def test_choices_are_those_that_it_has(self):
    self.assertEqual(_net().choices, CHOICES)
    without = dataclasses.replace(_net(), delta=None)
    self.assertEqual(without.choices, CHOICES[:4])


if __name__ == '__main__':
  absltest.main()
