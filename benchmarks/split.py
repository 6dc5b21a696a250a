# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Splits a network at an anchor: bytes to send, work of the device, accuracy.

  python -m benchmarks.split --model=digits [--rho=0.25]

The device runs the stages up to an anchor at one width, the server runs the
rest at x1.0. For comparison the picture itself is sent, as pixels and as a JPEG
of three qualities. Columns: mean bytes of an image, with anchors and pixels
deflated; MAdds of the device; per cent of the model's examples that are right.
"""

import io
import zlib

from absl import app, flags
import jax
import numpy as np
from PIL import Image

import adaptanet_jax
from adaptanet_jax.evaluation import cost
from adaptanet_jax.models.resnet import anchor_name
from adaptanet_jax.models.subnet import LARGEST, WIDTHS, Subnet
from benchmarks import harness

_MODEL = flags.DEFINE_string('model', 'digits', 'As for serve.')
_RHO = flags.DEFINE_enum('rho', '0.25', [*map(str, WIDTHS)], "The device's.")
_QUALITIES = (95, 75, 50)


def jpegs(images, quality):
  """Returns images after JPEG compression, and the mean bytes of the JPEGs."""
  shown, total = [], 0
  for image in images:
    file = io.BytesIO()
    grey = image.shape[-1] == 1
    Image.fromarray(image[..., 0] if grey else image).save(
        file, 'JPEG', quality=quality
    )
    total += len(file.getvalue())
    shown.append(np.asarray(Image.open(file)).reshape(image.shape))
  return np.stack(shown), total / len(images)


def eight_bits(anchors):
  """Returns anchors as bytes, and the scale of each image, `float[B]`."""
  scales = np.maximum(anchors.max((1, 2, 3)), 1e-9) / 255.0
  whole = np.round(anchors / scales[:, None, None, None])
  return whole.astype(np.uint8), scales


def _deflated(arrays):
  return float(np.mean([len(zlib.compress(a.tobytes(), 6)) for a in arrays]))


def main(argv):
  """Prints one table."""
  del argv
  net = adaptanet_jax.load(_MODEL.value, backend='stages')
  images, labels = adaptanet_jax.examples(_MODEL.value)
  subnet = Subnet.uniform(float(_RHO.value))
  report = harness.Report(
      'split',
      f'device x{_RHO.value}, server x1.0, {len(images)} examples',
      ['what is sent', 'bytes', 'device kMAdds', 'top1'],
  )

  def add(label, size, madds, logits):
    right = np.asarray(logits).argmax(-1) == labels
    report.add(label, [size, madds / 1e3, 100.0 * float(right.mean())])

  add('pixels', _deflated(images), 0.0, net(images))
  for quality in _QUALITIES:
    shown, size = jpegs(images, quality)
    add(f'JPEG {quality}', size, 0.0, net(shown))
  _, features = jax.jit(net.net.forward, static_argnums=2)(
      net.variables, images, subnet
  )
  table = cost.cost_table(net.net).stage_madds()
  for n in (1, 2, 3):
    anchors = np.asarray(features[anchor_name(n)], np.float32)
    madds = sum(
        float(table[stage, choice])
        for stage, choice in enumerate(subnet.encode()[:n])
    )
    half = anchors.astype(np.float16)
    add(
        f'anchor {n}, FP16', _deflated(half), madds,
        net.finish(half.astype(np.float32), n, LARGEST),
    )
    whole, scales = eight_bits(anchors)
    add(
        f'anchor {n}, UINT8', _deflated(whole), madds,
        net.finish(
            (whole * scales[:, None, None, None]).astype(np.float32), n, LARGEST
        ),
    )
  report.done()


if __name__ == '__main__':
  app.run(main)
