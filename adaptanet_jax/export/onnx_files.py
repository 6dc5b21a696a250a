# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Writes the ONNX files of an export."""

from collections.abc import Callable, Sequence
import json
import os
from typing import Any

import onnx

from adaptanet_jax import trees
from adaptanet_jax.errors import UsageError
from adaptanet_jax.export import models
from adaptanet_jax.export.gating import Gates
from adaptanet_jax.export.network import Arrays, Network
from adaptanet_jax.inference.network import Supernet
from adaptanet_jax.models.subnet import (
  CHOICES,
  NUM_STAGES,
  StageChoice,
  Subnet,
)

# Most bytes of a protocol buffer.
_LARGEST = 2**31 - 1


def write(
    net: Supernet,
    statistics: Callable[[StageChoice], dict[str, Any]],
    chosen: Sequence[Subnet],
    folder: str,
    *,
    kind: str,
    memory: str,
    routes: bool,
) -> None:
  """Writes the files of a network.

  Args:
    net: the network.
    statistics: see `Network`.
    chosen: subnets that it can run; for kind 'static' one.
    folder: folder to write to.
    kind: 'onnx', 'stages' or 'static'.
    memory: see `graph`.
    routes: whether to include gates and policies.

  Raises:
    UsageError: the network cannot be exported.
  """
  params = trees.flat(net.variables['params'])
  size = sum(leaf.nbytes for leaf in params.values())
  if size > _LARGEST:
    raise UsageError(
        f'The weights have {size:,} bytes, and an ONNX file holds '
        f'{_LARGEST:,}; expected format stablehlo for a network that large.'
    )
  network = Network(net.net, params, statistics)
  metadata = {
      'class_names': json.dumps(net.about.class_names),
      'choices': json.dumps([str(choice) for choice in CHOICES]),
      'policies': json.dumps(net.policies if routes else []),
  }
  branches = tuple(
      tuple(sorted({s.stages[n] for s in chosen}, key=lambda c: c.index))
      for n in range(NUM_STAGES)
  )
  if kind == 'stages':
    built = models.stages(network, branches)
  elif kind == 'static':
    (subnet,) = chosen
    built = {'model': models.static(network, subnet)}
  else:
    built = {
        'model': models.elastic(
            network, branches, _gates(net, params) if routes else None,
            memory=memory,
        )
    }
  for name, model in built.items():
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, os.path.join(folder, f'{name}.onnx'))


def _gates(net: Supernet, params: Arrays) -> Gates:
  assert net.gates, 'policies read gates'
  return Gates(
      net.gates,
      params,
      trees.flat(net.variables['batch_stats']),
      [*net.mixtures.values()],
      net.policy_table['edges'],
  )
