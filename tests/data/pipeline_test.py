# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.data.pipeline."""

import itertools
import threading
import time

from absl.testing import absltest, parameterized
import chex
import numpy as np

from adaptanet_jax.data import pipeline
from adaptanet_jax.data.splits import InMemorySplit
from adaptanet_jax.errors import UsageError


def _split(count):
  """Returns a split where image n has value n, and label n modulo 3."""
  images = np.broadcast_to(
      np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1), (count, 2, 2, 1)
  )
  labels = np.arange(count, dtype=np.int32) % 3
  return InMemorySplit(labels, images.__getitem__)


def _positions(steps, *, count=10, batch_size=3, seed=0, phase='teacher'):
  return np.concatenate([
      pipeline.positions_of_step(
          count, batch_size, seed=seed, phase=phase, step=step
      )
      for step in steps
  ])


def _train_batches(split, steps, *, num_devices=1, process=(0, 1)):
  return list(
      pipeline.train_batches(
          split,
          batch_size=8,
          seed=1,
          phase='lock_in',
          steps=steps,
          num_devices=num_devices,
          process=process,
      )
  )


class _Drawn:
  """A split whose images are the seeds of their random crops."""

  def __len__(self):
    return 20

  def batches(self, request, steps):
    for step in steps:
      positions, seeds = request(step)
      yield {'image': np.array(seeds), 'label': positions}


class SeedsTest(parameterized.TestCase):

  def test_an_image_has_the_same_seed_however_many_processes_there_are(self):
    (whole,) = _train_batches(_Drawn(), range(5, 6))
    parts = [
        _train_batches(_Drawn(), range(5, 6), process=(n, 2))[0]
        for n in (0, 1)
    ]
    for name in ('image', 'label'):
      np.testing.assert_array_equal(
          np.concatenate([part[name] for part in parts], 1), whole[name]
      )
    # Each image of a batch has a seed of its own, and another at each step.
    (later,) = _train_batches(_Drawn(), range(6, 7))
    seeds = [tuple(s) for b in (whole, later) for s in b['image'][0].tolist()]
    self.assertLen(set(seeds), 2 * 8)


class PositionsTest(parameterized.TestCase):

  def test_the_same_seed_phase_and_step_give_the_same_positions(self):
    np.testing.assert_array_equal(_positions([7]), _positions([7]))

  def test_an_epoch_is_a_permutation(self):
    # Two batches of five make an epoch of ten images.
    for first in (0, 2, 4):
      epoch = _positions([first, first + 1], batch_size=5)
      self.assertEqual(sorted(epoch), list(range(10)))

  def test_no_example_repeats_where_the_batches_leave_some_out(self):
    # Three batches of three fit into an epoch of ten images.
    for first in (0, 3, 6):
      epoch = _positions(range(first, first + 3))
      self.assertLen(set(epoch), 9)
      self.assertContainsSubset(epoch, range(10))

  def test_other_examples_are_left_out_in_other_epochs(self):
    left_out = {
        min(set(range(10)) - set(_positions(range(first, first + 3))))
        for first in range(0, 90, 3)
    }
    self.assertGreater(len(left_out), 1)

  def test_epochs_phases_and_seeds_differ(self):
    orders = [
        _positions(range(first, first + 10), count=100, batch_size=10, **where)
        for first in (0, 10)
        for where in (
            {},
            {'seed': 1},
            {'phase': 'cascade1'},
            {'phase': 'cascade2'},
        )
    ]
    self.assertLen({tuple(order) for order in orders}, 8)


class TrainBatchesTest(parameterized.TestCase):

  def test_images_and_labels_belong_together(self):
    split = _split(20)
    for step, batch in enumerate(_train_batches(split, range(4))):
      positions = pipeline.positions_of_step(
          20, 8, seed=1, phase='lock_in', step=step
      )
      self.assertEqual(batch['image'].shape, (1, 8, 2, 2, 1))
      np.testing.assert_array_equal(batch['image'][0, :, 0, 0, 0], positions)
      np.testing.assert_array_equal(batch['label'][0], positions % 3)

  def test_resumed_at_a_step_equals_the_tail_of_an_uninterrupted_run(self):
    split = _split(20)
    whole = _train_batches(split, range(7))
    tail = _train_batches(split, range(3, 7))
    self.assertLen(whole, 7)
    chex.assert_trees_all_equal(whole[3:], tail)

  def test_shares_of_two_processes_make_the_batch_of_one(self):
    split = _split(20)
    whole = _train_batches(split, range(3), num_devices=4)
    shares = [
        _train_batches(split, range(3), num_devices=2, process=(index, 2))
        for index in (0, 1)
    ]
    for batch, *parts in zip(whole, *shares):
      self.assertEqual(parts[0]['image'].shape, (2, 2, 2, 2, 1))
      joined = {
          name: np.concatenate([part[name] for part in parts]) for name in batch
      }
      chex.assert_trees_all_equal(joined, batch)

  def test_a_batch_larger_than_the_split_is_refused(self):
    sizes = {'config.w': 8, 'config.x': 11, 'config.y': 10, 'config.z': 32}
    with self.assertRaisesRegex(
        UsageError,
        'config.x = 11 is larger than the 10 training examples; expected at '
        r'most 10, such as --config.x=8 --config.z=8\.$',
    ):
      pipeline.check_fits(sizes, 10)
    self.assertIsNone(pipeline.check_fits(sizes, 32))

  @parameterized.parameters((10, 4), (3, 2))
  def test_a_batch_that_does_not_divide_is_refused(self, size, devices):
    with self.assertRaisesRegex(
        UsageError,
        rf'config\.x = {size} is not divisible by the {devices} devices.*'
        f'multiple of {devices}',
    ):
      pipeline.check_batch_size('config.x', size, devices)

  @parameterized.parameters((4, 4), (12, 4), (1, 1))
  def test_a_batch_that_divides_is_let_through(self, size, devices):
    self.assertIsNone(pipeline.check_batch_size('config.x', size, devices))


class EvalBatchesTest(parameterized.TestCase):

  @parameterized.product(
      count=(1, 8, 9, 21, 24), num_devices=(1, 4), num_processes=(1, 2)
  )
  def test_each_example_comes_exactly_once(
      self, count, num_devices, num_processes
  ):
    split = _split(count)
    seen = []
    for index in range(num_processes):
      for batch in pipeline.eval_batches(
          split,
          batch_size=8,
          num_devices=num_devices,
          process=(index, num_processes),
      ):
        each = 8 // num_processes // num_devices
        self.assertEqual(batch['valid'].shape, (num_devices, each))
        # In padding, too, positions name the images that are there.
        np.testing.assert_array_equal(
            batch['image'][..., 0, 0, 0], batch['position']
        )
        seen.extend(batch['position'][batch['valid']])
    self.assertEqual(sorted(seen), list(range(count)))

  def test_the_last_batch_is_padded_with_its_first_example(self):
    batches = list(
        pipeline.eval_batches(_split(10), batch_size=4, num_devices=2)
    )
    self.assertLen(batches, 3)
    np.testing.assert_array_equal(batches[1]['position'], [[4, 5], [6, 7]])
    self.assertTrue(batches[1]['valid'].all())
    np.testing.assert_array_equal(batches[2]['position'], [[8, 9], [8, 8]])
    np.testing.assert_array_equal(
        batches[2]['valid'], [[True, True], [False, False]]
    )


class PrefetchTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.threads_before = set(threading.enumerate())

  def assert_no_thread_is_left(self):
    for thread in set(threading.enumerate()) - self.threads_before:
      thread.join(timeout=5)
      self.assertFalse(thread.is_alive())

  def test_batches_come_in_order(self):
    self.assertEqual(list(pipeline.prefetch(iter(range(50)))), [*range(50)])
    self.assert_no_thread_is_left()

  def test_it_works_ahead_by_no_more_than_a_few(self):
    made = []

    def batches():
      for number in itertools.count():
        made.append(number)
        yield number

    ready = pipeline.prefetch(batches())
    self.assertEqual(next(ready), 0)
    expected = [*range(1 + pipeline.BATCHES_AHEAD)]
    deadline = time.monotonic() + 5
    while len(made) < len(expected) and time.monotonic() < deadline:
      time.sleep(0.01)
    time.sleep(0.2)
    # One was taken, and the others wait.
    self.assertEqual(made, expected)
    ready.close()
    self.assert_no_thread_is_left()

  def test_an_exception_comes_after_the_batches_before_it(self):
    def batches():
      yield from range(3)
      raise ValueError('no fourth batch')

    ready = pipeline.prefetch(batches())
    self.assertEqual(list(itertools.islice(ready, 3)), [0, 1, 2])
    with self.assertRaisesRegex(ValueError, 'no fourth batch'):
      next(ready)
    self.assert_no_thread_is_left()

  def test_leaving_early_stops_the_thread(self):
    ready = pipeline.prefetch(itertools.count())
    self.assertEqual(next(ready), 0)
    self.assertNotEmpty(set(threading.enumerate()) - self.threads_before)
    ready.close()
    self.assert_no_thread_is_left()


if __name__ == '__main__':
  absltest.main()
