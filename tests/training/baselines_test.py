# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.training.baselines."""

import dataclasses
import functools

from absl.testing import absltest, parameterized
import chex
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import trees
from adaptanet_jax.models.resnet import BACKBONE, ResNet, stage_numbers
from adaptanet_jax.models.subnet import Subnet
from adaptanet_jax.training import baselines
from adaptanet_jax.training.baseline_methods import METHODS
from adaptanet_jax.training.baselines import baseline_gradients
from adaptanet_jax.training.objectives import StepInputs

_NET = ResNet('resnet26x8', 'cifar', 'gn', 5, (16, 16, 1), anchors=False)
_RNG = jax.random.key(5)
_SMOOTHING = 0.1


def _batch():
  rng = np.random.default_rng(9)
  images = rng.standard_normal((4, 16, 16, 1), np.float32)
  return jnp.asarray(images), jnp.array([0, 1, 2, 4])


def _inputs(averages):
  return StepInputs({}, averages, *_batch(), _RNG, 0)


def _subnets(name):
  drawn = np.asarray(METHODS[name].draw(_RNG))
  return [Subnet.decode(row) for row in drawn]


def _cross_entropy(logits, probabilities):
  return -(probabilities * jax.nn.log_softmax(logits)).sum(-1).mean()


def _hard():
  # Labels of five classes, smoothed by a tenth: .92 and .02.
  return jnp.full((4, 5), 0.02).at[jnp.arange(4), _batch()[1]].set(0.92)


def _train_mode(net, variables, subnet):
  """Runs a static subnet in training mode; returns logits and statistics."""
  x, stats = _batch()[0], variables['batch_stats']
  for n, choice in zip(stage_numbers(), subnet.stages):
    x, new = net.run_stage(variables, x, n, choice, moving=(BACKBONE,))
    stats = trees.merge(stats, new)
  return net.run_head(variables, x), stats


def _guides(net, averages, subnets):
  """Returns DSNet's targets of all but the largest subnet, by its paper."""
  predictions = []
  for subnet in subnets[:-1]:
    run = jax.jit(functools.partial(net.forward, subnet=subnet))
    predictions.append(jax.nn.softmax(run(averages, _batch()[0])[0]))
  ensemble = sum(predictions) / len(predictions)
  return [predictions[0]] * (len(subnets) - 2) + [ensemble]


class BaselineGradientsTest(parameterized.TestCase):

  def _assert_near(self, actual, expected):
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected)):
      scale = float(np.abs(e).max())
      self.assertGreater(scale, 0.0)
      np.testing.assert_allclose(a, e, rtol=1e-3, atol=1e-4 * scale)

  @parameterized.parameters(('usnet_random', 'bn'), ('dsnet', 'gn'))
  def test_equals_the_sum_over_static_subnets(self, name, norm):
    net = dataclasses.replace(_NET, norm=norm)
    subnets = _subnets(name)
    averages = trees.draw_like(net.shapes(), seed=1)
    guides = _guides(net, averages, subnets) if name == 'dsnet' else None

    def total(params, stats, guides):
      losses = []
      target = _hard()
      for number, subnet in enumerate(subnets):
        variables = {'params': params, 'batch_stats': stats}
        logits, stats = _train_mode(net, variables, subnet)
        if name == 'dsnet' and number:
          target = guides[number - 1]
        losses.append(_cross_entropy(logits, lax.stop_gradient(target)))
        if not number:  # In USNet it teaches all others.
          target = jax.nn.softmax(logits)
      return sum(losses), (losses, stats)

    variables = trees.draw_like(net.shapes())
    params, stats = variables['params'], variables.get('batch_stats', {})
    expected, (losses, expected_stats) = jax.jit(
        jax.grad(total, has_aux=True)
    )(params, stats, guides)
    run = functools.partial(
        baseline_gradients,
        net=net,
        method=METHODS[name],
        label_smoothing=_SMOOTHING,
        ensemble='ieb',
    )
    actual, actual_stats, metrics = jax.jit(run)(
        params, stats, _inputs(averages)
    )
    self._assert_near(actual, expected)
    for key, loss in (
        ('loss', sum(losses)),
        ('loss_widest', losses[0]),
        ('loss_narrowest', losses[-1]),
    ):
      np.testing.assert_allclose(metrics[key], loss, rtol=1e-4)
    chex.assert_trees_all_close(
        actual_stats, expected_stats, rtol=1e-3, atol=1e-3
    )
    if norm == 'bn':
      # A channel that all three subnets run has moved three times.
      path = ('backbone', 'stem', 'conv', 'norm', 'mean')
      old, new = (
          functools.reduce(lambda tree, key: tree[key], path, tree)[0]
          for tree in (stats, actual_stats)
      )
      kernel = params['backbone']['stem']['conv']['kernel']
      now = lax.conv_general_dilated(
          _batch()[0],
          kernel[..., :1],
          (1, 1),
          'SAME',
          dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      ).mean()
      np.testing.assert_allclose(
          new, 0.9**3 * old + (1.0 - 0.9**3) * now, rtol=1e-4, atol=1e-6
      )

  def test_with_ib_the_narrowest_subnet_learns_from_the_largest(self):
    subnets = _subnets('dsnet')
    averages = trees.draw_like(_NET.shapes(), seed=1)
    run = functools.partial(baselines._bootstrapped, _NET, ensemble='ib')
    actual = jax.jit(run)(
        _inputs(averages), np.stack([s.encode() for s in subnets])
    )
    logits, _ = jax.jit(_NET.forward)(averages, _batch()[0])
    expected = jnp.stack([jax.nn.softmax(logits)] * 3)
    chex.assert_trees_all_close(actual, expected, rtol=1e-4, atol=1e-5)

  def test_a_moving_average_teaches_with_its_own_statistics(self):
    net = ResNet(
        'resnet26x8', 'cifar', 'bn_private', 5, (16, 16, 1), anchors=False
    )
    average = trees.draw_like(net.shapes(), seed=1)
    subnets = METHODS['dsnet'].draw(_RNG)
    run = functools.partial(baselines._bootstrapped, net, ensemble='ib')
    actual = jax.jit(run)(_inputs(average), subnets)
    # The target is that of width 1.0 in evaluation mode, so one image alone
    # has the same.
    logits, _ = jax.jit(net.forward)(average, _batch()[0][:1])
    expected = jax.nn.softmax(logits)[0]
    for target in actual[:, 0]:
      chex.assert_trees_all_close(target, expected, rtol=1e-4, atol=1e-5)


if __name__ == '__main__':
  absltest.main()
