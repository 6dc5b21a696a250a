# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.data.augment."""

import itertools

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax.data import augment

# All pixels differ, so that no two crops are equal.
_IMAGE = np.arange(1, 6 * 5 * 3 + 1, dtype=np.uint8).reshape(6, 5, 3)


def _crops():
  """Returns all 81 crops of the image padded by 4 black pixels."""
  padded = np.zeros((14, 13, 3), np.uint8)
  padded[4:10, 4:9] = _IMAGE
  return [
      padded[top : top + 6, left : left + 5]
      for top, left in itertools.product(range(9), range(9))
  ]


def _as_set(images):
  return {np.asarray(image).tobytes() for image in images}


def _augment(kind, images, *, seed=0, first=0):
  return augment.augment(
      kind, jax.random.key(seed), jnp.asarray(images), jnp.int32(first)
  )


class AugmentTest(parameterized.TestCase):

  def test_none_returns_its_argument_itself(self):
    images = jnp.asarray(_IMAGE[None])
    same = augment.augment('none', jax.random.key(0), images, jnp.int32(0))
    self.assertIs(same, images)

  @parameterized.named_parameters(
      ('crop', 'crop', False), ('crop_flip', 'crop_flip', True)
  )
  def test_exactly_the_possible_crops_appear(self, kind, flips):
    expected = _crops()
    if flips:
      expected += [crop[:, ::-1] for crop in expected]
    self.assertLen(_as_set(expected), 81 * (1 + flips))
    # With so many, a given crop is missed with probability below 1e-10.
    images = _augment(kind, np.broadcast_to(_IMAGE, (4000, 6, 5, 3)))
    self.assertEqual(images.dtype, jnp.uint8)
    self.assertEqual(images.shape, (4000, 6, 5, 3))
    self.assertEqual(_as_set(images), _as_set(expected))

  @parameterized.parameters('crop', 'crop_flip')
  def test_an_image_depends_on_its_place_in_the_whole_batch_alone(self, kind):
    images = np.random.default_rng(0).integers(0, 256, (8, 6, 5, 3), np.uint8)
    whole = _augment(kind, images)
    halves = [
        _augment(kind, images[first : first + 4], first=first)
        for first in (0, 4)
    ]
    np.testing.assert_array_equal(np.concatenate(halves), whole)
    # The place in the batch matters.
    second_as_first = _augment(kind, images[4:], first=0)
    self.assertFalse(np.array_equal(second_as_first, halves[1]))

  def test_steps_differ(self):
    images = np.broadcast_to(_IMAGE, (8, 6, 5, 3))
    first, again, second = (
        np.asarray(_augment('crop_flip', images, seed=seed))
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    self.assertFalse(np.array_equal(first, second))


if __name__ == '__main__':
  absltest.main()
