# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.evaluation.policies."""

import dataclasses
import json

from absl.testing import absltest, parameterized
import chex
import numpy as np

from adaptanet_jax.evaluation import policies
from adaptanet_jax.models import routing

# Choices cost 8 to 1 times this, from x1.0 down to x0.25d.
_UNIT = 10
_STAGE_MADDS = np.tile(np.arange(8, 0, -1) * _UNIT, (4, 1))
_GATE_MADDS = np.array([3, 2, 1])


def _observed(correct, confidences=None, num_bins=4, margins=None):
  num_examples = correct.shape[-1]
  if confidences is None:
    rng = np.random.default_rng(0)
    confidences = [rng.random((8,) * n + (num_examples,)) for n in (1, 2, 3)]
  if margins is None:
    margins = np.zeros((8, num_examples))
  return policies.Observed.create(
      correct, confidences, _STAGE_MADDS, _GATE_MADDS, margins,
      num_bins=num_bins,
  )


def _random(num_examples=40, seed=0):
  rng = np.random.default_rng(seed)
  return rng.random((8, 8, 8, 8, num_examples)) < 0.5


class CalibrationTest(parameterized.TestCase):

  def test_bins_are_equal_in_frequency_for_each_prefix(self):
    observed = _observed(_random(400), num_bins=8)
    self.assertEqual([e.shape for e in observed.edges],
                     [(8, 7), (64, 7), (512, 7)])
    self.assertEqual(observed.num_bins, 8)
    for gate, prefix in ((1, 3), (2, 17), (3, 500)):
      bins = observed.bins(gate, np.full(400, prefix))
      np.testing.assert_array_equal(np.bincount(bins), [50] * 8)

  def test_bins_grow_with_confidence(self):
    confidences = [np.tile(np.arange(8.0), (8,) * n + (1,)) for n in (1, 2, 3)]
    observed = _observed(_random(8), confidences)
    # Eight examples fill four bins.
    np.testing.assert_array_equal(
        observed.bins(2, np.zeros(8, int)), [0, 0, 1, 1, 2, 2, 3, 3]
    )


class PlayTest(parameterized.TestCase):

  def test_examples_take_what_their_bins_lead_to(self):
    # Confidences depend on the prefix: after choice 6 their order is reversed.
    one = np.tile(np.arange(8.0), (8, 1))
    one[6] = one[6][::-1]
    more = [np.tile(np.arange(8.0), (8,) * n + (1,)) for n in (2, 3)]
    observed = _observed(_random(8), [one, *more], num_bins=2)
    table = np.array([[1, 2], [3, 4], [5, 6]])
    subnets, reads = policies.play(
        observed, policies.Rule.by_bin(0, table)
    )
    np.testing.assert_array_equal(subnets[0], [0, 1, 3, 5])
    np.testing.assert_array_equal(subnets[7], [0, 2, 4, 6])
    self.assertTrue(reads.all())
    subnets, _ = policies.play(observed, policies.Rule.by_bin(6, table))
    np.testing.assert_array_equal(subnets[0], [6, 2, 3, 5])

  def test_what_follows_depends_on_all_bins_on_the_way(self):
    rising = [np.tile(np.arange(8.0), (8,) * n + (1,)) for n in (1, 2)]
    third = np.tile(np.arange(8.0)[::-1], (8,) * 3 + (1,))
    observed = _observed(_random(8), [*rising, third], num_bins=2)
    rule = policies.Rule.fixed((0, 1, 2, 3), 2)
    # Gate 1 is read, gate 2 only if gate 1 was unsure, gate 3 never.
    rule.reads[0][()] = True
    rule.reads[1][0] = True
    rule.choices[1][0] = [4, 5]
    rule.choices[2][1] = 6
    subnets, reads = policies.play(observed, rule)
    np.testing.assert_array_equal(subnets[0], [0, 1, 4, 3])
    # Example 0 is in the lower bin of both gates, and example 7 in the upper.
    np.testing.assert_array_equal(reads[0], [True, True, False])
    np.testing.assert_array_equal(subnets[7], [0, 1, 2, 6])
    np.testing.assert_array_equal(reads[7], [True, False, False])

  def test_outcome_by_hand(self):
    correct = np.zeros((8, 8, 8, 8, 2), bool)
    correct[0, 1, 2, 3, 0] = True
    correct[7, 7, 7, 7, 1] = True
    observed = _observed(correct, num_bins=2)
    fixed = policies.Rule.fixed((0, 1, 2, 3), 2)
    right, madds = policies.outcome(observed, policies.Mixture.of(fixed))
    np.testing.assert_array_equal(right, [1.0, 0.0])
    np.testing.assert_array_equal(madds, 80 + 70 + 60 + 50)
    # A quarter follows another rule, which reads gate 1 at a cost of 3.
    other = policies.Rule.fixed((7, 7, 7, 7), 2)
    other.reads[0][()] = True
    right, madds = policies.outcome(
        observed, policies.Mixture(fixed, other, 0.75)
    )
    np.testing.assert_allclose(right, [0.75, 0.25])
    np.testing.assert_allclose(madds, 0.75 * 260 + 0.25 * (40 + 3))

  def test_taking_examples_keeps_their_bins(self):
    observed = _observed(_random(40), num_bins=8)
    rule = policies.Rule.by_bin(1, np.arange(24).reshape(3, 8) % 8)
    chosen = np.array([3, 17, 4])
    everyone, _ = policies.play(observed, rule)
    some, _ = policies.play(observed.take(chosen), rule)
    np.testing.assert_array_equal(some, everyone[chosen])


class RankedTest(parameterized.TestCase):

  def _by_accuracy(self, order):
    """Returns answers whose accuracy falls along `order` at every stage."""
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
    observed = _observed(self._by_accuracy(order), num_bins=8)
    up = policies.ranked(observed, 'joint', start=2, pull_up=True)
    down = policies.ranked(observed, 'joint', start=2, pull_up=False)
    for gate in range(3):
      # For all bins of the gates before.
      rows = up.first.choices[gate].reshape(-1, 8)
      np.testing.assert_array_equal(rows, [order] * 8**gate)
      rows = down.first.choices[gate].reshape(-1, 8)
      np.testing.assert_array_equal(rows, [order[::-1]] * 8**gate)
      self.assertTrue(up.first.reads[gate].all())
    self.assertEqual((up.first.start, down.first.start), (2, 2))
    self.assertEqual((up.share, down.share), (1.0, 1.0))

  @parameterized.parameters(('width', [2, 0, 1, 3]), ('depth', [6, 4, 5, 7]))
  def test_a_scope_of_four_shares_eight_bins(self, scope, expected):
    order = [2, 0, 1, 3, 6, 4, 5, 7]
    observed = _observed(self._by_accuracy(order), num_bins=8)
    rule = policies.ranked(observed, scope, start=0, pull_up=True).first
    self.assertEqual(
        rule.choices[0].tolist(), np.repeat(expected, 2).tolist()
    )

  def test_of_equals_the_dearer_counts_as_better(self):
    observed = _observed(np.ones((8, 8, 8, 8, 4), bool), num_bins=8)
    rule = policies.ranked(observed, 'joint', start=0, pull_up=True).first
    self.assertEqual(rule.choices[0].tolist(), list(range(8)))

  def test_start_is_a_delta_where_all_are(self):
    self.assertEqual(policies.start_choice('joint', 0.5), 2)
    self.assertEqual(policies.start_choice('depth', 0.5), 6)


class SecondLookTest(parameterized.TestCase):

  def _observed(self):
    """Subnet x1.0 is right about all of 10; x0.25d only from margin .5 on."""
    correct = np.zeros((8, 8, 8, 8, 10), bool)
    correct[0, 0, 0, 0] = True
    correct[7, 7, 7, 7, 5:] = True
    margins = np.tile(np.arange(10) / 10.0, (8, 1))
    return _observed(correct, margins=margins)

  @parameterized.parameters(
      # x0.25d takes 40 and x1.0 another 320: 32 and a half for each tenth.
      (40.0, 1.0, 0.5, 40.0),
      (72.0, 0.9, 0.6, 72.0),
      # A third less than half may go again, but examples are whole.
      (190.0, 0.54, 0.9, 40.0 + 0.4 * 320.0),
      (200.0, 0.5, 1.0, 200.0),
      (1000.0, 0.0, 1.0, 360.0),
  )
  def test_the_least_clear_are_run_once_more_within_the_limit(
      self, limit, share, top1, madds
  ):
    observed = self._observed()
    policy = policies.second_look(observed, 7, 0, limit)
    self.assertAlmostEqual(policy.share, share)
    right, spent = policies.outcome(observed, policy)
    self.assertAlmostEqual(right.mean(), top1)
    self.assertAlmostEqual(spent.mean(), madds)
    self.assertAlmostEqual(policy.look.top1[policy.look.at(share)], top1)

  def test_a_limit_below_the_first_subnet_has_no_policy(self):
    observed = self._observed()
    policy = policies.second_look(observed, 7, 0, 39.0)
    self.assertIsNone(policy)

  @parameterized.parameters(0.0, 0.25, 0.5, 0.9, 1.0)
  def test_other_shares_of_it(self, share):
    observed = self._observed()
    policy = policies.second_look(observed, 7, 0, 200.0)
    other = dataclasses.replace(policy, share=share)
    again = np.floor(10 * (1.0 - share) + 1e-9) / 10
    right, spent = policies.outcome(observed, other)
    self.assertAlmostEqual(spent.mean(), 40.0 + again * 320.0)
    self.assertAlmostEqual(right.mean(), min(1.0, 0.5 + again))
    # No image draws the second rule.
    self.assertEqual(float(policies.to_policy(other, []).share), 1.0)

  def test_equal_margins_are_all_run_once_more_or_none(self):
    correct = np.ones((8, 8, 8, 8, 10), bool)
    observed = _observed(correct, margins=np.full((8, 10), 0.5))
    policy = policies.second_look(observed, 7, 0, 200.0)
    self.assertEqual(policies.outcome(observed, policy)[1].mean(), 40.0)

  def test_it_comes_back_from_json_as_it_was(self):
    policy = policies.second_look(
        self._observed(), 7, 0, 200.0
    )
    edges = [np.zeros((8**n, 3)) for n in (1, 2, 3)]
    made = policies.to_json({'joint': {'budget': policy}}, edges, 'variance')
    again = policies.from_json(
        json.loads(json.dumps(made)), 'joint', 'budget'
    )
    self.assertEqual(again.share, 0.5)
    self.assertEqual(again.margin, policy.margin)
    self.assertBetween(again.margin, 0.4, 0.5)
    np.testing.assert_array_equal(again.look.margins, policy.look.margins)
    np.testing.assert_array_equal(again.look.top1, policy.look.top1)


class JsonTest(parameterized.TestCase):

  def test_a_policy_comes_back_as_it_was(self):
    observed = _observed(_random())
    table = np.random.default_rng(0).integers(0, 8, (3, 4))
    mixture = policies.Mixture(
        policies.Rule.by_bin(1, table),
        policies.Rule.fixed((7, 6, 5, 4), 4),
        0.25,
    )
    policy = policies.to_policy(mixture, observed.edges)
    text = json.dumps(
        policies.to_json(
            {'joint': {'budget': mixture}}, observed.edges, 'variance'
        )
    )
    values = json.loads(text)
    again = policies.to_policy(
        policies.from_json(values, 'joint', 'budget'), values['edges']
    )
    self.assertIsInstance(again, routing.Policy)
    chex.assert_trees_all_equal(again, policy)
    chex.assert_trees_all_equal_shapes_and_dtypes(
        policies.policy_shapes(8, 4), policy
    )
    self.assertEqual(policy.start.tolist(), [1, 7])
    self.assertEqual(float(policy.share), 0.25)

  def test_a_policy_is_written_as_briefly_as_it_can_be(self):
    edges = [np.zeros((8**n, 3)) for n in (1, 2, 3)]
    rule = policies.Rule.fixed((7, 6, 5, 4), 4)

    def written(mixture):
      made = policies.to_json({'joint': {'budget': mixture}}, edges, 'variance')
      again = policies.from_json(made, 'joint', 'budget')
      chex.assert_trees_all_equal(
          policies.to_policy(again, edges), policies.to_policy(mixture, edges)
      )
      return made['rules']['joint']['budget']

    subnet = {'subnet': [7, 6, 5, 4]}
    self.assertEqual(
        written(policies.Mixture.of(rule)), [{'share': 1.0} | subnet]
    )
    other = policies.Rule.fixed((0, 0, 0, 0), 4)
    self.assertEqual(
        written(policies.Mixture(other, rule, 0.25)),
        [{'share': 0.25, 'subnet': [0] * 4}, {'share': 0.75} | subnet],
    )

  def test_policies_of_before_are_read(self):
    # Rules were written twice, and in full.
    rule = policies.Rule.fixed((7, 6, 5, 4), 4)
    full = {
        'start': rule.start,
        'reads': [reads.tolist() for reads in rule.reads],
        'choices': [choices.tolist() for choices in rule.choices],
    }
    values = {
        'edges': [np.zeros((8**n, 3)).tolist() for n in (1, 2, 3)],
        'rules': {'joint': {'budget': [
            {'share': 0.75} | full, {'share': 0.25} | full
        ]}},
    }
    mixture = policies.from_json(values, 'joint', 'budget')
    self.assertTrue(mixture.is_single)
    self.assertFalse(mixture.reads_gate)
    self.assertEqual(mixture.first.subnet.tolist(), [7, 6, 5, 4])
    self.assertEqual((mixture.share, mixture.look), (0.75, None))


if __name__ == '__main__':
  absltest.main()
