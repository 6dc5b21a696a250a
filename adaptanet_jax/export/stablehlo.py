# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The network as one program of StableHLO, for every platform that JAX knows.

It takes weights, images, and choices `int32[4]`; a separate file holds the
weights. Where platforms differ it has a variant for each (`platforms.select`).
"""

from collections.abc import Mapping
import os
from typing import Any

from flax import traverse_util
import jax
from jax import export as jax_export
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import compiler, trees
from adaptanet_jax.models import supernet
from adaptanet_jax.models.gates import GATES
from adaptanet_jax.models.parts import Variables
from adaptanet_jax.models.resnet import ResNet
from adaptanet_jax.models.subnet import NUM_STAGES

PLATFORMS = ('cpu', 'cuda', 'tpu')


def export(
    net: ResNet,
    weights: Mapping[str, Any],
    platforms: tuple[str, ...] = PLATFORMS,
    *,
    batch_size: int | None = None,
) -> jax_export.Exported:
  """Exports the network as a program that takes its subnet as an argument.

  Args:
    net: the network.
    weights: leaves of its collections, or their shapes, by path.
    platforms: platforms to lower it for.
    batch_size: B; None for any, which not every compiler supports.

  Returns:
    `(weights, uint8[B, H, W, C], int32[4]) -> float32[B, num_classes]`.
  """

  def run(
      weights: dict[str, jax.Array], images: jax.Array, choices: jax.Array
  ) -> jax.Array:
    variables = traverse_util.unflatten_dict(weights, sep='/')
    return supernet.forward(net, variables, images, choices)[0]

  (batch,) = jax_export.symbolic_shape(str(batch_size or 'batch'))
  shapes = {
      name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
      for name, leaf in weights.items()
  }
  return jax_export.export(jax.jit(run), platforms=platforms)(
      shapes,
      jax.ShapeDtypeStruct((batch, *net.image_shape), jnp.uint8),
      jax.ShapeDtypeStruct((NUM_STAGES,), jnp.int32),
  )


def weights_of(variables: Variables) -> dict[str, Any]:
  """Returns the leaves of collections by path, without those of gates."""
  return {
      name: leaf
      for name, leaf in trees.flat(variables).items()
      if name.split('/')[1] != GATES
  }


def write(
    net: ResNet,
    variables: Variables,
    statistics: Mapping[str, Mapping[str, Any]],
    folder: str,
) -> dict[str, Any]:
  """Writes the program and its weights.

  Args:
    net: the network.
    variables: its collections; those of its gates are left out.
    statistics: batch statistics that replace the network's, by the choice that
      all stages have; `{}` if nothing replaces them.
    folder: folder to write to.

  Returns:
    What else a runtime must know: platforms, and options of the compiler.
  """
  weights = weights_of(variables)
  program = export(net, weights)
  with open(os.path.join(folder, 'model.jax'), 'wb') as file:
    file.write(program.serialize())
  own: dict[str, Any] = {
      f'statistics/{choice}/batch_stats/{path}': leaf
      for choice, leaves in statistics.items()
      for path, leaf in leaves.items()
      if path.split('/')[0] != GATES
  }
  with open(os.path.join(folder, 'weights.npz'), 'wb') as file:
    np.savez(file, **(weights | own))
  return {
      'platforms': PLATFORMS,
      'compiler_options': compiler.options(),
  }
