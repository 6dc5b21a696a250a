# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Per-sample routing: each image of a batch runs under its own subnet.

It is one compiled program. At each stage the batch is sorted by choice and cut
into chunks of one choice each; a `lax.map` of a switch runs the chunks, and the
original order is restored. Anchors make this possible after every stage: they
have one shape whatever produced them. Padding fills up the last chunk of each
choice, and empty chunks are skipped.

B = batch, H = height, W = width, C = channels, K = choices of a stage,
c = images per chunk.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any, NamedTuple

import flax.struct
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax.models.gates import GateSet
from adaptanet_jax.models.parts import Variables
from adaptanet_jax.models.resnet import ResNet, stage_numbers
from adaptanet_jax.models.subnet import NUM_STAGES
from adaptanet_jax.models.supernet import stage_variables, switch_stage

# Anchors whose gates choose how the next stage runs.
ROUTING_GATES = tuple(range(1, NUM_STAGES))
# Multiplicative hashing by an odd number near 2 ** 16 times the golden ratio
# (Knuth, The Art of Computer Programming, vol. 3, 6.4), modulo 2 ** 16.
HASH_FACTOR, HASH_BITS = 40503, 16
# Images per chunk. Small chunks waste less on padding, large ones run faster.
CHUNK_SIZE = 8


def routing_gates(gates: GateSet | None) -> GateSet | None:
  """Returns the gates that policies read; None if one of them is missing."""
  if not gates or not set(ROUTING_GATES) <= set(gates.anchors):
    return None
  return dataclasses.replace(gates, anchors=ROUTING_GATES)


class Used(NamedTuple):
  """What policies may need; a program for them contains nothing else.

  Attributes:
    choices: the indices of the choices that may occur, for each stage.
    gates: the anchors whose gates may be read.
  """

  choices: tuple[tuple[int, ...], ...]
  gates: tuple[int, ...]


@flax.struct.dataclass
class Policy:
  """Turns confidences into choices; an argument of the program that routes.

  It has two rules, each for a share of the images; see
  `evaluation.policies.Rule`. b is the number of bins.

  Attributes:
    share: share of the images that follow the first rule, `float32[]`.
    start: each rule's choice for stage 1, which reads no gate, `int32[2]`.
    edges: for the gates of anchors 1 to 3, the inner borders of the bins of the
      confidence after each prefix of choices, `float32[K ** n, b - 1]`.
    reads: for the same gates, whether each rule reads the gate, by the bins of
      the gates before it: `bool[2]`, `bool[2, b]`, `bool[2, b, b]`. An image
      that does not read a gate counts as in its bin 0.
    choices: for the same gates, the next stage's choice, by the bins so far:
      `int32[2, b]`, `int32[2, b, b]`, `int32[2, b, b, b]`.
  """

  share: jax.Array
  start: jax.Array
  edges: tuple[jax.Array, ...]
  reads: tuple[jax.Array, ...]
  choices: tuple[jax.Array, ...]

  @property
  def used(self) -> Used:
    """The choices and gates that it may need; not of a traced policy."""
    return Used(
        tuple(
            tuple(np.unique(choices).tolist())
            for choices in (self.start, *self.choices)
        ),
        tuple(
            gate
            for gate, reads in zip(ROUTING_GATES, self.reads)
            if np.asarray(reads).any()
        ),
    )


def run_stage_by_sample(
    net: ResNet,
    variables: Variables,
    x: jax.Array,
    number: int,
    choices: jax.Array,
    *,
    chunk_size: int = CHUNK_SIZE,
    used: tuple[int, ...] = (),
) -> jax.Array:
  """Runs one stage on each image, with a choice for each image.

  Args:
    net: the network.
    variables: its collections.
    x: `(B, H, W, C)` images for stage 1, otherwise the previous anchor.
    number: 1 to 4.
    choices: `int32[B]`, indices into `net.choices`.
    chunk_size: c.
    used: the indices that occur, which alone are compiled; default: all.

  Returns:
    `(B, H', W', C')` anchor.
  """
  x = jnp.asarray(x)
  used = used or tuple(range(len(net.choices)))
  # From here on, choices are places among those that are used.
  places = np.zeros(len(net.choices), np.int32)
  places[list(used)] = np.arange(len(used))
  choices = jnp.asarray(places)[choices]
  branches = [net.choices[n] for n in used]
  if x.shape[0] == 1:  # One image needs no sorting and no padding.
    return switch_stage(
        net, variables, x, number, choices[0], branches=branches
    )[0]
  own = stage_variables(net, variables, number)
  runs: list[Callable[[jax.Array], jax.Array]] = [
      functools.partial(_run_chunk, net, own, number, choice, x)
      for choice in branches
  ]
  shape = net.anchor_shapes[number - 1]
  idle = len(runs)
  runs.append(lambda _: jnp.zeros((chunk_size, *shape), net.dtype))
  slots, takes, chunk_choices = _chunks(choices, len(used), chunk_size)
  anchors = lax.map(
      lambda chunk: lax.switch(chunk[0], runs, chunk[1]),
      (jnp.where(chunk_choices < 0, idle, chunk_choices), takes),
  )
  return anchors.reshape(-1, *shape)[slots]


def _run_chunk(
    net: ResNet, variables: Variables, number: int, choice: Any, x: jax.Array,
    take: jax.Array,
) -> jax.Array:
  return net.run_stage(variables, x[take], number, choice)[0]


def _chunks(
    choices: jax.Array, num_choices: int, chunk_size: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Sorts images into chunks of one choice each.

  Args:
    choices: `int32[B]`.
    num_choices: K.
    chunk_size: c.

  Returns:
    `int32[B]`, each image's place among those of all chunks; `int32[M, c]`, the
    images of each chunk, image 0 for padding; `int32[M]`, the choice of each
    chunk, -1 if it is empty.
  """
  (batch_size,) = choices.shape
  counts = jnp.zeros(num_choices, jnp.int32).at[choices].add(1)
  num_chunks = -(-counts // chunk_size)
  ends = jnp.cumsum(num_chunks)
  first_of_choice = jnp.cumsum(counts) - counts
  # The inverse of the sort: each image's place in the order of choices.
  order = jnp.argsort(choices, stable=True)
  ranks = jnp.zeros(batch_size, jnp.int32).at[order].set(
      jnp.arange(batch_size, dtype=jnp.int32)
  )
  slots = (
      (ends - num_chunks)[choices] * chunk_size
      + ranks
      - first_of_choice[choices]
  )
  most = max_chunks(batch_size, num_choices, chunk_size)
  takes = jnp.zeros(most * chunk_size, jnp.int32).at[slots].set(
      jnp.arange(batch_size, dtype=jnp.int32)
  )
  numbers = jnp.arange(most)
  chunk_choices = jnp.searchsorted(ends, numbers, side='right')
  chunk_choices = jnp.where(numbers < ends[-1], chunk_choices, -1)
  return slots, takes.reshape(most, chunk_size), chunk_choices


def max_chunks(batch_size: int, num_choices: int, chunk_size: int) -> int:
  """Returns the most chunks that any choices of a batch can need."""
  used = min(num_choices, batch_size)
  return (batch_size + used * (chunk_size - 1)) // chunk_size


def executed(
    stage_madds: np.ndarray,
    subnets: np.ndarray,
    *,
    batch_size: int,
    chunk_size: int = CHUNK_SIZE,
) -> int:
  """Counts the MAdds that some images take, padding of chunks included.

  Args:
    stage_madds: `int64[4, K]` MAdds of each choice of each stage for one image.
    subnets: `int[N, 4]`, a subnet for each image.
    batch_size: number of images in the batch that ran, padding included; a
      batch of 1 runs without chunks.
    chunk_size: c.

  Returns:
    MAdds of all chunks.
  """
  if batch_size == 1:
    chunk_size = 1  # See `run_stage_by_sample`.
  counts = np.stack([
      np.bincount(stage, minlength=stage_madds.shape[1]) for stage in subnets.T
  ])
  return int((-(-counts // chunk_size) * chunk_size * stage_madds).sum())


def forward_by_sample(
    net: ResNet,
    variables: Variables,
    images: jax.Array,
    choices: jax.Array,
    *,
    chunk_size: int = CHUNK_SIZE,
) -> jax.Array:
  """Runs each image under its own subnet.

  Args:
    net: the network.
    variables: its collections.
    images: `(B, H, W, C)`, see `layers.normalize`.
    choices: `int32[B, 4]`, a subnet for each image, as `Subnet.encode` gives.
    chunk_size: c.

  Returns:
    Logits `(B, num_classes)`.
  """
  x = images
  for n in stage_numbers():
    x = run_stage_by_sample(
        net, variables, x, n, choices[:, n - 1], chunk_size=chunk_size
    )
  return net.run_head(variables, x)


def draw(images: jax.Array) -> jax.Array:
  """Gives each image a pseudo-random number: a hash of its pixels.

  So an image always takes the same path, alone or in a batch, on every device
  and in every runtime.

  Args:
    images: `uint8[B, H, W, C]`.

  Returns:
    `float32[B]`, evenly spread from 0 to below 1.
  """
  total = images.astype(jnp.uint32).sum((1, 2, 3), dtype=jnp.uint32)
  hashed = total * jnp.uint32(HASH_FACTOR) & jnp.uint32(2**HASH_BITS - 1)
  return hashed.astype(jnp.float32) / 2.0**HASH_BITS


def route(
    net: ResNet,
    gates: GateSet,
    variables: Variables,
    images: jax.Array,
    policy: Policy,
    *,
    chunk_size: int = CHUNK_SIZE,
    used: Used | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Runs each image under the subnet that its own confidences lead to.

  Args:
    net: the network.
    gates: gates of anchors 1 to 3, at least.
    variables: collections of both.
    images: `uint8[B, H, W, C]`.
    policy: how confidences become choices.
    chunk_size: c.
    used: `Policy.used` of the policies to be run; default: all choices and
      gates.

  Returns:
    Logits `(B, num_classes)`, the subnets that were run, `int32[B, 4]`, and
    whether each image read each gate, `bool[B, 3]`.
  """
  every = tuple(range(len(net.choices)))
  used = used or Used((every,) * NUM_STAGES, ROUTING_GATES)
  rule = (draw(images) >= policy.share).astype(jnp.int32)
  choice = policy.start[rule]
  prefix = jnp.zeros_like(choice)
  path: tuple[jax.Array, ...] = (rule,)
  unread = jnp.zeros_like(choice)
  taken, read = [], []
  x = images
  for n in stage_numbers():
    x = run_stage_by_sample(
        net,
        variables,
        x,
        n,
        choice,
        chunk_size=chunk_size,
        used=used.choices[n - 1],
    )
    taken.append(choice)
    prefix = prefix * len(net.choices) + choice
    if n < NUM_STAGES:
      reads = policy.reads[n - 1][path]
      bins = unread
      if n in used.gates:
        # It is not run for a batch of which no image reads it.
        bins = lax.cond(
            reads.any(),
            functools.partial(_bins, gates, n),
            lambda *_: unread,
            *(variables, x, policy.edges[n - 1][prefix]),
        )
      path = (*path, jnp.where(reads, bins, 0))
      choice = policy.choices[n - 1][path]
      read.append(reads)
  logits = net.run_head(variables, x)
  return logits, jnp.stack(taken, axis=1), jnp.stack(read, axis=1)


def _bins(
    gates: GateSet,
    number: int,
    variables: Variables,
    anchor: jax.Array,
    edges: jax.Array,
) -> jax.Array:
  """Returns the bins `int32[B]` of anchors, by borders `float32[B, b - 1]`."""
  confident = gates.confide(variables, number, anchor)
  return (confident[:, None] > edges).sum(-1, dtype=jnp.int32)
