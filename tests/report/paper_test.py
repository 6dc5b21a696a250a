# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.report.paper."""

from absl.testing import absltest, parameterized

from adaptanet_jax.report import paper


class PaperTest(parameterized.TestCase):

  @parameterized.parameters(
      ('cifar100', 'CIFAR-100'),
      ('imagenet2012', 'ImageNet'),
      ('imagenet2012:5.1.0', 'ImageNet'),
      # Ten classes of it, which are far easier.
      ('imagenette', 'CIFAR-100'),
      ('digits', 'CIFAR-100'),
  )
  def test_a_run_is_compared_with_the_same_data_set(self, name, expected):
    self.assertEqual(paper.data_set_for(name), expected)
    self.assertIn(expected, paper.TABLE_II)


if __name__ == '__main__':
  absltest.main()
