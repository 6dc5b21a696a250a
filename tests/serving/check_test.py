# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.serving.check."""

from absl.testing import absltest, parameterized
import numpy as np

from adaptanet_jax.errors import UsageError
from adaptanet_jax.serving import check as check_lib
from adaptanet_jax.serving.controller import Entry
from tests.serving import fakes

_RUNG = Entry('joint/budget@0.50', 0.8, 20)


class CheckTest(parameterized.TestCase):

  def _engine(self, together=1.0, alone=1.0):
    """Returns an engine whose logits are multiplied, in batches and alone."""
    engine, run = fakes.FakeEngine(), fakes.FakeEngine().run

    def scaled(images, name, start=0):
      logits, subnets = run(images, name, start)
      return logits * (together if len(images) > 1 else alone), subnets

    engine.run = scaled
    return engine

  def test_how_far_logits_may_differ_depends_on_their_type(self):
    engine = self._engine(together=1.01)
    with self.assertRaisesRegex(
        UsageError,
        r'narrow gives.* batch of 4 than alone, by .*e-0\d of the largest; '
        r'expected at most 1.0e-03',
    ):
      check_lib.check(engine, fakes.ENTRIES, 4)
    engine.precision = 2.0**-7  # The precision of bfloat16.
    check_lib.check(engine, fakes.ENTRIES, 4)

  @parameterized.product(
      where=('together', 'alone'), entry=(fakes.ENTRIES[1], _RUNG)
  )
  def test_what_gives_no_numbers_is_refused(self, where, entry):
    with self.assertRaisesRegex(UsageError, f'{entry.name} gives numbers that'):
      check_lib.check(self._engine(**{where: np.nan}), (entry,), 4)

  def test_a_policy_may_take_an_image_another_way_alone(self):
    check_lib.check(self._engine(together=2.0), (_RUNG,), 4)


if __name__ == '__main__':
  absltest.main()
