# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.models.convolution."""

import functools

from absl.testing import absltest, parameterized
import chex
from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax.models import convolution

# The forms whose results have to equal those of the plain convolution.
_FORMS = {
    'matrix': convolution._matrix_conv,
    'chosen': convolution.conv2d,
}


def _inputs(height, width, size, strides, channels=3, features=5):
  """Returns x, a kernel, and a cotangent of the output."""
  rng = np.random.default_rng(0)
  out = (-(-height // strides), -(-width // strides))
  shapes = (
      (2, height, width, channels),
      (size, size, channels, features),
      (2, *out, features),
  )
  return [rng.standard_normal(shape, np.float32) for shape in shapes]


def _value_and_gradients(form, strides, x, kernel, g):
  value, pull = jax.vjp(lambda x, kernel: form(x, kernel, strides), x, kernel)
  return {'value': value, 'gradients': pull(g)}


class DotTest(absltest.TestCase):

  def test_has_the_value_and_the_gradients_of_a_product(self):
    rng = np.random.default_rng(0)
    x, kernel, g = (
        rng.standard_normal(shape, np.float32)
        for shape in ((2, 3, 4, 5), (5, 6), (2, 3, 4, 6))
    )
    results = []
    for form in (convolution.dot, jnp.dot):
      value, pull = jax.vjp(form, x, kernel)
      results.append((value, pull(g)))
    chex.assert_trees_all_close(*results, rtol=1e-5, atol=1e-5)


class ConvolutionTest(parameterized.TestCase):

  @parameterized.parameters(
      # Height, width, kernel size, strides.
      (8, 8, 3, 1),
      (7, 5, 3, 1),
      (8, 6, 3, 2),
      (7, 9, 3, 2),
      (6, 7, 3, 2),
      (8, 8, 5, 3),
      (16, 13, 7, 2),
      (9, 9, 7, 2),
      (2, 2, 3, 1),
      (2, 2, 3, 2),
      (2, 2, 7, 2),
      (1, 4, 3, 1),
      (1, 1, 3, 2),
      # The largest map that `conv2d` runs as a matrix product, and a larger
      # one.
      (4, 4, 3, 2),
      (5, 5, 3, 2),
  )
  def test_every_form_has_one_value_and_one_gradient(
      self, height, width, size, strides
  ):
    x, kernel, g = _inputs(height, width, size, strides)

    @jax.jit
    def run(x, kernel, g):
      forms = _FORMS | {'plain': convolution._xla_conv}
      plain = functools.partial(convolution._xla_conv, strides=strides)
      by_name = {
          name: _value_and_gradients(form, strides, x, kernel, g)
          for name, form in forms.items()
      }
      # The hand-written gradients for CPUs, and those of other platforms.
      return by_name, [
          convolution._cpu_gradients(x, kernel, g, strides),
          convolution._gradients_of(plain)(x, kernel, g),
      ]

    results, gradients = run(x, kernel, g)
    expected = results['plain']
    chex.assert_shape(expected['value'], g.shape)
    for name in _FORMS:
      chex.assert_trees_all_close(
          results[name], expected, rtol=1e-4, atol=1e-4
      )
    for found in gradients:
      chex.assert_trees_all_close(
          found, expected['gradients'], rtol=1e-4, atol=1e-4
      )

  @parameterized.parameters((8, 3, 1), (7, 3, 2), (9, 7, 2), (2, 3, 1))
  def test_equals_flax_with_symmetric_padding(self, side, size, strides):
    x, kernel, _ = _inputs(side, side, size, strides)
    pad = (size - 1) // 2
    reference = nn.Conv(
        kernel.shape[-1],
        (size, size),
        strides,
        padding=((pad, pad), (pad, pad)),
        use_bias=False,
    )
    expected = reference.apply({'params': {'kernel': kernel}}, x)
    for form in _FORMS.values():
      chex.assert_trees_all_close(
          form(x, kernel, strides), expected, rtol=1e-4, atol=1e-5
      )

  def test_pads_the_leading_edge_of_an_even_image(self):
    # A row 1 2 3 4 with one zero before it, a kernel of ones, stride 2:
    # 0 + 1 + 2 = 3 and 2 + 3 + 4 = 9. ('SAME' pads the end: 6 and 7.)
    x = jnp.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 4, 1)
    kernel = jnp.zeros((3, 3, 1, 1)).at[1].set(1.0)
    for form in _FORMS.values():
      chex.assert_trees_all_close(
          form(x, kernel, 2).ravel(), jnp.array([3.0, 9.0])
      )

  @parameterized.parameters(8, 2)
  def test_gradient_in_a_switch_equals_the_gradient_outside(self, side):
    x, kernel, g = _inputs(side, side, 3, 1, channels=4, features=4)

    def wide(x, kernel):
      return convolution.conv2d(x, kernel, 1)

    def narrow(x, kernel):
      y = convolution.conv2d(x[..., :2], kernel[:, :, :2, :2], 1)
      return jnp.pad(y, ((0, 0), (0, 0), (0, 0), (0, 2)))

    branches = (wide, narrow)

    @jax.jit
    def inside(choice, x, kernel, g):
      def run(x, kernel):
        return lax.switch(choice, branches, x, kernel)

      return jax.vjp(run, x, kernel)[1](g)

    @jax.jit
    def outside(x, kernel, g):
      return [jax.vjp(branch, x, kernel)[1](g) for branch in branches]

    for choice, expected in enumerate(outside(x, kernel, g)):
      chex.assert_trees_all_close(
          inside(choice, x, kernel, g), expected, rtol=1e-4, atol=1e-5
      )


if __name__ == '__main__':
  absltest.main()
