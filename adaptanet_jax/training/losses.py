# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Losses of the teacher, of the anchors (Sec. III-B) and of gates (III-C).

B = batch, K = classes. Outputs are dicts of arrays with fixed names: the
anchors from one stage on, and `logits`.
"""

import jax
import jax.numpy as jnp
import optax

Outputs = dict[str, jax.Array]


def mean_squared_error(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Returns the mean over all elements, in float32."""
  difference = prediction.astype(jnp.float32) - target.astype(jnp.float32)
  return jnp.square(difference).mean()


def anchor_loss(outputs: Outputs, targets: Outputs) -> jax.Array:
  """Returns L_n of Eq. 1: the sum of mean squared errors of all outputs.

  With outputs n..N made by running the teacher from the student's anchor n on
  (Eq. 2), this is the loss of module n; with outputs 1..N of the student alone,
  it is the loss of the lock-in.

  Args:
    outputs: anchors `(B, H, W, C)` and logits `(B, K)`, by name.
    targets: arrays to match, same names and shapes.

  Returns:
    A float32 scalar.

  Raises:
    ValueError: the names differ.
  """
  errors = jax.tree.map(mean_squared_error, outputs, targets)
  total: jax.Array = jax.tree.reduce(jnp.add, errors)
  return total


def smooth_targets(
    labels: jax.Array, num_classes: int, *, label_smoothing: float
) -> jax.Array:
  """Returns hard labels as probabilities, smoothed over all classes.

  Args:
    labels: `int[B]`.
    num_classes: K.
    label_smoothing: share of the target spread evenly over the K classes.

  Returns:
    `(B, K)`.
  """
  targets = jax.nn.one_hot(labels, num_classes)
  return optax.smooth_labels(targets, label_smoothing)


def soft_cross_entropy(logits: jax.Array, target: jax.Array) -> jax.Array:
  """Returns the mean cross-entropy to another network's probabilities.

  Args:
    logits: `(B, K)`.
    target: `(B, K)` logits whose softmax is to be matched.

  Returns:
    A float32 scalar.
  """
  return optax.softmax_cross_entropy(logits, jax.nn.softmax(target)).mean()


# KL divergences between a gate's prediction P and the pseudo-Dirac target G.
DIVERGENCES = ('forward', 'literal')
# Variance of the pseudo-Dirac target (Sec. III-C).
TARGET_VARIANCE = 1e-4


def gaussian_kl(
    mean: jax.Array,
    log_variance: jax.Array,
    target: jax.Array,
    divergence: str,
) -> jax.Array:
  """Returns the KL divergence of a gate (Sec. III-C), mean over all elements.

  The paper uses KL(P||G). For any error of the mean, the variance of P that
  minimises it is the variance of G, so the variance head would learn a
  constant. The default is KL(G||P) instead; the variance that minimises it is
  that of G plus the squared error.

  Args:
    mean: `(B, K)` means of P.
    log_variance: `(B, K)` logarithms of the variances of P.
    target: `(B, K)` means of G.
    divergence: 'forward' for KL(G||P), 'literal' for the paper's KL(P||G).

  Returns:
    A float32 scalar.

  Raises:
    ValueError: the divergence is unknown.
  """
  if divergence not in DIVERGENCES:
    raise ValueError(
        f'Unknown divergence {divergence!r}; expected one of {DIVERGENCES}.'
    )
  log_ratio = log_variance - jnp.log(TARGET_VARIANCE)
  square = jnp.square(mean - target)
  if divergence == 'forward':
    scaled = (TARGET_VARIANCE + square) * jnp.exp(-log_variance)
    return 0.5 * (log_ratio + scaled - 1.0).mean()
  scaled = (jnp.exp(log_variance) + square) / TARGET_VARIANCE
  return 0.5 * (scaled - log_ratio - 1.0).mean()


def gate_loss(
    detection: jax.Array,
    log_variance: jax.Array,
    target: jax.Array,
    divergence: str,
) -> jax.Array:
  """Returns the loss of a Var Gate (Eq. 4): KL + soft cross-entropy.

  The paper has |KL|, which is the same: a divergence is never negative.

  Args:
    detection: `(B, K)` logits, also the means of the predicted distribution.
    log_variance: `(B, K)`.
    target: `(B, K)` logits of the largest subnet.
    divergence: see `gaussian_kl`.

  Returns:
    A float32 scalar.
  """
  kl = gaussian_kl(detection, log_variance, target, divergence)
  return kl + soft_cross_entropy(detection, target)


def top1(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns the share of rows of `(B, K)` whose largest logit is the label."""
  return (logits.argmax(-1) == labels).astype(jnp.float32).mean()
