# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of benchmarks.accelerators_table."""

import json
import pathlib
import tempfile

from absl.testing import absltest

from benchmarks import accelerators_table


class ReadTest(absltest.TestCase):

  def test_of_each_whole_step_the_configured_batch_counts_if_it_is_kept(self):
    folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    for name, phase, images in (
        ('teacher-224', 'teacher', 16),
        ('teacher-224-64', 'teacher', 64),  # Another number of images.
        ('lock_in-stage2-224', 'lock_in', 8),  # One stage alone.
        ('gates-224-64', 'gates', 64),  # Only with that number.
        ('delta_cascade1-224', 'delta_cascade1', 8),
        ('teacher-32', 'teacher', 32),
    ):
      pixels = 32 if name.endswith('-32') else 224
      row = {
          'phase': phase,
          'pixels': pixels,
          'images_per_chip': images,
          'stages': 2 if 'stage2' in name else 'all',
      }
      (folder / f'{name}.json').write_text(json.dumps(row))
    found = {
        pixels: {phase: row['images_per_chip'] for phase, row in rows.items()}
        for pixels, rows in accelerators_table.read(str(folder)).items()
    }
    self.assertEqual(
        found,
        {
            224: {'teacher': 16, 'delta_cascade1': 8, 'gates': 64},
            32: {'teacher': 32},
        },
    )


if __name__ == '__main__':
  absltest.main()
