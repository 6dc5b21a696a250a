# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Counts the work of a step of a phase: the subnets it draws, and their MAdds.

Running a stage forward counts its MAdds once; training it counts them three
times (output, gradient of the input, gradient of the weights), frozen blocks of
a delta stage included; the frozen teacher's stages after it, which pass on a
gradient, count twice. When deltas train, the largest subnet runs, too. The
figures are means over a thousand draws of subnets. Losses, norms, augmentation,
evaluation and the gates' own work are left out.
"""

from absl import app
import jax
import numpy as np

from adaptanet_jax.evaluation import cost
from adaptanet_jax.training import mdsr

_DRAWS = 1000


def draw(phase, num_random):
  """Draws the subnets of many steps, `int32[draws, subnets, stages]`."""
  rngs = jax.random.split(jax.random.key(0), _DRAWS)
  draw_one = jax.vmap(
      lambda rng: mdsr.draw_subnets(rng, phase.space, num_random)
  )
  return np.asarray(draw_one(rngs))


def check(config):
  """Raises UsageError for a configuration whose work is not counted here."""
  if config.baseline.network:
    raise app.UsageError('Expected a configuration of AdaptaNet.')


def madds_per_image(phase, nets, num_random):
  """Returns the MAdds of a step of a phase for each image of its batch."""
  teacher = cost.cost_table(nets.teacher)
  full = teacher.stage_madds()[:, 0]
  head = teacher.head[0].madds
  if phase.space is None:
    return 3 * (full.sum() + head)
  drawn = draw(phase, num_random)
  student = cost.cost_table(nets.student).stage_madds()
  by_stage = student[np.arange(student.shape[0]), drawn]
  if phase.group == 'gates':
    return by_stage.sum((1, 2)).mean() + len(drawn[0]) * head
  first, last = phase.space.first - 1, phase.space.last
  before = by_stage[:, 0, :first].sum(-1)  # Once for all subnets of a step.
  own = 3 * by_stage[:, :, first:last].sum((1, 2))
  after = 2 * full[last:].sum() + (3 if last == len(full) else 2) * head
  targets = full.sum() + head
  if not phase.space.has_largest:
    targets += full[first:].sum() + head
  return (targets + before + own + drawn.shape[1] * after).mean()
