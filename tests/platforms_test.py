# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of programs that are made on a CPU for other devices."""

import os
import re
from unittest import mock

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import compiler, platforms, workspace
from adaptanet_jax.data import sources
from adaptanet_jax.models.convolution import DEPTHWISE_TAPS
from adaptanet_jax.training import loop, phases
from configs import baselines, digits

_PHASES = (
    'teacher',
    'cascade4',
    'lock_in',
    'delta_cascade1',
    'delta_lock_in',
    'joint',
    'gates',
    'baseline',
)
# The concatenation of the taps of a 3x3 kernel, as in `_matrix_conv`.
_PATCHES = re.compile(r'stablehlo\.concatenate (%\w+, ){8}%\w+, dim = 3')


def _traced_step(name):
  """Returns the traced step of a phase of the tiny network."""
  if name == 'baseline':
    config = baselines.get_config('dsnet,digits:smoke')
  else:
    config = digits.get_config('smoke')
  config.delta.kind, config.joint.epochs = 'separable', 1.0
  dataset = sources.load(config)
  work = workspace.create(config, '', dataset, None, {})
  phase = {p.name: p for p in phases.build_phases(config)}[name]
  objective = phases.objective_for(
      config, phase, work.nets, work.gates, num_examples=len(dataset.train)
  )
  shapes = workspace.variable_shapes(work.nets, work.gates, phase)
  step = loop.make_step(
      phase, *shapes, dataset.train, objective, config.data.augment
  )
  function, (*_, batch), _ = step.program
  arguments = loop.argument_shapes(phase, step.tx, *shapes)
  return jax.jit(function).trace(*arguments, batch)


def _cpu_forms(traced, *platforms):
  """Counts forms that only a program for a CPU should have."""
  text = traced.lower(lowering_platforms=platforms).as_text()
  return {
      'barriers': text.count('optimization_barrier'),
      'patches': len(_PATCHES.findall(text)),
      'taps': text.count(f'call @{DEPTHWISE_TAPS}'),
  }


class PlatformsTest(parameterized.TestCase):

  @parameterized.parameters(*_PHASES)
  def test_a_step_has_the_forms_of_the_platform_it_is_lowered_for(self, name):
    traced = _traced_step(name)
    here = _cpu_forms(traced, 'cpu')
    # Stage 4 has 2x2 maps; gates train Flax's layers; deltas have taps.
    self.assertGreater(here['patches'], 0)
    self.assertEqual(here['barriers'] > 0, name != 'gates')
    has_deltas = 'delta' in name or name in ('joint', 'gates')
    self.assertEqual(here['taps'] > 0, has_deltas)
    there = _cpu_forms(traced, 'cuda', 'tpu')
    self.assertEqual(there, dict.fromkeys(here, 0))

  # Options that XLA_FLAGS sets, as in conftest, would be missing from ours.
  @mock.patch.dict(os.environ, XLA_FLAGS='')
  def test_types_and_options_go_by_the_machine(self):
    self.assertEqual(platforms.auto_dtype(), 'float32')
    self.assertNotEqual(compiler.options(fast_compile=True), {})
    with mock.patch.object(jax, 'default_backend', lambda: 'tpu'):
      self.assertEqual(platforms.auto_dtype(), 'bfloat16')
      self.assertEqual(compiler.options(fast_compile=True), {})

  def test_selects_by_platform_and_not_by_what_was_traced_first(self):
    def run(x):
      return platforms.select(x, cpu=jnp.sin, default=jnp.cos)

    traced = jax.jit(run).trace(np.float32(1.0))
    for platform, name in (('cpu', 'sine'), ('tpu', 'cosine')):
      text = traced.lower(lowering_platforms=(platform,)).as_text()
      found = set(re.findall(r'stablehlo\.(sine|cosine)', text))
      self.assertEqual(found, {name})
    self.assertEqual(run(np.float32(0.0)), 0.0)


if __name__ == '__main__':
  absltest.main()
