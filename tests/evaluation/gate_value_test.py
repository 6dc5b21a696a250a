# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.evaluation.gate_value."""

from absl.testing import absltest, parameterized
import numpy as np

from adaptanet_jax.evaluation import gate_value
from adaptanet_jax.models.gates import CONFIDENCES


class AreasTest(parameterized.TestCase):

  @parameterized.parameters(1, 2, 3)
  def test_by_hand(self, gate):
    # Examples 0 and 1 need all later stages wide; 2 and 3 never do.
    correct = np.zeros((8, 8, 8, 8, 4), bool)
    correct[..., 2:] = True
    correct[(slice(None),) * gate + (0,) * (4 - gate)] = True
    confidences = np.zeros((8,) * gate + (3, 4))
    confidences[..., 0, :] = [1.0, 2.0, 3.0, 4.0]  # Perfect.
    confidences[..., 1, :] = [4.0, 3.0, 2.0, 1.0]  # Reversed.
    confidences[..., 2, :] = [1.0, 4.0, 2.0, 3.0]  # Right on two of four pairs.
    areas = gate_value.areas(correct, confidences)
    self.assertEqual(areas, dict(zip(CONFIDENCES, (1.0, 0.0, 0.5))))

  def test_none_where_width_never_helps(self):
    areas = gate_value.areas(
        np.ones((4, 4, 4, 4, 5), bool), np.zeros((4, 3, 5))
    )
    self.assertEqual(set(areas.values()), {None})


class OracleTest(parameterized.TestCase):

  # Right answers of a cheap and an expensive subnet: in four examples only the
  # first is right, only the second, both, neither.
  _CORRECT = np.array([[1, 0, 1, 0], [0, 1, 1, 0]], bool)

  @parameterized.parameters(
      # The mean of 10, 30, 10 and 10 is 15.
      (100.0, 0.75),
      (15.0, 0.75),
      # Not enough for the second example.
      (14.0, 0.5),
      (10.0, 0.5),
      (9.0, 0.0),
  )
  def test_by_hand(self, limit, within):
    actual = gate_value.oracle(self._CORRECT, [10, 30], limit)
    self.assertEqual(
        actual, {'top1': 0.75, 'madds': 15.0, 'top1_within': within}
    )


if __name__ == '__main__':
  absltest.main()
