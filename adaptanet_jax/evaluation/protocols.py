# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The evaluation protocols of Table II, and exact figures over all widths.

One pass over the test split by the tree of prefixes says, for every example and
every subnet, whether it is right. All protocols are read off that table:
runtime-random, one subnet a sample, is a look-up in it.

N = examples, K_n = choices of stage n, P = passes.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax.data import augment, pipeline
from adaptanet_jax.data.sources import Split
from adaptanet_jax.evaluation.cost import CostTable
from adaptanet_jax.models import supernet
from adaptanet_jax.models.resnet import ResNet, Variables
from adaptanet_jax.models.subnet import (
  LARGEST,
  MIXED,
  NUM_STAGES,
  UNIFORM,
  Subnet,
)
from adaptanet_jax.training.step import AXIS, replicate


def correct_by_subnet(
    net: ResNet, variables: Variables, split: Split, *, batch_size: int
) -> np.ndarray:
  """Says which examples each width setting gets right.

  Args:
    net: the network.
    variables: its collections.
    split: examples; each is evaluated exactly once.
    batch_size: examples that go through the network at a time.

  Returns:
    `bool[K_1, K_2, K_3, K_4, N]`.
  """
  predict = _tree_predictor(net)
  return _predict(predict, variables, split, batch_size) == split.labels


def correct_of_subnets(
    net: ResNet,
    variables: Variables,
    split: Split,
    subnets: tuple[Subnet, ...],
    *,
    batch_size: int,
) -> np.ndarray:
  """Says which examples some subnets get right, one after the other.

  Args:
    net: the network.
    variables: its collections.
    split: examples; each is evaluated exactly once.
    subnets: what to evaluate.
    batch_size: examples that go through the network at a time.

  Returns:
    `bool[len(subnets), N]`.
  """
  predict = _subnets_predictor(net, subnets)
  return _predict(predict, variables, split, batch_size) == split.labels


def correct_at_full_width(
    net: ResNet, variables: Variables, split: Split, *, batch_size: int
) -> np.ndarray:
  """Says which examples the full network gets right, `bool[N]`."""
  predict = _full_predictor(net)
  return _predict(predict, variables, split, batch_size) == split.labels


# (variables, `uint8[D, B, H, W, C]`) -> `int32[D, ..., B]` predicted classes.
Predictor = Callable[[Variables, jax.Array | np.ndarray], jax.Array]


def _map(
    predict: Callable[[Variables, jax.Array], jax.Array],
) -> Predictor:
  def run(variables: Variables, images: jax.Array) -> jax.Array:
    return predict(variables, augment.normalize(images))

  return jax.pmap(run, axis_name=AXIS, in_axes=(None, 0), out_axes=0)


# Cached, so that a network that is evaluated after each epoch compiles once.
@functools.cache
def _tree_predictor(net: ResNet) -> Predictor:
  widths = jnp.arange(len(supernet.BRANCHES))
  choices = (widths,) * NUM_STAGES
  return _map(
      functools.partial(supernet.predictions_by_subnet, net, choices=choices)
  )


@functools.cache
def _subnets_predictor(
    net: ResNet, subnets: tuple[Subnet, ...]
) -> Predictor:
  choices = np.stack([subnet.encode() for subnet in subnets])

  def predict(variables: Variables, images: jax.Array) -> jax.Array:
    def one(choice: jax.Array) -> jax.Array:
      logits, _ = supernet.forward(net, variables, images, choice)
      return logits.argmax(-1).astype(jnp.int32)

    return jax.lax.map(one, jnp.asarray(choices))

  return _map(predict)


@functools.cache
def _full_predictor(net: ResNet) -> Predictor:
  def predict(variables: Variables, images: jax.Array) -> jax.Array:
    logits, _ = net.forward(variables, images, LARGEST)
    return logits.argmax(-1).astype(jnp.int32)

  return _map(predict)


def _predict(
    predict: Predictor, variables: Variables, split: Split, batch_size: int
) -> np.ndarray:
  """Runs `predict` over a split on all devices; returns `int32[..., N]`."""
  num_devices = jax.local_device_count()
  variables = replicate(variables, num_devices)
  rows = []
  positions = []
  for batch in pipeline.eval_batches(
      split, batch_size=batch_size, num_devices=num_devices
  ):
    predicted = np.asarray(predict(variables, batch['image']))
    # `(D, ..., B)` to `(..., D, B)`, then without the padding.
    rows.append(np.moveaxis(predicted, 0, -2)[..., batch['valid']])
    positions.append(batch['position'][batch['valid']])
  order = np.argsort(np.concatenate(positions))
  return np.concatenate(rows, axis=-1)[..., order]


def summarize(
    correct: np.ndarray, costs: CostTable, *, passes: int, seed: int
) -> dict[str, Any]:
  """Reads the protocols of Table II off the table of right answers.

  Args:
    correct: `bool[K_1, K_2, K_3, K_4, N]`.
    costs: of the same network.
    passes: P, of runtime-random.
    seed: of the subnets that it draws.

  Returns:
    The `uniform`, `mixed`, `random` and `exact` sections of results.json.
  """
  top1 = correct.mean(-1)

  def entry(subnet: Subnet) -> dict[str, Any]:
    return {
        'top1': float(top1[tuple(subnet.encode())]),
        'madds': costs.subnet(subnet).madds,
    }

  return {
      'uniform': {
          str(subnet.stages[0].rho): entry(subnet) for subnet in UNIFORM
      },
      'mixed': {str(subnet): entry(subnet) for subnet in MIXED},
      'random': _runtime_random(correct, costs, passes=passes, seed=seed),
      'exact': {
          'mean': float(top1.mean()),
          'min': float(top1.min()),
          'max': float(top1.max()),
          'subnets': int(top1.size),
      },
  }


def _runtime_random(
    correct: np.ndarray, costs: CostTable, *, passes: int, seed: int
) -> dict[str, Any]:
  """Mean and standard deviation over passes; one random subnet a sample."""
  num_examples = correct.shape[-1]
  table = correct.reshape(-1, num_examples)
  rng = np.random.default_rng(seed)
  drawn = rng.integers(0, len(table), (passes, num_examples))
  accuracies = table[drawn, np.arange(num_examples)].mean(1)
  return {
      'mean': float(accuracies.mean()),
      'std': float(accuracies.std()),
      'passes': passes,
      'madds_mean': round(float(costs.madds_by_subnet().ravel()[drawn].mean())),
  }
