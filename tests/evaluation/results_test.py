# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.evaluation.results."""

import os
import tempfile

from absl.testing import absltest, parameterized

from adaptanet_jax.evaluation import results


class ResultsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.workdir = self.enterContext(tempfile.TemporaryDirectory())

  def test_sections_survive_the_object(self):
    first = results.Results(self.workdir)
    first.update(seed=3, teacher={'top1': 0.5})
    first.update(teacher={'top1': 0.75})
    self.assertEqual(
        results.Results(self.workdir).values,
        {'schema': 1, 'seconds': {}, 'seed': 3, 'teacher': {'top1': 0.75}},
    )

  def test_seconds_add_up_phase_by_phase(self):
    first = results.Results(self.workdir)
    first.add_seconds('teacher', 12.345)
    results.Results(self.workdir).add_seconds('lock_in', 2.0)
    self.assertEqual(
        results.Results(self.workdir).values['seconds'],
        {'teacher': 12.3, 'lock_in': 2.0},
    )

  def test_seconds_of_an_older_training_go(self):
    found = results.Results(self.workdir)
    found.add_seconds('teacher', 1.0)
    found.add_seconds('lock_in', 2.0)
    found.discard_seconds('lock_in', 'gates')
    self.assertEqual(
        results.Results(self.workdir).values['seconds'], {'teacher': 1.0}
    )

  def test_nothing_is_written_before_the_first_section(self):
    results.Results(self.workdir)
    self.assertEmpty(os.listdir(self.workdir))


if __name__ == '__main__':
  absltest.main()
