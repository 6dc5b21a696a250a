# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The ONNX files of an export."""

from collections.abc import Callable
import json
import os
from typing import Any

from flax import traverse_util
import jax
import onnx

from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation import policies
from adaptanet_jax.export import models
from adaptanet_jax.export.gating import Gates
from adaptanet_jax.export.network import Network
from adaptanet_jax.inference.network import Supernet
from adaptanet_jax.models.subnet import CHOICES, StageChoice, Subnet

# Of a protocol buffer, in bytes.
_LARGEST = 2**31 - 1


class Files:
  """Builds the files of a network; refuses at once what it cannot build."""

  def __init__(
      self,
      net: Supernet,
      statistics: Callable[[StageChoice], dict[str, Any]],
      branches: models.Branches,
  ) -> None:
    """Describes the network.

    Args:
      net: the network.
      statistics: see `Network`.
      branches: what each stage can run as.

    Raises:
      UsageError: the network cannot be exported.
    """
    params = traverse_util.flatten_dict(
        jax.device_get(net.variables['params']), sep='/'
    )
    size = sum(leaf.nbytes for leaf in params.values())
    if size > _LARGEST:
      raise UsageError(
          f'The weights have {size:,} bytes, and an ONNX file holds '
          f'{_LARGEST:,}; expected format stablehlo for a network that large.'
      )
    self._net, self._params, self._branches = net, params, branches
    self._network = Network(net.net, params, statistics)

  def write(
      self, folder: str, kind: str, subnet: Subnet, *, memory: str,
      routes: bool,
  ) -> dict[str, Any]:
    """Writes the files.

    Args:
      folder: to write to.
      kind: 'onnx', 'stages' or 'static'.
      subnet: of a static one.
      memory: see `graph`.
      routes: whether gates and policies are a part of it.

    Returns:
      What else a runtime has to know: nothing.
    """
    metadata = {
        'class_names': json.dumps(self._net.about.class_names),
        'choices': json.dumps([str(choice) for choice in CHOICES]),
        'policies': json.dumps(self._net.policies if routes else []),
    }
    if kind == 'stages':
      built = models.stages(self._network, self._branches, metadata=metadata)
    elif kind == 'static':
      model = models.static(self._network, subnet, metadata=metadata)
      built = {'model': model}
    else:
      routing = self._routing() if routes else None
      built = {
          'model': models.elastic(
              self._network, self._branches, routing, memory=memory,
              metadata=metadata,
          )
      }
    for name, model in built.items():
      onnx.checker.check_model(model, full_check=True)
      onnx.save_model(model, os.path.join(folder, f'{name}.onnx'))
    return {}

  def _routing(self) -> models.Routing:
    gates = self._net.gates
    assert gates, 'policies read gates'
    statistics = traverse_util.flatten_dict(
        jax.device_get(self._net.variables['batch_stats']), sep='/'
    )
    return models.Routing(
        Gates(gates, self._params, statistics),
        [
            policies.from_json(self._net.policy_table, *name.split('/'))
            for name in self._net.policies
        ],
    )
