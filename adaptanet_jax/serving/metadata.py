# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a server says of itself and of its model (Open Inference Protocol)."""

from typing import Any

import adaptanet_jax
from adaptanet_jax.serving import protocol
from adaptanet_jax.serving.service import Service
from adaptanet_jax.serving.tensors import INPUT


def server() -> dict[str, Any]:
  """Returns the answer to `GET /v2`."""
  return {
      'name': 'adaptanet_jax',
      'version': adaptanet_jax.__version__,
      'extensions': ['binary_tensor_data', 'model_repository'],
  }


def model(service: Service) -> dict[str, Any]:
  """Returns the answer to `GET /v2/models/NAME`.

  `weights`, `anchors` and `menu` are beyond the protocol.

  Args:
    service: the service of the model.
  """
  engine, profile = service.engine, service.profile
  classes = len(engine.class_names)
  return {
      'name': service.name,
      'versions': [protocol.VERSION],
      'platform': 'adaptanet_jax',
      'inputs': [{
          'name': INPUT,
          'datatype': 'UINT8',
          'shape': [-1, *engine.image_shape],
      }],
      'outputs': [
          {
              'name': name,
              'datatype': datatype,
              'shape': [-1, classes] if name == 'logits' else [-1],
          }
          for name, datatype in protocol.OUTPUTS.items()
      ],
      'weights': engine.weights,
      'anchors': engine.anchor_shapes,
      'menu': [
          {
              'subnet': entry.name,
              'accuracy': entry.accuracy,
              'madds': entry.madds,
              'images_per_second': rate,
          }
          for entry, rate in zip(profile.entries, profile.capacity.tolist())
      ],
  }


def index(service: Service) -> list[dict[str, str]]:
  """Returns the answer to `POST /v2/repository/index`.

  Args:
    service: the service of the only model.
  """
  return [{
      'name': service.name,
      'version': protocol.VERSION,
      'state': 'READY' if service.is_ready else 'UNAVAILABLE',
      'reason': '',
  }]
