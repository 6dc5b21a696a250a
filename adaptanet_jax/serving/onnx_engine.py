# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""An exported network, served by ONNX Runtime."""

import functools
import hashlib
from typing import Any

import numpy as np

from adaptanet_jax.errors import UsageError, missing_package
from adaptanet_jax.evaluation import subnet_table
from adaptanet_jax.evaluation.policies import Mixture
from adaptanet_jax.export import runtime, runtime_models

_KINDS = ('onnx', 'stages')


class OnnxEngine:
  """An exported folder with all subnets, in this process, on the CPU.

  It takes images but no anchors, and has no policies: those of its graph route
  a batch by its first image, with fixed shares.
  """

  def __init__(self, folder: str) -> None:
    """Loads the models.

    Args:
      folder: folder that the network was exported to.

    Raises:
      UsageError: the folder is damaged, lacks some subnets, or is of a format
        that ONNX Runtime does not run; or ONNX Runtime is not installed.
    """
    try:
      about = runtime_models.read_about(folder)
      if about['kind'] not in _KINDS:
        raise UsageError(
            f'{folder} is an export of format {about["kind"]}; expected '
            f'{" or ".join(_KINDS)}.'
        )
      self._net = runtime.load(folder, sess_options=_options())
    except ValueError as error:
      raise UsageError(str(error)) from error
    # Widths alone, or widths and deltas.
    if len(self._net.subnets) not in (4**4, 8**4):
      raise UsageError(
          f'{folder} has {len(self._net.subnets):,} of the subnets; expected '
          'all 4,096, or all 256 without deltas: an export without --subnets.'
      )
    self.name = about['name']
    height, width, colours = self._net.image_shape
    self.image_shape = height, width, colours
    self.policies: dict[str, Mixture] = {}
    self.class_names = tuple(self._net.class_names)
    self.shorter_side = about['shorter_side']
    self.precision = float(np.finfo(np.float32).eps)
    self.source = folder
    self.runnable: tuple[str, ...] = ()
    self.subnets = subnet_table.read(folder)

  def run(
      self, images: np.ndarray, name: str, start: int = 0
  ) -> tuple[np.ndarray, list[str]]:
    """See `Engine`; `start` is 0."""
    assert not start, 'There are no anchors to start at.'
    return self._net(images, name), [name] * len(images)

  @functools.cached_property
  def weights(self) -> str:
    """See `Engine`: those of the models, whatever else is in the folder."""
    digests = sorted(
        (name, digest)
        for name, digest in self._net.about['sha256'].items()
        if name.endswith('.onnx')
    )
    return hashlib.sha256(repr(digests).encode()).hexdigest()[:16]

  @property
  def anchor_shapes(self) -> tuple[tuple[int, int, int], ...]:
    """See `Engine`."""
    return ()

  @property
  def described(self) -> dict[str, Any]:
    """See `Engine`."""
    return {
        'surroundings': self._net.surroundings,
        'files': self._net.about['sha256'],
    }


def _options() -> object:
  """Returns session options with which idle threads leave the CPU to HTTP."""
  try:
    import onnxruntime
  except ImportError as error:
    raise missing_package('onnxruntime', 'export') from error
  options = onnxruntime.SessionOptions()
  options.add_session_config_entry('session.intra_op.allow_spinning', '0')
  return options
