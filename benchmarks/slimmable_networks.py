# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Compares slimmable_networks' own S-ResNet-50 with the same network here.

  git clone https://github.com/JiahuiYu/slimmable_networks DIR
  python -m benchmarks.slimmable_networks --source=DIR [--batch_size=1]

Both run at 224 pixels, because theirs only has that stem, with the same weights
and batch statistics, and so the same logits. The network has no anchors: its
residual stream slims as well, and each width has its own BatchNorm. Times are
over those of `theirs`, in PyTorch; below 1 ours is faster.
"""

import functools
import os
import sys
import types
from typing import Any

from absl import app, flags
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import trees
from adaptanet_jax.evaluation import cost
from adaptanet_jax.models import jitted
from adaptanet_jax.models.resnet import ResNet, stage_name, stage_numbers
from adaptanet_jax.models.stages import Stages
from adaptanet_jax.models.subnet import UNIFORM, WIDTHS
from adaptanet_jax.platforms import auto_dtype
from benchmarks import harness

_SOURCE = flags.DEFINE_string(
    'source', None, 'Folder of a clone of slimmable_networks.', required=True
)
_BATCH_SIZES = flags.DEFINE_multi_integer('batch_size', [1, 32], 'Images.')
_SIDE, _NUM_CLASSES = 224, 1000


def _theirs(source):
  """Returns their network with random weights."""
  path = os.path.join(source, 'models', 's_resnet.py')
  if not os.path.exists(path):
    sys.exit(f'--source={source} has no models/s_resnet.py; expected a clone.')
  # Their module imports settings, which would come from a file.
  settings = types.ModuleType('utils.config')
  vars(settings)['FLAGS'] = types.SimpleNamespace(
      width_mult_list=list(WIDTHS), depth=50, reset_parameters=False
  )
  sys.modules[settings.__name__] = settings
  sys.path.insert(0, source)
  from models import s_resnet

  return s_resnet.Model(_NUM_CLASSES, _SIDE).eval()


def _take_over(network, variables):
  """Copies the variables of our network to theirs."""
  import torch

  from benchmarks import torch_peer

  tree = torch_peer.parameters(variables)
  params, stats = tree['params']['backbone'], tree['batch_stats']['backbone']

  def conv_norm(conv, norm, *path):
    own, moments = params, stats
    for name in path:
      own, moments = own[name], moments[name]
    conv.weight.copy_(own['kernel'])
    for row, each in enumerate(norm.bn):
      for name, values in (
          ('weight', own['norm']['scale']),
          ('bias', own['norm']['bias']),
          ('running_mean', moments['norm']['mean']),
          ('running_var', moments['norm']['var']),
      ):
        # `parameters` transposes matrices, here [widths, channels].
        each.state_dict()[name].copy_(values.T[row, : each.num_features])

  blocks = iter(network.features[1:])
  with torch.no_grad():
    conv_norm(*network.features[0][:2], 'stem', 'conv')
    for number in stage_numbers():
      for name in params[stage_name(number)]:
        block = next(blocks)
        at = stage_name(number), name
        for n in range(3):
          conv_norm(*block.body[3 * n : 3 * n + 2], *at, f'conv{n + 1}')
        if not block.residual_connection:
          conv_norm(*block.shortcut, *at, 'shortcut')
    network.classifier[0].weight.copy_(params['head']['kernel'])
    network.classifier[0].bias.copy_(params['head']['bias'])


def _measure(report, net, variables, network, batch_size):
  import torch

  from benchmarks import torch_peer

  images = np.random.default_rng(0).standard_normal(
      (batch_size, _SIDE, _SIDE, 3)
  ).astype(np.float32)
  x, batch = jnp.asarray(images), torch_peer.images_of(images)
  switched = jitted.switched(net)
  by_stages = Stages(net, variables)

  def theirs():
    with torch.inference_mode():
      return network(batch)

  for subnet in UNIFORM:
    rho = subnet.stages[0].rho
    network.apply(lambda module, rho=rho: setattr(module, 'width_mult', rho))
    runs: dict[str, Any] = {
        'theirs': theirs,
        'static': functools.partial(
            jitted.static(net, subnet), variables, x
        ),
        'switch': functools.partial(
            switched, variables, x, jnp.asarray(subnet.encode())
        ),
        'stages': functools.partial(by_stages, x, subnet),
    }
    harness.check_same(
        str(subnet),
        {name: run() for name, run in runs.items()},
        tolerance=harness.tolerance(),
    )
    times = harness.time_in_turns(runs)
    ratios = [
        harness.Ratio.of(times[name], times['theirs'])
        for name in ('static', 'switch', 'stages')
    ]
    madds = cost.cost_table(net).subnet(subnet).madds
    theirs_ms = 1e3 * float(np.median(times['theirs']))
    report.add(f'{subnet} b{batch_size}', [madds / 1e6, theirs_ms, *ratios])


def main(argv):
  """Prints one table."""
  del argv
  harness.check_peers(True)
  network = _theirs(os.path.abspath(os.path.expanduser(_SOURCE.value)))
  net = ResNet(
      'resnet50', 'imagenet', 'bn_switchable', _NUM_CLASSES,
      (_SIDE, _SIDE, 3), auto_dtype(), anchors=False,
  )
  variables = trees.draw_like(net.shapes())
  _take_over(network, variables)
  report = harness.Report(
      'slimmable_networks',
      'S-ResNet-50, times over those of theirs',
      ['subnet', 'M MAdds', 'theirs ms', 'static', 'switch', 'stages'],
  )
  for batch_size in _BATCH_SIZES.value:
    _measure(report, net, variables, network, batch_size)
  report.done()


if __name__ == '__main__':
  app.run(main)
