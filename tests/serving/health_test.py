# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.serving.health."""

from unittest import mock

from absl.testing import absltest

from adaptanet_jax.serving import health as health_lib


class HealthTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.now = 1000.0
    clock = self.enter_context(mock.patch.object(health_lib, 'time'))
    clock.monotonic.side_effect = lambda: self.now
    self.health = health_lib.Health()

  def test_a_batch_may_take_ten_times_what_it_should_and_ten_seconds(self):
    for seconds, allowed in ((0.1, 10.0), (3.0, 30.0)):
      self.health.begin(seconds)
      self.now += allowed
      self.assertFalse(self.health.is_lost)
      self.now += 0.1
      self.assertTrue(self.health.is_lost)
      self.health.end()
      self.assertFalse(self.health.is_lost)

  def test_after_three_failures_and_a_minute_it_is_lost(self):
    for _ in range(3):
      self.assertTrue(self.health.is_healthy)
      self.health.note(True)
      self.now += 5.0
    self.assertFalse(self.health.is_healthy)
    self.now += 55.0
    self.assertFalse(self.health.is_lost)
    self.health.note(True)  # The minute has begun with the third.
    self.now += 0.1
    self.assertTrue(self.health.is_lost)
    self.health.note(False)
    self.assertTrue(self.health.is_healthy)
    self.assertFalse(self.health.is_lost)


if __name__ == '__main__':
  absltest.main()
