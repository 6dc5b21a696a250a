# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Losses of the teacher and of the anchors (Sec. III-B).

B = batch, K = classes. Outputs are dicts of arrays with fixed names: the
anchors from one stage on, and `logits`.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

Outputs = dict[str, jax.Array]


def mean_squared_error(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Returns the mean over all elements, in float32."""
  difference = prediction.astype(jnp.float32) - target.astype(jnp.float32)
  return jnp.square(difference).mean()


def anchor_loss(
    outputs: Mapping[str, jax.Array], targets: Mapping[str, jax.Array]
) -> jax.Array:
  """Returns L_n of Eq. 1: the sum of mean squared errors of all outputs.

  With outputs n..N made by running anchor n on through the teacher (Eq. 2),
  this is the loss of module n; with outputs 1..N of the student alone, it is
  the loss of the lock-in.

  Args:
    outputs: anchors `(B, H, W, C)` and logits `(B, K)`, by name.
    targets: arrays to match, same names and shapes.

  Returns:
    A float32 scalar.

  Raises:
    ValueError: the names differ.
  """
  if outputs.keys() != targets.keys():
    raise ValueError(
        f'Outputs {sorted(outputs)} do not match targets {sorted(targets)}.'
    )
  errors = [
      mean_squared_error(outputs[name], targets[name])
      for name in sorted(outputs)
  ]
  return sum(errors[1:], errors[0])


def cross_entropy(
    logits: jax.Array, labels: jax.Array, *, label_smoothing: float = 0.0
) -> jax.Array:
  """Returns the mean cross-entropy to hard labels, smoothed over all classes.

  Args:
    logits: `(B, K)`.
    labels: `int[B]`.
    label_smoothing: share of the target spread evenly over the K classes.

  Returns:
    A float32 scalar.
  """
  targets = jax.nn.one_hot(labels, logits.shape[-1])
  targets = optax.smooth_labels(targets, label_smoothing)
  return optax.softmax_cross_entropy(logits, targets).mean()


def top1(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns the share of rows of `(B, K)` whose largest logit is the label."""
  return (logits.argmax(-1) == labels).astype(jnp.float32).mean()
