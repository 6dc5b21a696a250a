# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times training steps of the phases, against the same steps in PyTorch.

  python -m benchmarks.train_step [--phase=lock_in] [--peer] [--batch_size=32]

The steps are those of `configs/cifar100.py`, on all devices; flags set the
architecture and the batch size. `usnet` is the sandwich step of that baseline.
Both frameworks start from the same weights, and run the same images and subnets
at every step; their losses of the first two steps have to agree. PyTorch runs
eagerly and only on the CPU, with the network written by hand in
`benchmarks/torch_peer.py`, so it is not compared with an accelerator.

  MiB, peer MiB   memory of a step beyond its arguments, by the resident set
  of teacher      XLA's temporary memory of a step, over that of a teacher's
                  step, which has one subnet's activations and no second network
  cold, cached    seconds to trace and compile, without and with a cache
"""

import ctypes
import dataclasses
import functools
import gc
import os
import tempfile
import time
from typing import Any

from absl import app, flags
import jax
from jax.experimental.compilation_cache import compilation_cache
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import compiler, devices, trees, workspace
from adaptanet_jax.data import pipeline
from adaptanet_jax.models.layers import normalize
from adaptanet_jax.models.subnet import Subnet
from adaptanet_jax.training import loop, mdsr, optimizers, phases
from adaptanet_jax.training.baseline_methods import METHODS
from adaptanet_jax.training.forward import Networks
from adaptanet_jax.training.step import map_train_step
from benchmarks import harness
from configs import baselines, cifar100

_ARCHITECTURE = flags.DEFINE_string('architecture', 'resnet50', 'Network.')
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 32, 'Images of a step.')
_PHASES = flags.DEFINE_multi_enum(
    'phase',
    ['teacher', 'usnet', 'cascade1', 'cascade4', 'lock_in', 'delta_lock_in'],
    ['teacher', 'usnet', 'usnet_random', 'lock_in', 'delta_lock_in',
     *(f'{kind}cascade{n}' for kind in ('', 'delta_') for n in range(1, 5))],
    'Phases to take a step of.',
)
_PEER = flags.DEFINE_bool('peer', False, 'Runs PyTorch too.')
_NUM_CLASSES = 100
_EPOCH_STEPS = 1000
_IMAGE_SHAPE = (32, 32, 3)


@dataclasses.dataclass
class _Step:
  """A step of ours that can run repeatedly on the same subnets."""

  phase: phases.Phase
  nets: Networks
  variables: dict
  teacher: dict
  subnets: list
  function: Any
  arguments: tuple

  def compile(self):
    options = compiler.options()
    started = time.perf_counter()
    compiled = self.function.lower(*self.arguments).compile(
        compiler_options=options
    )
    return compiled, time.perf_counter() - started


def _make(name):
  """Builds the step of a phase, or of a baseline."""
  is_baseline = name in METHODS
  config = (
      baselines.get_config(f'{name},cifar100')
      if is_baseline
      else cifar100.get_config()
  )
  config.model.architecture = _ARCHITECTURE.value
  config.model.norm = 'gn'
  # At the full rate the second step's loss tells whether the peer's gradients
  # are the same; after a step of a warm-up it would tell nothing.
  for section in phases.sections_of(config):
    phases.section_of(config, section).warmup_epochs = 0.0
  nets, gates = workspace.networks(config, _NUM_CLASSES, _IMAGE_SHAPE)
  by_name = {phase.name: phase for phase in phases.build_phases(config)}
  phase = by_name['baseline' if is_baseline else name]
  num_examples = _EPOCH_STEPS * phase.settings.batch_size
  objective = phases.objective_for(
      config, phase, nets, gates, num_examples=num_examples
  )
  tx = optimizers.make_optimizer(
      phase.settings, steps=_EPOCH_STEPS, steps_per_epoch=_EPOCH_STEPS
  )
  net = nets.teacher if phase.network == 'teacher' else nets.student
  if 'delta' not in name:
    net = net.without_delta
    nets = Networks(nets.teacher, nets.student.without_delta)
  variables = trees.draw_like(net.shapes())
  teacher = (
      trees.draw_like(nets.teacher.shapes(), seed=1)
      if phase.reads_teacher
      else {}
  )
  trained, frozen = loop.split_variables(variables, phase.trains)
  state = loop.first_state(phase, trained, tx)
  rng = phases.make_rng(0, phase.name)
  _, objective_rng = jax.random.split(jax.random.fold_in(rng, 0))
  subnets: Any
  if is_baseline:
    subnets = METHODS[name].draw(objective_rng)
  elif phase.space is None:
    subnets = np.zeros((1, 4), np.int32)
  else:
    subnets = mdsr.draw_subnets(
        objective_rng, phase.space, config.mdsr.num_random
    )
  data = np.random.default_rng(2)
  count = jax.device_count()
  pipeline.check_batch_size('--batch_size', _BATCH_SIZE.value, count)
  shape = (count, _BATCH_SIZE.value // count)
  batch = {
      'image': data.integers(0, 256, (*shape, *_IMAGE_SHAPE), np.uint8),
      'label': data.integers(0, _NUM_CLASSES, shape).astype(np.int32),
  }
  placed = devices.replicate((state, frozen, teacher, rng))
  return _Step(
      phase, nets, variables, teacher,
      [Subnet.decode(row) for row in np.asarray(subnets)],
      map_train_step(objective, tx, 'none', phase.average_decay),
      (*placed, devices.to_devices(batch)),
  ), config, batch


def _runner(step, compiled):
  """Returns a function that takes a step, always on the same subnets."""
  state, *rest = step.arguments
  zero = np.asarray(state.step)
  holder = [state]

  def run():
    start = dataclasses.replace(
        holder[0], step=devices.replicate(zero)  # The last one was donated.
    )
    holder[0], metrics = compiled(start, *rest)
    jax.block_until_ready(holder[0])
    return float(metrics['loss'])

  return run


def _torch_runner(step, config, batch):
  import torch

  from benchmarks import torch_peer

  tree = torch_peer.parameters(step.variables['params'])
  part = trees.split(tree, step.phase.trains)[0]
  trained = jax.tree.leaves(part)
  for leaf in trained:
    leaf.requires_grad_()
  settings = step.phase.settings
  # At the learning rate of the first step, which ours repeats.
  optimizer = torch_peer.optimizer_like(
      settings, part, trained, settings.learning_rate
  )
  whole = jnp.concatenate(batch['image'])
  images = torch_peer.images_of(normalize(whole))
  if not step.phase.reads_teacher:
    return functools.partial(
        torch_peer.sandwich_step,
        step.nets.student if step.phase.group == 'baseline'
        else step.nets.teacher,
        tree,
        optimizer,
        images,
        torch.from_numpy(np.concatenate(batch['label']).astype(np.int64)),
        step.subnets,
        settings.label_smoothing,
    )
  # As in these phases of configs/cifar100.py, without a soft cross-entropy.
  weights = mdsr.Weighting(config.mdsr.teacher_weight).at(
      0, len(step.subnets), has_largest=step.phase.space.has_largest
  )
  to_teacher, to_largest, _ = map(np.asarray, weights)
  return functools.partial(
      torch_peer.anchor_step,
      step.nets.student,
      step.nets.teacher,
      (tree, torch_peer.parameters(step.teacher['params'])),
      trained,
      optimizer,
      images,
      step.subnets,
      step.phase.space.numbers,
      list(zip(to_teacher.tolist(), to_largest.tolist())),
  )


def _peak_mib(run):
  """Returns how far the resident set rises while a function runs, in MiB."""
  on_host = jax.default_backend() == 'cpu'
  if not on_host or not os.path.exists('/proc/self/clear_refs'):
    return None
  run()
  gc.collect()
  ctypes.CDLL(None).malloc_trim(0)
  with open('/proc/self/clear_refs', 'w', encoding='ascii') as file:
    file.write('5')  # Resets the peak resident set to the current one.
  before = _status_mib('VmRSS')
  run()
  return _status_mib('VmHWM') - before


def _status_mib(name):
  with open('/proc/self/status', encoding='ascii') as file:
    line = next(line for line in file if line.startswith(name))
  return int(line.split()[1]) / 1024


def _compile_twice(step):
  """Compiles with an empty cache, then again with the filled cache."""
  before = jax.config.values['jax_compilation_cache_dir']
  with tempfile.TemporaryDirectory() as folder:
    jax.config.update('jax_compilation_cache_dir', folder)
    compilation_cache.reset_cache()
    seconds = []
    for _ in range(2):
      jax.clear_caches()
      compiled, took = step.compile()
      seconds.append(took)
    jax.config.update('jax_compilation_cache_dir', before)
    compilation_cache.reset_cache()
  return compiled, seconds


def main(argv):
  """Prints one table."""
  del argv
  harness.check_peers(_PEER.value)
  columns = ['phase', 'subnets', 'ms', 'img/s', 'peer/ours', 'MiB',
             'of teacher', 'peer MiB', 'cold s', 'cached s']
  report = harness.Report(
      'train_step',
      f'{_ARCHITECTURE.value}, batch {_BATCH_SIZE.value}, 32 px',
      columns,
  )
  single = None
  for name in _PHASES.value:
    step, config, batch = _make(name)
    compiled, (cold, cached) = _compile_twice(step)
    memory = compiled.memory_analysis()
    temporary = memory.temp_size_in_bytes
    if name == 'teacher':
      single = temporary
    runs = {'ours': _runner(step, compiled)}
    if _PEER.value:
      runs['peer'] = _torch_runner(step, config, batch)
    # Checks the loss before training, and after one step.
    for number in ('first', 'second'):
      harness.check_same(
          f'{name}, loss of the {number} step',
          {key: run() for key, run in runs.items()},
          tolerance=harness.tolerance(),
      )
    times = harness.time_in_turns(runs)
    ratio = peer_mib = None
    if _PEER.value:
      ratio = harness.Ratio.of(times['peer'], times['ours'])
      peer_mib = _peak_mib(runs['peer'])
    seconds = float(np.median(times['ours']))
    report.add(
        name,
        [
            len(step.subnets),
            1e3 * seconds,
            _BATCH_SIZE.value / seconds,
            ratio,
            _peak_mib(runs['ours']),
            temporary / single if single else None,
            peer_mib,
            cold,
            cached,
        ],
        subnet_names=[str(subnet) for subnet in step.subnets],
        temporary_bytes=temporary,
        milliseconds={
            key: [round(1e3 * t, 3) for t in values]
            for key, values in times.items()
        },
    )
  report.done()


if __name__ == '__main__':
  app.run(main)
