# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Measures images per second of the input pipeline against a step's demand.

  python -m benchmarks.input [--workers=0,1,2] [--tflops=60]

Streaming: photographs of 500x375 pixels, JPEGs of about 80 kB, decoded to
random crops of 224 pixels, in threads (0 workers) or in worker processes. They
are read from memory: storage is not measured. In memory: 50,000 images of 32
pixels, as in CIFAR-100; the training step augments them.

The demand is that of ResNet-50 on an accelerator that sustains --tflops: for
each image three passes of the network in a teacher's step, and in the lock-in
three passes of each subnet, of which the random ones cost the mean of all 256.
"""

import io
import itertools
import time

from absl import app, flags
import numpy as np
from PIL import Image
from sklearn import datasets

from adaptanet_jax.data import pipeline
from adaptanet_jax.data.splits import InMemorySplit, Split, StreamedSplit
from adaptanet_jax.machine import num_cores

if __name__ == '__main__':  # Worker processes need not load JAX.
  from benchmarks import harness

_WORKERS = flags.DEFINE_list('workers', ['0', '1', '2'], 'Worker processes.')
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 64, 'Images of a batch.')
_BATCHES = flags.DEFINE_integer('batches', 10, 'Timed batches of a run.')
_TFLOPS = flags.DEFINE_float('tflops', 60.0, 'What the accelerator sustains.')

_NUM_PHOTOGRAPHS = 256


class _Photographs:
  """Crops of a photograph as encoded examples: a source of a split."""

  def __init__(self):
    self.encoded = _photographs()

  def __len__(self):
    return len(self.encoded)

  def where(self, position):
    return f'photograph {position}'

  def read(self, position):
    return self.encoded[position], position % 2

  def labels(self, positions):
    return (positions % 2).astype(np.int32)


def _photographs():
  whole = Image.fromarray(datasets.load_sample_image('china.jpg'))
  rng = np.random.default_rng(0)
  encoded = []
  for _ in range(_NUM_PHOTOGRAPHS):
    left, top = rng.integers(0, (140, 52))
    file = io.BytesIO()
    part = whole.crop((left, top, left + 500, top + 375))
    part.save(file, 'JPEG', quality=92)
    encoded.append(file.getvalue())
  return encoded


def _rates(split, producers):
  """Returns images per second of several runs, each over steps of its own."""
  # Batches made before the clock starts have to be a small part.
  before = 2 * producers
  count, size = max(_BATCHES.value, 4 * before), _BATCH_SIZE.value
  rates = []
  for run in range(harness.ROUNDS.value):
    first = run * (before + count)
    batches = pipeline.train_batches(
        split,
        batch_size=size,
        seed=0,
        phase='teacher',
        steps=range(first, first + before + count),
        num_devices=1,
    )
    for _ in range(before):
      next(batches)
    started = time.perf_counter()
    taken = sum(1 for _ in itertools.islice(batches, count))
    rates.append(taken * size / (time.perf_counter() - started))
  return np.array(rates)


def _appetites(net, per_second):
  """Returns images per second that a teacher and a lock-in step consume."""
  from adaptanet_jax.evaluation import cost

  madds = cost.cost_table(net).madds_by_subnet()
  # The largest, the smallest and three random subnets; the teacher, forward.
  lock_in = 3 * (madds.max() + madds.min() + 3 * madds.mean()) + madds.max()
  return per_second / (3 * madds.max()), per_second / lock_in


def main(argv):
  """Prints one table."""
  del argv
  from adaptanet_jax.models.resnet import ResNet

  per_second = _TFLOPS.value * 1e12 / 2
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, (50_000, 32, 32, 3), np.uint8)
  cifar = ResNet('resnet50', 'cifar', 'gn', 100, (32, 32, 3))
  imagenet = ResNet('resnet50', 'imagenet', 'gn', 1000, (224, 224, 3))
  splits: list[tuple[str, Split, ResNet]] = [
      (
          'in memory, 32 px',
          InMemorySplit(np.zeros(len(pixels), np.int32), pixels.__getitem__),
          cifar,
      )
  ]
  for workers in map(int, _WORKERS.value):
    name = f'{workers} processes' if workers else 'threads'
    streamed = StreamedSplit(
        _Photographs,
        np.arange(_NUM_PHOTOGRAPHS),
        (224, 224, 3),
        random_crops=True,
        workers=workers,
    )
    splits.append((f'streaming, 224 px, {name}', streamed, imagenet))
  kilobytes = np.mean([len(each) for each in _photographs()]) / 1000
  report = harness.Report(
      'input',
      f'images per second; JPEGs of {kilobytes:.0f} kB; steps of resnet50 at '
      f'{_TFLOPS.value:.0f} TFLOP/s',
      ['pipeline', 'img/s', 'spread', 'teacher takes', 'over teacher',
       'lock-in takes', 'over lock-in'],
  )
  for name, split, net in splits:
    producers = getattr(split, 'workers', 0) or num_cores()
    rates = _rates(split, producers)
    median = float(np.median(rates))
    shares = []
    for appetite in _appetites(net, per_second):
      shares += [float(appetite), median / appetite]
    report.add(
        name,
        [
            median,
            f'{np.ptp(rates) / median:.0%}',
            *shares,
        ],
        rates=[round(rate, 1) for rate in rates],
    )
  report.done()


if __name__ == '__main__':
  app.run(main)
