# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Optimizers and learning rates of training phases."""

import jax
import ml_collections
import optax

from adaptanet_jax import trees

# Shares of a phase after which schedule 'step' divides the rate by ten; with
# 100 epochs this is the schedule of slimmable networks.
_STEPS_AT = (0.3, 0.6, 0.9)


def make_optimizer(
    settings: ml_collections.FrozenConfigDict, *, steps: int,
    steps_per_epoch: int,
) -> optax.GradientTransformation:
  """Builds the optimizer of a phase.

  Args:
    settings: section with `optimizer` ('adam' or 'sgd'), `learning_rate`,
      `schedule` ('constant', 'cosine' or 'step'), `warmup_epochs` and, for
      'sgd', `momentum` and `weight_decay`.
    steps: length of the phase.
    steps_per_epoch: steps in an epoch of the phase.

  Returns:
    A gradient transformation.
  """
  warmup = round(settings.warmup_epochs * steps_per_epoch)
  peak = settings.learning_rate
  if settings.schedule == 'cosine':
    main = optax.cosine_decay_schedule(peak, max(1, steps - warmup))
  elif settings.schedule == 'step':
    main = optax.piecewise_constant_schedule(
        peak, {round(share * steps) - warmup: 0.1 for share in _STEPS_AT}
    )
  else:
    main = optax.constant_schedule(peak)
  ramp = optax.linear_schedule(peak / (warmup + 1), peak, max(1, warmup))
  rate = optax.join_schedules([ramp, main], [warmup])
  if settings.optimizer == 'adam':
    return optax.adam(rate)
  return optax.chain(
      # Convolution and classifier kernels only, as in slimmable networks.
      optax.add_decayed_weights(settings.weight_decay, mask=_kernels),
      optax.sgd(rate, momentum=settings.momentum, nesterov=True),
  )


def _kernels(params: trees.Tree) -> trees.Tree:
  return jax.tree_util.tree_map_with_path(
      lambda path, _: path[-1].key == 'kernel', params
  )
