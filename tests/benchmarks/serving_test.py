# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the parts of benchmarks.serving: traces, simulator, load."""

import asyncio
import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np

from adaptanet_jax.serving.controller import Profile
from adaptanet_jax.serving.service import Service
from benchmarks import (
  serving,
  serving_bounds,
  serving_load,
  serving_simulator,
  serving_traces,
)
from tests.serving import fakes


class TracesTest(parameterized.TestCase):

  @parameterized.parameters(('gamma_low', 0.8), ('gamma_high', 1.2))
  def test_gamma_gaps(self, name, load):
    times = serving_traces.arrivals(
        name, rate=1000.0, seconds=60.0, seed=0, folder=None
    )
    gaps = np.diff(times)
    self.assertAlmostEqual(len(times) / 60_000.0, load, delta=0.05)
    # The squared coefficient of variation.
    self.assertAlmostEqual(gaps.var() / gaps.mean() ** 2, 4.0, delta=0.4)

  def test_a_step_has_its_loads(self):
    times = serving_traces.arrivals(
        'step', rate=1000.0, seconds=9.0, seed=0, folder=None
    )
    counts, _ = np.histogram(times, 3, (0.0, 9.0))
    np.testing.assert_allclose(counts / 3000.0, [0.4, 1.6, 0.6], atol=0.05)

  def test_a_recorded_trace_is_scaled(self):
    folder = self.enter_context(tempfile.TemporaryDirectory())
    rows = ['seconds', *map(str, np.arange(1000.0))]
    pathlib.Path(folder, 'azure_conv.csv').write_text('\n'.join(rows))
    times = serving_traces.arrivals(
        'conversation', rate=20.0, seconds=5.0, seed=1, folder=folder
    )
    self.assertLen(times, 100)
    self.assertEqual((times[0], times[-1]), (0.0, 5.0))

  def test_a_trace_that_there_is_not(self):
    with self.assertRaisesRegex(ValueError, "Unknown trace 'x'; expected one"):
      serving_traces.arrivals('x', rate=1.0, seconds=1.0, seed=0, folder=None)


class SimulatorTest(parameterized.TestCase):

  def test_who_comes_alone_gets_the_best(self):
    menu = fakes.profile(0.01)
    found = serving_simulator.simulate(
        np.arange(10.0), menu, slo=0.05, http=0.002
    )
    np.testing.assert_allclose(found.latencies, 0.012)
    right = menu.accuracies[found.entries]
    summary = serving_simulator.summary(found, right, slo=0.05)
    self.assertAlmostEqual(summary['effective'], 0.9)
    self.assertEqual(summary['attainment'], 1.0)

  @parameterized.parameters(3.0, 10.0)
  def test_overload_is_refused_and_the_rest_is_in_time(self, load):
    menu = fakes.profile(0.01)
    # Narrow answers 8 images in 7.5 ms.
    capacity = menu.capacity[0]
    arrivals = serving_traces.arrivals(
        'steady', rate=load * capacity, seconds=3.0, seed=0, folder=None
    )
    found = serving_simulator.simulate(arrivals, menu, slo=0.05)
    right = menu.accuracies[found.entries]
    summary = serving_simulator.summary(found, right, slo=0.05)
    self.assertGreater(summary['attainment'] * load, 0.9)
    self.assertGreater(summary['refused'], 0.9 * (1.0 - 1.0 / load))
    answered = found.latencies[found.entries >= 0]
    self.assertGreater((answered <= 0.05).mean(), 0.99)

  def test_a_batch_is_filled_up_to_the_next_size_only(self):
    menu = fakes.profile(0.01)
    found = serving_simulator.simulate(
        np.array([0.0]), menu, slo=1.0, chooser=serving_simulator.slack_fit
    )
    # It asks for batches of 8, but one image takes the time of one.
    np.testing.assert_allclose(found.latencies, [0.01])

  def test_slack_fit_takes_the_slowest_that_the_slack_admits(self):
    menu = fakes.profile(0.01)
    for slack, expected in ((1.0, ('wide', 8)), (0.008, ('narrow', 8))):
      decision = serving_simulator.slack_fit(0.0, [slack], menu, 1.0, ())
      self.assertEqual(
          (menu.entries[decision.entry].name, decision.size), expected
      )
    self.assertIsNone(serving_simulator.slack_fit(0.0, [0.001], menu, 1.0, ()))

  def test_the_best_subnet_in_hindsight(self):
    menu = fakes.profile(0.01)
    for rate, expected in ((10.0, 1), (900.0, 0)):
      arrivals = serving_traces.arrivals(
          'steady', rate=rate, seconds=2.0, seed=0, folder=None
      )
      best, _ = serving_bounds.best_fixed(arrivals, menu, slo=0.05, http=0.0)
      self.assertEqual(best, expected)

  def test_no_server_exceeds_the_oracle(self):
    menu = fakes.profile(0.01)
    known = {'slo': 0.05, 'http': 0.001}
    for rate in (50.0, 300.0, 3000.0):
      arrivals = serving_traces.arrivals(
          'steady', rate=rate, seconds=1.0, seed=0, folder=None
      )
      bound = serving_bounds.oracle(arrivals, menu, **known)
      found = serving_simulator.simulate(arrivals, menu, **known)
      right = menu.accuracies[found.entries]
      summary = serving_simulator.summary(found, right, slo=0.05)
      self.assertLessEqual(summary['effective'], bound + 1e-9)
      # Limits: all answers by wide, or as many as the processor can give.
      fastest = (menu.seconds / menu.sizes).min() + 0.001
      most = min(0.9, 0.6 * 1.05 / fastest / len(arrivals))
      self.assertLessEqual(bound, most + 1e-9 if rate > 1000 else 0.9)
    # With enough time, wide answers all.
    self.assertAlmostEqual(
        serving_bounds.oracle(np.arange(5.0), menu, **known), 0.9
    )

  def test_the_oracle_mixes_what_one_subnet_cannot(self):
    # Two images arrive at once, with time for one wide and one narrow.
    row = np.array([0.008, 0.032])
    menu = Profile(fakes.ENTRIES, (1,), row[:, None])
    arrivals = np.zeros(2)
    self.assertAlmostEqual(
        serving_bounds.oracle(arrivals, menu, slo=0.04, http=0.0), 0.75
    )


class CapacityTest(parameterized.TestCase):

  def _capacity(self, seconds):
    # Wide takes a second for 8 images, and narrow a quarter of it.
    served = mock.Mock(profile=fakes.profile(1.0 / 3.0))

    def play(arrivals, images, parameters):
      del images, parameters
      count = len(arrivals)
      in_time = np.arange(count) < 2.0 / seconds
      return serving_simulator.Outcomes(
          np.where(in_time, 0.01, np.nan), np.zeros(count), ~in_time
      ), None

    served.play = play
    with mock.patch.multiple(
        serving, _SLO=mock.Mock(value=50.0), _IMAGES=mock.Mock(value=1)
    ):
      return serving._capacity(served, None, 'wide')

  def test_slow_networks_have_one_as_well(self):
    self.assertAlmostEqual(self._capacity(0.125), 8.0, delta=1.0)

  def test_a_deadline_that_nothing_meets(self):
    with self.assertRaisesRegex(SystemExit, 'nothing within --slo_ms=50'):
      self._capacity(np.inf)


class BlankTest(parameterized.TestCase):

  def test_its_menu_is_like_a_model_s(self):
    blank = serving.Blank((4, 4, 1))
    names = [entry.name for entry in blank.profile.entries]
    self.assertLen(set(names), 12)
    self.assertIn(serving._WIDE, names)
    logits, subnets = blank.run(fakes.images(3), names[0])
    self.assertEqual((logits.shape, subnets), ((3, 10), names[:1] * 3))


class LoadTest(parameterized.TestCase):

  @parameterized.parameters(1, 3)
  def test_each_request_gets_its_answers(self, count):
    engine = fakes.FakeEngine()
    service = Service('fake', engine, fakes.profile(), seconds=5.0)
    images = fakes.images(7 * count)
    whole = images.reshape(7, count, *images.shape[1:])
    with fakes.Running(engine, service=service) as running:
      bodies = serving_load.requests(whole, 'fake', {'subnet': 'narrow'})
      statuses, latencies, texts = asyncio.run(
          serving_load.play(running.port, np.linspace(0.0, 0.2, 50), bodies)
      )
    self.assertEqual(statuses.tolist(), [200] * 50)
    self.assertTrue(np.isfinite(latencies).all())
    classes = [
        json.loads(text)['outputs'][0]['data'] for text in texts
    ]
    expected = engine.logits(images, 'narrow').argmax(-1).reshape(7, count)
    self.assertEqual(classes, expected[np.arange(50) % 7].tolist())

  def test_without_a_free_connection_a_request_is_late_not_lost(self):
    with fakes.Running() as running, mock.patch.object(
        serving_load, '_MOST_CONNECTIONS', 2
    ):
      bodies = serving_load.requests(fakes.images(1)[None], 'fake', {})
      statuses, _, _ = asyncio.run(
          serving_load.play(running.port, np.zeros(50), bodies)
      )
    self.assertEqual(statuses.tolist(), [200] * 50)


if __name__ == '__main__':
  absltest.main()
