# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.evaluation.policies."""

import json

from absl.testing import absltest, parameterized
import numpy as np

from adaptanet_jax.evaluation import policies
from adaptanet_jax.models import routing

# Choices cost 8 to 1 times this, from x1.0 down to x0.25d; head and gates none.
_UNIT = 10
_STAGE_MADDS = np.tile(np.arange(8, 0, -1) * _UNIT, (4, 1))
_DEAREST, _CHEAPEST = 4 * 80, 4 * 10


def _calibration(correct, confidences=None, num_bins=4):
  num_examples = correct.shape[-1]
  if confidences is None:
    rng = np.random.default_rng(0)
    confidences = [rng.random((8,) * n + (num_examples,)) for n in (1, 2, 3)]
  return policies.Calibration.create(
      correct, confidences, _STAGE_MADDS, num_bins
  )


def _random(num_examples=40, seed=0):
  rng = np.random.default_rng(seed)
  return rng.random((8, 8, 8, 8, num_examples)) < 0.5


def _mean(calibration, rule):
  subnets, _ = policies.play(calibration, rule)
  correct, madds = policies.outcome(calibration, subnets)
  return correct.mean(), madds.mean()


class CalibrationTest(parameterized.TestCase):

  def test_bins_are_equal_in_frequency_for_each_prefix(self):
    calibration = _calibration(_random(400), num_bins=8)
    self.assertEqual([e.shape for e in calibration.edges],
                     [(8, 7), (64, 7), (512, 7)])
    self.assertEqual(calibration.num_bins, 8)
    for gate, prefix in ((1, 3), (2, 17), (3, 500)):
      bins = calibration.bins(gate, np.full(400, prefix))
      np.testing.assert_array_equal(np.bincount(bins), [50] * 8)

  def test_bins_grow_with_confidence(self):
    confidences = [np.tile(np.arange(8.0), (8,) * n + (1,)) for n in (1, 2, 3)]
    calibration = _calibration(_random(8), confidences)
    # Eight examples in four bins.
    np.testing.assert_array_equal(
        calibration.bins(2, np.zeros(8, int)), [0, 0, 1, 1, 2, 2, 3, 3]
    )


class PlayTest(parameterized.TestCase):

  def test_examples_take_what_their_bins_lead_to(self):
    # Confidences differ between prefixes: after choice 6 all are turned round.
    one = np.tile(np.arange(8.0), (8, 1))
    one[6] = one[6][::-1]
    more = [np.tile(np.arange(8.0), (8,) * n + (1,)) for n in (2, 3)]
    calibration = _calibration(_random(8), [one, *more], num_bins=2)
    table = np.array([[1, 2], [3, 4], [5, 6]])
    subnets, bins = policies.play(calibration, policies.Rule(0, table))
    np.testing.assert_array_equal(subnets[0], [0, 1, 3, 5])
    np.testing.assert_array_equal(subnets[7], [0, 2, 4, 6])
    np.testing.assert_array_equal(bins[:, 0], [0] * 4 + [1] * 4)
    subnets, _ = policies.play(calibration, policies.Rule(6, table))
    np.testing.assert_array_equal(subnets[0], [6, 2, 3, 5])

  def test_a_deviation_changes_one_stage_and_what_follows(self):
    calibration = _calibration(_random())
    rule = policies.Rule(1, np.random.default_rng(1).integers(0, 8, (3, 4)))
    before, _ = policies.play(calibration, rule)
    after, _ = policies.play(calibration, rule, deviation=(2, 7))
    np.testing.assert_array_equal(after[:, :2], before[:, :2])
    self.assertTrue((after[:, 2] == 7).all())

  def test_outcome_by_hand(self):
    correct = np.zeros((8, 8, 8, 8, 2), bool)
    correct[0, 1, 2, 3, 0] = True
    correct[7, 7, 7, 7, 0] = True  # Of the other example's subnet.
    right, madds = policies.outcome(
        _calibration(correct), np.array([[0, 1, 2, 3], [7, 7, 7, 7]])
    )
    np.testing.assert_array_equal(right, [True, False])
    np.testing.assert_array_equal(madds, [80 + 70 + 60 + 50, 40])


class RankedTest(parameterized.TestCase):

  def _by_accuracy(self, order):
    """Answers whose accuracy falls in the order of the choices, everywhere."""
    correct = np.zeros((8, 8, 8, 8, 32), bool)
    for rank, choice in enumerate(order):
      for stage in (1, 2, 3):
        share = slice(0, 4 * (8 - rank))
        index = [slice(None)] * 4
        index[stage] = choice
        correct[(*index, share)] |= True
    return correct

  def test_low_confidence_is_pulled_up_to_accurate_choices(self):
    order = [2, 0, 1, 3, 6, 4, 5, 7]
    calibration = _calibration(self._by_accuracy(order), num_bins=8)
    up = policies.ranked(calibration, 'joint', start=2, pull_up=True)
    down = policies.ranked(calibration, 'joint', start=2, pull_up=False)
    for gate in range(3):
      self.assertEqual(up.choices[gate].tolist(), order)
      self.assertEqual(down.choices[gate].tolist(), order[::-1])
    self.assertEqual((up.start, down.start), (2, 2))

  @parameterized.parameters(('width', [2, 0, 1, 3]), ('depth', [6, 4, 5, 7]))
  def test_a_scope_of_four_shares_eight_bins(self, scope, expected):
    order = [2, 0, 1, 3, 6, 4, 5, 7]
    calibration = _calibration(self._by_accuracy(order), num_bins=8)
    rule = policies.ranked(calibration, scope, start=0, pull_up=True)
    self.assertEqual(rule.choices[1].tolist(), np.repeat(expected, 2).tolist())

  def test_of_equals_the_dearer_counts_as_better(self):
    calibration = _calibration(np.ones((8, 8, 8, 8, 4), bool), num_bins=8)
    rule = policies.ranked(calibration, 'joint', start=0, pull_up=True)
    self.assertEqual(rule.choices[0].tolist(), list(range(8)))

  def test_start_is_a_delta_where_all_are(self):
    self.assertEqual(policies.start_choice('joint', 0.5), 2)
    self.assertEqual(policies.start_choice('depth', 0.5), 6)


class BudgetTest(parameterized.TestCase):

  @parameterized.product(
      scope=tuple(policies.SCOPES), share=(0.3, 0.5, 1.0), seed=(0, 1)
  )
  def test_keeps_to_the_limit_and_to_its_scope(self, scope, share, seed):
    calibration = _calibration(_random(seed=seed))
    limit = share * _DEAREST
    rule = policies.budget(calibration, scope, limit)
    indices = {choice.index for choice in policies.SCOPES[scope]}
    costs = [80 - 10 * index for index in indices]
    if 4 * min(costs) > limit:
      self.assertIsNone(rule)
      return
    accuracy, madds = _mean(calibration, rule)
    self.assertLessEqual(madds, limit)
    self.assertContainsSubset(
        {rule.start, *rule.choices.ravel().tolist()}, indices
    )
    # Answers at random leave much to choose from: uniform subnets get half.
    self.assertGreater(accuracy, 0.55)

  def test_none_is_cheap_enough(self):
    calibration = _calibration(_random())
    self.assertIsNone(policies.budget(calibration, 'joint', _CHEAPEST - 1))
    self.assertIsNotNone(policies.budget(calibration, 'joint', _CHEAPEST))

  def test_spends_where_confidence_says_that_it_pays(self):
    # At gate 1 the less confident half of the examples is right only with the
    # dearest choice, the other half with any. Half of the dear choices fit.
    num_examples = 64
    confident = np.arange(num_examples)
    confidences = [
        np.tile(confident, (8,) * n + (1,)).astype(float) for n in (1, 2, 3)
    ]
    correct = np.zeros((8, 8, 8, 8, num_examples), bool)
    correct[..., num_examples // 2 :] = True
    correct[:, 0] = True
    calibration = _calibration(correct, confidences, num_bins=8)
    limit = 3 * 10 + (80 + 10) / 2
    rule = policies.budget(calibration, 'joint', limit)
    accuracy, madds = _mean(calibration, rule)
    self.assertEqual((accuracy, madds), (1.0, limit))
    self.assertEqual(rule.choices[0].tolist(), [0] * 4 + [7] * 4)
    # The same MAdds spent blindly get three quarters right.
    points = [(_CHEAPEST, 0.5), (3 * 10 + 80, 1.0)]
    self.assertEqual(policies.uniform_mixture(points, limit), 0.75)

  def test_deviations_from_the_best_find_nothing_better(self):
    calibration = _calibration(_random(24), num_bins=2)
    rule = policies.budget(calibration, 'width', _DEAREST)
    best, _ = _mean(calibration, rule)
    for gate in range(3):
      for number in range(2):
        for choice in range(4):
          table = rule.choices.copy()
          table[gate, number] = choice
          other, _ = _mean(calibration, policies.Rule(rule.start, table))
          self.assertLessEqual(other, best)


class ComparisonTest(parameterized.TestCase):

  @parameterized.parameters(
      (1.0, 0.4), (2.0, 0.6), (3.0, 0.8), (5.0, 0.9),
      # Below and beyond all points.
      (0.5, 0.4), (9.0, 0.9),
  )
  def test_uniform_mixture_is_the_concave_envelope(self, madds, expected):
    # The point at 2 lies below the line from 1 to 3.
    points = [(3.0, 0.8), (1.0, 0.4), (2.0, 0.5), (5.0, 0.9)]
    actual = policies.uniform_mixture(points, madds)
    self.assertAlmostEqual(actual, expected)

  def test_random_is_the_mean_of_subnets_of_like_cost(self):
    madds = np.full((8,) * 4, 1000.0)
    top1 = np.zeros((8,) * 4)
    madds[0, 0, 0, 0], top1[0, 0, 0, 0] = 96.0, 0.5
    madds[1, 2, 3, 0], top1[1, 2, 3, 0] = 104.0, 0.7
    madds[4, 4, 4, 4], top1[4, 4, 4, 4] = 100.0, 0.9
    random = policies.random_at
    self.assertAlmostEqual(random(top1, madds, 'width', 100.0), 0.6)
    self.assertAlmostEqual(random(top1, madds, 'joint', 100.0), 0.7)
    self.assertAlmostEqual(random(top1, madds, 'depth', 100.0), 0.9)
    self.assertIsNone(random(top1, madds, 'joint', 500.0))


class JsonTest(parameterized.TestCase):

  def test_a_policy_comes_back_as_it_was(self):
    calibration = _calibration(_random())
    rule = policies.budget(calibration, 'joint', _DEAREST)
    policy = policies.to_policy(rule, calibration.edges)
    text = json.dumps(
        policies.to_json({'joint': {'budget': rule}}, calibration.edges)
    )
    again = policies.from_json(json.loads(text), 'joint', 'budget')
    self.assertIsInstance(again, routing.Policy)
    np.testing.assert_array_equal(again.choices, policy.choices)
    self.assertEqual(int(again.start), rule.start)
    for actual, expected in zip(again.edges, policy.edges):
      np.testing.assert_array_equal(actual, expected)
    shapes = policies.policy_shapes(8, 4)
    self.assertEqual(shapes.choices.shape, policy.choices.shape)
    self.assertEqual(
        [e.shape for e in shapes.edges], [e.shape for e in policy.edges]
    )


if __name__ == '__main__':
  absltest.main()
