# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.compiler."""

from unittest import mock

from absl.testing import absltest
import jax
from jax import lax
import jax.numpy as jnp

from adaptanet_jax import compiler


def _conv(x, kernel):
  layout = ('NHWC', 'HWIO', 'NHWC')
  return lax.conv_general_dilated(
      x, kernel, (1, 1), 'SAME', dimension_numbers=layout
  )


class CompilerTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    compiler._kernels.cache_clear()
    self.addCleanup(compiler._kernels.cache_clear)

  def test_convolutions_are_not_left_to_one_core(self):
    shapes = jnp.zeros((2, 8, 8, 32)), jnp.zeros((3, 3, 32, 32))
    program = compiler.jit(_conv).lower(*shapes).compile().as_text()
    self.assertIn('convolution', program)
    self.assertNotIn('ynn', program)

  def test_xla_knows_the_options(self):
    # An option that a later XLA has dropped would raise.
    options = compiler.options(fast_compile=True)
    self.assertContainsSubset(compiler.FAST_COMPILE, options)
    self.assertContainsSubset(compiler._KERNELS, options)
    function = jax.jit(lambda x: x + 1, compiler_options=options)
    self.assertEqual(function(1), 2)

  def test_does_without_kernels_that_xla_does_not_know(self):
    with mock.patch.object(compiler, '_KERNELS', {'xla_cpu_no_such': 'x'}):
      self.assertEqual(compiler.options(), {})

  def test_tells_nothing_to_other_back_ends(self):
    with mock.patch.object(jax, 'default_backend', lambda: 'gpu'):
      self.assertEqual(compiler.options(fast_compile=True), {})


if __name__ == '__main__':
  absltest.main()
