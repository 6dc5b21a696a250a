# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.compiler."""

import os
from unittest import mock

from absl.testing import absltest, parameterized
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import compiler

(_OPTION,) = compiler._KERNELS


def _conv(x, kernel):
  layout = ('NHWC', 'HWIO', 'NHWC')
  return lax.conv_general_dilated(
      x, kernel, (1, 1), 'SAME', dimension_numbers=layout
  )


def _sum(x):
  return x.sum(0)


_PROGRAMS = {
    'CONVOLUTION': (_conv, np.zeros((2, 8, 8, 32)), np.zeros((3, 3, 32, 32))),
    'DOT': (jnp.dot, np.zeros((256, 256)), np.zeros((256, 256))),
    'REDUCE': (_sum, np.zeros((4096, 256))),
}


def _has_ynnpack(function, args, options):
  compiled = function.lower(*args).compile(compiler_options=options)
  return 'ynn_fusion' in compiled.as_text()


class CompilerTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    # The tests' XLA_FLAGS set the same options, which `options` would omit.
    self.enter_context(mock.patch.dict(os.environ, XLA_FLAGS=''))
    compiler._is_known.cache_clear()
    self.addCleanup(compiler._is_known.cache_clear)

  @parameterized.parameters(
      ('CONVOLUTION', 'INDIVIDUAL_CONVOLUTION', False),
      ('DOT', 'INDIVIDUAL_DOT', False),
      ('REDUCE', 'REDUCE', True),
  )
  def test_ynnpack_has_the_sums_alone(self, name, kind, expected):
    function, *args = _PROGRAMS[name]
    args = [arg.astype(np.float32) for arg in args]
    plain, ours = jax.jit(function), compiler.jit(function)
    ynnpack = {_OPTION: f'LIBRARY_FUSION_TYPE_{kind}'}
    self.assertTrue(_has_ynnpack(plain, args, ynnpack))
    options = compiler.options()
    self.assertEqual(_has_ynnpack(plain, args, options), expected)
    self.assertEqual(_has_ynnpack(ours, args, None), expected)

  def test_xla_knows_the_options(self):
    options = compiler.options(fast_compile=True)
    # An option that a later XLA has dropped would be left out.
    self.assertContainsSubset(compiler._KERNELS, options)
    self.assertNotEmpty(compiler.FAST_COMPILE.keys() & options)
    function = jax.jit(lambda x: x + 1, compiler_options=options)
    self.assertEqual(function(1), 2)

  def test_does_without_kernels_that_xla_does_not_know(self):
    with mock.patch.object(compiler, '_KERNELS', {'xla_cpu_no_such': 'x'}):
      with self.assertLogs(level='WARNING') as logs:
        self.assertEqual(compiler.options(), {})
    self.assertIn('xla_cpu_no_such', logs.output[0])

  def test_each_option_that_xla_knows_is_given_without_the_others(self):
    known = {'xla_backend_optimization_level': 0}
    wanted = known | {'xla_cpu_no_such': True}
    with mock.patch.object(compiler, 'FAST_COMPILE', wanted):
      with self.assertNoLogs():
        options = compiler.options(fast_compile=True)
    self.assertEqual(options, compiler._KERNELS | known)

  @parameterized.parameters(
      (f'--{_OPTION}=', {'xla_backend_optimization_level'}),
      (f'--{_OPTION}', {'xla_backend_optimization_level'}),
      ('--xla_backend_optimization_level=2 --xla_cpu_x=1', {_OPTION}),
      ('--xla_backend_optimization_level_2=2', {
          'xla_backend_optimization_level', _OPTION
      }),
  )
  def test_what_the_user_says_of_an_option_stands(self, flags, expected):
    wanted = {'xla_backend_optimization_level': 0}
    with (
        mock.patch.object(compiler, 'FAST_COMPILE', wanted),
        mock.patch.dict(os.environ, XLA_FLAGS=flags),
    ):
      options = compiler.options(fast_compile=True)
    self.assertEqual(options.keys(), expected)

  def test_tells_nothing_to_other_back_ends(self):
    with mock.patch.object(jax, 'default_backend', lambda: 'gpu'):
      self.assertEqual(compiler.options(fast_compile=True), {})

  def test_is_a_part_of_the_program_that_calls_it(self):
    square = compiler.jit(lambda x: x * x)
    x = jnp.float32(3.0)
    self.assertEqual(square(x), 9.0)
    self.assertEqual(jax.jit(lambda x: square(x) + 1.0)(x), 10.0)
    self.assertEqual(jax.grad(square)(x), 6.0)
    self.assertEqual(jax.eval_shape(square, x).shape, ())


if __name__ == '__main__':
  absltest.main()
