# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Compares thirty training steps in bfloat16 and in float32."""

import tempfile

from absl.testing import absltest
import jax
import numpy as np

from adaptanet_jax import trees, workspace
from adaptanet_jax.data import sources
from adaptanet_jax.programs import Programs
from adaptanet_jax.progress import MetricsLog
from adaptanet_jax.training import loop, phases
from adaptanet_jax.training.checkpoints import PhaseCheckpoints
from configs import digits

STEPS = 30
BATCH_SIZE = 4


def _config():
  c = digits.get_config('smoke')
  c.data.train_examples = STEPS * BATCH_SIZE
  c.cascade.epochs = (1.0,) * 4
  c.cascade.batch_size = BATCH_SIZE
  c.cascade.warmup_epochs = 0.0
  c.log_every_steps = 1
  c.data.held_out = 0.0
  return c


class PrecisionTest(absltest.TestCase):

  def test_a_module_in_bfloat16_follows_float32(self):
    config = _config()
    dataset = sources.load(config)
    phase = {p.name: p for p in phases.build_phases(config)}['cascade2']
    losses = {}
    for dtype in ('float32', 'bfloat16'):
      config.compute_dtype = dtype
      nets, gates = workspace.networks(
          config, dataset.num_classes, dataset.image_shape
      )
      objective = phases.objective_for(
          config, phase, nets, gates, num_examples=len(dataset.train)
      )
      student = trees.draw_like(nets.student.without_delta.shapes(), seed=1)
      teacher = trees.draw_like(nets.teacher.shapes())
      workdir = self.enterContext(tempfile.TemporaryDirectory())
      log = MetricsLog(workdir)
      with (
          PhaseCheckpoints(workdir, phase.name, keep=1) as checkpoints,
          Programs() as programs,
      ):
        variables, _ = loop.train_phase(
            phase,
            student,
            teacher,
            dataset.train,
            step=loop.make_step(
                phase, student, teacher, dataset.train, objective, 'none'
            ),
            programs=programs,
            config=config,
            checkpoints=checkpoints,
            log=log,
            validate=None,
        )
      losses[dtype] = np.array([r['loss'] for r in log.read() if 'loss' in r])
      self.assertEqual(
          {leaf.dtype.name for leaf in jax.tree.leaves(variables)}, {'float32'}
      )
    exact, rounded = losses['float32'], losses['bfloat16']
    self.assertLen(rounded, STEPS)
    self.assertFalse(np.array_equal(exact, rounded))
    # Observed: .047 and .010 with gradients rounded at every convolution, as on
    # an accelerator; .0065 and .001 where XLA kept them in float32.
    self.assertLess(np.abs(rounded / exact - 1.0).max(), 0.1)
    self.assertLess(abs(rounded.mean() / exact.mean() - 1.0), 0.03)


if __name__ == '__main__':
  absltest.main()
