# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.evaluation.protocols."""

import functools
import os
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import jax
import numpy as np

from adaptanet_jax import preemption, trees
from adaptanet_jax.data.splits import InMemorySplit
from adaptanet_jax.evaluation import protocols
from adaptanet_jax.evaluation.cost import Cost, CostTable
from adaptanet_jax.models.layers import normalize
from adaptanet_jax.models.resnet import ResNet
from adaptanet_jax.models.subnet import LARGEST, MIXED, UNIFORM
from adaptanet_jax.programs import Programs, image_shapes

_NET = ResNet('resnet26x8', 'cifar_half', 'gn_ws', 10, (8, 8, 1))
# No multiple of the batch size: the last batch has two images of padding.
_NUM_EXAMPLES = 10
_BATCH_SIZE = 4


def _costs():
  """Returns costs: branch i of stage n, from 0, i * 10^n; the head 5."""
  stages = tuple(
      (tuple(Cost(i * 10**n, 0) for i in range(4)),) for n in range(4)
  )
  return CostTable(stages, (Cost(5, 0),))


def _table(num_examples):
  return np.zeros((4, 4, 4, 4, num_examples), bool)


def _summarize(correct, *, passes=10, seed=0):
  madds = _costs().madds_by_subnet()
  return protocols.summarize(correct, madds, passes=passes, seed=seed)


class SummarizeTest(parameterized.TestCase):

  def test_uniform_widths_by_hand(self):
    correct = _table(4)
    correct[0, 0, 0, 0, :3] = True
    correct[2, 2, 2, 2, 1] = True
    # Branch i at all stages has i * 1111 + 5 MAdds.
    self.assertEqual(
        _summarize(correct)['uniform'],
        {
            '1.0': {'top1': 0.75, 'madds': 5},
            '0.75': {'top1': 0.0, 'madds': 1116},
            '0.5': {'top1': 0.25, 'madds': 2227},
            '0.25': {'top1': 0.0, 'madds': 3338},
        },
    )

  def test_mixed_widths_by_hand(self):
    correct = _table(4)
    correct[3, 0, 0, 3, 0] = True
    correct[0, 3, 3, 0, :2] = True
    correct[3, 0, 3, 0, :3] = True
    correct[0, 3, 0, 3, :] = True
    # Branch 3 of stage n costs 3 * 10^(n - 1).
    self.assertEqual(
        _summarize(correct)['mixed'],
        {
            '0.25-1.0-1.0-0.25': {'top1': 0.25, 'madds': 3008},
            '1.0-0.25-0.25-1.0': {'top1': 0.5, 'madds': 335},
            '0.25-1.0-0.25-1.0': {'top1': 0.75, 'madds': 308},
            '1.0-0.25-1.0-0.25': {'top1': 1.0, 'madds': 3035},
        },
    )

  def test_exact_figures_by_hand(self):
    correct = _table(4)
    # 64 subnets are right on two of four, one on three, the rest on none:
    # (64 * 2 + 3) / (256 * 4).
    correct[0, ..., :2] = True
    correct[3, 1, 2, 0, 1:] = True
    self.assertEqual(
        _summarize(correct)['exact'],
        {'mean': 131 / 1024, 'min': 0.0, 'max': 0.75, 'subnets': 256},
    )

  def test_one_wrong_subnet_sets_the_minimum(self):
    correct = ~_table(5)
    correct[1, 2, 3, 0, :4] = False
    exact = _summarize(correct)['exact']
    self.assertEqual((exact['min'], exact['max']), (0.2, 1.0))
    self.assertAlmostEqual(exact['mean'], 1.0 - 4 / (5 * 256))

  def test_deltas_are_read_off_their_own_block(self):
    correct = np.zeros((8, 8, 8, 8, 4), bool)
    correct[4, 4, 4, 4, :3] = True
    correct[7, 4, 4, 7, :1] = True
    correct[0] = True  # Not counted: stage 1 runs blocks.
    madds = np.arange(8**4).reshape((8,) * 4)
    found = protocols.summarize(correct, madds, passes=1, seed=0, delta=True)
    # Index of branch 4 at all stages: 4 * (512 + 64 + 8 + 1).
    self.assertEqual(
        found['uniform']['1.0'], {'top1': 0.75, 'madds': 2340}
    )
    self.assertEqual(found['mixed']['0.25-1.0-1.0-0.25']['top1'], 0.25)
    self.assertEqual(found['exact']['subnets'], 256)
    self.assertEqual(found['exact']['mean'], 4 / (4 * 256))

  def test_the_deviation_of_random_over_all_passes_by_hand(self):
    correct = np.zeros((4,) * 4 + (3,), bool)
    correct[0, ..., 0] = True  # Right with one quarter of the subnets.
    correct[:2, ..., 1] = True  # With half of them. The last one is wrong.
    random = _summarize(correct)['random']
    # Of three independent draws: sqrt(1/4 * 3/4 + 1/2 * 1/2) / 3.
    self.assertAlmostEqual(random['exact_std'], 0.4375**0.5 / 3)

  def test_random_depends_on_the_seed_and_on_nothing_else(self):
    correct = np.random.default_rng(0).random((4, 4, 4, 4, 50)) < 0.5
    first = _summarize(correct, seed=3)['random']
    self.assertEqual(_summarize(correct, seed=3)['random'], first)
    self.assertNotEqual(_summarize(correct, seed=4)['random'], first)

  def test_random_has_no_spread_when_all_subnets_agree(self):
    correct = _table(4)
    correct[..., :3] = True
    random = _summarize(correct, passes=7)['random']
    self.assertEqual(
        (random['mean'], random['std'], random['passes']), (0.75, 0.0, 7)
    )

  def test_random_draws_a_subnet_for_each_sample(self):
    # The 64 of 256 subnets with stage 1 at full width are right. If one subnet
    # were drawn for a whole pass, the deviation would be sqrt(3) / 4 = 0.43.
    # Drawn for each of 1000 samples, it is sqrt(3 / 16 / 1000) = 0.0137.
    correct = _table(1000)
    correct[0] = True
    random = _summarize(correct, passes=100)['random']
    self.assertBetween(random['mean'], 0.24, 0.26)
    self.assertBetween(random['std'], 0.010, 0.018)
    # The mean branch is 1.5: 1.5 * 1111 + 5 = 1671.5. One draw has the
    # deviation sqrt(1.25 * 1010101) = 1124, and the mean of 100000 has 3.6.
    self.assertBetween(random['madds_mean'], 1671 - 18, 1672 + 18)

  def test_random_reaches_every_subnet(self):
    # Only one of 256 subnets is right about the one sample; 4000 passes miss
    # it with probability (255 / 256)^4000 = 1.6e-7.
    for place in ((0, 0, 0, 0), (3, 3, 3, 3), (1, 0, 2, 3)):
      correct = _table(1)
      correct[place] = True
      random = _summarize(correct, passes=4000)['random']
      # 1 / 256 = 0.0039, with a deviation of 0.001.
      self.assertBetween(random['mean'], 0.0005, 0.008)

  def test_random_is_within_the_range_of_the_samples(self):
    # Of eight samples two are always right and one never: 0.25 to 0.875.
    correct = np.random.default_rng(1).random((4, 4, 4, 4, 8)) < 0.5
    correct[..., :2] = True
    correct[..., 7] = False
    for seed in range(5):
      mean = _summarize(correct, passes=1, seed=seed)['random']['mean']
      self.assertBetween(mean, 0.25, 0.875)


@functools.cache
def _images():
  shape = (_NUM_EXAMPLES, *_NET.image_shape)
  return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@functools.cache
def _variables():
  """Returns variables with which no class is much likelier than others."""
  variables = trees.draw_like(_NET.shapes())
  logits = _logits(variables, LARGEST)
  head = variables['params']['backbone']['head']
  head['bias'] -= logits.mean(0)
  return variables


def _logits(variables, subnet):
  """Runs the static form of a subnet on all examples in one batch."""
  run = jax.jit(functools.partial(_NET.forward, subnet=subnet))
  return run(variables, normalize(_images()))[0]


@functools.cache
def _predictions(subnet):
  return np.asarray(_logits(_variables(), subnet)).argmax(-1)


@functools.cache
def _labels():
  """Returns the full network's predictions, with two labels changed."""
  labels = _predictions(LARGEST).astype(np.int32)
  labels[[1, 8]] = (labels[[1, 8]] + 1) % 10
  return labels


@functools.cache
def _by_subnet():
  return _correct(protocols.tree_predictor(_NET))


def _correct(predictor, keep=None):
  program = protocols.program(
      predictor, _variables(), image_shapes(_split(), _BATCH_SIZE)
  )
  with Programs() as programs:
    outputs = protocols.predict(
        programs.compiled(program),
        _variables(),
        _split(),
        _BATCH_SIZE,
        keep=keep,
    )
  return outputs['prediction'] == _labels()


def _split():
  return InMemorySplit(_labels(), _images().__getitem__)


class CorrectTest(parameterized.TestCase):

  def test_examples_are_told_apart(self):
    # Otherwise the tests below would not notice examples in a wrong order.
    self.assertGreater(len(set(_predictions(LARGEST).tolist())), 3)

  def test_the_full_network_is_evaluated_on_each_example_once(self):
    actual = _correct(protocols.full_predictor(_NET))
    # It is wrong where the two labels were changed.
    expected = np.ones(_NUM_EXAMPLES, bool)
    expected[[1, 8]] = False
    self.assertEqual(actual.dtype, bool)
    np.testing.assert_array_equal(actual, expected)

  def test_the_table_has_every_subnet_and_each_example_once(self):
    self.assertEqual(_by_subnet().shape, (4, 4, 4, 4, _NUM_EXAMPLES))
    for subnet in (LARGEST, MIXED[0]):
      np.testing.assert_array_equal(
          _by_subnet()[tuple(subnet.encode())],
          _predictions(subnet) == _labels(),
      )

  def test_kernels_are_standardised_outside_of_what_is_mapped(self):
    found = []

    def predict(net, variables, images):
      found.append(net)
      kernel = variables['params']['backbone']['stem']['conv']['kernel']
      return kernel.mean((0, 1, 2))[:, None] + 0.0 * images.sum()

    run = protocols.map_predictor(_NET, predict)
    means = run(_variables(), _images()[None, :1], ())
    self.assertNotEqual(_NET, _NET.folded)
    self.assertEqual(found, [_NET.folded])
    np.testing.assert_allclose(means, np.zeros((1, 8, 1)), atol=1e-6)

  def test_some_subnets_alone_are_those_of_the_table(self):
    subnets = (*MIXED, *UNIFORM)
    actual = _correct(protocols.subnets_predictor(_NET, subnets))
    expected = [_by_subnet()[tuple(subnet.encode())] for subnet in subnets]
    np.testing.assert_array_equal(actual, expected)
    # The subnets do not all have the same answers.
    self.assertGreater(len(np.unique(actual, axis=0)), 2)

  def test_what_was_cut_off_is_taken_up_where_it_was(self):
    folder = self.enter_context(tempfile.TemporaryDirectory())
    keep = os.path.join(folder, 'unfinished')
    predictor = protocols.subnets_predictor(_NET, UNIFORM)
    num_batches = -(-_NUM_EXAMPLES // _BATCH_SIZE)
    self.assertGreater(num_batches, 2)
    asked = mock.Mock(side_effect=[None, None, preemption.Preempted])
    with mock.patch.object(preemption.NOTICE, 'check', asked):
      with self.assertRaises(preemption.Preempted):
        _correct(predictor, keep)
    self.assertLen(os.listdir(keep), 2)
    with mock.patch.object(
        preemption.NOTICE, 'check', wraps=preemption.NOTICE.check
    ) as asked:
      actual = _correct(predictor, keep)
    self.assertEqual(asked.call_count, num_batches - 2)
    np.testing.assert_array_equal(actual, _correct(predictor))
    # The same if all batches were kept, or a copy of the second is cut off.
    np.testing.assert_array_equal(_correct(predictor, keep), actual)
    with open(os.path.join(keep, 'batch2.npz'), 'r+b') as file:
      file.truncate(os.path.getsize(file.name) // 2)
    np.testing.assert_array_equal(_correct(predictor, keep), actual)


if __name__ == '__main__':
  absltest.main()
