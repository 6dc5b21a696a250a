# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Var Gates: small nets that read an anchor and say how far to trust it.

Sec. III-C and IV-A: two 2x2 convolutions with BatchNorm and ReLU, average
pooling to a fixed size, and two heads: one approximates the largest subnet's
logits, the other predicts the logarithm of their variance about it. A gate
reads an anchor and nothing else, so a set of gates is trained, and replaced,
without touching the network.

B = batch, H = height, W = width, C = channels, K = classes.
"""

from collections.abc import Mapping
import dataclasses
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax.models.parts import Variables, collections_first
from adaptanet_jax.models.resnet import anchor_name

# Name of the gates' part in every collection.
GATES = 'gates'
CHANNELS = 32
# Number of top classes whose variances make a confidence (Sec. V-C).
TOP_CLASSES = 10
# What a gate's confidence is. variance (the paper's): minus the mean logarithm
# of the variance over the top classes (all, if there are fewer). The others use
# the detected probabilities alone. margin: by how much the highest exceeds the
# second. entropy: minus their entropy.
CONFIDENCES = ('variance', 'margin', 'entropy')


class VarGate(nn.Module):
  """One gate.

  Attributes:
    num_classes: K.
    resolution: side that feature maps are pooled to; smaller ones stay as is.
    axis_name: mapped axis over which batch statistics are averaged.
  """

  num_classes: int
  resolution: int
  axis_name: str | None = None

  @nn.compact
  def __call__(
      self, anchor: jax.Array, *, train: bool
  ) -> tuple[jax.Array, jax.Array]:
    """Reads an anchor.

    Args:
      anchor: `(B, H, W, C)`.
      train: whether to use batch statistics and update the running ones.

    Returns:
      `(B, K)` detection, and `(B, K)` logarithm of its variance; float32.
    """
    x = anchor.astype(jnp.float32)
    for n in (1, 2):
      halved = -(-min(x.shape[1:3]) // 2)
      strides = 2 if halved >= self.resolution else 1
      x = nn.Conv(
          CHANNELS,
          (2, 2),
          (strides, strides),
          use_bias=False,
          name=f'conv{n}',
      )(x)
      x = nn.BatchNorm(
          use_running_average=not train,
          momentum=0.9,  # With flax's 0.99 an epoch may be too short.
          axis_name=self.axis_name,
          name=f'norm{n}',
      )(x)
      x = nn.relu(x)
    x = adaptive_average_pool(x, self.resolution)
    x = x.reshape(x.shape[0], -1)
    return (
        nn.Dense(self.num_classes, name='detection')(x),
        nn.Dense(self.num_classes, name='log_variance')(x),
    )


def adaptive_average_pool(x: jax.Array, size: int) -> jax.Array:
  """Averages `(B, H, W, C)` to `(B, min(H, size), min(W, size), C)`.

  Window n of `size` goes from floor(n H / size) to ceil((n + 1) H / size).
  """
  rows, columns = (
      jnp.asarray(window_means(side, min(side, size))) for side in x.shape[1:3]
  )
  return jnp.einsum('bhwc,ph,qw->bpqc', x, rows, columns)


def window_means(side: int, size: int) -> np.ndarray:
  """Returns `float32[size, side]`, each window's weights of the positions."""
  means = np.zeros((size, side), np.float32)
  for n in range(size):
    start, stop = n * side // size, -(-(n + 1) * side // size)
    means[n, start:stop] = 1.0 / (stop - start)
  return means


@dataclasses.dataclass(frozen=True)
class GateSet:
  """The gates of a network; hashable and free of arrays.

  Attributes:
    anchors: numbers of the anchors that have a gate, 1 to 4.
    num_classes: K.
    resolution: see `VarGate`.
    axis_name: see `VarGate`.
    confidence: the one of `CONFIDENCES` that policies use.
  """

  anchors: tuple[int, ...]
  num_classes: int
  resolution: int
  axis_name: str | None = None
  confidence: str = CONFIDENCES[0]

  def _gate(self) -> VarGate:
    return VarGate(self.num_classes, self.resolution, self.axis_name)

  def init(
      self, rng: jax.Array, anchor_shapes: tuple[tuple[int, int, int], ...]
  ) -> Variables:
    """Draws the variables of all gates, to be merged with a network's.

    Args:
      rng: key.
      anchor_shapes: `(H, W, C)` of the four anchors.

    Returns:
      `{collection: {'gates': {'gate1': ...}}}`.
    """
    parts = {}
    for n, key in zip(self.anchors, jax.random.split(rng, len(self.anchors))):
      anchor = jnp.zeros((1, *anchor_shapes[n - 1]))
      parts[gate_name(n)] = dict(self._gate().init(key, anchor, train=False))
    return collections_first(GATES, parts)

  def shapes(
      self, anchor_shapes: tuple[tuple[int, int, int], ...]
  ) -> Variables:
    """Returns the shapes of the variables that `init` draws."""
    init = functools.partial(self.init, anchor_shapes=anchor_shapes)
    return jax.eval_shape(init, jax.random.key(0))

  def run(
      self, variables: Variables, number: int, anchor: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Runs the gate of one anchor; see `VarGate`."""
    outputs: Any = self._gate().apply(
        self._own(variables, number), anchor, train=False
    )
    return outputs

  def confide(
      self, variables: Variables, number: int, anchor: jax.Array
  ) -> jax.Array:
    """Returns the confidence `(B,)` of the gate of one anchor."""
    every = confidences(*self.run(variables, number, anchor))
    return every[CONFIDENCES.index(self.confidence)]

  def run_all(
      self, variables: Variables, features: Mapping[str, jax.Array]
  ) -> tuple[dict[int, tuple[jax.Array, jax.Array]], Variables]:
    """Runs all gates with the batch's statistics.

    Args:
      variables: collections that hold the gates.
      features: anchors by name.

    Returns:
      The outputs of each gate, by anchor number; new batch statistics.
    """
    outputs, stats = {}, {}
    for n in self.anchors:
      outputs[n], new = self._gate().apply(
          self._own(variables, n),
          features[anchor_name(n)],
          train=True,
          mutable=['batch_stats'],
      )
      stats[gate_name(n)] = new['batch_stats']
    return outputs, {GATES: stats}

  def _own(self, variables: Variables, number: int) -> dict[str, Any]:
    if number not in self.anchors:
      raise ValueError(
          f'Anchor {number} has no gate; expected one of {self.anchors}.'
      )
    return {
        name: variables[name][GATES][gate_name(number)]
        for name in ('params', 'batch_stats')
    }


def gate_name(number: int) -> str:
  """Returns the key of the gate of an anchor."""
  return f'gate{number}'


def confidences(detection: jax.Array, log_variance: jax.Array) -> jax.Array:
  """Computes every one of `CONFIDENCES` from a gate's outputs.

  Policies sort a confidence into equal-frequency bins, so any monotone map of
  it gives the same policy.

  Args:
    detection: `(B, K)`.
    log_variance: `(B, K)`.

  Returns:
    `(3, B)`, higher for more confidence.
  """
  count = min(TOP_CLASSES, detection.shape[-1])
  _, top = jax.lax.top_k(detection, count)
  variance = jnp.take_along_axis(log_variance, top, axis=-1).mean(-1)
  log_shares = jax.nn.log_softmax(detection)
  return jnp.stack([
      -variance,
      margin(detection),
      (jnp.exp(log_shares) * log_shares).sum(-1),
  ])


def margin(logits: jax.Array) -> jax.Array:
  """Returns by how much the highest probability exceeds the second.

  Args:
    logits: `(B, K)`.

  Returns:
    `float32[B]`, from 0 to 1; 0 if there is a single class.
  """
  shares = jax.nn.softmax(logits.astype(jnp.float32))
  best, _ = jax.lax.top_k(shares, min(2, logits.shape[-1]))
  return best[:, 0] - best[:, -1]
