# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Batch statistics of each subnet, taken after training (USNet, Sec. IV-B).

The running statistics of a BatchNorm network mix those of all subnets that were
trained. Calibration recomputes them for each subnet: from training images, in
training mode, with frozen weights, as the mean over batches. Paper of USNet:
images are augmented as in training. Here: they are not, because test images are
not either.

A stage's statistics depend on its choice and on those of all stages before it,
so they are kept for every prefix of a subnet: for stage n a collection
`{'batch_stats': ...}` with leaves `[K_1, ..., K_n, ...]`, where K_n is the
number of choices of stage n.
"""

from collections.abc import Callable
import functools
from typing import Any
import zipfile

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import devices, preemption, processes, trees
from adaptanet_jax.data import pipeline
from adaptanet_jax.data.splits import Split
from adaptanet_jax.errors import UsageError
from adaptanet_jax.models import supernet
from adaptanet_jax.models.parts import Variables
from adaptanet_jax.models.resnet import ResNet, stage_numbers
from adaptanet_jax.models.subnet import NUM_STAGES, Subnet
from adaptanet_jax.programs import Program

# subnet: every subnet has its own statistics. uniform: only uniform subnets
# have; when others are measured, each of their stages takes those of the
# uniform subnet with the same choice, but a loaded network refuses them. none:
# the running statistics of training.
CALIBRATIONS = ('subnet', 'uniform', 'none')

# A collection for each stage, indexed by the choices up to that stage.
Statistics = tuple[Variables, ...]


@functools.cache
def calibrator(net: ResNet) -> Any:
  """Returns a function from (variables, images) to all subnets' statistics."""
  choices = (jnp.arange(len(net.choices)),) * NUM_STAGES

  def run(variables: Variables, images: jax.Array) -> Statistics:
    return supernet.statistics_by_subnet(net, variables, images, choices)

  # The norms average over devices, so all devices return the same.
  return devices.over_devices(run, in_axes=(None, 0), out_axes=None)


def program(
    net: ResNet, variables: Variables, images: jax.ShapeDtypeStruct
) -> Program:
  """Returns the calibrator with the shapes that `calibrate` passes to it.

  Args:
    net: a network with a BatchNorm.
    variables: its collections, or their shapes.
    images: shape of a batch; see `programs.image_shapes`.
  """
  return Program(
      calibrator(net), (devices.replicated_shapes(variables), images)
  )


def calibrate(
    run: Callable[[Variables, jax.Array], Statistics],
    variables: Variables,
    split: Split,
    *,
    batch_size: int,
    num_examples: int,
    seed: int,
) -> Statistics:
  """Computes the batch statistics of every subnet.

  Args:
    run: the compiled calibrator of a network; see `program`.
    variables: its collections.
    split: training examples.
    batch_size: examples that go through the network at a time.
    num_examples: examples to use, rounded down to whole batches; at least one
      batch is used.
    seed: seed for drawing the examples.

  Returns:
    The statistics as numpy arrays.
  """
  num_batches = max(1, min(num_examples, len(split)) // batch_size)
  shuffled = np.random.default_rng(seed).permutation(len(split))
  # Whole batches: padding would count one example many times.
  chosen = split.subset(np.resize(shuffled, num_batches * batch_size))
  variables = devices.replicate(variables)
  total: Any = None
  for batch in pipeline.eval_batches(
      chosen,
      batch_size=batch_size,
      num_devices=jax.local_device_count(),
      process=processes.here(),
  ):
    preemption.NOTICE.check()
    images = devices.to_devices(batch['image'])
    found = jax.device_get(run(variables, images))
    total = found if total is None else jax.tree.map(np.add, total, found)
  return jax.tree.map(lambda leaf: leaf / np.float32(num_batches), total)


def uniform(statistics: Statistics) -> Statistics:
  """Gives each stage the statistics of the uniform subnet with its choice."""

  def spread(number: int, leaf: np.ndarray) -> np.ndarray:
    diagonal = leaf[(np.arange(leaf.shape[0]),) * number]
    return np.broadcast_to(diagonal, leaf.shape)

  return tuple(
      jax.tree.map(functools.partial(spread, number), of_stage)
      for number, of_stage in zip(stage_numbers(), statistics)
  )


def of_training(net: ResNet, variables: Variables) -> Statistics:
  """Returns the running statistics of training, repeated for all subnets."""
  num_choices = len(net.choices)

  def spread(number: int, leaf: jax.Array) -> jax.Array:
    return jnp.broadcast_to(leaf, (num_choices,) * number + leaf.shape)

  return tuple(
      jax.tree.map(
          functools.partial(spread, n),
          supernet.stage_variables(
              net, {'batch_stats': variables['batch_stats']}, n
          ),
      )
      for n in stage_numbers()
  )


def of_subnet(
    statistics: Statistics, subnet: Subnet, calibration: str
) -> Variables:
  """Returns the statistics of one subnet, to merge with the variables.

  Args:
    statistics: statistics of all subnets.
    subnet: the subnet.
    calibration: 'subnet', or 'uniform' if only uniform subnets are calibrated.

  Raises:
    UsageError: the statistics of the subnet were never calibrated.
  """
  if calibration == 'uniform' and not subnet.is_uniform:
    raise UsageError(
        f'The batch statistics of subnet {subnet} were not calibrated, only '
        'those of subnets that run all stages alike; expected one of these, '
        "calibration='subnet', or calibration='none' for those of training."
    )
  code = tuple(subnet.encode())
  return trees.merge(*(
      jax.tree.map(lambda leaf, n=n: leaf[code[:n]], of_stage)
      for n, of_stage in zip(stage_numbers(), statistics)
  ))


def has_accuracies_of(calibration: str, measured: str) -> bool:
  """Returns whether accuracies hold for a network that runs otherwise.

  Args:
    calibration: one of `CALIBRATIONS` that the network runs with.
    measured: the one that its accuracies were measured with.
  """
  # The uniform subnets, which alone run then, have the same statistics.
  return calibration == measured or (
      (calibration, measured) == ('uniform', 'subnet')
  )


def save(path: str, statistics: Statistics) -> None:
  """Writes statistics, replacing the old file as a whole."""
  tree = {str(n): stage for n, stage in zip(stage_numbers(), statistics)}
  with processes.replacing(path, 'wb') as file:
    np.savez(file, **traverse_util.flatten_dict(tree, sep='/'))


def load(path: str) -> Statistics:
  """Reads a file that `save` wrote; raises UsageError for any other."""
  try:
    with np.load(path) as file:
      tree = traverse_util.unflatten_dict(dict(file), sep='/')
      return tuple(tree[str(n)] for n in stage_numbers())
  except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
    raise UsageError(
        f'{path} holds no batch statistics ({error}); expected a file that a '
        'run wrote. Delete it and run the phase evaluation again.'
    ) from error

