# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""ImageNet with ResNet-50 at 224 pixels, on the paper's schedule (Sec. V-B).

Unlike in the paper, the soft cross-entropy of the last epochs counts for the
largest subnet, too (docs/results-notes.md).

  python -m adaptanet_jax.main --config=configs/imagenet.py \
      --workdir=/tmp/imagenet --config.data.dir=DIR

The paper's batch size of 100 suits 1, 2 or 4 devices; `:pod` has 128, for 8, 16
or more. On a host with many cores set --config.data.workers to their number.
The configuration has not been run in full on any device.
"""

import ml_collections

from configs import common


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` is empty, 'pod' or 'smoke'."""
  c = common.get_config()
  c.name = f'imagenet:{arg}' if arg else 'imagenet'
  c.data.name = 'imagenet2012'
  c.data.test_split = 'validation'
  c.data.image_size = 224
  c.data.shorter_side = 256
  c.data.augment = 'resized_crop'
  c.model.stem = 'imagenet'
  c.teacher.epochs = 90.0
  c.teacher.batch_size = 256
  c.teacher.weight_decay = 1e-4
  batch_size = 128 if arg == 'pod' else 100
  for part in (c, c.delta):
    part.cascade.epochs = (3.0, 5.0, 7.0, 8.0)
    part.cascade.batch_size = batch_size
    part.lock_in.epochs = 8.0
    part.lock_in.batch_size = batch_size
    part.cascade.soft_weight = part.lock_in.soft_weight = 0.5
  c.joint.batch_size = batch_size
  c.joint.soft_weight = 0.5
  c.mdsr.soft_epochs = 1.0
  c.gates.batch_size = batch_size
  c.gates.resolution = 7
  # 12,812 images, each of which runs under all 4,096 subnets.
  c.data.held_out = 0.01
  if arg == 'smoke':
    c = common.smoke(c)
  elif arg not in ('', 'pod'):
    raise common.unknown_argument('imagenet', arg, ('pod', 'smoke'))
  return c
