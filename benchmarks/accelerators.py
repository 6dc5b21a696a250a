# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Compiles the real step of a phase for accelerators, without having them.

  pip install -e '.[accelerators]'
  python -m benchmarks.accelerators --config=configs/imagenet.py:pod \
      --num_classes=1000 --phase=lock_in --topology=v5e:4x4

`jax.experimental.topologies` describes an accelerator, and XLA's compilers for
TPUs and GPUs run on any host. The result is kept in
results/accelerators/TOPOLOGY/PHASE-PIXELS.json: seconds to compile, memory of a
chip, floating-point operations relative to our MAdds, collectives; and for TPUs
the compiler's estimate of the cycles, by kind of operation and by width of each
stage. Nothing runs: all figures but the seconds to compile are the compiler's.

With --stage=2 only the switch of that stage is compiled, forward and backward,
in a third of the time or less; all its choices then have the same share.
"""

import datetime
import os
import sys
import time
from typing import Any

# Otherwise libtpu spends minutes on asking the cloud which TPU this is.
os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
# And refuses a second process, as if each used the chips of this host.
os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
os.environ['JAX_PLATFORMS'] = 'cpu'

from absl import app, flags
import jax
from jax.experimental import topologies
import jax.numpy as jnp
from ml_collections import config_flags
import numpy as np

from adaptanet_jax import workspace
from adaptanet_jax.data import pipeline
from adaptanet_jax.devices import over_devices
from adaptanet_jax.evaluation import cost
from adaptanet_jax.models import supernet
from adaptanet_jax.models.subnet import CHOICES, NUM_STAGES
from adaptanet_jax.training import (
  loop,
  losses,
  optimizers,
  phases as phases_lib,
)
from adaptanet_jax.training.step import map_train_step
from adaptanet_jax.workdir import read_json, write_json
from benchmarks import harness, hlo, phase_work

_CONFIG = config_flags.DEFINE_config_file('config', None, 'What to train.')
_PHASE = flags.DEFINE_string('phase', 'lock_in', 'Phase of its step.')
_TOPOLOGY = flags.DEFINE_string(
    'topology', 'v5e:4x4', 'h100, or a TPU slice such as v5e:4x4 or v5e:2x2.'
)
flags.register_validator(
    'topology',
    lambda name: name == 'h100' or name.startswith('v5e:'),
    'expected h100, or a slice of v5e: times follow from the clock of a v5e',
)
_NUM_CLASSES = flags.DEFINE_integer('num_classes', 100, 'Classes.')
_PER_CHIP = flags.DEFINE_integer(
    'images_per_chip', 0, "Images of a chip; 0: the configuration's share."
)
_STAGE = flags.DEFINE_integer(
    'stage', 0, 'A stage to compile by itself, 1 to 4; 0: the whole step.',
    lower_bound=0, upper_bound=NUM_STAGES,
)
_TEXT = flags.DEFINE_string('text', '', 'File for the compiled program.')

# A v5e has 197 TFLOP/s in bfloat16, from four units of 128x128 products each.
_CLOCK_HZ = 197e12 / (4 * 128 * 128 * 2)
_EPOCH_STEPS = 1000
# What XLA's compiler has to know about an H100 (SXM), from its data sheet.
_H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  device_memory_size: 84942979072
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  device_address_bits: 64
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  driver_version: "12.9.0"
  runtime_version: "12.9.0"
}
platform_name: "CUDA"
runtime_version { major: 12 minor: 9 }
dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def _devices(topology):
  """Returns the platform and the devices of a topology."""
  if topology == 'h100':
    found = topologies.get_topology_desc(
        topology, platform='cuda', target_config=_H100, topology='1x1x1'
    )
    return 'cuda', found.devices
  found = topologies.get_topology_desc(topology_name=topology, platform='tpu')
  return 'tpu', found.devices


def _lower(config, phase, nets, gates, devices, images_per_chip):
  """Lowers the mapped step of a phase for some devices."""
  num_examples = _EPOCH_STEPS * phase.settings.batch_size
  objective = phases_lib.objective_for(
      config, phase, nets, gates, num_examples=num_examples
  )
  tx = optimizers.make_optimizer(
      phase.settings, steps=_EPOCH_STEPS, steps_per_epoch=_EPOCH_STEPS
  )
  step: Any = map_train_step(
      objective, tx, config.data.augment, phase.average_decay, on=devices
  )
  shapes = workspace.variable_shapes(nets, gates, phase)
  leading = (len(devices), images_per_chip)
  batch = {
      'image': jax.ShapeDtypeStruct(
          (*leading, *nets.student.image_shape), np.uint8
      ),
      'label': jax.ShapeDtypeStruct(leading, np.int32),
  }
  return step.lower(*loop.argument_shapes(phase, tx, *shapes), batch)


def _lower_stage(net, number, devices, images_per_chip):
  """Lowers the switch of one stage and its gradient for some devices."""

  def run(params, choice, x, target):
    def loss_fn(params, x):
      y, _ = supernet.switch_stage(net, params, x, number, choice)
      return losses.mean_squared_error(y, target)

    if number == 1:  # Images have no gradient.
      return jax.grad(loss_fn)(params, x), jnp.zeros(())
    by_params, by_x = jax.grad(loss_fn, (0, 1))(params, x)
    return by_params, losses.mean_squared_error(by_x, jnp.zeros_like(by_x))

  leading = (len(devices), images_per_chip)
  anchors = (net.image_shape, *net.anchor_shapes)
  dtype = jnp.uint8 if number == 1 else net.dtype
  mapped = over_devices(
      run, in_axes=(None, None, 0, 0), out_axes=None, on=devices
  )
  return mapped.lower(
      supernet.stage_variables(net, net.shapes(), number),
      jax.ShapeDtypeStruct((), jnp.int32),
      jax.ShapeDtypeStruct((*leading, *anchors[number - 1]), dtype),
      jax.ShapeDtypeStruct((*leading, *anchors[number]), net.dtype),
  )


def _shares(phase, nets, config):
  """Returns how often each choice of each stage is taken, `[stages, K]`."""
  choices = phase.network_of(nets).choices
  if _STAGE.value:
    return np.full((NUM_STAGES, len(choices)), 1 / len(choices))
  if phase.space is None:
    return np.eye(len(choices))[np.zeros(NUM_STAGES, int)]
  drawn = phase_work.draw(phase, config.mdsr.num_random)
  return np.stack(
      [(drawn == choice.index).mean((0, 1)) for choice in choices], -1
  )


def _madds_per_image(phase, nets, config):
  if not _STAGE.value:
    return phase_work.madds_per_image(phase, nets, config.mdsr.num_random)
  madds = cost.cost_table(nets.student).stage_madds()[_STAGE.value - 1]
  return 3 * madds[: len(phase.network_of(nets).choices)].mean()


def _memory(compiled):
  found = compiled.memory_analysis()
  sizes = {
      name: getattr(found, f'{field}_size_in_bytes')
      for name, field in (
          ('arguments', 'argument'),
          ('outputs', 'output'),
          ('aliased', 'alias'),
          ('temporary', 'temp'),
          ('code', 'generated_code'),
      )
  }
  total = sum(sizes.values()) - 2 * sizes['aliased']
  return sizes | {'all': total}


def _switches(program):
  """Returns the cycles of each choice of a stage, forward and backward."""
  return [
      {
          'stage': switch.stage,
          'pass': 'backward' if switch.backward else 'forward',
          'cycles': {
              str(choice): round(branch.all_cycles)
              for choice, branch in zip(CHOICES, switch.branches)
          },
          'by_kind': {
              str(choice): _by_kind(branch)
              for choice, branch in zip(CHOICES, switch.branches)
          },
      }
      for switch in sorted(
          program.switches, key=lambda each: (each.backward, each.stage)
      )
  ]


def _by_kind(tally):
  return {kind: round(tally.cycles.get(kind, 0)) for kind in hlo.KINDS}


def _estimate(program, madds):
  total = program.total
  cycles = total.all_cycles
  seconds = cycles / _CLOCK_HZ
  return {
      'cycles': round(cycles),
      'milliseconds': 1e3 * seconds,
      'tflops': 2 * madds / seconds / 1e12,
      'cycles_by_kind': _by_kind(total),
      'stages': _switches(program),
  }


def _compile(config, phase, nets, gates, devices, images):
  """Returns a compiled step, and the seconds to lower and compile it."""
  started, busy = time.perf_counter(), time.process_time()
  if _STAGE.value:
    lowered = _lower_stage(
        phase.network_of(nets), _STAGE.value, devices, images
    )
  else:
    lowered = _lower(config, phase, nets, gates, devices, images)
  between = time.perf_counter()
  compiled = lowered.compile()
  return compiled, {
      'lower': between - started,
      'compile': time.perf_counter() - between,
      'of_all_cores': time.process_time() - busy,
  }


def _host():
  """Describes the compiling host, which affects only the seconds."""
  found = harness.device()
  return {key: found[key] for key in ('host', 'cores', 'python', 'versions')}


def _print(found):
  memory, estimate = found['memory_bytes'], found.get('estimate')
  seconds = found['compile_seconds']
  print(
      f"{found['config']} {found['phase']}, stages {found['stages']}, "
      f"{found['pixels']} px, "
      f"{found['images_per_chip']} images a chip of {found['topology']}: "
      f"lowered in {seconds['lower']:.0f} s, compiled in "
      f"{seconds['compile']:.0f} ({seconds['of_all_cores']:.0f} of all cores); "
      f"{memory['all'] / 1e9:.2f} GB a chip, {memory['code'] / 1e6:.0f} MB of "
      f"it code; FLOPs over 2 MAdds {found['flops_over_madds']:.3f}"
  )
  if not estimate:
    return
  print(
      f"estimate {estimate['milliseconds']:.2f} ms, {estimate['tflops']:.1f} "
      f"TFLOP/s; shares of cycles:"
  )
  for kind, cycles in estimate['cycles_by_kind'].items():
    print(f"  {kind:12} {cycles / estimate['cycles']:6.1%}")
  for stage in estimate['stages']:
    cycles = '  '.join(
        f'{choice} {cycles / 1e6:.2f}'
        for choice, cycles in stage['cycles'].items()
    )
    print(f"stage {stage['stage']} {stage['pass']:8}  {cycles}  million cycles")


def _keep(found):
  """Writes the figures of a step; returns the path of the file."""
  stage = f'-stage{_STAGE.value}' if _STAGE.value else ''
  images = f'-{_PER_CHIP.value}' if _PER_CHIP.value else ''
  path = os.path.join(
      'results',
      'accelerators',
      found['topology'].replace(':', '-'),
      f'{found["phase"]}{stage}-{found["pixels"]}{images}.json',
  )
  os.makedirs(os.path.dirname(path), exist_ok=True)
  if os.path.exists(path):
    old = read_json(path)
    for key in ('config', 'architecture'):
      if old[key] != found[key]:
        sys.exit(
            f'Not kept: {path} has figures of {key} {old[key]!r}; expected '
            f'those of {found[key]!r}, or the file moved away.'
        )
  write_json(path, found)
  return path


def main(argv):
  """Compiles one step; prints and keeps its figures."""
  del argv
  config, topology = _CONFIG.value, _TOPOLOGY.value
  phase_work.check(config)
  phases = {phase.name: phase for phase in phases_lib.build_phases(config)}
  if _PHASE.value not in phases:
    raise app.UsageError(
        f'Unknown phase {_PHASE.value!r}; expected one of {sorted(phases)}.'
    )
  phase = phases[_PHASE.value]
  side = config.data.image_size or 32
  platform, devices = _devices(topology)
  if config.compute_dtype == 'auto':  # By itself it would suit this machine.
    config.compute_dtype = 'bfloat16'
  nets, gates = workspace.networks(config, _NUM_CLASSES.value, (side, side, 3))
  size = phase.settings.batch_size
  if not _PER_CHIP.value:
    pipeline.check_batch_size(f'{phase.section}.batch_size', size, len(devices))
  images = _PER_CHIP.value or size // len(devices)
  compiled, seconds = _compile(config, phase, nets, gates, devices, images)
  text = compiled.as_text()
  if _TEXT.value:
    with open(_TEXT.value, 'w', encoding='utf-8') as file:
      file.write(text)
  shares = _shares(phase, nets, config)
  program = hlo.Program(text, lambda stage: shares[stage - 1])
  madds = images * float(_madds_per_image(phase, nets, config))
  arguments = [a for a in sys.argv[1:] if not a.startswith('--text=')]
  found = {
      'what': "Figures of XLA's compiler, estimates; nothing has run.",
      'command': f'python -m benchmarks.accelerators {" ".join(arguments)}',
      'date': datetime.date.today().isoformat(),
      'config': config.name,
      'architecture': config.model.architecture,
      'phase': phase.name,
      'stages': _STAGE.value or 'all',
      'pixels': side,
      'topology': topology,
      'device': devices[0].device_kind,
      'chips': len(devices),
      'images_per_chip': images,
      'compute_dtype': nets.student.dtype,
      'compiled_on': _host(),
      'compile_seconds': seconds,
      'memory_bytes': _memory(compiled),
      'madds': round(madds),
      'flops_over_madds': program.total.flops / 2 / madds,
      'collectives': program.total.collectives,
  }
  if platform == 'tpu':
    found['estimate'] = _estimate(program, madds)
  _print(found)
  print(f'Kept in {_keep(found)}')


if __name__ == '__main__':
  flags.mark_flag_as_required('config')
  app.run(main)
