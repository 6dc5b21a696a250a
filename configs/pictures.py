# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Your own pictures: a folder with a subfolder for each class.

  python -m adaptanet_jax.main --config=configs/pictures.py \
      --workdir=/tmp/pictures --config.data.dir=DIR

DIR has train/CLASS/* and test/CLASS/* (or val), or only CLASS/*, in which one
picture in five is for testing; see adaptanet_jax/data/folder.py. This suits a
few hundred to about ten thousand pictures, which are kept in memory at 64
pixels. For a million:

  python -m adaptanet_jax.main --config=configs/pictures.py:many \
      --workdir=/tmp/pictures --config.data.dir=DIR --config.data.workers=16

trains a ResNet-50 at 224 pixels on random parts of the pictures, which 16
processes decode as they are needed. With few pictures, start from a network
trained on others: --config.teacher.weights=FILE, a ResNet of torchvision or
timm with any classes. `:finetune` has the settings for it, and does not run
without such a file:

  python -m adaptanet_jax.main --config=configs/pictures.py:finetune \
      --workdir=/tmp/pictures --config.data.dir=DIR \
      --config.teacher.weights=resnet50.pth

`:smoke` shows that all phases but the joint lock-in run, on made-up pictures if
there is no DIR.
"""

import ml_collections

from configs import common


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` is empty, many, finetune or smoke."""
  c = common.get_config()
  c.name = f'pictures:{arg}' if arg else 'pictures'
  c.data.name = 'folder'
  c.data.image_size = 64
  # More than the default: a twentieth of few pictures would say little.
  c.data.held_out = 0.1
  c.model.architecture = 'resnet26x16'
  # With this stem stage 1 has a side of 16 pixels.
  c.model.stem = 'imagenet'
  c.teacher.epochs = 60.0
  c.teacher.batch_size = 32
  common.short_schedule(c)
  for part in (c, c.delta):
    part.cascade.epochs = (3.0, 4.0, 5.0, 6.0)
    part.cascade.batch_size = 32
    part.lock_in.epochs = 34.0
    part.lock_in.batch_size = 32
  c.joint.batch_size = 32
  c.gates.epochs = 10.0
  c.gates.batch_size = 32
  c.policies.budget = 0.5
  c.log_every_steps = 10
  c.checkpoint.every_steps = 100
  if arg in ('many', 'finetune'):
    c.data.image_size = 224
    c.data.shorter_side = 256
    c.data.augment = 'resized_crop'
    c.model.architecture = 'resnet50'
    c.gates.resolution = 7
  else:
    c.model.norm = c.teacher.norm = 'gn_ws'
    # Without it, some mixtures of blocks and deltas fail
    # (docs/results-notes.md).
    c.joint.epochs = 12.0
  if arg == 'many':
    c.data.held_out = 0.01
    c.teacher.epochs = 90.0
    c.teacher.batch_size = 256
    c.teacher.weight_decay = 1e-4
    for part in (c, c.delta):
      part.cascade.epochs = (3.0, 5.0, 7.0, 8.0)
      part.cascade.batch_size = part.lock_in.batch_size = 128
      part.lock_in.epochs = 8.0
    c.joint.batch_size = c.gates.batch_size = 128
    c.gates.epochs = 1.0
  elif arg == 'finetune':
    # For networks trained by torchvision: a tenth of the learning rate, and
    # only as many epochs as new classes need. If no weights are given and this
    # file is not there, the run is refused: random ones need another schedule.
    c.teacher.weights = 'resnet50.pth'
    c.teacher.norm = 'bn'
    c.teacher.epochs = 10.0
    c.teacher.warmup_epochs = 1.0
    c.teacher.learning_rate = 0.01
  elif arg == 'smoke':
    c = common.smoke(c)
  elif arg:
    raise common.unknown_argument(
        'pictures', arg, ('many', 'finetune', 'smoke')
    )
  return c
