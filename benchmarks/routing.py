# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times a batch whose images each run their own subnet: routing, and others.

  python -m benchmarks.routing [--batch_size=256] [--chunk=8 --chunk=16]

Every image gets a random one of the 4,096 subnets.

  one by one   calls with one image each, by either back end, the usual way to
               run dynamic networks; `faster` is the faster one of the two
  groups       at every stage a program for each choice, over the images that
               take it; padded to multiples of eight, so that few shapes
               compile. The host knows all choices beforehand, unlike with gates
  chunk N      `models.routing`, one program, N images of one choice at a time

Two ideals: `stages` is the time of the images' own stages at full batch,
without padding or smaller batches; `MAdds` is the time of their MAdds at the
rate of x1.0 at full batch. 1.00 means that routing costs nothing.
"""

import functools

from absl import app, flags
import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import compiler
from adaptanet_jax.evaluation import cost
from adaptanet_jax.models import jitted, routing, stages
from adaptanet_jax.models.resnet import stage_numbers
from adaptanet_jax.models.subnet import LARGEST, NUM_STAGES, Subnet
from benchmarks import harness

_ARCHITECTURE = flags.DEFINE_string('architecture', 'resnet50', 'Network.')
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 256, 'Images of a batch.')
_CHUNKS = flags.DEFINE_multi_integer('chunk', [8, 16, 32], 'Chunk sizes.')
_PADDED_TO = 8


def _stage_runs(net, by_stages, images):
  """Returns functions that run each choice of each stage on a full batch."""
  runs = {}
  x = images
  for n in stage_numbers():
    for choice in net.choices:
      runs[n, choice.index] = functools.partial(
          by_stages.run_stage, x, n, choice
      )
    x = runs[n, 0]()
  return runs | {'head': functools.partial(by_stages.run_head, x)}


def _one_by_one(run_subnet, images, subnets):
  singles = [images[n : n + 1] for n in range(len(subnets))]

  def run():
    return jnp.concatenate(
        [run_subnet(x, subnet) for x, subnet in zip(singles, subnets)]
    )

  return run


def _groups(net, by_stages, images, choices):
  """Returns a function that runs the groups, and its images at each choice."""
  takes, inverses = {}, {}
  executed = np.zeros((NUM_STAGES, len(net.choices)), np.int64)
  for n in stage_numbers():
    order = np.argsort(choices[:, n - 1], kind='stable')
    inverses[n] = jnp.asarray(np.argsort(order))
    for choice in net.choices:
      (take,) = np.nonzero(choices[:, n - 1] == choice.index)
      if len(take):
        size = -(-len(take) // _PADDED_TO) * _PADDED_TO
        takes[n, choice] = jnp.asarray(np.resize(take, size)), len(take)
        executed[n - 1, choice.index] = size
  gather = jax.jit(lambda x, take: x[take])
  merge = jax.jit(
      lambda outputs, counts, inverse: jnp.concatenate(
          [y[:count] for y, count in zip(outputs, counts)]
      )[inverse],
      static_argnums=1,
  )

  def run():
    x = images
    for n in stage_numbers():
      outputs, counts = [], []
      for choice in net.choices:
        if (n, choice) in takes:
          take, count = takes[n, choice]
          outputs.append(by_stages.run_stage(gather(x, take), n, choice))
          counts.append(count)
      x = merge(outputs, tuple(counts), inverses[n])
    return by_stages.run_head(x)

  return run, executed


def main(argv):
  """Prints one table."""
  del argv
  batch_size = _BATCH_SIZE.value
  net, variables, on_host = harness.network_and_images(
      _ARCHITECTURE.value, batch_size
  )
  images = jnp.asarray(on_host)
  by_stages = stages.Stages(net, variables)
  rng = np.random.default_rng(1)
  choices = rng.integers(0, len(net.choices), (batch_size, NUM_STAGES))
  costs = cost.cost_table(net)
  stage_madds = costs.stage_madds()
  own_madds = stage_madds[np.arange(NUM_STAGES), choices].sum()
  full_madds = batch_size * costs.subnet(LARGEST).madds

  groups, group_sizes = _groups(net, by_stages, images, choices)
  switched = functools.partial(jitted.switched(net), variables)
  rows = [jnp.asarray(row, jnp.int32) for row in choices]
  one_by_one = {
      'one by one, switch': _one_by_one(switched, images, rows),
      'one by one, stages': _one_by_one(
          by_stages, images, [Subnet.decode(row) for row in choices]
      ),
  }
  runs = one_by_one | {'groups': groups}
  executed = {'groups': (group_sizes * stage_madds).sum() / own_madds}
  for chunk in _CHUNKS.value:
    route = compiler.jit(
        functools.partial(routing.forward_by_sample, net, chunk_size=chunk)
    )
    executed_madds = routing.executed(
        stage_madds, choices, batch_size=batch_size, chunk_size=chunk
    )
    executed[f'chunk {chunk}'] = executed_madds / own_madds
    runs[f'chunk {chunk}'] = functools.partial(
        route, variables, images, jnp.asarray(choices, jnp.int32)
    )
  harness.check_same(
      'routing',
      {name: run() for name, run in runs.items()},
      tolerance=harness.tolerance(),
  )
  full = functools.partial(
      jitted.switched(net),
      variables,
      images,
      jnp.asarray(LARGEST.encode()),
  )
  by_stage = _stage_runs(net, by_stages, images)
  times = harness.time_in_turns(runs | {'full': full} | by_stage)
  ideal = times['head'] + sum(
      times[n, index] / batch_size
      for row in choices
      for n, index in zip(stage_numbers(), row)
  )
  by_madds = times['full'] * own_madds / full_madds
  faster = min((times[name] for name in one_by_one), key=np.median)
  report = harness.Report(
      'routing',
      f'{net.architecture}, batch {batch_size}, 32 px; x1.0 takes '
      f'{np.median(times["full"]):.3f} s, the ideals '
      f'{np.median(ideal):.3f} s (stages) and {np.median(by_madds):.3f} s '
      '(MAdds)',
      ['way', 'seconds', 'img/s', 'faster/it', 'stages/it', 'MAdds/it',
       'run/own MAdds'],
  )
  for name in runs:
    seconds = float(np.median(times[name]))
    report.add(
        name,
        [
            seconds,
            batch_size / seconds,
            *(
                harness.Ratio.of(reference, times[name])
                for reference in (faster, ideal, by_madds)
            ),
            float(executed.get(name, 1.0)),
        ],
    )
  report.done()


if __name__ == '__main__':
  app.run(main)
