# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The evaluation protocols of Table II, and exact figures over all subnets.

One pass over the test split along the tree of subnet prefixes records for every
example and every subnet whether the answer is right. All protocols are read off
that table: runtime-random, one random subnet per sample, is a look-up in it.

N = examples, K_n = choices of stage n, P = passes.
"""

from collections.abc import Callable
import contextlib
import functools
import os
from typing import Any
import zipfile
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import devices, preemption, processes
from adaptanet_jax.data import pipeline
from adaptanet_jax.data.splits import Split
from adaptanet_jax.models import supernet
from adaptanet_jax.models.gates import GateSet, confidences, margin
from adaptanet_jax.models.parts import Variables
from adaptanet_jax.models.resnet import ResNet, anchor_name
from adaptanet_jax.models.subnet import (
  LARGEST,
  MIXED,
  NUM_STAGES,
  UNIFORM,
  Subnet,
)
from adaptanet_jax.programs import Program
from adaptanet_jax.progress import Progress

# A network mapped over devices: from (variables, `uint8[D, B, H, W, C]`, more)
# to a tree of arrays `[D, ..., B]`.
Predictor = Callable[..., Any]


def map_predictor(net: ResNet, predict: Callable[..., Any]) -> Predictor:
  """Maps a function of (network, variables, images, *more) over devices.

  Args:
    net: the network.
    predict: returns a tree of arrays whose last axis is that of the images. It
      receives `net.folded` and folded variables, so that kernels are
      standardised once per batch.

  Returns:
    The function for batches of images that are split among devices.
  """

  def run(variables: Variables, images: jax.Array, more: Any) -> Any:
    return predict(net.folded, net.fold(variables), images, *more)

  return devices.over_devices(run, in_axes=(None, 0, None), out_axes=0)


# Cached, so that a network evaluated after each epoch is compiled only once.
@functools.cache
def tree_predictor(net: ResNet, gates: GateSet | None = None) -> Predictor:
  """Returns the predictor of `supernet.outputs_by_subnet` for all subnets.

  Its further arguments, if any, are the batch statistics of each stage.
  """
  choices = (jnp.arange(len(net.choices)),) * NUM_STAGES

  def predict(
      folded: ResNet,
      variables: Variables,
      images: jax.Array,
      *statistics: Variables,
  ) -> dict[str, jax.Array]:
    return supernet.outputs_by_subnet(
        folded, variables, images, choices, gates, statistics
    )

  return map_predictor(net, predict)


@functools.cache
def subnets_predictor(
    net: ResNet, subnets: tuple[Subnet, ...], gates: GateSet | None = None
) -> Predictor:
  """Returns a predictor that runs some subnets one after the other.

  Args:
    net: the network.
    subnets: S subnets.
    gates: G gates to read as well, if any.

  Returns:
    Maps images to `prediction`, `int32[S, B]`, and its `gates.margin`,
    `float32[S, B]`; with gates to `confidence` and `detected` too, `[S, G, B]`
    in the order of `gates.anchors`.
  """
  choices = np.stack([subnet.encode() for subnet in subnets])

  def predict(
      folded: ResNet, variables: Variables, images: jax.Array
  ) -> dict[str, jax.Array]:
    def one(choice: jax.Array) -> dict[str, jax.Array]:
      logits, features = supernet.forward(folded, variables, images, choice)
      outputs = {'prediction': _classes(logits), 'margin': margin(logits)}
      if gates:
        read = [
            gates.run(variables, n, features[anchor_name(n)])
            for n in gates.anchors
        ]
        outputs['confidence'] = jnp.stack([confidences(*r)[0] for r in read])
        outputs['detected'] = jnp.stack([_classes(r[0]) for r in read])
      return outputs

    return jax.lax.map(one, jnp.asarray(choices))

  return map_predictor(net, predict)


@functools.cache
def full_predictor(net: ResNet) -> Predictor:
  """Returns a predictor of the full network's `prediction`."""

  def predict(
      folded: ResNet, variables: Variables, images: jax.Array
  ) -> dict[str, jax.Array]:
    logits, _ = folded.forward(variables, images, LARGEST)
    return {'prediction': _classes(logits)}

  return map_predictor(net, predict)


def _classes(logits: jax.Array) -> jax.Array:
  return logits.argmax(-1).astype(jnp.int32)


def program(
    predictor: Predictor,
    variables: Variables,
    images: jax.ShapeDtypeStruct,
    *more: Any,
    runs_long: bool = False,
) -> Program:
  """Returns a predictor with the shapes that `predict` passes to it.

  Args:
    predictor: the predictor.
    variables: collections of its network, or their shapes.
    images: shape of a batch; see `programs.image_shapes`.
    *more: its further arguments, or their shapes.
    runs_long: see `Program`.
  """
  variables, more = devices.replicated_shapes((variables, more))
  return Program(predictor, (variables, images, more), runs_long)


def predict(
    predictor: Predictor,
    variables: Variables,
    split: Split,
    batch_size: int,
    *more: Any,
    keep: str | None = None,
) -> dict[str, np.ndarray]:
  """Runs a predictor over a split on all devices.

  Args:
    predictor: a compiled predictor; see `program`.
    variables: collections of its network.
    split: examples; each is evaluated exactly once.
    batch_size: examples that go through the network at a time.
    *more: further arguments of the predictor, trees of arrays.
    keep: folder to save each batch's outputs to. After an interruption, the
      next call with the same arguments continues from there. None: nothing is
      saved.

  Returns:
    The predictor's outputs for all examples: numpy arrays `[..., N]`.
  """
  variables, more = devices.replicate((variables, more))
  rows = _read_kept(keep) if keep else []
  batches = pipeline.eval_batches(
      split,
      batch_size=batch_size,
      num_devices=jax.local_device_count(),
      process=processes.here(),
      first=len(rows),
  )
  progress: contextlib.AbstractContextManager[Progress | None]
  progress = contextlib.nullcontext()
  if keep:
    progress = Progress(
        os.path.basename(keep),
        first_step=len(rows),
        num_steps=-(-len(split) // batch_size),
        batch_size=batch_size,
    )
  with progress as shown:
    for batch in pipeline.prefetch(batches):
      preemption.NOTICE.check()
      images = devices.to_devices(batch.pop('image'))
      outputs = devices.from_devices(predictor(variables, images, more))
      row = processes.gather(
          jax.tree.map(processes.joined, outputs | batch)
      )
      if keep:
        _keep(keep, len(rows) + 1, row)
      rows.append(row)
      if shown:
        shown.advance()
  whole = {
      name: np.concatenate([row[name] for row in rows], -1) for name in rows[0]
  }
  rows.clear()  # Predictions of all subnets may be as large as the memory.
  # In the order of the split, without the padding.
  positions, valid = whole.pop('position'), whole.pop('valid')
  order = np.flatnonzero(valid)[np.argsort(positions[valid])]
  return {name: x[..., order] for name, x in whole.items()}


def _keep(folder: str, number: int, row: dict[str, Any]) -> None:
  if processes.is_writer():
    os.makedirs(folder, exist_ok=True)
    with processes.replacing(_kept_path(folder, number), 'wb') as file:
      np.savez_compressed(file, **row)


def _kept_path(folder: str, number: int) -> str:
  return os.path.join(folder, f'batch{number}.npz')


def _read_kept(folder: str) -> list[dict[str, np.ndarray]]:
  """Returns the saved outputs of the first batches, up to the first gap.

  A file that a copy of the workdir has cut off is a gap, too.
  """
  rows: list[dict[str, np.ndarray]] = []
  damages = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)
  with contextlib.suppress(*damages):
    while True:
      with open(_kept_path(folder, len(rows) + 1), 'rb') as file:
        with np.load(file) as arrays:
          rows.append(dict(arrays))
  # On a shared disk, one process may see a file later than another.
  count = processes.gather(np.array([len(rows)])).min()
  return rows[:count]


def summarize(
    correct: np.ndarray,
    madds: np.ndarray,
    *,
    passes: int,
    seed: int,
    delta: bool = False,
) -> dict[str, Any]:
  """Reads the protocols of Table II off the table of right answers.

  Args:
    correct: `bool[K, K, K, K, N]`.
    madds: MAdds of the same subnets, `int64[K, K, K, K]`.
    passes: P, passes of runtime-random.
    seed: seed for its draws of subnets.
    delta: whether all stages run their delta substitutes, or none does.

  Returns:
    The `uniform`, `mixed`, `random` and `exact` sections of results.json.
  """
  first = len(UNIFORM) if delta else 0
  block = (slice(first, first + len(UNIFORM)),) * NUM_STAGES
  correct, madds = correct[block], madds[block]
  top1 = correct.mean(-1)

  def entry(subnet: Subnet) -> dict[str, Any]:
    place = tuple(subnet.encode())  # Valid in either block.
    return {'top1': float(top1[place]), 'madds': int(madds[place])}

  return {
      'uniform': {
          str(subnet.stages[0].rho): entry(subnet) for subnet in UNIFORM
      },
      'mixed': {str(subnet): entry(subnet) for subnet in MIXED},
      'random': _runtime_random(correct, madds, passes=passes, seed=seed),
      'exact': {
          'mean': float(top1.mean()),
          'min': float(top1.min()),
          'max': float(top1.max()),
          'subnets': int(top1.size),
      },
  }


def _runtime_random(
    correct: np.ndarray, madds: np.ndarray, *, passes: int, seed: int
) -> dict[str, Any]:
  """Draws a subnet per sample and pass; mean and deviation over passes.

  The deviation over ten passes is only known to about a quarter of itself. That
  over all passes needs no draws: a pass is the mean of independent ones, each
  right with the share of subnets that are right about the sample.
  """
  num_examples = correct.shape[-1]
  table = correct.reshape(-1, num_examples)
  right = table.mean(0)
  rng = np.random.default_rng(seed)
  drawn = rng.integers(0, len(table), (passes, num_examples))
  accuracies = table[drawn, np.arange(num_examples)].mean(1)
  return {
      'mean': float(accuracies.mean()),
      'std': float(accuracies.std()),
      'exact_std': float(np.sqrt((right * (1.0 - right)).sum()) / num_examples),
      'passes': passes,
      'madds_mean': round(float(madds.ravel()[drawn].mean())),
  }
