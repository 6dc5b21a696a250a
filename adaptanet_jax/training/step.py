# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The one training step of every phase, and the one place that maps it."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any

import flax.struct
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import optax

from adaptanet_jax import trees
from adaptanet_jax.data import augment
from adaptanet_jax.models.resnet import Variables
from adaptanet_jax.training.objectives import Metrics, Objective

AXIS = 'batch'


@flax.struct.dataclass
class TrainState:
  """What a phase changes, and all that its checkpoints need to hold.

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

  Pure; averages gradients and metrics over the mapped axis `AXIS`. Everything
  random is a function of `rng` and the step number alone.

  Args:
    state: before the step.
    frozen: collections of the trained network that this phase does not train.
    teacher: collections of the teacher; read only. Where the state has a moving
      average, that is the teacher.
    rng: key of the phase, the same on every device.
    batch: `image`, `uint8[B, H, W, C]`, and `label`, `int32[B]`.
    objective: gives gradients, batch statistics and metrics.
    tx: the phase's optimizer.
    augmentation: one of `augment.AUGMENTATIONS`.
    average_decay: share of the old in a moving average, if there is one.

  Returns:
    The state after the step, and metrics, float32 scalars by name.
  """
  augment_rng, objective_rng = jax.random.split(
      jax.random.fold_in(rng, state.step)
  )
  first = lax.axis_index(AXIS) * batch['image'].shape[0]
  images = augment.augment(augmentation, augment_rng, batch['image'], first)
  grads, batch_stats, metrics = objective(
      state.params,
      state.batch_stats,
      frozen,
      state.average or teacher,
      augment.normalize(images),
      batch['label'],
      objective_rng,
      state.step,
  )
  grads, metrics = lax.pmean((grads, metrics), AXIS)
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

  Paper of DSNet: one share throughout. Here: over the first steps the old has a
  smaller one, (1 + n) / (10 + n), because else a short phase would be taught by
  its first weights.
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
    devices: Sequence[jax.Device] | None = None,
) -> Callable[..., tuple[TrainState, Metrics]]:
  """Maps `train_step` over devices: the batch is split, all else replicated.

  Args:
    objective: see `train_step`.
    tx: see `train_step`.
    augmentation: see `train_step`.
    average_decay: see `train_step`.
    devices: None for all of this job; others to compile for them, no more.

  Returns:
    `(state, frozen, teacher, rng, batch) -> (state, metrics)`, where the arrays
    of `batch` have a leading axis of local devices. The old state is donated.
  """
  step = functools.partial(
      train_step,
      objective=objective,
      tx=tx,
      augmentation=augmentation,
      average_decay=average_decay,
  )
  return jax.pmap(
      step,
      axis_name=AXIS,
      in_axes=(None, None, None, None, 0),
      out_axes=(None, None),
      donate_argnums=(0,),
      devices=devices,
  )


def to_devices(batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
  """Puts a batch, `(D, B, ...)` each, on the local devices as a step takes it.
  """
  return jax.device_put(dict(batch), _batch_sharding())


@functools.cache
def _batch_sharding() -> jax.sharding.Sharding:
  mesh = jax.sharding.Mesh(np.array(jax.local_devices()), (AXIS,))
  return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS))


def replicate(tree: Any, num_devices: int) -> Any:
  """Puts a tree on all local devices, laid out as a mapped step returns it.

  A step compiles once for each layout of its arguments: without this, a second
  time when it first meets a state of its own making.

  Args:
    tree: arrays on the host or on one device.
    num_devices: local devices that the step is mapped over.

  Returns:
    The same tree, every array replicated.
  """
  return _replicator()(tree, np.zeros(num_devices))


@functools.cache
def _replicator() -> Callable[..., Any]:
  return jax.pmap(
      lambda tree, _: tree, axis_name=AXIS, in_axes=(None, 0), out_axes=None
  )
