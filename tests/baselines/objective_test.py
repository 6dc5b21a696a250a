# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.baselines.objective."""

import functools

from absl.testing import absltest, parameterized
import chex
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax.baselines import objective
from adaptanet_jax.baselines.methods import METHODS
from adaptanet_jax.baselines.objective import baseline_gradients
from adaptanet_jax.models.resnet import ResNet
from adaptanet_jax.models.subnet import Subnet
from tests.variables import draw

_NET = ResNet('resnet26x8', 'cifar', 'gn', 5, (16, 16, 1), anchors=False)
_RNG = jax.random.key(5)
_SMOOTHING = 0.1


def _batch():
  rng = np.random.default_rng(9)
  images = rng.standard_normal((4, 16, 16, 1), np.float32)
  return jnp.asarray(images), jnp.array([0, 1, 2, 4])


@functools.cache
def _gradients(name, ensemble, net=_NET):
  """Gradients, batch statistics and metrics of a step."""
  variables, average = draw(net), draw(net, seed=1)
  run = functools.partial(
      baseline_gradients,
      net=net,
      method=METHODS[name],
      label_smoothing=_SMOOTHING,
      ensemble=ensemble,
  )
  return jax.jit(run)(
      variables['params'],
      variables.get('batch_stats', {}),
      {},
      average,
      *_batch(),
      _RNG,
  )


def _subnets(name):
  drawn = np.asarray(METHODS[name].draw(_RNG))
  return [Subnet.decode(row) for row in drawn]


def _cross_entropy(logits, probabilities):
  return -(probabilities * jax.nn.log_softmax(logits)).sum(-1).mean()


@functools.cache
def _probabilities(subnet, seed):
  """What a network predicts, by the static form."""
  forward = functools.partial(_NET.forward, subnet=subnet)
  logits, _ = jax.jit(forward)(draw(_NET, seed=seed), _batch()[0])
  return jax.nn.softmax(logits)


def _hard():
  # Five classes: a tenth spread evenly leaves .92 and .02.
  return jnp.full((4, 5), 0.02).at[jnp.arange(4), _batch()[1]].set(0.92)


def _targets(name, ensemble):
  """The targets of the subnets of the step, by the descriptions alone."""
  subnets = _subnets(name)
  if name.startswith('usnet'):
    rest = [_probabilities(subnets[0], 0)] * (len(subnets) - 1)
    return [_hard(), *rest]
  guides = [_probabilities(subnet, 1) for subnet in subnets[:-1]]
  last = guides[0] if ensemble == 'ib' else sum(guides) / len(guides)
  return [_hard(), *[guides[0]] * (len(subnets) - 2), last]


class BaselineGradientsTest(parameterized.TestCase):

  @parameterized.parameters(
      ('usnet_random', 'ieb'),
      ('dsnet', 'ieb'),
      ('dsnet', 'ib'),
  )
  def test_equals_the_sum_over_static_subnets(self, name, ensemble):
    targets = [lax.stop_gradient(t) for t in _targets(name, ensemble)]
    subnets = _subnets(name)

    def total(params):
      losses = [
          _cross_entropy(
              _NET.forward({'params': params}, _batch()[0], subnet)[0], target
          )
          for subnet, target in zip(subnets, targets)
      ]
      return sum(losses), losses

    expected, losses = jax.jit(jax.grad(total, has_aux=True))(
        draw(_NET)['params']
    )
    actual, stats, metrics = _gradients(name, ensemble)
    self.assertEqual(stats, {})
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected)):
      scale = float(np.abs(e).max())
      self.assertGreater(scale, 0.0)
      np.testing.assert_allclose(a, e, rtol=1e-3, atol=1e-4 * scale)
    np.testing.assert_allclose(metrics['loss'], sum(losses), rtol=1e-5)
    np.testing.assert_allclose(metrics['loss_widest'], losses[0], rtol=1e-5)
    np.testing.assert_allclose(metrics['loss_narrowest'], losses[-1], rtol=1e-5)

  def test_a_moving_average_teaches_with_its_own_statistics(self):
    net = ResNet(
        'resnet26x8', 'cifar', 'bn_private', 5, (16, 16, 1), anchors=False
    )
    average = draw(net, seed=1)
    subnets = METHODS['dsnet'].draw(_RNG)
    run = functools.partial(objective._bootstrapped, net, ensemble='ib')
    actual = jax.jit(run)(average, _batch()[0], subnets)
    # Those of width 1.0, in evaluation mode: as one image alone has it.
    logits, _ = jax.jit(net.forward)(average, _batch()[0][:1])
    expected = jax.nn.softmax(logits)[0]
    for target in actual[:, 0]:
      chex.assert_trees_all_close(target, expected, rtol=1e-4, atol=1e-5)

  def test_every_subnet_moves_the_batch_statistics(self):
    net = ResNet('resnet26x8', 'cifar', 'bn', 5, (16, 16, 1), anchors=False)
    before = draw(net)
    _, stats, _ = _gradients('usnet', 'ieb', net)
    chex.assert_trees_all_equal_shapes(stats, before['batch_stats'])
    # Channel 0 of the stem is active in all four subnets, the last in one. The
    # statistics of the batch are the same for all: of x the running mean has
    # then .9^4 and .9 of the old.
    old, new = (
        np.asarray(tree['backbone']['stem']['conv']['norm']['mean'])
        for tree in (before['batch_stats'], stats)
    )
    kernel = before['params']['backbone']['stem']['conv']['kernel']
    convolved = lax.conv_general_dilated(
        _batch()[0], kernel, (1, 1), 'SAME',
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    ).mean((0, 1, 2))
    for channel, times in ((0, 4), (7, 1)):
      kept = 0.9**times
      np.testing.assert_allclose(
          new[channel],
          kept * old[channel] + (1.0 - kept) * convolved[channel],
          rtol=1e-4,
          atol=1e-6,
      )


if __name__ == '__main__':
  absltest.main()
