# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Throughput of per-sample routing against what the samples' own work allows.

  python -m benchmarks.routing [--architecture=resnet50] [--batch_size=256]

Every image of a batch gets a random one of the 4,096 subnets. Two bounds:

  own stages   each image takes its share of the time that its stages take when
               a full batch runs under the same choice: routing without padding
               and without smaller batches.
  MAdds        each image's MAdds at the rate of the full batch under x1.0.

A figure of 1.00 means that routing costs nothing. Times are medians.
"""

import functools
import statistics
import time

from absl import app, flags
import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax.evaluation import cost, policies
from adaptanet_jax.models import routing, supernet
from adaptanet_jax.models.resnet import ResNet, stage_numbers
from adaptanet_jax.models.subnet import LARGEST, NUM_STAGES, StageChoice

_ARCHITECTURE = flags.DEFINE_string('architecture', 'resnet50', 'Network.')
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 256, 'Images of a batch.')
_RUNS = flags.DEFINE_integer('runs', 3, 'Timed runs of each.')
_CHUNKS = flags.DEFINE_multi_integer('chunk', [8, 16, 32], 'Chunk sizes.')


def _seconds(run, runs):
  """Returns the median time of some runs, after one that is not timed."""
  jax.block_until_ready(run())
  times = []
  for _ in range(runs):
    started = time.perf_counter()
    jax.block_until_ready(run())
    times.append(time.perf_counter() - started)
  return statistics.median(times), max(times) / min(times) - 1.0


def _stage_seconds(net, variables, images, runs):
  """Returns the times of a full batch, `float[4, K]`, and of the head."""
  table = np.zeros((NUM_STAGES, len(net.choices)))
  x = images
  for n in stage_numbers():
    for choice in net.choices:
      stage = jax.jit(
          functools.partial(net.run_stage, number=n, choice=choice)
      )
      run = functools.partial(stage, variables, x)
      table[n - 1, choice.index], _ = _seconds(run, runs)
    x, _ = net.run_stage(variables, x, n, StageChoice())
  head = jax.jit(net.run_head)
  return table, _seconds(functools.partial(head, variables, x), runs)[0]


def main(argv):
  """Prints one table."""
  del argv
  batch_size, runs = _BATCH_SIZE.value, _RUNS.value
  dtype = 'float32' if jax.default_backend() == 'cpu' else 'bfloat16'
  net = ResNet(
      _ARCHITECTURE.value, 'cifar', 'gn', 100, (32, 32, 3), dtype,
      delta='conv3x3',
  )
  rng = np.random.default_rng(0)
  variables = jax.tree.map(
      lambda s: jnp.asarray(0.05 * rng.standard_normal(s.shape), s.dtype),
      net.shapes(),
  )
  images = jnp.asarray(
      rng.standard_normal((batch_size, 32, 32, 3)), jnp.float32
  )
  choices = rng.integers(0, len(net.choices), (batch_size, NUM_STAGES))
  costs = cost.cost_table(net)
  stage_madds = costs.stage_madds()
  own_madds = policies.madds_of(stage_madds, choices).sum()

  table, head = _stage_seconds(net, variables, images, runs)
  by_sample = table[np.arange(NUM_STAGES), choices] / batch_size
  own_stages = by_sample.sum() + head
  full = jax.jit(functools.partial(supernet.forward, net))
  largest = jnp.asarray(LARGEST.encode())
  full_seconds, _ = _seconds(
      lambda: full(variables, images, largest)[0], runs
  )
  rate = batch_size * costs.subnet(LARGEST).madds / full_seconds
  print(
      f'{net.architecture}, batch {batch_size}, {jax.devices()[0].device_kind}'
      f': x1.0 {full_seconds:.3f} s, {rate / 1e9:.1f} GMAdds/s; own stages '
      f'{own_stages:.3f} s; MAdds {own_madds / rate:.3f} s'
  )
  print('chunk  seconds  spread  executed/own  of own stages  of MAdds')
  for chunk in _CHUNKS.value:
    route = jax.jit(
        functools.partial(routing.forward_by_sample, net, chunk_size=chunk)
    )
    seconds, spread = _seconds(
        lambda route=route: route(
            variables, images, jnp.asarray(choices, jnp.int32)
        ),
        runs,
    )
    executed = routing.executed(stage_madds, choices, chunk)
    print(
        f'{chunk:5}  {seconds:7.3f}  {spread:6.0%}  '
        f'{executed / own_madds:12.2f}  {own_stages / seconds:13.2f}  '
        f'{own_madds / rate / seconds:8.2f}'
    )


if __name__ == '__main__':
  app.run(main)
