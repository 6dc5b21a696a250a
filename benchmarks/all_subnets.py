# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times all subnets on a batch of images: as a tree of prefixes, or one by one.

  python -m benchmarks.all_subnets [--batch_size=128] [--delta]

`one by one` calls the switched program for each subnet. The tree runs a stage
once for each way to reach it: 4 + 16 + 64 + 256 runs of stages for all 256
widths, instead of 4 * 256; with deltas 8 + 64 + 512 + 4,096 instead of
4 * 4,096. `MAdds` is what `tree/one by one` would be at the same rate.
"""

import functools

from absl import app, flags
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import compiler
from adaptanet_jax.evaluation import cost
from adaptanet_jax.models import jitted, supernet
from adaptanet_jax.models.subnet import NUM_STAGES, all_subnets
from benchmarks import harness

_ARCHITECTURE = flags.DEFINE_string('architecture', 'resnet26x16', 'Network.')
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 64, 'Images of a batch.')
_DELTA = flags.DEFINE_bool('delta', False, 'All 4,096, not the 256 widths.')


def _tree_share(stage_madds, head):
  """Returns the MAdds of the tree over those of all subnets one by one."""
  num_choices = stage_madds.shape[1]
  tree = sum(
      num_choices**n * row.sum() for n, row in enumerate(stage_madds)
  ) + num_choices**NUM_STAGES * head
  every = num_choices ** (NUM_STAGES - 1) * stage_madds.sum()
  return tree / (every + num_choices**NUM_STAGES * head)


def main(argv):
  """Prints one table."""
  del argv
  net, variables, on_host = harness.network_and_images(
      _ARCHITECTURE.value,
      _BATCH_SIZE.value,
      delta='conv3x3' if _DELTA.value else None,
  )
  images = jnp.asarray(on_host)
  switched = jitted.switched(net)
  subnets = [
      jnp.asarray(subnet.encode()) for subnet in all_subnets(net.choices)
  ]

  def one_by_one():
    logits = [switched(variables, images, subnet) for subnet in subnets]
    return jnp.stack([row.argmax(-1) for row in logits])

  walk = compiler.jit(functools.partial(supernet.outputs_by_subnet, net))
  choices = (jnp.arange(len(net.choices)),) * NUM_STAGES

  def tree():
    found = walk(variables, images, choices)['prediction']
    return found.reshape(-1, _BATCH_SIZE.value)

  runs = {'one by one': one_by_one, 'tree': tree}
  differ = np.mean(np.asarray(one_by_one()) != np.asarray(tree()))
  if differ > 1e-3:  # Rounding may decide between tied logits.
    raise SystemExit(
        f'{differ:.2%} of the predictions differ; expected at most .1 %, so '
        'the times are not compared.'
    )
  times = harness.time_in_turns(runs)
  costs = cost.cost_table(net)
  report = harness.Report(
      'all_subnets',
      f'{net.architecture}, batch {_BATCH_SIZE.value}, 32 px',
      ['subnets', 'one by one s', 'tree s', 'tree/one by one', 'MAdds'],
  )
  report.add(
      f'{len(subnets):,}',
      [
          float(np.median(times['one by one'])),
          float(np.median(times['tree'])),
          harness.Ratio.of(times['tree'], times['one by one']),
          float(_tree_share(costs.stage_madds(), costs.head[0].madds)),
      ],
      differing_predictions=float(differ),
  )
  report.done()


if __name__ == '__main__':
  app.run(main)
