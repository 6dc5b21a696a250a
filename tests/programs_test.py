# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.programs."""

import time
from unittest import mock

from absl.testing import absltest, parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import compiler, devices
from adaptanet_jax.programs import Program, Programs


def _ahead(programs, function, *arguments):
  programs.ahead(Program(function, arguments))


def _compiled(programs, function, *arguments):
  return programs.compiled(Program(function, arguments))


class ProgramsTest(parameterized.TestCase):

  def test_a_program_compiled_ahead_is_the_one_that_runs(self):
    num_traces = 0

    def double(tree):
      nonlocal num_traces
      num_traces += 1
      return jax.tree.map(lambda x: 2 * x, tree)

    function = jax.jit(double)
    tree = {'a': jnp.arange(3.0), 'b': np.ones((2, 2), np.float32)}
    with Programs() as programs:
      _ahead(programs, function, jax.eval_shape(lambda: tree))
      first = _compiled(programs, function, tree)
      self.assertIs(_compiled(programs, function, tree), first)
      chex.assert_trees_all_close(
          first(tree), {'a': jnp.array([0.0, 2.0, 4.0]), 'b': 2 * tree['b']}
      )
    self.assertEqual(num_traces, 1)

  def test_one_program_is_traced_at_a_time(self):
    tracing = []

    def slow(x):
      tracing.append(x.shape)
      time.sleep(0.05)
      self.assertLen(tracing, 1)
      tracing.pop()
      return x + 1

    function = jax.jit(slow)
    with Programs() as programs:
      for size in (1, 2, 3):
        _ahead(programs, function, np.zeros(size, np.float32))
      for size in (1, 2, 3):
        _compiled(programs, function, np.zeros(size, np.float32))

  def test_other_shapes_are_another_program(self):
    function = jax.jit(jnp.sum)
    with Programs(fast_compile=True) as programs:
      first = _compiled(programs, function, jnp.ones(3))
      second = _compiled(programs, function, jnp.ones(4))
      self.assertIsNot(first, second)
      self.assertEqual((first(jnp.ones(3)), second(jnp.ones(4))), (3.0, 4.0))

  def test_other_types_are_another_program(self):
    function = jax.jit(jnp.sum)
    whole = jnp.ones(3, jnp.int32)
    with Programs(fast_compile=True) as programs:
      _ahead(programs, function, jnp.ones(3))
      self.assertEqual(_compiled(programs, function, whole)(whole), 3)

  def test_replicated_shapes_serve_replicated_arrays(self):
    function = devices.over_devices(
        lambda x, y: x + y, in_axes=(None, 0), out_axes=0
    )
    y = np.arange(jax.device_count(), dtype=np.float32)
    shape = devices.replicated_shapes(np.ones((), np.float32))
    with Programs() as programs:
      _ahead(programs, function, shape, y)
      x = devices.replicate(np.float32(1.0))
      np.testing.assert_array_equal(
          _compiled(programs, function, x, y)(x, y), y + 1.0
      )

  def test_what_cannot_be_compiled_raises_where_it_is_used(self):
    def wrong(x):
      raise ValueError(f'no use for {x.shape}')

    with Programs() as programs:
      _ahead(programs, jax.jit(wrong), jnp.ones(3))
      with self.assertRaisesRegex(ValueError, 'no use'):
        _compiled(programs, jax.jit(wrong), jnp.ones(3))

  @parameterized.parameters(True, False)
  def test_compiles_with_the_options_of_the_compiler(self, fast_compile):
    given = {'xla_cpu_no_such': fast_compile}
    with mock.patch.object(
        compiler, 'options', lambda *, fast_compile: given
    ), Programs(fast_compile=fast_compile) as programs:
      with self.assertRaisesRegex(RuntimeError, 'xla_cpu_no_such'):
        _compiled(programs, jax.jit(lambda x: x), jnp.ones(3))

  def test_what_runs_long_is_never_compiled_fast(self):
    options = {True: {'xla_cpu_no_such_option': True}, False: {}}
    with mock.patch.object(
        compiler, 'options', lambda *, fast_compile: options[fast_compile]
    ), Programs(fast_compile=True) as programs:
      program = Program(jax.jit(lambda x: 2 * x), (jnp.ones(3),))
      with self.assertRaisesRegex(RuntimeError, 'xla_cpu_no_such'):
        programs.compiled(program)
      program = Program(jax.jit(lambda x: 3 * x), (jnp.ones(3),), True)
      self.assertEqual(programs.compiled(program)(jnp.ones(3))[0], 3.0)


if __name__ == '__main__':
  absltest.main()
