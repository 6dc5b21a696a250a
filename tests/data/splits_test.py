# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.data.splits, with JPEGs that TFDS has written."""

import functools
import io
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import tracemalloc
from unittest import mock

from absl import flags
from absl.testing import absltest, parameterized
import numpy as np
from PIL import Image

from adaptanet_jax.data import decoding, images, pipeline, sources
from adaptanet_jax.data.splits import InMemorySplit, StreamedSplit
from configs import imagenet
from tests.data import photographs
from tests.testing import ROOT

_SHAPE = (24, 24, 3)
# Kills itself when a worker has made the first of many batches.
_KILLED = '''
import os, signal
from absl import flags
import numpy as np
from adaptanet_jax.data.splits import StreamedSplit
from benchmarks import input as photographs

flags.FLAGS.mark_as_parsed()
split = StreamedSplit(
    photographs._Photographs, np.arange(8), (24, 24, 3), workers=1
)
request = lambda step: (np.arange(8), [(0,)] * 8)
next(split.batches(request, range(1000)))
os.kill(os.getpid(), signal.SIGKILL)
'''


def _batches(split, steps, *, process=(0, 1), seed=0, phase='teacher'):
  return list(
      pipeline.train_batches(
          split,
          batch_size=8,
          seed=seed,
          phase=phase,
          steps=steps,
          num_devices=1,
          process=process,
      )
  )


def _assert_same(actual, expected):
  assert len(actual) == len(expected), (len(actual), len(expected))
  for one, other in zip(actual, expected):
    np.testing.assert_array_equal(one['image'], other['image'])
    np.testing.assert_array_equal(one['label'], other['label'])


class StreamedSplitTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    photographs.write(cls.folder)
    cls.dataset = cls._load()

  @classmethod
  def _load(cls, **data):
    config = imagenet.get_config()
    config.data.update(
        name=photographs.NAME, dir=cls.folder, image_size=24, shorter_side=28
    )
    config.data.update(data)
    return sources.load(config)

  def test_what_imagenet_is_trained_on_is_streamed(self):
    train, test = self.dataset.train, self.dataset.test
    self.assertIsInstance(train, StreamedSplit)
    self.assertIsInstance(test, InMemorySplit)
    self.assertLen(train, photographs.NUM_TRAIN)
    self.assertLen(test, photographs.NUM_VALIDATION)
    self.assertEqual(self.dataset.image_shape, _SHAPE)
    for split in (train, test):
      self.assertEqual(split.labels.dtype, np.int32)
      self.assertEqual(
          np.bincount(split.labels).tolist(), [len(split) // 2] * 2
      )

  def test_the_set_has_what_makes_imagenet_hard(self):
    train = self.dataset.train
    modes, sizes = [], set()
    for position in range(len(train)):
      encoded = train.open_source().read(position)[0]
      with Image.open(io.BytesIO(encoded)) as picture:
        modes.append(picture.mode)
        sizes.add(picture.size)
    self.assertEqual(sorted(set(modes)), ['CMYK', 'L', 'RGB'])
    self.assertEqual((modes.count('L'), modes.count('CMYK')), (1, 1))
    self.assertGreater(len(sizes), 30)
    # All of them can be trained on.
    (batch,) = pipeline.train_batches(
        train, batch_size=40, seed=0, phase='p', steps=range(1), num_devices=2
    )
    self.assertEqual(batch['image'].shape, (2, 20, *_SHAPE))

  def test_gather_is_what_evaluation_sees(self):
    train = self.dataset.train
    positions = np.array([5, 0, 39, 5])
    expected = [
        images.decode(train.open_source().read(int(n))[0], _SHAPE, 28)
        for n in positions
    ]
    np.testing.assert_array_equal(train.gather(positions), expected)
    part = train.subset(np.array([2, 39, 0]))
    self.assertLen(part, 3)
    np.testing.assert_array_equal(
        part.gather(np.array([1, 2])), train.gather(np.array([39, 0]))
    )
    np.testing.assert_array_equal(part.labels, train.labels[[2, 39, 0]])

  def test_random_crops_are_those_of_their_seeds(self):
    train = self.dataset.train
    (batch,) = _batches(train, range(6, 7))  # The second batch of epoch 1.
    positions = pipeline.positions_of_step(
        40, 8, seed=0, phase='teacher', step=6
    )
    np.testing.assert_array_equal(batch['label'][0], train.labels[positions])
    first = train.draw(positions[0], (0, 1, 6, 0))[0]
    self.assertFalse(np.array_equal(batch['image'][0, 0], first))
    for place, position in enumerate(positions):
      encoded = train.open_source().read(int(position))[0]
      seed = (1, 0, pipeline.phase_key('teacher'), 6, place)
      crop = images.decode_random_crop(
          encoded, _SHAPE, np.random.default_rng(seed)
      )
      np.testing.assert_array_equal(batch['image'][0, place], crop)

  def test_a_stream_starts_in_the_middle_of_an_epoch(self):
    whole = _batches(self.dataset.train, range(12))
    _assert_same(_batches(self.dataset.train, range(7, 12)), whole[7:])
    # Every epoch has every image once, and each time another crop of it.
    for first in (0, 5):
      seen = np.concatenate([b['label'][0] for b in whole[first : first + 5]])
      self.assertEqual(np.bincount(seen).tolist(), [20, 20])
    pixels = {image.tobytes() for b in whole[:10] for image in b['image'][0]}
    self.assertLen(pixels, 80)

  @parameterized.parameters({'seed': 1}, {'phase': 'cascade1'})
  def test_another_seed_or_phase_has_other_crops(self, **changes):
    one = _batches(self.dataset.train, range(2))
    other = _batches(self.dataset.train, range(2), **changes)
    self.assertFalse(np.array_equal(one[0]['image'], other[0]['image']))

  def test_two_processes_have_the_halves_of_what_one_has(self):
    whole = _batches(self.dataset.train, range(3))
    halves = [
        _batches(self.dataset.train, range(3), process=(n, 2)) for n in (0, 1)
    ]
    for step, batch in enumerate(whole):
      for key in ('image', 'label'):
        both = [half[step][key] for half in halves]
        np.testing.assert_array_equal(np.concatenate(both, 1), batch[key])

  def test_workers_change_nothing(self):
    expected = _batches(self.dataset.train, range(3, 8))
    if not flags.FLAGS.is_parsed():  # As in main.py, for Grain's workers.
      flags.FLAGS.mark_as_parsed()
    workers = self._load(workers=2).train
    self.assertEqual(workers.workers, 2)
    _assert_same(_batches(workers, range(3, 8)), expected)

  def test_a_worker_that_is_asked_to_stop_goes_on(self):
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()
    batches = pipeline.train_batches(
        self._load(workers=1).train,
        batch_size=8, seed=0, phase='teacher', steps=range(40), num_devices=1,
    )
    next(batches)
    (worker,) = multiprocessing.active_children()
    # As a scheduler does with every process of a job.
    os.kill(worker.pid, signal.SIGTERM)
    self.assertLen(list(batches), 39)  # More than it had made before.

  def test_no_worker_outlives_a_run_that_is_killed(self):
    # It ends once nobody holds its output any more.
    done = subprocess.run(
        [sys.executable, '-c', _KILLED], cwd=ROOT, capture_output=True,
        timeout=150,
    )
    self.assertEqual(done.returncode, -signal.SIGKILL, done.stderr)

  def test_a_worker_gets_neither_labels_nor_threads(self):
    train = self.dataset.train
    train.gather(np.array([0]))
    self.assertLen(train.labels, 40)
    copy = pickle.loads(pickle.dumps(train))
    self.assertEqual(set(copy.__dict__) & {'labels', '_pool'}, set())
    np.testing.assert_array_equal(
        copy.gather(np.array([3])), train.gather(np.array([3]))
    )

  def test_what_is_too_large_for_memory_is_streamed_as_it_is(self):
    with mock.patch.object(decoding, 'MAX_BYTES_IN_MEMORY', 1):
      streamed = self._load(augment='crop_flip')
    in_memory = self._load(augment='crop_flip')
    self.assertIsInstance(streamed.train, StreamedSplit)
    self.assertIsInstance(in_memory.train, InMemorySplit)
    batches = functools.partial(_batches, steps=range(4))
    # The training step crops them, as it does images in memory.
    _assert_same(batches(streamed.train), batches(in_memory.train))
    np.testing.assert_array_equal(
        streamed.test.gather(np.arange(10)),
        in_memory.test.gather(np.arange(10)),
    )

  def test_decoding_takes_little_more_memory_than_what_it_keeps(self):
    data = imagenet.get_config().data
    data.shorter_side = 0
    file = io.BytesIO()
    Image.new('RGB', (64, 64)).save(file, 'PNG')
    source = mock.MagicMock()
    source.__len__.return_value = 400
    source.read.return_value = file.getvalue(), 0
    # Memory of other processes would not be counted.
    self.enterContext(
        mock.patch.object(
            decoding, '_map', lambda work, ranges, processes: map(work, ranges)
        )
    )
    tracemalloc.start()
    self.addCleanup(tracemalloc.stop)
    split = decoding.make_split(
        lambda: source, (64, 64, 3), data, count=0, chunk=20
    )
    _, peak = tracemalloc.get_traced_memory()
    self.assertLess(peak, 1.5 * len(split) * 64 * 64 * 3)


if __name__ == '__main__':
  absltest.main()
