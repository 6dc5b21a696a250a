# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests the ImageNet configuration on a small set like imagenet2012."""

import json
import pathlib
import tempfile

from absl.testing import absltest
import numpy as np
import orbax.checkpoint as ocp

from tests.data import photographs
from tests.testing import run


class ImageNetTest(absltest.TestCase):

  def test_it_trains_on_random_crops_and_goes_on_within_an_epoch(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    photographs.write(str(folder / 'data'))
    flags = (
        '--config=configs/imagenet.py:smoke',
        f'--config.data.name={photographs.NAME}',
        f'--config.data.dir={folder / "data"}',
        '--config.data.shorter_side=20',
        '--config.phases=teacher',
        '--config.data.held_out=0.',
        '--config.teacher.batch_size=8',
        '--config.teacher.epochs=2.',
        # Five steps an epoch, so that it saves in the middle of both epochs.
        '--config.checkpoint.every_steps=3',
        '--config.log_every_steps=1',
    )
    whole = folder / 'whole'
    done = run(whole, *flags)
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertNotIn('FAKE', done.stderr)
    results = json.loads((whole / 'results.json').read_text())
    self.assertEqual(
        results['dataset'],
        {
            'name': photographs.NAME,
            'train_examples': photographs.NUM_TRAIN,
            'test_examples': photographs.NUM_VALIDATION,
            'num_classes': 2,
            'class_names': ['0', '1'],
            'image_shape': [16, 16, 3],
        },
    )
    # The state of a run that was killed in its last step; it resumes with a
    # worker.
    part = folder / 'part'
    (part / 'checkpoints' / 'teacher').mkdir(parents=True)
    (part / 'config.json').write_text((whole / 'config.json').read_text())
    path = pathlib.Path('checkpoints', 'teacher', '9')
    (whole / path).rename(part / path)
    done = run(part, *flags, '--config.data.workers=1')
    self.assertEqual(done.returncode, 0, done.stderr)
    rows = [
        json.loads(line)
        for line in (part / 'metrics.jsonl').read_text().splitlines()
    ]
    self.assertEqual(
        [row['step'] for row in rows if row['phase'] == 'teacher'], [10]
    )
    kernels = [
        ocp.StandardCheckpointer().restore(
            workdir / 'checkpoints' / 'teacher' / '10' / 'variables'
        )['params']['backbone']['stage1']['block1']['conv1']['kernel']
        for workdir in (whole, part)
    ]
    np.testing.assert_array_equal(*kernels)


if __name__ == '__main__':
  absltest.main()
