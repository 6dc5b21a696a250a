# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.evaluation.calibration."""

import functools
import os
import tempfile

from absl.testing import absltest, parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import trees
from adaptanet_jax.data.splits import InMemorySplit
from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation import calibration
from adaptanet_jax.models import supernet
from adaptanet_jax.models.layers import normalize
from adaptanet_jax.models.resnet import (
  BACKBONE,
  DELTA,
  ResNet,
  stage_numbers,
)
from adaptanet_jax.models.subnet import CHOICES, MIXED, Subnet
from adaptanet_jax.programs import Programs, image_shapes

_NET = ResNet(
    'resnet26x8', 'cifar', 'bn', 10, (16, 16, 1), axis_name='batch',
    anchors=False,
)
_NUM_IMAGES = 24
_BATCH_SIZE = 8


def _split():
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (_NUM_IMAGES, 16, 16, 1), np.uint8)
  return InMemorySplit(np.zeros(_NUM_IMAGES, np.int32), lambda at: images[at])


@functools.cache
def _calibrated(num_examples):
  variables = trees.draw_like(_NET.shapes())
  images = image_shapes(_split(), _BATCH_SIZE)
  with Programs() as programs:
    return calibration.calibrate(
        programs.compiled(calibration.program(_NET, variables, images)),
        variables,
        _split(),
        batch_size=_BATCH_SIZE,
        num_examples=num_examples,
        seed=0,
    )


def _first_batch():
  shuffled = np.random.default_rng(0).permutation(_NUM_IMAGES)
  return normalize(jnp.asarray(_split().gather(shuffled[:_BATCH_SIZE])))


class CalibrateTest(parameterized.TestCase):

  @parameterized.parameters(MIXED[1], Subnet.uniform(0.5))
  def test_a_subnet_then_runs_as_in_training_mode_on_the_same_images(
      self, subnet
  ):
    # Training mode uses the statistics of the batch, not the running ones.
    net = ResNet('resnet26x8', 'cifar', 'bn', 10, (16, 16, 1), anchors=False)
    variables = trees.draw_like(net.shapes())

    @jax.jit
    def train_mode(variables, x):
      for n, choice in zip(stage_numbers(), subnet.stages):
        x, _ = net.run_stage(variables, x, n, choice, moving=(BACKBONE,))
      return net.run_head(variables, x)

    found = calibration.of_subnet(_calibrated(_BATCH_SIZE), subnet, 'subnet')
    actual, _ = jax.jit(functools.partial(net.forward, subnet=subnet))(
        trees.merge(variables, found), _first_batch()
    )
    expected = train_mode(variables, _first_batch())
    chex.assert_trees_all_close(actual, expected, rtol=1e-3, atol=1e-3)

  @parameterized.parameters('bn', 'bn_private', 'bn_switchable')
  def test_deltas_have_statistics_of_their_own(self, norm):
    net = ResNet(
        'resnet26x8', 'cifar', norm, 10, (16, 16, 1), delta='conv3x3'
    )
    variables = trees.draw_like(net.shapes())
    # Stage 1 at full width and its delta at half; stage 2 at a quarter.
    choices = (jnp.array([0, 6]), jnp.array([3]))
    found = jax.jit(
        functools.partial(
            supernet.statistics_by_subnet, net, choices=choices
        )
    )(variables, _first_batch())
    first, second = (of_stage['batch_stats'] for of_stage in found)
    anchor = first['backbone']['stage1']['block2']['conv1']['norm']['mean']
    self.assertFalse(np.array_equal(anchor[0], anchor[1]))
    for position, choice in enumerate((CHOICES[0], CHOICES[6])):
      x = _first_batch()
      own = variables
      for n, run_as in ((1, choice), (2, CHOICES[3])):
        of_stage = (first, second)[n - 1]
        place = (position,) if n == 1 else (position, 0)
        own = trees.merge(
            own,
            {'batch_stats': jax.tree.map(lambda a, p=place: a[p], of_stage)},
        )
        trained, _ = net.run_stage(
            variables, x, n, run_as, moving=(BACKBONE, DELTA)
        )
        evaluated, _ = net.run_stage(own, x, n, run_as)
        chex.assert_trees_all_close(evaluated, trained, rtol=1e-3, atol=1e-3)
        x = trained

  def test_leaves_have_an_axis_for_each_stage_so_far(self):
    for n, of_stage in zip(stage_numbers(), _calibrated(_BATCH_SIZE)):
      for leaf in jax.tree.leaves(of_stage):
        self.assertEqual(leaf.shape[:n], (4,) * n)
        self.assertEqual(leaf.ndim, n + 1)

  def test_several_batches_give_the_mean_of_their_statistics(self):
    # 24 images make three batches; the tests above use the first one.
    run = jax.pmap(
        lambda v, x: supernet.statistics_by_subnet(
            _NET, v, normalize(x), (jnp.arange(4),)
        ),
        axis_name='batch',
        in_axes=(None, 0),
        out_axes=None,
    )
    shuffled = np.random.default_rng(0).permutation(_NUM_IMAGES)
    images = _split().gather(shuffled).reshape(3, 4, 2, 16, 16, 1)
    variables = trees.draw_like(_NET.shapes())
    each = [run(variables, batch)[0] for batch in images]
    expected = jax.tree.map(lambda *leaves: sum(leaves) / 3.0, *each)
    chex.assert_trees_all_close(
        _calibrated(_NUM_IMAGES)[0], expected, rtol=1e-4, atol=1e-5
    )

  def test_more_examples_than_there_are_take_whole_batches(self):
    chex.assert_trees_all_close(
        _calibrated(10_000), _calibrated(_NUM_IMAGES), rtol=1e-6
    )


class StatisticsTest(parameterized.TestCase):

  def _numbered(self):
    """Returns statistics whose digits are the choices up to their stage."""
    def leaf(n):
      places = np.indices((4,) * n).reshape(n, -1)
      digits = (places * 10 ** np.arange(n)[::-1, None]).sum(0)
      return digits.reshape((4,) * n + (1,)).astype(np.float32)

    return tuple(
        {'batch_stats': {'backbone': {f'stage{n}': {'mean': leaf(n)}}}}
        for n in stage_numbers()
    )

  def _means(self, variables):
    stages = variables['batch_stats']['backbone']
    return [float(stages[f'stage{n}']['mean'][0]) for n in stage_numbers()]

  def test_a_subnet_takes_those_of_its_prefixes(self):
    subnet = Subnet.parse('0.25-1.0-0.75-0.5')  # Choices 3, 0, 1, 2.
    found = calibration.of_subnet(self._numbered(), subnet, 'subnet')
    self.assertEqual(self._means(found), [3, 30, 301, 3012])

  def test_uniform_ones_are_those_of_the_subnet_that_runs_alike(self):
    found = calibration.of_subnet(
        calibration.uniform(self._numbered()),
        Subnet.parse('0.25-1.0-0.75-0.5'),
        'subnet',
    )
    self.assertEqual(self._means(found), [3, 0, 111, 2222])

  def test_a_mixed_subnet_that_was_not_calibrated_is_refused(self):
    with self.assertRaisesRegex(
        UsageError,
        'subnet 0.25-1.0-1.0-0.25 were not calibrated.*'
        "calibration='subnet', or calibration='none'",
    ):
      calibration.of_subnet(self._numbered(), MIXED[0], 'uniform')
    found = calibration.of_subnet(
        self._numbered(), Subnet.uniform(0.5), 'uniform'
    )
    self.assertEqual(self._means(found), [2, 22, 222, 2222])

  def test_those_of_training_are_the_same_everywhere(self):
    variables = trees.draw_like(_NET.shapes())
    found = calibration.of_training(_NET, variables)
    for subnet in (MIXED[0], Subnet.uniform(1.0)):
      chex.assert_trees_all_equal(
          calibration.of_subnet(found, subnet, 'subnet')['batch_stats'],
          variables['batch_stats'],
      )

  def test_what_is_saved_is_loaded(self):
    with tempfile.TemporaryDirectory() as folder:
      path = os.path.join(folder, 'statistics.npz')
      calibration.save(path, self._numbered())
      chex.assert_trees_all_equal(calibration.load(path), self._numbered())
      self.assertEqual(os.listdir(folder), ['statistics.npz'])
      with open(path, 'wb') as file:
        file.write(b'no archive')
      with self.assertRaisesRegex(UsageError, 'holds no batch statistics'):
        calibration.load(path)

  def test_the_tree_runs_every_subnet_with_its_own(self):
    statistics = _calibrated(_BATCH_SIZE)
    variables = trees.draw_like(_NET.shapes())
    net = ResNet('resnet26x8', 'cifar', 'bn', 10, (16, 16, 1), anchors=False)
    choices = (jnp.arange(4),) * 4

    @jax.jit
    def tree(variables, images, statistics):
      return supernet.outputs_by_subnet(
          net, variables, images, choices, statistics=statistics
      )

    outputs = tree(variables, _first_batch(), statistics)['prediction']
    switched = jax.jit(functools.partial(supernet.forward, net))
    for subnet in (MIXED[0], MIXED[3], Subnet.uniform(0.25)):
      found = calibration.of_subnet(statistics, subnet, 'subnet')
      logits, _ = switched(
          trees.merge(variables, found), _first_batch(), subnet.encode()
      )
      np.testing.assert_array_equal(
          outputs[tuple(subnet.encode())], logits.argmax(-1)
      )


if __name__ == '__main__':
  absltest.main()
