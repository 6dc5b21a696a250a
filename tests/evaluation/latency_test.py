# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.evaluation.latency."""

import itertools
import os
import sys
import types
from unittest import mock

from absl.testing import absltest, parameterized
import jax
import numpy as np

from adaptanet_jax import trees
from adaptanet_jax.evaluation import latency
from adaptanet_jax.models import jitted
from adaptanet_jax.models.resnet import ResNet
from adaptanet_jax.models.subnet import Subnet

_NET = ResNet('resnet26x8', 'cifar_half', 'gn', 10, (8, 8, 1), delta='conv3x3')


def _clock(steps):
  """Patches the clock so that run n takes `steps[n]` milliseconds."""
  ticks = itertools.chain.from_iterable((0.0, step / 1e3) for step in steps)
  return mock.patch.object(
      latency.time, 'perf_counter', side_effect=lambda: next(ticks)
  )


class MeasureTest(parameterized.TestCase):

  def test_median_and_ninetieth_percentile_by_hand(self):
    calls = []
    with _clock([1.0, 2.0, 3.0, 4.0, 100.0]):
      (row,) = latency.measure([lambda: calls.append(1)], num_runs=5)
    self.assertAlmostEqual(row['ms_median'], 3.0)
    # 0.6 of the way from 4 to 100.
    self.assertAlmostEqual(row['ms_p90'], 61.6)
    self.assertGreater(len(calls), 5)  # Some are warm-up.

  def test_a_quiet_round_is_found_among_busy_ones(self):
    # Ten rounds of two runs; other work slows down all but the fourth.
    steps = [30.0, 50.0] * 3 + [2.0, 4.0] + [20.0, 60.0] * 6
    with _clock(steps):
      (row,) = latency.measure([lambda: 0], num_runs=20)
    self.assertAlmostEqual(row['ms_quiet'], 3.0)
    self.assertGreater(row['ms_median'], 20.0)

  def test_without_an_nvidia_gpu_there_is_no_power(self):
    self.assertEqual(
        latency.measure_energy(lambda: 0), {'watts': None, 'millijoules': None}
    )

  @parameterized.parameters('1,0', 'GPU-1a,GPU-2b')
  def test_power_and_energy_are_those_of_one_network(self, visible):
    # A run takes 0.5 s; the GPU draws 100 W for one network, 300 for the other,
    # and says what it has used in all.
    now, used = [0.0], [7_000.0]

    def running(watts):
      now[0] += 0.5
      used[0] += 1e3 * watts * 0.5

    nvml = types.SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=mock.Mock(),
        nvmlShutdown=mock.Mock(),
        nvmlDeviceGetHandleByIndex=lambda index: (None, -2e6)[index],
        nvmlDeviceGetHandleByUUID={'GPU-1a': 0.0}.get,
        nvmlDeviceGetTotalEnergyConsumption=lambda device: used[0] + device,
    )
    with (
        mock.patch.dict(os.environ, CUDA_VISIBLE_DEVICES=visible),
        mock.patch.dict(sys.modules, pynvml=nvml),
        mock.patch.object(jax, 'default_backend', return_value='gpu'),
        mock.patch.object(latency.time, 'perf_counter', lambda: now[0]),
    ):
      for watts in (100.0, 300.0):
        row = latency.measure_energy(lambda watts=watts: running(watts))
        self.assertAlmostEqual(row['watts'], watts)
        self.assertAlmostEqual(row['millijoules'], 500.0 * watts)
    self.assertEqual(nvml.nvmlShutdown.call_count, 2)

  def test_a_gpu_without_nvml_has_no_power(self):
    nvml = types.SimpleNamespace(
        NVMLError=RuntimeError, nvmlInit=mock.Mock(side_effect=RuntimeError)
    )
    with (
        mock.patch.dict(sys.modules, pynvml=nvml),
        mock.patch.object(jax, 'default_backend', return_value='gpu'),
    ):
      self.assertIsNone(latency.measure_energy(lambda: 0)['watts'])


class StageTableTest(parameterized.TestCase):

  def test_single_changes_by_hand(self):
    self.assertEqual(
        latency.single_changes(2).tolist(),
        [
            [0, 0, 0, 0],
            [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1],
        ],
    )

  def test_each_choice_is_set_against_the_largest_subnet(self):
    # Choice n takes 10 - n ms, and ten times as long in stage 2.
    scale = np.array([1.0, 10.0, 1.0, 1.0])
    milliseconds = ((10.0 - latency.single_changes(8)) * scale).sum(-1)
    largest, added = latency.stage_table(milliseconds)
    self.assertEqual(largest, 130.0)
    np.testing.assert_allclose(added[0], -np.arange(8.0))
    np.testing.assert_allclose(added[1], -10.0 * np.arange(8.0))
    np.testing.assert_allclose(added[3], -np.arange(8.0))


class ProgramTest(parameterized.TestCase):

  def test_the_switched_program_is_the_static_one(self):
    variables = trees.draw_like(_NET.shapes())
    images = np.random.default_rng(0).standard_normal(
        (2, *_NET.image_shape), np.float32
    )
    subnet = Subnet.parse('0.5-1.0d-0.25-0.75')
    np.testing.assert_allclose(
        jitted.switched(_NET)(variables, images, subnet.encode()),
        jitted.static(_NET, subnet)(variables, images),
        rtol=1e-4,
        atol=1e-4,
    )


if __name__ == '__main__':
  absltest.main()
