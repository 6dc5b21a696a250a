# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times resnet50's 3x3 convolutions and their gradients, against PyTorch's.

  python -m benchmarks.convolution [--batch_size=32] [--peer]

GMAdds/s count the products of a plain convolution; an algorithm that needs
fewer can exceed the peak rate of the device. `by kernel, taps` and `by kernel,
patches` are two ways, not in use, to write the kernel gradient as matrix
products: one for each tap of the kernel, or one for all taps.
"""

import functools
from typing import Any

from absl import app, flags
import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import compiler
from adaptanet_jax.models import convolution
from adaptanet_jax.platforms import auto_dtype
from benchmarks import harness

_BATCH_SIZE = flags.DEFINE_integer('batch_size', 32, 'Images.')
_PEER = flags.DEFINE_bool('peer', False, 'Runs PyTorch too.')
# Side of the input, channels, strides: at 32 pixels, for x1.0 and for x0.5.
_LAYERS = (
    *((32, 64, 1), (32, 128, 2), (16, 128, 1), (8, 256, 1), (4, 512, 1)),
    *((32, 32, 1), (32, 64, 2), (16, 64, 1), (8, 128, 1), (4, 256, 1)),
)


def _patches(x, strides):
  patches = convolution._patches(x, 3, strides)
  return [patch.reshape(-1, x.shape[-1]) for patch in patches]


def _by_taps(x, kernel, g, strides):
  g = g.reshape(-1, g.shape[-1])
  taps = [jnp.dot(patch.T, g) for patch in _patches(x, strides)]
  return jnp.stack(taps).reshape(kernel.shape)


def _by_patches(x, kernel, g, strides):
  patches = jnp.concatenate(_patches(x, strides), -1)
  return jnp.dot(patches.T, g.reshape(-1, g.shape[-1])).reshape(kernel.shape)


def _ours(x, kernel, g, strides):
  """Returns functions without arguments, by the name of what they compute."""

  def bound(form, *arguments):
    return functools.partial(compiler.jit(form), *arguments)

  def pull(x, kernel, g):
    run = functools.partial(convolution.conv2d, strides=strides)
    return jax.vjp(run, x, kernel)[1](g)

  return {
      'forward': bound(lambda x, k: convolution.conv2d(x, k, strides), x,
                       kernel),
      'by input': bound(lambda *a: pull(*a)[0], x, kernel, g),
      'by kernel': bound(lambda *a: pull(*a)[1], x, kernel, g),
      'by kernel, taps': bound(
          lambda x, k, g: _by_taps(x, k, g, strides), x, kernel, g
      ),
      'by kernel, patches': bound(
          lambda x, k, g: _by_patches(x, k, g, strides), x, kernel, g
      ),
  }


def _peers(x, kernel, g, strides):
  import torch

  from benchmarks import torch_peer

  x, g = map(torch_peer.images_of, (x, g))
  kernel = torch_peer.parameters(kernel)

  def backward(*wanted):
    return torch.ops.aten.convolution_backward(
        g, x, kernel, None, (strides,) * 2, (1, 1), (1, 1), False, (0, 0), 1,
        [*wanted, False],
    )

  return {
      'forward': lambda: torch.conv2d(
          x, kernel, stride=strides, padding=1
      ).permute(0, 2, 3, 1).numpy(),
      'by input': lambda: backward(True, False)[0].permute(0, 2, 3, 1).numpy(),
      'by kernel': lambda: backward(False, True)[1].permute(
          2, 3, 1, 0
      ).numpy(),
  }


def main(argv):
  """Prints one table."""
  del argv
  harness.check_peers(_PEER.value)
  report = harness.Report(
      'convolution',
      f'batch {_BATCH_SIZE.value}',
      ['layer', 'what', 'ms', 'GMAdds/s', 'peer GMAdds/s', 'peer/ours'],
  )
  rng = np.random.default_rng(0)
  for side, channels, strides in _LAYERS:
    out = side // strides
    x, kernel, g = (
        jnp.asarray(rng.standard_normal(shape), auto_dtype())
        for shape in (
            (_BATCH_SIZE.value, side, side, channels),
            (3, 3, channels, channels),
            (_BATCH_SIZE.value, out, out, channels),
        )
    )
    work = _BATCH_SIZE.value * out**2 * 9 * channels**2 / 1e9
    ours = _ours(x, kernel, g, strides)
    peers = _peers(x, kernel, g, strides) if _PEER.value else {}
    layer = f'{side}x{side}x{channels}, stride {strides}'
    for name, run in ours.items():
      same = {'ours': run(), 'used': ours[name.split(',')[0]]()}
      if name in peers:
        same['peer'] = peers[name]()
      harness.check_same(
          f'{layer}, {name}', same, tolerance=harness.tolerance()
      )
    times = harness.time_in_turns(
        {('ours', name): run for name, run in ours.items()}
        | {('peer', name): run for name, run in peers.items()}
    )
    for name in ours:
      own, peer = times['ours', name], times.get(('peer', name))
      seconds = float(np.median(own))
      cells: list[Any] = [None, None]
      if peer is not None:
        cells = [work / float(np.median(peer)), harness.Ratio.of(peer, own)]
      report.add(layer, [name, 1e3 * seconds, work / seconds, *cells])
  report.done()


if __name__ == '__main__':
  app.run(main)
