# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Measures size, load time and latency of exported networks.

  python -m benchmarks.export --model=digits [--batch_size=1]
  python -m benchmarks.export --architecture=resnet50 --side=224

Exports a trained model, or an architecture with random weights, GroupNorm and
the paper's deltas. Each row is a subnet: `static` is the ONNX model of that
subnet alone; `fast` and `small` are the times of the two elastic models over
that of `static`, so below 1 is faster. ONNX Runtime runs all three;
`benchmarks.subnet_latency` compares an elastic model with our own back ends.
The first rows are the files: their size over that of the weights, and the
seconds and memory to load each, in a process of its own.

With --cpu_time, for a machine with other work, a model has one thread, and its
time is the least CPU time among the runs of a round.
"""

import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from absl import app, flags
import jax
import numpy as np

import adaptanet_jax
from adaptanet_jax.evaluation import cost
from adaptanet_jax.export import runtime
from adaptanet_jax.models.subnet import MIXED, UNIFORM, UNIFORM_DELTA, Subnet
from benchmarks import harness

_MODEL = flags.DEFINE_string('model', None, 'Trained; else random weights.')
_ARCHITECTURE = flags.DEFINE_string('architecture', 'resnet50', 'Network.')
_SIDE = flags.DEFINE_integer('side', 224, 'Pixels.')
_BATCH_SIZES = flags.DEFINE_multi_integer('batch_size', [1], 'Images.')
_SUBNETS = flags.DEFINE_multi_string(
    'subnet', [str(s) for s in (*UNIFORM, *MIXED, *UNIFORM_DELTA)], 'Subnets.'
)
_CPU_TIME = flags.DEFINE_bool('cpu_time', False, 'Of one thread, not wall.')
_MEMORIES = ('fast', 'small')
# Prints the seconds and bytes that loading a session takes.
_LOAD = """
import json, sys, time
import onnxruntime

def resident():
  with open('/proc/self/status') as file:
    (line,) = (line for line in file if line.startswith('VmRSS'))
  return int(line.split()[1]) * 1024

before, started = resident(), time.perf_counter()
session = onnxruntime.InferenceSession(
    sys.argv[1], providers=['CPUExecutionProvider'])
print(json.dumps([time.perf_counter() - started, resident(), before]))
"""


def _network():
  if _MODEL.value:
    return adaptanet_jax.load(_MODEL.value)
  net, variables, _ = harness.network_and_images(
      _ARCHITECTURE.value, 1, side=_SIDE.value
  )
  return harness.supernet_of(net, variables)


def _session_options():
  return harness.session_options(1 if _CPU_TIME.value else 0)


def _cpu_times(runs):
  """Returns the least CPU seconds of a run in each round, `float[rounds]`."""
  times: dict[str, list[float]] = {name: [] for name in runs}
  for _ in range(harness.ROUNDS.value):
    for name, run in runs.items():
      run()
      own: list[float] = []
      started = time.process_time()
      while len(own) < 3 or time.process_time() - started < 0.2:
        before = time.process_time()
        run()
        own.append(time.process_time() - before)
      times[name].append(min(own))
  return {name: np.array(values) for name, values in times.items()}


def _add_file(report, name, path, weights):
  loads = np.array([
      json.loads(
          subprocess.run(
              [sys.executable, '-c', _LOAD, str(path)],
              check=True, capture_output=True, text=True,
          ).stdout
      )
      for _ in range(harness.ROUNDS.value)
  ])
  seconds, resident, before = np.median(loads, 0)
  size = os.path.getsize(path)
  report.add(
      f'file {name}: {size / 1e6:,.2f} MB',
      [None] * (2 + len(_MEMORIES)),
      megabytes=size / 1e6,
      over_weights=size / weights,
      seconds=seconds,
      seconds_spread=float(np.ptp(loads[:, 0])),
      resident_megabytes=resident / 1e6,
      added_over_weights=(resident - before) / weights,
  )
  print(
      f'  {size / weights:.3f} of the weights; loaded in {seconds:.2f} s '
      f'(~{np.ptp(loads[:, 0]):.2f}); {resident / 1e6:,.0f} MB in memory, '
      f'{before / 1e6:,.0f} before'
  )


def _time(report, net, exported, root, subnet, batch_size, madds):
  images = np.random.default_rng(0).integers(
      0, 256, (batch_size, *net.net.image_shape), np.uint8
  )
  folder = root / f'static_{subnet}'
  if not folder.exists():
    net.export(str(folder), format='static', subnets=[subnet], verify=False)
  static = runtime.load(str(folder), sess_options=_session_options())
  runs = {'static': functools.partial(static, images)} | {
      name: functools.partial(own, images, str(subnet))
      for name, own in exported.items()
  }
  harness.check_same(str(subnet), {name: run() for name, run in runs.items()})
  times = (_cpu_times if _CPU_TIME.value else harness.time_in_turns)(runs)
  report.add(
      f'{subnet} b{batch_size}',
      [
          madds / 1e6,
          1e3 * float(np.median(times['static'])),
          *(
              harness.Ratio.of(times[name], times['static'])
              for name in _MEMORIES
          ),
      ],
      milliseconds={
          name: [round(1e3 * t, 4) for t in values]
          for name, values in times.items()
      },
  )


def main(argv):
  """Prints one table."""
  del argv
  net = _network()
  report = harness.Report(
      'export',
      f'{net.about.name}, times over those of the static export',
      ['subnet', 'M MAdds', 'static ms', *_MEMORIES],
  )
  leaves = jax.tree.leaves({
      name: {part: own for part, own in tree.items() if part != 'gates'}
      for name, tree in net.variables.items()
  })
  weights = sum(leaf.nbytes for leaf in leaves)
  costs = cost.cost_table(net.net)
  with tempfile.TemporaryDirectory() as name:
    root = pathlib.Path(name)
    exported = {}
    for memory in _MEMORIES:
      for label, policies in ((memory, False), (f'{memory}_gates', True)):
        if policies and not net.policies:
          continue
        folder = root / label
        net.export(
            str(folder), memory=memory, policies=policies, verify=False
        )
        _add_file(report, label, folder / 'model.onnx', weights)
      exported[memory] = runtime.load(
          str(root / memory), sess_options=_session_options()
      )
    for batch_size in _BATCH_SIZES.value:
      for subnet in map(Subnet.parse, _SUBNETS.value):
        madds = costs.subnet(subnet).madds
        _time(report, net, exported, root, subnet, batch_size, madds)
  report.done()


if __name__ == '__main__':
  app.run(main)
