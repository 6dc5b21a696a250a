# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.serving.batcher: every image gets its own outcome."""

import asyncio
import dataclasses
import threading
import time
import unittest
from unittest import mock

from absl.testing import absltest
import numpy as np

from adaptanet_jax.serving import batcher as batcher_lib, controller, health
from adaptanet_jax.serving.batcher import Batcher
from adaptanet_jax.serving.refusals import (
  BatchError,
  DeadlineError,
  RefusedError,
)
from tests.serving import fakes

_WIDE, _NARROW = {'subnet': 'wide'}, {'subnet': 'narrow'}


async def _until(condition):
  end = time.monotonic() + 10.0
  while not condition():
    assert time.monotonic() < end
    await asyncio.sleep(0.002)


class BatcherTest(unittest.IsolatedAsyncioTestCase, absltest.TestCase):

  def _start(self, *, seconds=1e-3, **options):
    self.engine = fakes.FakeEngine()
    self.addCleanup(self.engine.gate.set)
    options = {
        'queue_limit': 256,
        'choose': controller.choose,
        'on_batch': lambda *ran: None,
    } | options
    batcher = Batcher(self.engine, fakes.profile(seconds), **options)
    batcher.start(asyncio.get_running_loop())
    self.addCleanup(batcher.close)
    return batcher

  def _submit(self, batcher, images, seconds=5.0, parameters=None):
    return batcher.submit(images, time.monotonic() + seconds, parameters)

  async def test_every_image_gets_its_own_answer(self):
    batcher = self._start()
    images = fakes.images(200)
    self.engine.gate.clear()
    futures = [
        future
        for start in range(0, 200, 5)
        for future in self._submit(batcher, images[start : start + 5])
    ]
    self.engine.gate.set()
    for image, answer in zip(images, await asyncio.gather(*futures)):
      np.testing.assert_allclose(
          answer.logits,
          self.engine.logits(image[None], answer.subnet)[0],
          rtol=1e-5,
      )
    self.assertEqual(batcher.waiting, 0)
    self.assertEqual(sum(count for _, count in self.engine.batches), 200)

  async def test_what_waits_together_runs_together(self):
    batcher = self._start(seconds=0.1)
    self.engine.gate.clear()
    running = self._submit(batcher, fakes.images(1), parameters=_WIDE)
    await _until(lambda: self.engine.batches)
    # One by one, even narrow would take .025 s each and .4 s in total.
    waiting = self._submit(batcher, fakes.images(16), 0.35)
    self.engine.gate.set()
    await asyncio.gather(*running, *waiting)
    self.assertGreater(max(count for _, count in self.engine.batches), 1)

  async def test_a_deadline_fires_while_a_batch_runs(self):
    batcher = self._start()
    self.engine.gate.clear()
    running = self._submit(batcher, fakes.images(1))
    await _until(lambda: self.engine.batches)
    # Pretends that the batch is nearly done, so that the image is accepted.
    batcher._busy_until = 0.0
    started = time.monotonic()
    (waiting,) = self._submit(batcher, fakes.images(1), 0.05)
    with self.assertRaises(DeadlineError):
      await waiting
    self.assertBetween(time.monotonic() - started, 0.045, 2.0)
    self.assertEqual(batcher.waiting, 0)
    self.engine.gate.set()
    await asyncio.gather(*running)

  def assertBetween(self, value, least, most):  # noqa: N802
    self.assertGreaterEqual(value, least)
    self.assertLessEqual(value, most)

  async def test_who_leaves_makes_room(self):
    batcher = self._start(queue_limit=3)
    self.engine.gate.clear()
    images = fakes.images(5)
    (running,) = self._submit(batcher, images[:1])
    await _until(lambda: self.engine.batches)
    batcher._busy_until = 0.0
    first, second, third = self._submit(batcher, images[1:4])
    with self.assertRaisesRegex(RefusedError, '3 images wait, and 3 is'):
      self._submit(batcher, fakes.images(1))
    second.cancel()
    await _until(lambda: batcher.waiting == 2)
    (fourth,) = self._submit(batcher, images[4:])
    # The client of the running image leaves, too; its batch goes on.
    running.cancel()
    self.engine.gate.set()
    await asyncio.gather(first, third, fourth)
    self.assertEqual(sum(count for _, count in self.engine.batches), 4)

  async def test_what_cannot_be_in_time_is_refused_at_once(self):
    batcher = self._start(seconds=1.0)
    # Narrow takes .25 s for one image and .75 s for 8.
    with self.assertRaisesRegex(RefusedError, 'take 250 ms, and 200 ms are'):
      self._submit(batcher, fakes.images(1), 0.2)
    with self.assertRaises(RefusedError) as caught:
      self._submit(batcher, fakes.images(16), 1.2)
    # Answers to all of them would take 1.5 s.
    self.assertEqual(caught.exception.headers, {'retry-after': '2'})
    # Wide takes 1 s for one image.
    with self.assertRaises(RefusedError):
      self._submit(batcher, fakes.images(1), 0.9, _WIDE)
    self.assertEqual(self.engine.batches, [])

  async def test_one_slow_batch_of_many_refuses_nobody(self):
    batcher = self._start(seconds=1.0)
    for ratio in (*[1.0] * 9, 9.0):
      batcher.margin.record(ratio, time.monotonic())
    self.engine.gate.clear()
    (running,) = self._submit(batcher, fakes.images(1))
    await _until(lambda: self.engine.batches)
    batcher._busy_until = 0.0
    # Narrow takes .25 s: .45 s on average, and 2.25 s if it is slow.
    (waiting,) = self._submit(batcher, fakes.images(1), 1.0)
    with self.assertRaisesRegex(RefusedError, 'take 450 ms, and'):
      self._submit(batcher, fakes.images(1), 0.4)
    self.engine.gate.set()
    await asyncio.gather(running, waiting)

  async def test_one_slow_batch_does_not_shut_an_idle_server(self):
    batcher = self._start(seconds=4.0)
    batcher.margin.record(600.0, time.monotonic())
    self.assertEqual(batcher.slowdown, 10.0)
    # Ten times as long, narrow would be done after 10 s.
    for _ in range(3):
      (alone,) = self._submit(batcher, fakes.images(1), 7.0)
      self.assertEqual((await alone).subnet, 'narrow')
    # Others would have to wait, for as long as the margin says.
    self.engine.gate.clear()
    (running,) = self._submit(batcher, fakes.images(1), 7.0)
    await _until(lambda: len(self.engine.batches) == 4)
    with self.assertRaisesRegex(RefusedError, 'An answer would take'):
      self._submit(batcher, fakes.images(1), 7.0)
    self.engine.gate.set()
    await running

  async def test_answers_have_to_be_written_in_time_as_well(self):
    batcher = self._start(seconds=1.0)
    for deadline, expected in ((1.2, 'wide'), (0.4, 'narrow')):
      (alone,) = self._submit(batcher, fakes.images(1), deadline)
      self.assertEqual((await alone).subnet, expected)
    batcher.delay.record(0.3, time.monotonic())
    # Wide takes 1 s, narrow .25 s; an idle server tries what may be late.
    for deadline in (1.2, 0.4):
      (alone,) = self._submit(batcher, fakes.images(1), deadline)
      self.assertEqual((await alone).subnet, 'narrow')
    self.engine.gate.clear()
    (running,) = self._submit(batcher, fakes.images(1))
    await _until(lambda: len(self.engine.batches) == 5)
    batcher._busy_until = 0.0
    # Half of what is left, as the delay takes no more.
    with self.assertRaisesRegex(RefusedError, 'take 450 ms, and 400 ms are'):
      self._submit(batcher, fakes.images(1), 0.4)
    self.engine.gate.set()
    await running

  async def test_who_has_time_is_not_hurried_by_who_has_none(self):
    seen = []

    def choose(now, deadlines, *rest):
      seen.append((now, np.array(deadlines)))
      return controller.choose(now, deadlines, *rest)

    batcher = self._start(choose=choose)
    batcher.delay.record(8.0, time.monotonic())
    asked = time.monotonic() + np.array([10.0, 40.0, 50.0])
    with batcher._changed:  # So that it sees all three at once.
      futures = [
          batcher.submit(fakes.images(1), deadline)[0] for deadline in asked
      ]
    await asyncio.gather(*futures)
    now, due = seen[0]
    # Half of what is left, or all of the delay.
    np.testing.assert_allclose(due, asked - [0.5 * (asked[0] - now), 8.0, 8.0])

  async def test_a_batch_that_fails_takes_only_its_own_with_it(self):
    batcher = self._start()
    self.engine.problems = [ValueError('no'), np.nan, np.inf]
    for _ in range(3):
      self.assertTrue(batcher.health.is_healthy)
      (future,) = self._submit(batcher, fakes.images(1))
      with self.assertRaises(BatchError):
        await future
    self.assertFalse(batcher.health.is_healthy)
    self.assertTrue(batcher.is_alive)
    await self._submit(batcher, fakes.images(1))[0]
    self.assertTrue(batcher.health.is_healthy)

  async def test_one_that_failed_tries_itself_while_nobody_asks(self):
    self.enter_context(
        mock.patch.object(batcher_lib, '_PROBE_SECONDS', 0.01)
    )
    batcher = self._start()
    self.engine.problems = [np.nan] * 5
    for _ in range(3):
      (future,) = self._submit(batcher, fakes.images(1))
      with self.assertRaises(BatchError):
        await future
    await _until(lambda: batcher.health.is_healthy)
    # Three requests and two probes failed, then one probe succeeded.
    self.assertLen(self.engine.batches, 6)

  async def test_one_that_fails_for_good_is_not_alive(self):
    self.enter_context(
        mock.patch.object(batcher_lib, '_PROBE_SECONDS', 0.01)
    )
    batcher = self._start()
    self.engine.problems = [np.nan] * 10_000

    async def fail():
      (future,) = self._submit(batcher, fakes.images(1))
      with self.assertRaises(BatchError):
        await future

    with mock.patch.object(health, '_MOST_UNREADY_SECONDS', 0.0):
      await fail()
      await fail()
      time.sleep(0.05)
      # Nothing says yet that the next one would fail, too.
      self.assertTrue(batcher.is_alive)
      await fail()
      await _until(lambda: not batcher.is_alive)
    self.assertTrue(batcher.is_alive)  # A minute has not passed.
    self.engine.problems.clear()
    await _until(lambda: batcher.health.is_healthy)
    with mock.patch.object(health, '_MOST_UNREADY_SECONDS', 0.0):
      self.assertTrue(batcher.is_alive)

  async def test_of_more_than_the_controller_sees_none_is_lost(self):
    seen = []

    def choose(now, deadlines, *rest):
      seen.append(len(deadlines))
      # Pretends that none of the first requests can be answered in time.
      return None if len(seen) == 1 else controller.choose(
          now, deadlines, *rest
      )

    batcher = self._start(queue_limit=400, choose=choose)
    futures = self._submit(batcher, fakes.images(300))
    ends = await asyncio.gather(*futures, return_exceptions=True)
    self.assertEqual(seen[0], 256)
    self.assertEqual(
        [isinstance(end, DeadlineError) for end in ends],
        [True] * 256 + [False] * 44,
    )

  async def test_a_batch_of_which_nothing_is_left_does_not_run(self):
    batcher = self._start(
        choose=lambda *args: controller.Decision(1, 0, 1)
    )
    with self.assertRaises(DeadlineError):
      await self._submit(batcher, fakes.images(1))[0]
    self.assertEqual((batcher.begun, batcher.health.failures), (0, 0))

  async def test_only_who_can_be_answered_by_no_other_is_given_up(self):

    def choose(now, deadlines, profile, margin, allowed):
      # Pretends that only narrow is fast enough.
      return None if allowed == (1,) else controller.choose(
          now, deadlines, profile, margin, allowed
      )

    batcher = self._start(choose=choose)
    batcher._changed.acquire()  # So that it sees both at once.
    pinned = self._submit(batcher, fakes.images(1), parameters=_WIDE)
    free = self._submit(batcher, fakes.images(1), 6.0)
    batcher._changed.release()
    ends = await asyncio.gather(*pinned, *free, return_exceptions=True)
    self.assertIsInstance(ends[0], DeadlineError)
    self.assertEqual(ends[1].entry, 'wide')

  async def test_a_batch_of_anchors_does_not_make_the_server_look_fast(self):
    batcher = self._start()
    with mock.patch.object(batcher.margin, 'record') as record:
      (anchor,) = batcher.submit(
          fakes.images(1),
          time.monotonic() + 5.0,
          {'weights': self.engine.weights},
          start=1,
      )
      await anchor
      record.assert_not_called()
      await self._submit(batcher, fakes.images(1))[0]
      record.assert_called_once()
    # Unless it takes longer than a whole network should.
    self.assertEqual(batcher.slowdown, 1.0)
    batch = mock.Mock(
        items=[mock.Mock(start=1)], seconds=1e-9, margin=batcher.margin
    )
    batcher._run(batch)
    self.assertEqual(batcher.slowdown, 10.0)

  async def test_a_thread_that_hangs_is_not_alive(self):
    with mock.patch.object(health, '_HANG_SECONDS', 0.1):
      batcher = self._start()
      self.engine.gate.clear()
      futures = self._submit(batcher, fakes.images(1))
      await _until(lambda: self.engine.batches)
      self.assertTrue(batcher.is_alive)
      await _until(lambda: not batcher.is_alive)
      self.engine.gate.set()
      await asyncio.gather(*futures)

  async def test_a_thread_that_died_is_not_alive(self):
    batcher = self._start()
    self.engine.problems = [SystemExit(0)]
    with mock.patch.object(threading, 'excepthook'):
      self._submit(batcher, fakes.images(1))
      await _until(lambda: not batcher.is_alive)

  async def test_only_what_is_allowed_runs(self):
    batcher = self._start(seconds=0.01)
    # Images that are not pinned may run under any subnet.
    free = self._submit(batcher, fakes.images(4), 0.5)
    pinned = self._submit(batcher, fakes.images(4), 0.5, _WIDE)
    answers = await asyncio.gather(*free, *pinned)
    self.assertEqual({a.subnet for a in answers[4:]}, {'wide'})

  async def test_another_engine_is_for_the_next_batch(self):
    batcher = self._start()
    other = fakes.FakeEngine(seed=1)
    self.engine.gate.clear()
    (running,) = self._submit(batcher, fakes.images(1), parameters=_WIDE)
    await _until(lambda: self.engine.batches)
    (gone,) = self._submit(batcher, fakes.images(1), parameters=_NARROW)
    (stays,) = self._submit(batcher, fakes.images(1), parameters=_WIDE)
    (anchor,) = batcher.submit(
        fakes.images(1),
        time.monotonic() + 5.0,
        _WIDE | {'weights': self.engine.weights},
        start=1,
    )
    menu = batcher_lib.Profile(
        fakes.ENTRIES[1:], fakes.SIZES, batcher.profile.seconds[1:]
    )
    batcher.swap(other, menu)
    with self.assertRaises(RefusedError):
      await gone
    # The old model computed this anchor.
    with self.assertRaises(RefusedError):
      await anchor
    self.engine.gate.set()
    for future, engine in ((running, self.engine), (stays, other)):
      answer = await future
      self.assertEqual(answer.subnet, 'wide')
      np.testing.assert_allclose(
          answer.logits, engine.logits(fakes.images(1), 'wide')[0], rtol=1e-5
      )

  async def test_what_a_request_asks_for_holds_on_another_menu(self):

    def choose(now, deadlines, profile, margin, allowed):
      return controller.Decision(0, min(allowed), 1)

    batcher = self._start(choose=choose)
    self.engine.gate.clear()
    (running,) = self._submit(batcher, fakes.images(1))
    await _until(lambda: self.engine.batches)
    # Every subnet of the old menu is accurate enough, not every new one.
    (waiting,) = self._submit(
        batcher, fakes.images(1), parameters={'min_accuracy': 0.5}
    )
    # So is the network that began with this one.
    (anchor,) = batcher.submit(
        fakes.images(1),
        time.monotonic() + 5.0,
        _NARROW | {'weights': self.engine.weights},
        start=1,
    )
    worse = dataclasses.replace(fakes.ENTRIES[0], accuracy=0.3)
    batcher.swap(
        self.engine,
        batcher_lib.Profile(
            (worse, fakes.ENTRIES[1]), fakes.SIZES, batcher.profile.seconds
        ),
    )
    self.engine.gate.set()
    self.assertEqual((await running).subnet, 'narrow')
    self.assertEqual((await waiting).subnet, 'wide')
    self.assertEqual((await anchor).entry, 'narrow')


if __name__ == '__main__':
  absltest.main()
