# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.analyses.gating."""

from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np

from adaptanet_jax.analyses import gating
from adaptanet_jax.models.subnet import (
  LARGEST,
  MIXED,
  UNIFORM,
)
from tests.analyses import made_up


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


class GatesTest(made_up.MeasuredTestCase):

  def test_a_gate_is_measured_on_the_largest_subnet_and_its_own_split(self):
    held_out, test = made_up.split(1, 2), self.work.dataset.test
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


if __name__ == '__main__':
  absltest.main()
