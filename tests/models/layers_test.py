# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.models.layers: normalised images, given parameters."""

from absl.testing import absltest, parameterized
import chex
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import trees
from adaptanet_jax.models import layers, routing, stages, supernet
from adaptanet_jax.models.layers import normalize
from adaptanet_jax.models.resnet import ResNet
from adaptanet_jax.models.subnet import Subnet

_NET = ResNet('resnet26x8', 'cifar_half', 'gn', 10, (16, 16, 1))


class NormalizeTest(parameterized.TestCase):

  def test_one_colour_by_hand(self):
    images = jnp.array([0, 51, 255], jnp.uint8).reshape(1, 1, 3, 1)
    # (0 - .5) / .5, (51 / 255 - .5) / .5 = (.2 - .5) / .5, (1 - .5) / .5.
    expected = np.array([-1.0, -0.6, 1.0]).reshape(1, 1, 3, 1)
    actual = normalize(images)
    self.assertEqual(actual.dtype, jnp.float32)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)

  def test_three_colours_by_hand(self):
    images = jnp.array([0, 255, 51], jnp.uint8).reshape(1, 1, 1, 3)
    # Red: (0 - .485) / .229 = -2.117904.
    # Green: (1 - .456) / .224 = 2.428571.
    # Blue: (.2 - .406) / .225 = -.915556.
    expected = np.array([-2.117904, 2.428571, -0.915556]).reshape(1, 1, 1, 3)
    actual = normalize(images)
    self.assertEqual(actual.dtype, jnp.float32)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)

  def test_what_has_been_normalised_stays_as_it_is(self):
    images = jnp.ones((1, 2, 2, 3), jnp.float32)
    self.assertIs(normalize(images), images)


class ParameterTest(parameterized.TestCase):

  def test_one_that_is_there_is_taken_if_its_shape_fits(self):
    head = layers.Head(channels=4, num_classes=3)
    x = jnp.ones((2, 1, 1, 4))
    kernel = jnp.arange(12.0).reshape(4, 3)
    logits = head.apply({'params': {'kernel': kernel, 'bias': jnp.ones(3)}}, x)
    np.testing.assert_allclose(logits, [[19.0, 23.0, 27.0]] * 2)
    with self.assertRaisesRegex(
        ValueError, r'kernel is of shape \(4, 2\); expected \(4, 3\)'
    ):
      head.apply({'params': {'kernel': kernel[:, :2], 'bias': jnp.ones(3)}}, x)


class EntryTest(parameterized.TestCase):
  """Every way to run a network accepts images of uint8 pixels."""

  @parameterized.named_parameters(
      ('static', lambda v, x, s: _NET.forward(v, x, s)[0]),
      (
          'switched',
          lambda v, x, s: supernet.forward(_NET, v, x, s.encode())[0],
      ),
      (
          'by_sample',
          lambda v, x, s: routing.forward_by_sample(
              _NET, v, x, jnp.tile(s.encode(), (len(x), 1))
          ),
      ),
      ('stages', lambda v, x, s: stages.Stages(_NET, v)(jnp.asarray(x), s)),
  )
  def test_pixels_give_what_normalised_images_give(self, run):
    pixels = np.random.default_rng(0).integers(
        0, 256, (3, 16, 16, 1), np.uint8
    )
    variables = trees.draw_like(_NET.shapes())
    actual, expected = (
        run(variables, images, Subnet.uniform(0.5))
        for images in (pixels, normalize(pixels))
    )
    chex.assert_trees_all_close(actual, expected, rtol=1e-5, atol=1e-5)


if __name__ == '__main__':
  absltest.main()
