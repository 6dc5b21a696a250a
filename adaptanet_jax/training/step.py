# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The one training step of every phase."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools

import flax.struct
import jax
from jax import lax
import jax.numpy as jnp
import optax

from adaptanet_jax import devices, trees
from adaptanet_jax.data import augment
from adaptanet_jax.models.parts import Variables
from adaptanet_jax.training.forward import Metrics, collections_of
from adaptanet_jax.training.objectives import Objective, StepInputs


@flax.struct.dataclass
class TrainState:
  """Everything that a phase changes and its checkpoints hold.

  Attributes:
    step: steps done in this phase, `int32[]`.
    params: the trained part of the parameters.
    batch_stats: its batch statistics, `{}` if there are none.
    opt_state: state of the optimizer.
    average: exponential moving averages of the collections `params` and
      `batch_stats`, `{}` in a phase that keeps none.
  """

  step: jax.Array
  params: trees.Tree
  batch_stats: trees.Tree
  opt_state: optax.OptState
  average: Variables = flax.struct.field(default_factory=dict)

  @property
  def trained(self) -> Variables:
    """The collections of the trained part."""
    return collections_of(self.params, self.batch_stats)


def train_step(
    state: TrainState,
    frozen: Variables,
    teacher: Variables,
    rng: jax.Array,
    batch: Mapping[str, jax.Array],
    *,
    objective: Objective,
    tx: optax.GradientTransformation,
    augmentation: str,
    average_decay: float | None = None,
) -> tuple[TrainState, Metrics]:
  """Takes one step on one device's share of a batch.

  Pure; averages gradients and metrics over `devices.AXIS`. Everything random is
  a function of `rng` and the step number alone.

  Args:
    state: the state before the step.
    frozen: collections of the trained network that this phase does not train.
    teacher: collections of the teacher; read only. If the state has a moving
      average, the moving average is the teacher.
    rng: key of the phase, the same on every device.
    batch: `image`, `uint8[B, H, W, C]`, and `label`, `int32[B]`.
    objective: computes gradients, batch statistics and metrics.
    tx: the phase's optimizer.
    augmentation: one of `augment.AUGMENTATIONS`.
    average_decay: weight of the old value in the moving average, if any.

  Returns:
    The state after the step, and metrics, float32 scalars by name.
  """
  augment_rng, objective_rng = jax.random.split(
      jax.random.fold_in(rng, state.step)
  )
  first = lax.axis_index(devices.AXIS) * batch['image'].shape[0]
  images = augment.augment(augmentation, augment_rng, batch['image'], first)
  grads, batch_stats, metrics = objective(
      state.params,
      state.batch_stats,
      StepInputs(
          frozen=frozen,
          teacher=state.average or teacher,
          images=images,
          labels=batch['label'],
          rng=objective_rng,
          step=state.step,
      ),
  )
  grads, metrics = lax.pmean((grads, metrics), devices.AXIS)
  updates, opt_state = tx.update(grads, state.opt_state, state.params)
  state = dataclasses.replace(
      state,
      step=state.step + 1,
      params=optax.apply_updates(state.params, updates),
      batch_stats=batch_stats,
      opt_state=opt_state,
  )
  if average_decay is not None:
    average = _moved(state, average_decay)
    state = dataclasses.replace(state, average=average)
  return state, metrics | {'grad_norm': optax.global_norm(grads)}


def _moved(state: TrainState, decay: float) -> Variables:
  """Returns the moving averages after a step.

  The paper of DSNet has a constant decay. Here the decay of the first steps is
  smaller, (1 + n) / (10 + n); otherwise the first weights would teach all of a
  short phase.
  """
  old = jnp.minimum(decay, (1.0 + state.step) / (10.0 + state.step))
  new = {'params': state.params, 'batch_stats': state.batch_stats}
  return {
      name: optax.incremental_update(new[name], average, 1.0 - old)
      for name, average in state.average.items()
  }


def map_train_step(
    objective: Objective,
    tx: optax.GradientTransformation,
    augmentation: str,
    average_decay: float | None = None,
    *,
    on: Sequence[jax.Device] | None = None,
) -> Callable[..., tuple[TrainState, Metrics]]:
  """Maps `train_step` over devices; splits the batch, replicates the rest.

  The arguments are those of `train_step`, and `on` of `devices.over_devices`.

  Returns:
    `(state, frozen, teacher, rng, batch) -> (state, metrics)`, where the arrays
    of `batch` have a leading axis of devices. The old state is donated.
  """
  step = functools.partial(
      train_step,
      objective=objective,
      tx=tx,
      augmentation=augmentation,
      average_decay=average_decay,
  )
  return devices.over_devices(
      step,
      in_axes=(None, None, None, None, 0),
      out_axes=None,
      donate_argnums=(0,),
      on=on,
  )
