# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A hundred steps in bfloat16 beside the same hundred in float32."""

import functools
import shutil
import tempfile

from absl.testing import absltest, parameterized
import jax
import numpy as np

from adaptanet_jax import workspace
from adaptanet_jax.data import sources
from adaptanet_jax.programs import Programs
from adaptanet_jax.training import loop, objectives, phases
from adaptanet_jax.training.checkpoints import PhaseCheckpoints
from adaptanet_jax.training.progress import MetricsLog
from configs import digits
from tests.variables import draw

STEPS = 100
BATCH_SIZE = 8


def _config():
  c = digits.get_config('smoke')
  c.data.train_examples = STEPS * BATCH_SIZE
  c.teacher.epochs = 1.0
  c.cascade.epochs = (1.0,) * 4
  # At the usual rates so small a net is chaotic: it magnifies any rounding.
  c.teacher.learning_rate = 0.01
  for section in (c.teacher, c.cascade):
    section.batch_size = BATCH_SIZE
    section.warmup_epochs = 0.0
  c.log_every_steps = 1
  return c


def _objective(phase, nets, config):
  if phase.space is None:
    return functools.partial(
        objectives.label_gradients, net=nets.teacher, label_smoothing=0.0
    )
  return functools.partial(
      objectives.anchor_gradients,
      nets=nets,
      space=phase.space,
      prefix=phase.prefix,
      num_random=config.mdsr.num_random,
      teacher_weight=config.mdsr.teacher_weight,
  )


class PrecisionTest(parameterized.TestCase):

  # A lock-in stays as close as a module, and takes three times as long.
  @parameterized.parameters(('teacher', 1.0, 0.05), ('cascade2', 0.02, 0.01))
  def test_bfloat16_follows_float32(self, name, step_bound, mean_bound):
    config = _config()
    dataset = sources.load(config)
    losses = {}
    for dtype in ('float32', 'bfloat16'):
      config.compute_dtype = dtype
      nets, _ = workspace.networks(
          config, dataset.num_classes, dataset.image_shape
      )
      nets = objectives.Networks(
          nets.teacher, workspace.without_delta(nets.student)
      )
      phase = {p.name: p for p in phases.build_phases(config)}[name]
      workdir = tempfile.mkdtemp()
      self.addCleanup(shutil.rmtree, workdir)
      log = MetricsLog(workdir)
      with (
          PhaseCheckpoints(workdir, name, keep=1) as checkpoints,
          Programs() as programs,
      ):
        variables, _ = loop.train_phase(
            phase,
            draw(nets.student, seed=1),
            draw(nets.teacher) if phase.has_teacher else {},
            dataset.train,
            step=loop.make_step(
                phase, dataset.train, _objective(phase, nets, config), 'none'
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
    # Batches of eight: labels fit or do not, and a small difference grows.
    self.assertLess(np.abs(rounded / exact - 1.0).max(), step_bound)
    self.assertLess(abs(rounded.mean() / exact.mean() - 1.0), mean_bound)


if __name__ == '__main__':
  absltest.main()
