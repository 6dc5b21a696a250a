# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Digits: 1,797 scans included in scikit-learn. Needs no download.

  launch/local.sh --config=configs/digits.py --workdir=/tmp/digits

Half an hour on 2 CPU cores; docs/results.md has the accuracies.
"""

import ml_collections

from configs import common


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` is empty or 'smoke'."""
  c = common.get_config()
  c.name = f'digits:{arg}' if arg else 'digits'
  c.data.name = 'digits'
  # 8x8 scans, enlarged so that four stages have something to halve.
  c.data.image_size = 16
  # A mirrored digit is not a digit.
  c.data.augment = 'crop'
  # A twentieth would be 65 images, too few for a choice among 4,096 subnets.
  c.data.held_out = 0.2
  c.model.architecture = 'resnet26x16'
  c.model.norm = c.teacher.norm = 'gn_ws'
  c.teacher.epochs = 32.0
  c.teacher.batch_size = 64
  # An epoch has only 16 steps.
  common.short_schedule(c)
  # Subnets learn most in the lock-in (docs/results-notes.md).
  for part in (c, c.delta):
    part.cascade.epochs = (4.0, 5.0, 6.0, 7.0)
  c.lock_in.epochs = 42.0
  c.delta.lock_in.epochs = 30.0
  # Without it, some mixtures of blocks and deltas fail (docs/results-notes.md).
  c.joint.epochs = 12.0
  c.gates.epochs = 10.0
  # Within this share, deltas may look twice (docs/results.md).
  c.policies.budget = 0.25
  c.log_every_steps = 10
  c.checkpoint.every_steps = 100
  if arg == 'smoke':
    c = common.smoke(c)
  elif arg:
    raise common.unknown_argument('digits', arg, ('smoke',))
  return c
