# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the training of a run takes: MAdds, and hours of an accelerator.

  python -m benchmarks.training_cost --config=configs/cifar100.py \
      --num_train=50000 [--tflops=60]

Counted, not timed. To run a stage forward takes its MAdds once; to train it,
three times (its output, the gradient of its input, that of its weights), and
the frozen blocks of a delta stage with it; the frozen teacher's stages after
it, which pass a gradient on, twice. Where deltas train, the largest subnet runs
too. The subnets of a step are the mean of a thousand draws. Losses, norms,
augmentation and evaluation are left out.
"""

from absl import app, flags
import jax
from ml_collections import config_flags
import numpy as np

from adaptanet_jax import workspace
from adaptanet_jax.data import pipeline
from adaptanet_jax.evaluation import cost
from adaptanet_jax.training import mdsr, phases as phases_lib

_CONFIG = config_flags.DEFINE_config_file('config', None, 'What to train.')
_NUM_TRAIN = flags.DEFINE_integer('num_train', 50_000, 'Training images.')
_NUM_CLASSES = flags.DEFINE_integer('num_classes', 100, 'Classes.')
_TFLOPS = flags.DEFINE_float('tflops', 60.0, 'What one accelerator sustains.')

_DRAWS = 1000


def _madds_per_image(phase, nets, num_random):
  """Returns what a step of a phase takes for each image of its batch."""
  teacher = cost.cost_table(nets.teacher)
  full = teacher.stage_madds()[:, 0]
  head = teacher.head[0].madds
  if phase.space is None:
    return 3 * (full.sum() + head)
  rngs = jax.random.split(jax.random.key(0), _DRAWS)
  draw = jax.vmap(lambda rng: mdsr.draw_subnets(rng, phase.space, num_random))
  # `[draws, subnets, stages]`.
  drawn = np.asarray(draw(rngs))
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


def main(argv):
  """Prints one table."""
  del argv
  config = _CONFIG.value
  if config.baseline.network:
    raise app.UsageError('Expected a configuration of AdaptaNet.')
  side = config.data.image_size or 32
  nets, _ = workspace.networks(config, _NUM_CLASSES.value, (side, side, 3))
  print(
      f'{config.name}: {_NUM_TRAIN.value:,} images of {side} pixels; hours of '
      f'one accelerator at {_TFLOPS.value:.0f} TFLOP/s'
  )
  print('phase             steps    images  GMAdds/image   PMAdds    hours')
  total = 0.0
  for phase in phases_lib.build_phases(config):
    size = phase.settings.batch_size
    steps = phases_lib.num_steps(
        phase, pipeline.steps_per_epoch(range(_NUM_TRAIN.value), size)
    )
    each = _madds_per_image(phase, nets, config.mdsr.num_random)
    madds = each * steps * size
    total += madds
    print(
        f'{phase.name:14}  {steps:7,}  {steps * size:9,}  {each / 1e9:12.1f}  '
        f'{madds / 1e15:7.1f}  {_hours(madds):7.2f}'
    )
  print(f'{"all":47}{total / 1e15:10.1f}  {_hours(total):7.2f}')


def _hours(madds):
  return 2 * madds / (_TFLOPS.value * 1e12) / 3600


if __name__ == '__main__':
  flags.mark_flag_as_required('config')
  app.run(main)
