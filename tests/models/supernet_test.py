# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.models.supernet."""

import functools
import itertools

from absl.testing import absltest, parameterized
import chex
from flax import traverse_util
import jax
from jax.extend import core
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import trees
from adaptanet_jax.models import supernet
from adaptanet_jax.models.resnet import (
  BACKBONE,
  ResNet,
  anchor_name,
  stage_numbers,
)
from adaptanet_jax.models.subnet import (
  LARGEST,
  MIXED,
  WIDTH_CHOICES,
  Subnet,
  all_subnets,
)

_NET = ResNet('resnet26x8', 'cifar', 'gn', 10, (16, 16, 1))
# A subnet with a different width at each stage.
_STAIRS = Subnet.parse('0.75-0.5-0.25-1.0')
_close = functools.partial(chex.assert_trees_all_close, rtol=1e-5, atol=1e-5)


def _images():
  return np.random.default_rng(1).standard_normal((2, 16, 16, 1), np.float32)


@functools.cache
def _variables():
  return trees.draw_like(_NET.shapes())


@functools.cache
def _stage(number, choice):
  """Returns a compiled program of one choice of one stage, without a switch."""
  run = functools.partial(_NET.run_stage, number=number, choice=choice)
  return jax.jit(lambda variables, x: run(variables, x)[0])


@functools.cache
def _anchor(stages):
  """Returns the anchor after some stages; runs each prefix once, by stages."""
  if not stages:
    return _images()
  stage = _stage(len(stages), stages[-1])
  return stage(_variables(), _anchor(stages[:-1]))


_head = jax.jit(_NET.run_head)


@functools.cache
def _logits(subnet):
  return _head(_variables(), _anchor(subnet.stages))


class ForwardTest(parameterized.TestCase):

  def test_one_program_equals_the_static_form_of_all_256_subnets(self):
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(1)
    def run(variables, images, choices):
      return supernet.forward(_NET, variables, images, choices)

    variables = _variables()
    subnets = all_subnets(WIDTH_CHOICES)
    self.assertLen(subnets, 256)
    distinct = set()
    for subnet in subnets:
      logits, features = run(variables, _images(), subnet.encode())
      _close(logits, _logits(subnet))
      for n in stage_numbers():
        _close(features[anchor_name(n)], _anchor(subnet.stages[:n]))
      distinct.add(np.asarray(logits).tobytes())
    # All subnets have different logits, so none can be mistaken for another.
    self.assertLen(distinct, 256)

  @parameterized.parameters(
      Subnet.uniform(0.25), LARGEST, MIXED[0], MIXED[1], _STAIRS
  )
  def test_the_static_form_is_the_stages_one_after_the_other(self, subnet):
    run = jax.jit(functools.partial(_NET.forward, subnet=subnet))
    logits, features = run(_variables(), _images())
    _close(logits, _logits(subnet))
    for n in stage_numbers():
      _close(features[anchor_name(n)], _anchor(subnet.stages[:n]))


class GradientTest(parameterized.TestCase):

  def test_equals_that_of_the_static_form_and_is_zero_elsewhere(self):
    chex.clear_trace_counter()
    variables, images = _variables(), _images()

    @jax.jit
    @chex.assert_max_traces(1)
    def switched(variables, images, choices):
      run = functools.partial(supernet.forward, _NET, choices=choices)
      return _gradients(run, variables, images)

    for subnet in (_STAIRS, MIXED[3]):
      run = functools.partial(_NET.forward, subnet=subnet)
      expected = jax.jit(functools.partial(_gradients, run))(variables, images)
      actual = switched(variables, images, subnet.encode())
      chex.assert_trees_all_equal_shapes_and_dtypes(actual, expected)
      for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected)):
        scale = float(np.abs(e).max())
        self.assertGreater(scale, 0.0)
        np.testing.assert_allclose(a, e, rtol=1e-3, atol=1e-4 * scale)

    choices = Subnet.uniform(0.25).encode()
    gradients, _ = switched(variables, images, choices)
    flat = traverse_util.flatten_dict(gradients['params']['backbone'], sep='/')
    for name, gradient in flat.items():
      gradient = np.array(gradient)
      read = _quarter(name, gradient.shape)
      self.assertTrue(np.any(gradient[read] != 0.0), name)
      gradient[read] = 0.0
      np.testing.assert_array_equal(gradient, 0.0, name)

  def test_runs_no_convolution_a_second_time(self):
    def forward(variables, x, index):
      return supernet.switch_stage(_NET, variables, x, 1, index)[0].sum()

    # Stage 1 has no strides, so a gradient by the input is one convolution.
    arguments = _variables(), _images(), jnp.int32(1)
    once = _products(jax.make_jaxpr(forward)(*arguments).jaxpr)
    self.assertGreater(once, 4 * 6)
    gradient = jax.grad(forward, argnums=(0, 1))
    # Once forwards, and once for each gradient: by the input and by the
    # kernel, each in two forms of which the platform takes one.
    self.assertEqual(
        _products(jax.make_jaxpr(gradient)(*arguments).jaxpr), 5 * once
    )


def _products(jaxpr):
  """Counts the convolutions and matrix products of all branches."""
  count = 0
  for equation in jaxpr.eqns:
    count += equation.primitive.name in ('conv_general_dilated', 'dot_general')
    for inner in jax.tree.leaves(list(equation.params.values())):
      if isinstance(inner, core.Jaxpr | core.ClosedJaxpr):
        count += _products(inner)
  return count


def _gradients(forward, variables, images):
  def loss(variables, images):
    logits, features = forward(variables, images)
    weights = jnp.arange(logits.size, dtype=jnp.float32)
    anchors = sum(jnp.square(f).mean() for f in features.values())
    return jnp.sum(logits * weights.reshape(logits.shape)) + anchors

  return jax.grad(loss, argnums=(0, 1))(variables, images)


def _quarter(name, shape):
  """Returns the index of the part of a parameter that width 0.25 reads."""
  part, _, layer = name.partition('/')
  ins, outs = shape[-2] // 4 if len(shape) == 4 else None, shape[-1] // 4
  if part == 'stem':
    ins = None  # All colour channels.
  # The first block reads the whole anchor; in stage 1 it reads the stem.
  if part != 'stage1' and layer.startswith('block1/conv1/'):
    ins = None
  if layer.startswith('block1/shortcut/'):
    outs = None
    ins = ins if part == 'stage1' else None
  if layer.startswith('block2/conv3/'):  # The anchor block writes all channels.
    outs = None
  if part == 'head':
    ins = outs = None
  if len(shape) == 1:
    return (slice(outs),)
  return (..., slice(ins), slice(outs))


class OutputsBySubnetTest(parameterized.TestCase):

  def test_equals_the_static_predictions_of_every_combination(self):
    # Branches of each stage, out of order and of different number.
    choices = ((3, 0), (2,), (1, 3, 0), (0, 3))
    run = jax.jit(functools.partial(supernet.outputs_by_subnet, _NET))
    actual = run(
        _variables(),
        _images(),
        choices=tuple(jnp.array(branches) for branches in choices),
    )['prediction']
    chex.assert_shape(actual, (2, 1, 3, 2, 2))
    chex.assert_type(actual, jnp.int32)
    expected = [
        np.argmax(_logits(Subnet.decode(branches)), -1)
        for branches in itertools.product(*choices)
    ]
    np.testing.assert_array_equal(
        actual, np.reshape(expected, (2, 1, 3, 2, 2))
    )


class BatchStatsTest(parameterized.TestCase):

  def test_a_training_switch_moves_what_the_static_stage_moves(self):
    net = ResNet('resnet26x8', 'cifar', 'bn_switchable', 10, (16, 16, 1))
    variables = trees.draw_like(net.shapes())
    choice = WIDTH_CHOICES[2]
    x = np.random.default_rng(2).standard_normal((2, 8, 8, 32), np.float32)

    @jax.jit
    def switched(variables, x, index):
      return supernet.switch_stage(
          net, variables, x, 2, index, moving=(BACKBONE,)
      )

    @jax.jit
    def static(variables, x):
      return net.run_stage(variables, x, 2, choice, moving=(BACKBONE,))

    actual = switched(variables, x, choice.index)
    expected = static(variables, x)
    self.assertNotEmpty(expected[1])
    _close(actual, expected)


if __name__ == '__main__':
  absltest.main()
