# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The supernet: every sub-network in one compiled program.

Anchors have one shape whatever produced them, so each stage is a `lax.switch`
over its branches and the network is four of them. An `int32[4]` picks the
sub-network at run time, and only its own work is done.
"""

from collections.abc import Mapping, Sequence
import functools
from typing import Any

import jax
from jax import lax
from jax.custom_derivatives import SymbolicZero
import jax.numpy as jnp

from adaptanet_jax import trees
from adaptanet_jax.models.gates import GateSet, confidence, gate_name
from adaptanet_jax.models.resnet import (
  BACKBONE,
  DELTA,
  ResNet,
  Variables,
  anchor_name,
  stage_name,
  stage_numbers,
)
from adaptanet_jax.models.slimmable import DEAR, MOMENTUM
from adaptanet_jax.models.subnet import StageChoice


def switch_stage(
    net: ResNet,
    variables: Variables,
    x: jax.Array,
    number: int,
    choice: jax.Array,
    *,
    train: tuple[str, ...] = (),
) -> tuple[jax.Array, Variables]:
  """Runs one stage as `choice` says; see `ResNet.run_stage`.

  Never under `vmap`: it turns a switch into a select that runs every branch.

  Args:
    net: the network.
    variables: collections of the network, or of at least this stage.
    x: `(B, H, W, C)` images for stage 1, else the anchor before.
    number: 1 to 4.
    choice: `int32[]`, index into `net.choices`.
    train: parts whose batch statistics are used and moved.

  Returns:
    The stage's output and the new batch statistics of the parts `train`.
  """
  branches = tuple(
      functools.partial(_run_branch, net, number, stage_choice, train)
      for stage_choice in net.choices
  )
  return _switch(branches, choice, stage_variables(net, variables, number), x)


def stage_variables(
    net: ResNet, variables: Variables, number: int
) -> Variables:
  """Returns the part of a network's collections that one stage reads."""
  names = [f'{BACKBONE}/{stage_name(number)}']
  if number == 1:
    names.append(f'{BACKBONE}/stem')
  if net.delta:
    names.append(f'{DELTA}/{stage_name(number)}')
  return {
      collection: trees.split(tree, [n for n in names if trees.has(tree, n)])[0]
      for collection, tree in variables.items()
  }


def _run_branch(
    net: ResNet,
    number: int,
    choice: StageChoice,
    train: tuple[str, ...],
    variables: Variables,
    x: jax.Array,
) -> tuple[jax.Array, Variables]:
  x, stats = net.run_stage(variables, x, number, choice, train=train)
  # All branches return the same tree, moved or not.
  old = variables.get('batch_stats', {})
  moving = {part: old[part] for part in train if part in old}
  return x, trees.merge(moving, stats)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _switch(branches: Sequence[Any], choice: jax.Array, *operands: Any) -> Any:
  """`lax.switch` that keeps activations of the branch that runs, and no others.

  JAX's own gradient of a switch keeps those of every branch, each in a place of
  its own, those that did not run as zeros. Here all branches share one place,
  and what they keep is what is dear to compute again, outputs of convolutions
  and moments of norms: the rest is computed anew for the gradient, in less time
  than it takes to write it down. Gradients are computed by those operands alone
  that something differentiates by: not by a frozen backbone.
  """
  return lax.switch(choice, branches, *operands)


@jax.tree_util.register_static
class _Branch:
  """A branch whose two passes run in switches of their own.

  Made by tracing the forward pass, once: that tells what the other pass needs
  and how it goes, and the switches then run what was traced. Static, so that
  it can travel among what one switch leaves for the other.

  Attributes:
    forward: maps operands, those that are differentiated by and the rest, to
      the branch's outputs and what its gradient needs beside the operands.
    kept: shapes of the latter.
  """

  def __init__(self, run: Any, moving: Any, still: Any) -> None:
    self._run = run
    self.forward = jax.jit(self._forward)
    _, self.kept = jax.eval_shape(self.forward, moving, still)

  def _forward(self, moving: Any, still: Any) -> tuple[Any, list[jax.Array]]:
    @functools.partial(
        jax.checkpoint,
        policy=jax.checkpoint_policies.save_only_these_names(DEAR),
        prevent_cse=False,  # The other pass is in another computation.
    )
    def run(moving: Any) -> Any:
      return self._run(*_fill(moving, still))

    outputs, pull = jax.vjp(run, moving)
    leaves, self._pull = jax.tree.flatten(pull)
    places = {
        id(operand): place
        for place, operand in enumerate(jax.tree.leaves((moving, still)))
    }
    self._places = [places.get(id(leaf)) for leaf in leaves]
    return outputs, [leaf for leaf in leaves if id(leaf) not in places]

  def backward(
      self, moving: Any, still: Any, kept: list[jax.Array], cotangents: Any
  ) -> Any:
    """Returns the cotangents of `moving`."""
    operands, others = jax.tree.leaves((moving, still)), iter(kept)
    leaves = [
        next(others) if place is None else operands[place]
        for place in self._places
    ]
    return jax.tree.unflatten(self._pull, leaves)(cotangents)[0]


def _switch_fwd(
    branches: Sequence[Any], choice: Any, *operands: Any
) -> tuple[Any, Any]:
  moving = jax.tree.map(lambda p: p.value if p.perturbed else None, operands)
  still = jax.tree.map(lambda p: None if p.perturbed else p.value, operands)
  passes = [_Branch(branch, moving, still) for branch in branches]
  sizes: dict[str, int] = {}
  for each in passes:
    for name, own in _by_type(each.kept).items():
      sizes[name] = max(sizes.get(name, 0), sum(array.size for array in own))

  def run(branch: _Branch, moving: Any, still: Any) -> tuple[Any, Any]:
    outputs, kept = branch.forward(moving, still)
    return outputs, _pack(kept, sizes)

  runs = [functools.partial(run, branch) for branch in passes]
  outputs, kept = lax.switch(choice.value, runs, moving, still)
  return outputs, (passes, choice.value, moving, still, kept)


def _by_type(arrays: Sequence[Any]) -> dict[str, list[Any]]:
  found: dict[str, list[Any]] = {}
  for array in arrays:
    found.setdefault(array.dtype.name, []).append(array)
  return found


def _pack(
    arrays: Sequence[jax.Array], sizes: Mapping[str, int]
) -> dict[str, jax.Array]:
  """Writes arrays into one of each type, `[size]`, the rest zeros."""
  by_type = _by_type(arrays)
  packed = {}
  for name, size in sizes.items():
    own = [array.ravel() for array in by_type.get(name, ())]
    rest = jnp.zeros(size - sum(array.size for array in own), name)
    packed[name] = jnp.concatenate([*own, rest])
  return packed


def _unpack(
    packed: Mapping[str, jax.Array], shapes: Sequence[jax.ShapeDtypeStruct]
) -> list[jax.Array]:
  """Returns the arrays of these shapes that `_pack` wrote."""
  starts = dict.fromkeys(packed, 0)
  arrays = []
  for shape in shapes:
    name = shape.dtype.name
    end = starts[name] + shape.size
    arrays.append(packed[name][starts[name] : end].reshape(shape.shape))
    starts[name] = end
  return arrays


def _fill(first: Any, second: Any) -> Any:
  """Merges two trees; each has None where the other has a leaf."""
  return jax.tree.map(
      lambda a, b: b if a is None else a,
      first,
      second,
      is_leaf=lambda leaf: leaf is None,
  )


def _switch_bwd(
    branches: Sequence[Any], residuals: Any, cotangents: Any
) -> tuple[Any, ...]:
  del branches
  passes, choice, *operands = residuals
  cotangents = jax.tree.map(
      _instantiate,
      cotangents,
      is_leaf=lambda leaf: isinstance(leaf, SymbolicZero),
  )

  def pull(
      branch: _Branch, moving: Any, still: Any, packed: Any, cotangents: Any
  ) -> Any:
    kept = _unpack(packed, branch.kept)
    return branch.backward(moving, still, kept, cotangents)

  pulls = [functools.partial(pull, branch) for branch in passes]
  return None, *lax.switch(choice, pulls, *operands, cotangents)


def _instantiate(cotangent: Any) -> Any:
  if isinstance(cotangent, SymbolicZero):
    return jnp.zeros(cotangent.shape, cotangent.dtype)
  return cotangent


_switch.defvjp(_switch_fwd, _switch_bwd, symbolic_zeros=True)


def forward(
    net: ResNet, variables: Variables, images: jax.Array, choices: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Runs the subnet that `choices` names.

  Args:
    net: the network.
    variables: its collections.
    images: `(B, H, W, C)` normalised images.
    choices: `int32[4]`, as `Subnet.encode` gives it.

  Returns:
    Logits `(B, num_classes)`, and the anchors by name.
  """
  features = {}
  x = images
  for n in stage_numbers():
    x, _ = switch_stage(net, variables, x, n, choices[n - 1])
    features[anchor_name(n)] = x
  return net.run_head(variables, x), features


def outputs_by_subnet(
    net: ResNet,
    variables: Variables,
    images: jax.Array,
    choices: tuple[jax.Array, ...],
    gates: GateSet | None = None,
    statistics: tuple[Variables, ...] = (),
) -> dict[str, jax.Array]:
  """Classifies images under every combination of the stages' choices.

  Walks the tree of prefixes, so a stage runs once for each way to reach it:
  8 + 64 + 512 + 4096 stage runs for all subnets, in place of 4 * 4096.

  Args:
    net: the network.
    variables: its collections, with those of `gates`.
    images: `(B, H, W, C)` normalised images.
    choices: for each stage the `int32[K_n]` branches to try.
    gates: gates to read on the way, if any.
    statistics: for each stage batch statistics `[K_1, ..., K_n, ...]` of every
      way to reach it, as `statistics_by_subnet` gives them; none: those of
      `variables` for all.

  Returns:
    `prediction`, the predicted classes, `int32[K_1, K_2, K_3, K_4, B]`; and for
    each gate its confidence after the stages up to its anchor, such as `gate2`,
    `float32[K_1, K_2, B]`.
  """

  def walk(
      x: jax.Array, number: int, statistics: tuple[Variables, ...]
  ) -> dict[str, jax.Array]:
    if number > len(choices):
      logits = net.run_head(variables, x)
      return {'prediction': logits.argmax(-1).astype(jnp.int32)}

    def descend(
        inputs: tuple[jax.Array, tuple[Variables, ...]],
    ) -> dict[str, jax.Array]:
      choice, below = inputs
      own = trees.merge(variables, *below[:1])
      anchor, _ = switch_stage(net, own, x, number, choice)
      outputs = walk(anchor, number + 1, below[1:])
      if gates and number in gates.anchors:
        read = gates.run(variables, number, anchor)
        outputs[gate_name(number)] = confidence(*read)
      return outputs

    return lax.map(descend, (choices[number - 1], statistics))

  return walk(images, 1, statistics)


def statistics_by_subnet(
    net: ResNet,
    variables: Variables,
    images: jax.Array,
    choices: tuple[jax.Array, ...],
) -> tuple[Variables, ...]:
  """Takes the batch statistics of images at every way to reach each stage.

  What a stage is fed depends on how the ones before it ran, so its statistics
  do: those of a subnet are not those of another one that shares its last stage.

  Args:
    net: the network.
    variables: its collections; every norm uses the statistics of `images`.
    images: `(B, H, W, C)` normalised images.
    choices: for each stage the `int32[K_n]` branches to try.

  Returns:
    For each stage a collection `{'batch_stats': ...}`, `[K_1, ..., K_n, ...]`.
  """
  parts = (BACKBONE, DELTA)
  # From zeros, one step takes a norm's statistics a known share of the way.
  zeros = jax.tree.map(jnp.zeros_like, variables['batch_stats'])
  start = variables | {'batch_stats': zeros}

  def walk(x: jax.Array, number: int) -> tuple[Variables, ...]:
    def descend(choice: jax.Array) -> tuple[Variables, ...]:
      y, moved = switch_stage(net, start, x, number, choice, train=parts)
      own = jax.tree.map(lambda leaf: leaf / (1.0 - MOMENTUM), moved)
      below = walk(y, number + 1) if number < len(choices) else ()
      return {'batch_stats': own}, *below

    return lax.map(descend, choices[number - 1])

  return walk(images, 1)
