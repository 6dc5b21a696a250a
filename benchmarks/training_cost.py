# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the training of a run takes: MAdds, and hours of an accelerator.

  python -m benchmarks.training_cost --config=configs/cifar100.py \
      --num_train=50000 [--tflops=60]

Counted, not timed; `phase_work` says how.
"""

from absl import app, flags
from ml_collections import config_flags

from adaptanet_jax import workspace
from adaptanet_jax.data import pipeline
from adaptanet_jax.training import phases as phases_lib
from benchmarks.phase_work import madds_per_image

_CONFIG = config_flags.DEFINE_config_file('config', None, 'What to train.')
_NUM_TRAIN = flags.DEFINE_integer('num_train', 50_000, 'Training images.')
_NUM_CLASSES = flags.DEFINE_integer('num_classes', 100, 'Classes.')
_TFLOPS = flags.DEFINE_float('tflops', 60.0, 'What one accelerator sustains.')

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
    each = madds_per_image(phase, nets, config.mdsr.num_random)
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
