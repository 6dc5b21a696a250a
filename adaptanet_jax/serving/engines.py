# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Loads the engine that suits a model."""

import os

from adaptanet_jax.export import runtime_models
from adaptanet_jax.inference.load import load
from adaptanet_jax.serving.engine import Engine
from adaptanet_jax.serving.jax_engine import JaxEngine
from adaptanet_jax.serving.onnx_engine import OnnxEngine


def load_engine(model: str) -> Engine:
  """Loads a model to serve on this device.

  Args:
    model: what `adaptanet_jax.load` takes, or an exported folder, which runs in
      ONNX Runtime.

  Raises:
    UsageError: there is no such model, or it is damaged.
  """
  folder = os.path.expanduser(model)
  if runtime_models.is_export(folder):
    return OnnxEngine(folder)
  return JaxEngine(load(model), source=model)
