# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.inference.network that run no network."""

import types

from absl.testing import absltest, parameterized
import numpy as np

from adaptanet_jax.errors import UsageError
from adaptanet_jax.inference.network import Supernet


class WithinTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    shape = (4,) * 4
    costs, top1 = np.full(shape, 900), np.zeros(shape)
    for code, *row in (
        ((3, 3, 3, 3), 100, 0.5),
        ((3, 3, 3, 2), 150, 0.7),
        ((0, 3, 3, 2), 200, 0.7),
        ((0, 0, 3, 2), 300, 0.6),
        ((0, 0, 0, 0), 400, 0.9),
    ):
      costs[code], top1[code] = row
    # Accuracies on test images are not what it goes by.
    columns = {'madds': costs, 'top1': 1.0 - top1, 'expected_top1': top1}
    self.net = types.SimpleNamespace(subnets=columns)

  @parameterized.parameters(
      (100, '0.25-0.25-0.25-0.25'),
      (149.5, '0.25-0.25-0.25-0.25'),
      (150, '0.25-0.25-0.25-0.5'),
      # Of equally accurate ones the costliest; a dearer one that is less
      # accurate is not taken.
      (399, '1.0-0.25-0.25-0.5'),
      (10_000, '1.0-1.0-1.0-1.0'),
  )
  def test_the_most_accurate_that_costs_at_most_so_much(self, madds, expected):
    self.assertEqual(str(Supernet.within(self.net, madds)), expected)

  def test_below_the_cheapest_there_is_none(self):
    with self.assertRaisesRegex(UsageError, 'at most 99 MAdds; expected 100'):
      Supernet.within(self.net, 99)


if __name__ == '__main__':
  absltest.main()
