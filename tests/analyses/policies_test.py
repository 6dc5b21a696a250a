# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.analyses.policies."""

import dataclasses
import functools
from unittest import mock

from absl.testing import absltest
import numpy as np

from adaptanet_jax.analyses import policies as analysis
from adaptanet_jax.data.splits import InMemorySplit
from adaptanet_jax.evaluation import policies, subnet_table
from adaptanet_jax.models.subnet import UNIFORM, UNIFORM_DELTA
from tests.analyses import made_up
from tests.analyses.made_up import COSTS


class PoliciesTest(made_up.MeasuredTestCase):

  def test_what_a_policy_takes_by_hand(self):
    # Devices have two images each; the last one has image 4 alone. Images 0
    # and 2 run choice 1 at stage 1, and image 0 alone reads gate 3.
    subnets = np.zeros((5, 4), int)
    subnets[[0, 2], 0] = 1
    reads = np.zeros((5, 3), bool)
    reads[:, 0], reads[0, 2] = True, True
    outputs = {
        'prediction': np.array([1, 2, 3, 0, 0]),
        'subnet': subnets.T,
        'reads': reads.T,
    }
    stage_madds = COSTS.stage_madds()
    stage_madds[-1] += 5
    observed = policies.Observed(
        np.zeros((8,) * 4 + (0,), bool), (), (np.zeros((8, 1)),) * 3,
        stage_madds, np.array([100, 200, 400]), np.zeros((8, 0)),
    )
    found = analysis._policy_entry(self.work, observed, outputs)
    self.assertEqual(found['top1'], 0.6)
    # The largest costs 1111 + 5, and choice 1 at stage 1 one more.
    self.assertEqual(found['madds_gates'], round(100 + 400 / 5))
    self.assertEqual(found['madds'], round(1116 + 2 / 5 + 100 + 400 / 5))
    # Eight images fill a chunk, or two if a stage has two choices. Gate 3 runs
    # for both images of the first device.
    full, first = 8 * 1111, 8 * (1 + 2)
    executed = 3 * (full - 8) + 2 * first + 8 + 5 * 5 + 5 * 100 + 2 * 400
    self.assertEqual(found['madds_executed'], round(executed / 5))

  def test_what_a_second_look_takes_by_hand(self):
    observed = policies.Observed(
        np.zeros((8,) * 4 + (0,), bool), (), (np.zeros((8, 1)),) * 3,
        COSTS.stage_madds(), np.zeros(3), np.zeros((8, 0)),
    )
    right, margin = np.zeros((8, 5), bool), np.zeros((8, 5))
    right[3] = [True, True, False, False, False]
    margin[3] = [0.9, 0.1, 0.8, 0.2, 0.5]
    right[1] = [False, True, True, True, True]
    look = policies.SecondLook(np.full(101, 0.5), np.zeros(101))
    mixture = policies.Mixture(
        *(policies.Rule.fixed((n,) * 4, 2) for n in (3, 1)), 0.6, look
    )
    # Images 1 and 3 are less clear than 0.5. x0.25 costs 4444 and x0.75 2222.
    entry = functools.partial(
        analysis._entry_without_gates,
        self.work, None, observed, right=right, margin=margin,
    )
    self.assertEqual(entry(mixture), {
        'top1': 0.6,
        'madds': round(4444 + 2222 * 2 / 5),
        'madds_gates': 0,
        'again': 0.4,
    })
    # Drawn: two of five right for six tenths of the images, four for the rest.
    drawn = dataclasses.replace(mixture, look=None)
    found = entry(drawn)
    self.assertAlmostEqual(found.pop('top1'), 0.6 * 0.4 + 0.4 * 0.8)
    self.assertEqual(found, {
        'madds': round(0.6 * 4444 + 0.4 * 2222), 'madds_gates': 0
    })
    # A subnet that is not uniform is run: right on one image of five.
    mixed = policies.Mixture.of(policies.Rule.fixed((0, 1, 0, 0), 2))
    labels = self.work.dataset.test.labels
    answers = {'prediction': np.where(np.arange(5) == 2, labels, -1)}
    with mock.patch.object(analysis, '_runner', return_value=lambda: answers):
      self.assertEqual(entry(mixed)['top1'], 0.2)

  def test_policies_are_timed_in_turns(self):
    ran = []
    runs = {name: functools.partial(ran.append, name) for name in 'ab'}
    clock = iter([0, 1, 1, 3, 3, 4, 4, 9, 9, 19, 19, 21])
    with mock.patch.object(analysis.time, 'monotonic', lambda: next(clock)):
      seconds = analysis._median_seconds(runs)
    self.assertEqual(''.join(ran), 'ababab')
    # a took 1, 1 and 10 seconds, and b 2, 5 and 2.
    self.assertEqual(seconds, {'a': 1.0, 'b': 2.0})

  def test_the_share_of_training_examples_is_drawn_at_random(self):
    # Many data sets are sorted by class.
    labels = np.arange(1000)
    self.work.dataset.train = InMemorySplit(labels, lambda chosen: chosen)
    self.work.config.policies.training_share = 0.1
    share = analysis.common.training_share(self.work).labels
    self.assertLen(set(share.tolist()), 100)
    self.assertBetween(share.mean(), 400, 600)
    again = analysis.common.training_share(self.work).labels
    np.testing.assert_array_equal(again, share)

  def test_free_gates_are_compared_at_the_madds_of_stages_alone(self):
    self.assertEqual(analysis._at_equal_madds({}, 'width', {'madds': 1}), {})
    costs = COSTS.madds_by_subnet()
    top1 = np.zeros((8,) * 4)
    for subnets, best in ((UNIFORM, 0.8), (UNIFORM_DELTA, 0.9)):
      for n, subnet in enumerate(subnets):
        top1[tuple(subnet.encode())] = best - n / 10
    held_out = (costs == 1116) * 1.0
    table = {'madds': costs, 'top1': top1, 'calibration_top1': held_out}
    # Here narrower ones cost more: 1116, 2227, 3338, 4449 and so on.
    entry = {'madds': 4449, 'madds_gates': 4449 - 1116}
    found = analysis._at_equal_madds(table, 'width', entry)
    self.assertAlmostEqual(found['uniform_top1'], 0.5)
    self.assertAlmostEqual(found['uniform_top1_free_gates'], 0.8)
    found = analysis._at_equal_madds(table, 'joint', entry)
    # From x1.0 at 1116 to x1.0d at 5560: three quarters of the way.
    self.assertAlmostEqual(found['uniform_top1'], 0.875)
    # The images that policies are made from prefer x1.0 to all others, so most
    # go there and the others to the costliest, x0.25d at 8893.
    share = (4449 - 1116) / (8893 - 1116)
    self.assertAlmostEqual(found['mixture_top1'], 0.8 - share * (0.8 - 0.6))
    self.assertAlmostEqual(found['uniform_top1_free_gates'], 0.8)

  def test_policies_are_made_from_the_configured_confidence(self):
    split = made_up.split(1, 2)
    rng = np.random.default_rng(0)
    prediction = np.zeros((8,) * 4 + (2,), int)
    prediction[1, 2, 3, 4] = [1, 0]
    prediction[0] = [1, 2]
    gates = {
        f'gate{n}': rng.random((8,) * n + (3, 2)) for n in (1, 2, 3)
    }
    self.outputs[split] = {'prediction': prediction} | gates
    costs = COSTS.madds_by_subnet()
    subnet_table.write(self.work.workdir, {'madds': costs})
    with mock.patch.object(analysis.common, 'policy_split', lambda work: split):
      margins = rng.random((8, 2))
      observed, value = analysis._observe(
          self.work, self.work.gates, None, margins
      )
    self.assertIs(observed.margins, margins)
    # The order of `CONFIDENCES`.
    for n in (1, 2, 3):
      np.testing.assert_array_equal(
          observed.confidences[n - 1], gates[f'gate{n}'][..., 1, :]
      )
    # Stages and head add up to what a subnet costs.
    rule = policies.Rule.fixed((1, 2, 3, 4), 2)
    right, madds = policies.outcome(observed, policies.Mixture.of(rule))
    self.assertEqual(right.tolist(), [1.0, 0.0])
    self.assertEqual(madds.tolist(), [costs[1, 2, 3, 4]] * 2)
    self.assertEqual(observed.gate_madds.tolist(), [100, 200, 400])
    # Only stage 4 has the head: the difference of two of its choices does not.
    np.testing.assert_array_equal(
        observed.stage_madds[:3], COSTS.stage_madds()[:3]
    )
    self.assertEqual(value['confidence'], 'margin')
    self.assertEqual(value['oracle']['width']['top1'], 1.0)
    table = subnet_table.read(self.work.workdir)
    self.assertEqual(table['calibration_top1'][1, 2, 3, 4], 0.5)
    self.assertContainsSubset({'expected_top1'}, table)


if __name__ == '__main__':
  absltest.main()
