# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.analyses.gating."""

import functools
import tempfile
import types
from unittest import mock

from absl.testing import absltest, parameterized
import jax
import numpy as np

from adaptanet_jax.analyses import gating
from adaptanet_jax.data.splits import InMemorySplit
from adaptanet_jax.evaluation import policies, subnet_table
from adaptanet_jax.evaluation.cost import Cost, CostTable
from adaptanet_jax.models.subnet import (
  LARGEST,
  MIXED,
  UNIFORM,
  UNIFORM_DELTA,
)
from configs import digits


def _row(subnet, confidence, top1):
  return {'subnet': subnet, 'confidence': confidence, 'top1': top1}


class BinRowsTest(parameterized.TestCase):

  def test_bins_are_equal_in_number_and_in_order_of_confidence(self):
    confident = np.array([4.0, 1.0, 3.0, 2.0])
    correct = np.array([True, False, True, False])
    rows = gating.bin_rows(LARGEST, confident, correct, num_bins=2)
    self.assertEqual(
        rows, [_row(str(LARGEST), 1.5, 0.0), _row(str(LARGEST), 3.5, 1.0)]
    )

  def test_fewer_examples_than_bins_make_fewer_bins(self):
    rows = gating.bin_rows(
        MIXED[0], np.arange(3.0), np.ones(3, bool), num_bins=8
    )
    self.assertEqual([row['confidence'] for row in rows], [0.0, 1.0, 2.0])


class RankCorrelationTest(parameterized.TestCase):

  @parameterized.parameters(
      ([0.1, 0.2, 0.9], 1.0),
      ([0.9, 0.2, 0.1], -1.0),
      # Ranks 1, 3, 2: 1 - 6 * (0 + 1 + 1) / (3 * 8).
      ([0.1, 0.9, 0.2], 0.5),
  )
  def test_by_hand(self, top1, expected):
    rows = [_row('a', n, value) for n, value in enumerate(top1)]
    self.assertAlmostEqual(gating.rank_correlation(rows), expected)

  def test_subnets_are_ranked_apart(self):
    # Ranked together, the two subnets would differ by their levels.
    rows = [_row('a', 0, 0.9), _row('a', 1, 1.0)]
    rows += [_row('b', 10, 0.1), _row('b', 11, 0.2)]
    self.assertAlmostEqual(gating.rank_correlation(rows), 1.0)

  def test_subnets_that_are_always_right_have_none(self):
    rows = [_row('a', 0, 1.0), _row('a', 1, 1.0)]
    self.assertIsNone(gating.rank_correlation(rows))
    rows += [_row('b', 0, 0.3), _row('b', 1, 0.1)]
    self.assertAlmostEqual(gating.rank_correlation(rows), -1.0)


# Choice c of stage n costs (c + 1) * 10^n MAdds, n from 0, and the head 5.
_COSTS = CostTable(
    tuple((tuple(Cost((c + 1) * 10**n, 0) for c in range(8)),)
          for n in range(4)),
    (Cost(5, 0),),
)
_GATE_MADDS = {1: 100, 2: 200, 3: 400}


def _split(*labels):
  split = mock.MagicMock(labels=np.array(labels))
  split.__len__.return_value = len(labels)
  return split


class MeasuredTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    config = digits.get_config('smoke')
    config.evaluation.batch_size = 2 * jax.device_count()
    config.policies.bins = 2
    self.work = types.SimpleNamespace(
        config=config,
        workdir=self.enter_context(tempfile.TemporaryDirectory()),
        dataset=types.SimpleNamespace(test=_split(1, 2, 3, 4, 5)),
        gates=types.SimpleNamespace(anchors=(1, 2, 3), confidence='margin'),
        supernet=None,
        variables={'student': {}},
    )
    self.outputs = {}
    for where, name, value in (
        (gating.cost, 'cost_table', lambda net: _COSTS),
        (gating.cost, 'gate_madds', lambda gates, net: _GATE_MADDS),
        (gating.common, 'predict', self._predict),
    ):
      self.enter_context(mock.patch.object(where, name, value))

  def _predict(self, work, program, variables, split, *more, **options):
    del work, program, variables, more, options
    return self.outputs[split]

  def test_a_gate_is_measured_on_the_largest_subnet_and_its_own_split(self):
    held_out, test = _split(1, 2), self.work.dataset.test
    for split, right in ((held_out, 1), (test, 4)):
      count = len(split.labels)
      prediction = np.zeros((8, count), int)
      prediction[3, :right] = split.labels[:right]
      detected = np.zeros((8, 3, count), int)
      detected[0, 1, :3] = split.labels[:3]  # The largest, gate 2.
      self.outputs[split] = {
          'prediction': prediction,
          'detected': detected,
          'confidence': np.tile(np.arange(float(count)), (8, 3, 1)),
      }
    with mock.patch.object(
        gating.common, 'policy_split', lambda work: held_out
    ):
      found = gating.gate_results(self.work, None)
    self.assertEqual([found[n]['top1'] for n in '123'], [0.0, 0.6, 0.0])
    self.assertEqual([found[n]['madds'] for n in '123'], [100, 200, 400])
    name = str(UNIFORM[3])
    self.assertEqual(
        [row for row in found['3']['bins'] if row['subnet'] == name],
        [_row(name, 0.0, 1.0), _row(name, 1.0, 0.0)],
    )
    self.assertEqual(
        [row for row in found['3']['bins_test'] if row['subnet'] == name],
        [_row(name, 1.0, 1.0), _row(name, 3.5, 0.5)],
    )

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
    stage_madds = _COSTS.stage_madds()
    stage_madds[-1] += 5
    observed = policies.Observed(
        np.zeros((8,) * 4 + (0,), bool), (), (np.zeros((8, 1)),) * 3,
        stage_madds, np.array([100, 200, 400]),
    )
    found = gating._policy_entry(self.work, observed, outputs)
    self.assertEqual(found['top1'], 0.6)
    # The largest costs 1111 + 5, and choice 1 at stage 1 one more.
    self.assertEqual(found['madds_gates'], round(100 + 400 / 5))
    self.assertEqual(found['madds'], round(1116 + 2 / 5 + 100 + 400 / 5))
    # Eight images fill a chunk, or two if a stage has two choices. Gate 3 runs
    # for both images of the first device.
    full, first = 8 * 1111, 8 * (1 + 2)
    executed = 3 * (full - 8) + 2 * first + 8 + 5 * 5 + 5 * 100 + 2 * 400
    self.assertEqual(found['madds_executed'], round(executed / 5))

  def test_policies_are_timed_in_turns(self):
    ran = []
    runs = {name: functools.partial(ran.append, name) for name in 'ab'}
    clock = iter([0, 1, 1, 3, 3, 4, 4, 9, 9, 19, 19, 21])
    with mock.patch.object(gating.time, 'monotonic', lambda: next(clock)):
      seconds = gating._median_seconds(runs)
    self.assertEqual(''.join(ran), 'ababab')
    # a took 1, 1 and 10 seconds, and b 2, 5 and 2.
    self.assertEqual(seconds, {'a': 1.0, 'b': 2.0})

  def test_the_share_of_training_examples_is_drawn_at_random(self):
    # Many data sets are sorted by class.
    labels = np.arange(1000)
    self.work.dataset.train = InMemorySplit(labels, lambda chosen: chosen)
    self.work.config.policies.training_share = 0.1
    share = gating.common.training_share(self.work).labels
    self.assertLen(set(share.tolist()), 100)
    self.assertBetween(share.mean(), 400, 600)
    again = gating.common.training_share(self.work).labels
    np.testing.assert_array_equal(again, share)

  def test_free_gates_are_compared_at_the_madds_of_stages_alone(self):
    self.assertEqual(
        gating._at_equal_madds(self.work, 'width', {'madds': 1}), {}
    )
    costs = _COSTS.madds_by_subnet()
    top1 = np.zeros((8,) * 4)
    for subnets, best in ((UNIFORM, 0.8), (UNIFORM_DELTA, 0.9)):
      for n, subnet in enumerate(subnets):
        top1[tuple(subnet.encode())] = best - n / 10
    subnet_table.write(self.work.workdir, {'madds': costs, 'top1': top1})
    # Here narrower ones cost more: 1116, 2227, 3338, 4449 and so on.
    entry = {'madds': 4449, 'madds_gates': 4449 - 1116}
    found = gating._at_equal_madds(self.work, 'width', entry)
    self.assertAlmostEqual(found['uniform_top1'], 0.5)
    self.assertAlmostEqual(found['uniform_top1_free_gates'], 0.8)
    found = gating._at_equal_madds(self.work, 'joint', entry)
    # From x1.0 at 1116 to x1.0d at 5560: three quarters of the way.
    self.assertAlmostEqual(found['uniform_top1'], 0.875)
    self.assertAlmostEqual(found['uniform_top1_free_gates'], 0.8)

  def test_policies_are_made_from_the_configured_confidence(self):
    split = _split(1, 2)
    rng = np.random.default_rng(0)
    prediction = np.zeros((8,) * 4 + (2,), int)
    prediction[1, 2, 3, 4] = [1, 0]
    prediction[0] = [1, 2]
    gates = {
        f'gate{n}': rng.random((8,) * n + (3, 2)) for n in (1, 2, 3)
    }
    self.outputs[split] = {'prediction': prediction} | gates
    costs = _COSTS.madds_by_subnet()
    subnet_table.write(self.work.workdir, {'madds': costs})
    with mock.patch.object(gating.common, 'policy_split', lambda work: split):
      observed, value = gating._observe(self.work, self.work.gates, None)
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
        observed.stage_madds[:3], _COSTS.stage_madds()[:3]
    )
    self.assertEqual(value['confidence'], 'margin')
    self.assertEqual(value['oracle']['width']['top1'], 1.0)
    table = subnet_table.read(self.work.workdir)
    self.assertEqual(table['calibration_top1'][1, 2, 3, 4], 0.5)
    self.assertContainsSubset({'expected_top1'}, table)


if __name__ == '__main__':
  absltest.main()
