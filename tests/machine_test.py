# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.machine."""

import os
from unittest import mock

from absl.testing import absltest, parameterized

from adaptanet_jax import machine


class MachineTest(parameterized.TestCase):

  def test_only_cores_that_the_process_may_use_count(self):
    with mock.patch.object(
        os, 'sched_getaffinity', return_value={1, 5}, create=True
    ):
      self.assertEqual(machine.num_cores(), 2)

  @parameterized.parameters(
      ('model name\t: A 9\nmodel\t\t: 85\nmodel name\t: A 9\n', 'A 9'),
      # An ARM core.
      (
          'CPU implementer\t: 0x41\nCPU variant\t: 0x3\nCPU part\t: 0xd0c\n',
          'CPU implementer 0x41, CPU part 0xd0c, CPU variant 0x3',
      ),
      # A Mac.
      (None, 'Apple M9'),
      # Without a name, the machine's has to do.
      ('processor\t: 0\n', 'riscv of here'),
  )
  def test_the_name_of_a_processor(self, text, expected):
    opened = mock.mock_open(read_data=text)
    if text is None:
      opened.side_effect = FileNotFoundError
    brand = mock.Mock(stdout='Apple M9\n')
    asked = brand if text is None else FileNotFoundError
    with (
        mock.patch.object(machine, 'open', opened, create=True),
        mock.patch.object(
            machine.subprocess, 'run', side_effect=[asked]
        ),
        mock.patch.multiple(
            machine.platform,
            processor=lambda: 'riscv', node=lambda: 'here',
        ),
    ):
      self.assertEqual(machine.processor(), expected)


if __name__ == '__main__':
  absltest.main()
