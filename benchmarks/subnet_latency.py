# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times one pass of a subnet in our back ends and in alternatives.

  python -m benchmarks.subnet_latency [--side=32] [--batch_size=1] \
      [--peer=eager --peer=channels_last --peer=compiled --peer=onnx] \
      [--peer=exported --peer=openvino]

One network, resnet50 with GroupNorm and the paper's deltas; the same random
weights for all. Times are over that of the static program: XLA's program of
only that subnet. The static program and the switch slice the subnet's weights
at each call; all others store them sliced:

  switch    the one program of all 4,096 subnets
  stages    a program for each choice of each stage
  eager     PyTorch, with the subnet's weights sliced beforehand
  channels_last  `eager` with the channels last in memory, as ours are
  compiled  `eager` through torch.compile
  onnx      `eager` exported, in ONNX Runtime
  exported  our one ONNX file of all 4,096 subnets, in ONNX Runtime
  openvino  the same, with memory `small`, in OpenVINO

The last two take pixels, and all others normalised images.

Below 1 is faster. `eager/switch` and `eager/stages` are PyTorch's time over
ours, and `exported/stages` is our file's time over that of `stages`: above 1
ours is faster. `changed` is the time of a pass of `switch` that runs another
subnet than the pass before, over the mean of the two passes repeated.
"""

import functools
import itertools
import os
import tempfile

from absl import app, flags
import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax.evaluation import cost
from adaptanet_jax.export import runtime
from adaptanet_jax.models import jitted, layers, stages
from adaptanet_jax.models.subnet import MIXED, UNIFORM, UNIFORM_DELTA, Subnet
from benchmarks import harness

_TORCH = ('eager', 'channels_last', 'compiled', 'onnx')
_PEER_NAMES = (*_TORCH, 'exported', 'openvino')
# Pairs whose ratios get columns of their own.
_COMPARED = (
    ('eager', 'switch'),
    ('eager', 'stages'),
    ('exported', 'stages'),
    ('exported', 'onnx'),
    ('openvino', 'stages'),
)
_ARCHITECTURE = flags.DEFINE_string('architecture', 'resnet50', 'Network.')
_SIDES = flags.DEFINE_multi_integer('side', [32, 224], 'Pixels.')
_BATCH_SIZES = flags.DEFINE_multi_integer('batch_size', [1, 32], 'Images.')
_SUBNETS = flags.DEFINE_multi_string(
    'subnet', [str(s) for s in (*UNIFORM, *MIXED, *UNIFORM_DELTA)], 'Subnets.'
)
_PEERS = flags.DEFINE_multi_enum(
    'peer', [], _PEER_NAMES, 'Other frameworks, and what is exported.'
)


def _torch_peers(net, variables, subnet, images):
  """Returns functions that run a subnet in PyTorch, by name."""
  if set(_TORCH).isdisjoint(_PEERS.value):
    return {}
  import torch

  from benchmarks import torch_peer

  params = torch_peer.parameters(variables['params'])
  network = torch_peer.Network(net, params, subnet).eval()
  batch = torch_peer.images_of(images)

  def run(network, batch=batch):
    with torch.inference_mode():
      return network(batch)

  runs = {}
  if 'eager' in _PEERS.value:
    runs['eager'] = functools.partial(run, network)
  if 'channels_last' in _PEERS.value:
    laid_out = torch_peer.Network(net, params, subnet, channels_last=True)
    channels_last = batch.contiguous(memory_format=torch.channels_last)
    runs['channels_last'] = functools.partial(
        run, laid_out.eval(), channels_last
    )
  if 'compiled' in _PEERS.value:
    torch._dynamo.reset()  # Otherwise it gives up after a few subnets.
    runs['compiled'] = functools.partial(run, torch.compile(network))
  if 'onnx' in _PEERS.value:
    runs['onnx'] = _onnx(network, batch)
  return runs


def _onnx(network, batch):
  import onnxruntime
  import torch

  with tempfile.NamedTemporaryFile(suffix='.onnx') as file:
    torch.onnx.export(
        network, (batch,), file.name, dynamo=True, external_data=False,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(
        file.name, harness.session_options(),
        providers=['CPUExecutionProvider'],
    )
  feed = {session.get_inputs()[0].name: batch.numpy()}
  return lambda: session.run(None, feed)[0]


def _exports(net, variables, pixels):
  """Returns functions that run a subnet of our ONNX file, by name."""
  runs = {}
  with tempfile.TemporaryDirectory() as root:

    def write(memory):
      folder = os.path.join(root, memory)
      harness.supernet_of(net, variables).export(
          folder, memory=memory, verify=False
      )
      return folder

    if 'exported' in _PEERS.value:
      exported = runtime.load(
          write('fast'), sess_options=harness.session_options()
      )
      runs['exported'] = lambda subnet: exported(pixels, str(subnet))
    if 'openvino' in _PEERS.value:
      runs['openvino'] = _openvino(write('small'), pixels)
  return runs


def _openvino(folder, pixels):
  import openvino

  model = openvino.Core().compile_model(
      os.path.join(folder, 'model.onnx'), 'CPU',
      {'INFERENCE_PRECISION_HINT': 'f32', 'PERFORMANCE_HINT': 'LATENCY'},
  )
  return lambda subnet: model({
      'images': pixels, 'choices': subnet.encode().astype(np.int64)
  })['logits']


def _measure(report, side, batch_size):
  net, variables, images = harness.network_and_images(
      _ARCHITECTURE.value, batch_size, side=side
  )
  pixels = np.random.default_rng(0).integers(0, 256, images.shape, np.uint8)
  images = np.asarray(layers.normalize(jnp.asarray(pixels)))
  exports = _exports(net, variables, pixels)
  x = jnp.asarray(images)
  costs = cost.cost_table(net)
  switched = jitted.switched(net)
  by_stages = stages.Stages(net, variables)
  last = None
  for subnet in map(Subnet.parse, _SUBNETS.value):
    program = jitted.static(net, subnet).lower(variables, x).compile()
    switch = functools.partial(
        switched, variables, x, jnp.asarray(subnet.encode())
    )
    runs = {
        'static': functools.partial(program, variables, x),
        'switch': switch,
        'stages': functools.partial(by_stages, x, subnet),
        **_torch_peers(net, variables, subnet, images),
        **{n: functools.partial(run, subnet) for n, run in exports.items()},
    }
    harness.check_same(
        f'{subnet}, {side} px',
        {name: run() for name, run in runs.items()},
        tolerance=harness.tolerance(),
    )
    if last:  # Two passes, each with another subnet than the pass before.
      previous = last

      def changing(switch=switch, previous=previous):
        return jax.block_until_ready(switch()), previous()

      runs |= {'previous': last, 'changing': changing}
    times = harness.time_in_turns(runs)
    changed = None
    if last:
      repeated = times['switch'] + times['previous']
      changed = harness.Ratio.of(times['changing'], repeated)
    ratios = [
        harness.Ratio.of(times[name], times[reference])
        if {name, reference} <= times.keys()
        else None
        for name, reference in (
            *((n, 'static') for n in ('switch', 'stages', *_PEER_NAMES)),
            *_COMPARED,
        )
    ]
    madds = costs.subnet(subnet).madds
    report.add(
        f'{subnet} {side}px b{batch_size}',
        [
            madds / 1e6,
            1e3 * float(np.median(times['static'])),
            *ratios,
            changed,
        ],
        milliseconds={
            name: [round(1e3 * t, 4) for t in values]
            for name, values in times.items()
        },
    )
    last = switch


def main(argv):
  """Prints one table."""
  del argv
  harness.check_peers(_PEERS.value)
  report = harness.Report(
      'subnet_latency',
      f'{_ARCHITECTURE.value}, times over those of the static program; '
      'the last ratios as their names say',
      ['subnet', 'M MAdds', 'static ms', 'switch', 'stages', *_PEER_NAMES,
       *('/'.join(names) for names in _COMPARED), 'changed'],
  )
  for side, batch_size in itertools.product(_SIDES.value, _BATCH_SIZES.value):
    _measure(report, side, batch_size)
  report.done()


if __name__ == '__main__':
  app.run(main)
