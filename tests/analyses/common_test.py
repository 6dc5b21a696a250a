# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.analyses.common."""

import os
import tempfile
import types

from absl.testing import absltest

from adaptanet_jax.analyses import common
from adaptanet_jax.evaluation import results


class TakeUpTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    workdir = self.enter_context(tempfile.TemporaryDirectory())
    self.space = types.SimpleNamespace(workdir=workdir)
    common.take_up(self.space, {'analysis': 'evaluation', 'batch_size': 4})
    folder = results.unfinished_path(self.space.workdir)
    self.found = os.path.join(folder, 'found')
    with open(self.found, 'w', encoding='ascii') as file:
      file.write('something')

  def test_the_same_analysis_goes_on_with_what_it_has_found(self):
    common.take_up(self.space, {'analysis': 'evaluation', 'batch_size': 4})
    self.assertTrue(os.path.exists(self.found))

  def test_another_one_starts_from_nothing(self):
    common.take_up(self.space, {'analysis': 'evaluation', 'batch_size': 8})
    self.assertFalse(os.path.exists(self.found))

  def test_nothing_is_left_of_one_that_is_done(self):
    common.drop_unfinished(self.space)
    self.assertEqual(os.listdir(self.space.workdir), [])
    common.drop_unfinished(self.space)  # Nothing to drop.


if __name__ == '__main__':
  absltest.main()
