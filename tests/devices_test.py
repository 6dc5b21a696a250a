# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.devices; processes_test has several processes."""

import functools
import re
from unittest import mock

from absl.testing import absltest
import chex
import jax
from jax import lax
import numpy as np
import optax

from adaptanet_jax import devices, trees
from adaptanet_jax.models.resnet import ResNet
from adaptanet_jax.training import objectives
from adaptanet_jax.training.step import TrainState, map_train_step
from tests.testing import ROOT

NET = ResNet('resnet26x8', 'cifar', 'bn', 10, (8, 8, 1), axis_name='batch')


def _step():
  """Returns a teacher's step, with batch statistics and donated state."""
  objective = functools.partial(
      objectives.label_gradients, net=NET, label_smoothing=0.1
  )
  return map_train_step(objective, optax.adam(0.1), 'crop_flip')


def _step_without_pmap():
  with mock.patch.object(jax, 'pmap'):
    del jax.pmap
    return _step()


def _arguments():
  variables = trees.draw_like(NET.shapes())
  params = variables['params']
  state = TrainState(
      step=np.zeros((), np.int32),
      params=params,
      batch_stats=variables['batch_stats'],
      opt_state=optax.adam(0.1).init(params),
  )
  rng = np.random.default_rng(0)
  leading = (jax.device_count(), 2)
  batch = {
      'image': rng.integers(0, 256, (*leading, 8, 8, 1), np.uint8),
      'label': rng.integers(0, 10, leading).astype(np.int32),
  }
  return (
      *devices.replicate((state, {}, {}, jax.random.key(0))),
      devices.to_devices(batch),
  )


class OverDevicesTest(absltest.TestCase):

  def test_pmap_and_shard_map_make_one_program(self):
    text, other = (
        re.sub('^module @[^ ]+', 'module', step.lower(*_arguments()).as_text())
        for step in (_step(), _step_without_pmap())
    )
    self.assertIn('all_reduce', text)
    self.assertIn('aliasing_output', text)  # The old state is donated.
    self.assertEqual(text, other)

  def test_with_batch_statistics_four_take_the_step_that_one_takes(self):
    objective = functools.partial(
        objectives.label_gradients, net=NET, label_smoothing=0.1
    )
    tx = optax.sgd(1.0)  # Parameters then move by their gradients.
    # On the host: the state that a step is given is donated.
    variables = jax.device_get(trees.draw_like(NET.shapes()))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 8, 8, 1), np.uint8)
    labels = rng.integers(0, 10, 8).astype(np.int32)
    found = []
    for count in (1, 4):
      state = TrainState(
          step=np.zeros((), np.int32),
          params=variables['params'],
          batch_stats=variables['batch_stats'],
          opt_state=tx.init(variables['params']),
      )
      step = map_train_step(
          objective, tx, 'none', on=jax.local_devices()[:count]
      )
      batch = {
          'image': images.reshape(count, -1, 8, 8, 1),
          'label': labels.reshape(count, -1),
      }
      state, metrics = step(state, {}, {}, jax.random.key(0), batch)
      found.append(jax.device_get((state.params, state.batch_stats, metrics)))
    chex.assert_trees_all_close(*found, rtol=1e-3, atol=1e-4)
    with self.assertRaises(AssertionError):  # It has taken a step.
      chex.assert_trees_all_close(
          found[0][0], variables['params'], rtol=1e-3, atol=1e-4
      )

  def test_outputs_of_each_device_come_back_in_order(self):
    def run(x, share):
      return {'y': x + 10.0 * lax.axis_index(devices.AXIS) + share}

    share = np.arange(3.0 * jax.device_count(), dtype=np.float32)
    share = share.reshape(-1, 3)
    places = 10.0 * np.arange(jax.device_count())[:, np.newaxis]
    for make in (devices.over_devices, devices.shard_mapped):
      with self.subTest(make.__name__):
        mapped = make(
            run, in_axes=(None, 0), out_axes=0, donate_argnums=()
        )
        found = mapped(
            devices.replicate(np.float32(1.0)), devices.to_devices(share)
        )
        np.testing.assert_array_equal(
            devices.from_devices(found)['y'], 1.0 + places + share
        )

  def test_one_file_of_the_package_maps(self):
    files = [
        path.name
        for path in (ROOT / 'adaptanet_jax').rglob('*.py')
        if re.search(r'jax\.(pmap|shard_map|make_mesh)\b', path.read_text())
    ]
    self.assertEqual(files, ['devices.py'])


class ReplicateTest(absltest.TestCase):

  def test_the_layout_is_that_of_a_mapped_functions_outputs(self):
    mapped = devices.over_devices(
        lambda x, share: x, in_axes=(None, 0), out_axes=None
    )
    x = devices.replicate(np.ones(2, np.float32))
    y = mapped(x, np.zeros(jax.device_count()))
    self.assertEqual(x.sharding, y.sharding)
    shape = devices.replicated_shapes(np.ones(2, np.float32))
    self.assertEqual(
        (shape.shape, shape.dtype, shape.sharding),
        (x.shape, x.dtype, x.sharding),
    )

  def test_who_donates_the_copy_keeps_the_original(self):
    double = jax.jit(lambda x: 2.0 * x, donate_argnums=0)
    host = np.arange(4096.0, dtype=np.float32)
    first = devices.replicate(host)
    double(devices.replicate(first)).block_until_ready()
    double(devices.replicate(host)).block_until_ready()
    np.testing.assert_array_equal(first, np.arange(4096.0))
    np.testing.assert_array_equal(host, np.arange(4096.0))

  def test_keys_of_random_numbers_too(self):
    rng = devices.replicate(jax.random.key(3))
    self.assertTrue(rng.is_fully_replicated)
    np.testing.assert_array_equal(
        jax.random.key_data(rng), jax.random.key_data(jax.random.key(3))
    )


if __name__ == '__main__':
  absltest.main()
