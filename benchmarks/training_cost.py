# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Counts what the training of a run takes: MAdds and accelerator hours.

  python -m benchmarks.training_cost --config=configs/cifar100.py \
      --num_train=50000 [--tflops=60 | --estimates=results/accelerators/v5e-2x2]

`phase_work` explains how MAdds are counted. Hours are those of an accelerator
that sustains --tflops, or follow from its compiler's estimates for the step of
each phase, which `benchmarks.accelerators` keeps; a phase without an estimate
is assumed to run at the mean rate of the others.
"""

from absl import app, flags
from ml_collections import config_flags

from adaptanet_jax import workspace
from adaptanet_jax.training import phases as phases_lib
from benchmarks import accelerators_table, phase_work

_CONFIG = config_flags.DEFINE_config_file('config', None, 'What to train.')
_NUM_TRAIN = flags.DEFINE_integer(
    'num_train', 50_000, 'Training images, those that are held out included.'
)
_NUM_CLASSES = flags.DEFINE_integer('num_classes', 100, 'Classes.')
_TFLOPS = flags.DEFINE_float('tflops', 60.0, 'What one accelerator sustains.')
_ESTIMATES = flags.DEFINE_string(
    'estimates', '', 'Folder of what a compiler estimates, in place of a rate.'
)


def main(argv):
  """Prints one table."""
  del argv
  config = _CONFIG.value
  phase_work.check(config)
  side = config.data.image_size or 32
  nets, _ = workspace.networks(config, _NUM_CLASSES.value, (side, side, 3))
  held_out = round(config.data.held_out * _NUM_TRAIN.value)
  num_train = _NUM_TRAIN.value - held_out
  estimates, tflops = {}, _TFLOPS.value
  if _ESTIMATES.value:
    estimates = _estimates(_ESTIMATES.value, config.name, side)
    tflops = _mean_rate(estimates)
  print(
      f'{config.name}: {num_train:,} images of {side} pixels; hours of '
      f'one accelerator, at {tflops:.1f} TFLOP/s or as estimated (*)'
  )
  print('phase             steps    images  GMAdds/image   PMAdds    hours')
  all_madds = all_hours = 0.0
  for phase in phases_lib.build_phases(config):
    size = phase.settings.batch_size
    steps = phase.num_steps(num_train)
    each = phase_work.madds_per_image(phase, nets, config.mdsr.num_random)
    madds = each * steps * size
    hours, mark = 2 * madds / (tflops * 1e12) / 3600, ''
    if phase.name in estimates:
      row = estimates[phase.name]
      images = steps * size / row['images_per_chip']
      hours, mark = images * row['estimate']['milliseconds'] / 3.6e6, '*'
    all_madds, all_hours = all_madds + madds, all_hours + hours
    print(
        f'{phase.name:14}  {steps:7,}  {steps * size:9,}  {each / 1e9:12.1f}  '
        f'{madds / 1e15:7.1f}  {hours:7.2f}{mark}'
    )
  print(f'{"all":47}{all_madds / 1e15:10.1f}  {all_hours:7.2f}')


def _estimates(folder, config_name, side):
  """Returns the kept estimates for a configuration's steps, by phase."""
  rows = accelerators_table.read(folder).get(side, {})
  found = {
      phase: row
      for phase, row in rows.items()
      # The steps of `imagenet:pod` and `imagenet` differ only in batch size.
      if row['config'].split(':')[0] == config_name.split(':')[0]
      and 'estimate' in row
  }
  if not found:
    raise app.UsageError(
        f'{folder} has no estimates for {config_name} at {side} pixels; '
        'expected a folder that benchmarks.accelerators has written for a TPU.'
    )
  return found


def _mean_rate(estimates):
  """Returns the mean TFLOP/s of all estimated steps."""
  estimated = [row['estimate'] for row in estimates.values()]
  seconds = sum(each['milliseconds'] for each in estimated) / 1e3
  work = sum(each['tflops'] * each['milliseconds'] for each in estimated) / 1e3
  return work / seconds


if __name__ == '__main__':
  flags.mark_flag_as_required('config')
  app.run(main)
