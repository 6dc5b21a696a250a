# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A `lax.switch` whose gradient keeps only what the chosen branch needs.

JAX's own switch keeps the activations of every branch in separate arrays, zeros
for branches that did not run. Here all branches share the arrays, and they keep
only values that are expensive to recompute, outputs of convolutions and moments
of norms; the backward pass recomputes the rest, which takes less time than
storing it. Only operands that are differentiated get gradients, so a frozen
backbone gets none.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
from typing import Any

import jax
from jax import lax
from jax.custom_derivatives import SymbolicZero
import jax.numpy as jnp

from adaptanet_jax import platforms
from adaptanet_jax.models.slimmable import SAVED

# Name, in profiles and programs, of the copying of what a gradient needs.
KEPT = 'kept'


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def switch(
    branches: Sequence[Callable[..., Any]], choice: jax.Array, *operands: Any
) -> Any:
  """Runs the branch that `choice` selects; reverse-mode gradients only.

  Args:
    branches: functions of the operands whose outputs have the same shapes.
    choice: `int32[]`, index into `branches`.
    *operands: trees of arrays.

  Returns:
    The outputs of that branch.
  """
  return lax.switch(choice, branches, *operands)


@jax.tree_util.register_static
class _Branch:
  """A branch whose forward and backward pass run in two separate switches.

  Its constructor traces the forward pass once. That determines the backward
  pass and the residuals that it needs, and the switches then run what was
  traced. The class is static, so that it can itself be among the residuals.

  Attributes:
    forward: maps operands, first those that are differentiated, then the rest,
      to the branch's outputs and to its residuals that are not operands.
    kept: shapes of these residuals.
  """

  def __init__(self, run: Any, perturbed: Any, fixed: Any) -> None:
    self._run = run
    self.forward = jax.jit(self._forward)
    _, self.kept = jax.eval_shape(self.forward, perturbed, fixed)

  def _forward(
      self, perturbed: Any, fixed: Any
  ) -> tuple[Any, list[jax.Array]]:
    @functools.partial(
        jax.checkpoint,
        policy=jax.checkpoint_policies.save_only_these_names(SAVED),
        prevent_cse=False,  # The backward pass is another computation.
    )
    def run(perturbed: Any) -> Any:
      return self._run(*_fill(perturbed, fixed))

    outputs, pull = jax.vjp(run, perturbed)
    leaves, self._pull = jax.tree.flatten(pull)
    places = {
        id(operand): place
        for place, operand in enumerate(jax.tree.leaves((perturbed, fixed)))
    }
    self._places = [places.get(id(leaf)) for leaf in leaves]
    return outputs, [leaf for leaf in leaves if id(leaf) not in places]

  def backward(
      self, perturbed: Any, fixed: Any, kept: list[jax.Array], cotangents: Any
  ) -> Any:
    """Returns the cotangents of `perturbed`."""
    operands, others = jax.tree.leaves((perturbed, fixed)), iter(kept)
    leaves = [
        next(others) if place is None else operands[place]
        for place in self._places
    ]
    return jax.tree.unflatten(self._pull, leaves)(cotangents)[0]


def _switch_fwd(
    branches: Sequence[Any], choice: Any, *operands: Any
) -> tuple[Any, Any]:
  perturbed = jax.tree.map(lambda p: p.value if p.perturbed else None, operands)
  fixed = jax.tree.map(lambda p: None if p.perturbed else p.value, operands)
  passes = [_Branch(branch, perturbed, fixed) for branch in branches]
  slots, places = _assign([each.kept for each in passes])

  def run(
      branch: _Branch, own: Sequence[int], perturbed: Any, fixed: Any
  ) -> tuple[Any, Any]:
    outputs, kept = branch.forward(perturbed, fixed)
    return outputs, _pack(kept, own, slots)

  runs = [functools.partial(run, *each) for each in zip(passes, places)]
  outputs, kept = lax.switch(choice.value, runs, perturbed, fixed)
  assigned = tuple(map(_Places, places))
  return outputs, (passes, assigned, choice.value, perturbed, fixed, kept)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Places:
  """The slots of a branch's residuals, in their order."""

  numbers: tuple[int, ...]


def _assign(
    kept: Sequence[Sequence[jax.ShapeDtypeStruct]],
) -> tuple[list[jax.ShapeDtypeStruct], list[tuple[int, ...]]]:
  """Assigns the residuals of all branches to shared slots.

  Arrays that share a slot differ only in their last axis, the channels, so they
  keep the layout in which they were computed: on a TPU it takes longer to pack
  arrays into a flat one, and to unpack them again, than to convolve them.

  Args:
    kept: shapes of each branch's residuals.

  Returns:
    Shapes of the slots; and for each branch the numbers of its slots.
  """
  slots: list[jax.ShapeDtypeStruct] = []
  places = []
  for arrays in kept:
    own: list[int] = []
    for array in arrays:
      free = [
          number
          for number, slot in enumerate(slots)
          if number not in own and _rows(slot) == _rows(array)
      ]
      own.append(_best(array, free, slots) if free else len(slots))
      if not free:
        slots.append(array)
      elif array.size > slots[own[-1]].size:
        slots[own[-1]] = array
    places.append(tuple(own))
  return slots, places


def _rows(array: Any) -> tuple[Any, ...]:
  return array.dtype, array.ndim, array.shape[:-1]


def _best(
    array: Any, free: Sequence[int], slots: Sequence[jax.ShapeDtypeStruct]
) -> int:
  """Returns the smallest slot that holds an array, or the largest slot."""
  large = [number for number in free if slots[number].size >= array.size]
  if large:
    return min(large, key=lambda number: slots[number].size)
  return max(free, key=lambda number: slots[number].size)


@jax.named_scope(KEPT)
def _pack(
    arrays: Sequence[jax.Array],
    places: Sequence[int],
    slots: Sequence[jax.ShapeDtypeStruct],
) -> list[jax.Array]:
  """Puts arrays into their slots; the unused space is never read."""
  by_place = dict(zip(places, arrays, strict=True))
  packed = []
  for number, slot in enumerate(slots):
    array = by_place.get(number)
    if array is None:
      packed.append(lax.empty(slot.shape, slot.dtype))
    elif array.shape == slot.shape:
      packed.append(array)
    else:
      cpu = functools.partial(_padded, slot=slot)
      default = functools.partial(_written, slot=slot)
      packed.append(platforms.select(array, cpu=cpu, default=default))
  return packed


def _padded(array: jax.Array, slot: jax.ShapeDtypeStruct) -> jax.Array:
  rest = slot.shape[-1] - array.shape[-1]
  return jnp.pad(array, [*[(0, 0)] * (slot.ndim - 1), (0, rest)])


def _written(array: jax.Array, slot: jax.ShapeDtypeStruct) -> jax.Array:
  """Writes only the array: padding would write zeros to the rest as well."""
  empty = lax.empty(slot.shape, slot.dtype)
  return lax.dynamic_update_slice(empty, array, [0] * slot.ndim)


@jax.named_scope(KEPT)
def _unpack(
    packed: Sequence[jax.Array],
    places: Sequence[int],
    shapes: Sequence[jax.ShapeDtypeStruct],
) -> list[jax.Array]:
  """Returns the arrays of these shapes that `_pack` put in their slots."""
  return [
      packed[number] if not shape.ndim
      else packed[number][..., : shape.shape[-1]]
      for number, shape in zip(places, shapes, strict=True)
  ]


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
  passes, places, choice, *operands = residuals
  cotangents = jax.tree.map(
      _instantiate,
      cotangents,
      is_leaf=lambda leaf: isinstance(leaf, SymbolicZero),
  )

  def pull(
      branch: _Branch, own: _Places, perturbed: Any, fixed: Any, packed: Any,
      cotangents: Any,
  ) -> Any:
    kept = _unpack(packed, own.numbers, branch.kept)
    return branch.backward(perturbed, fixed, kept, cotangents)

  pulls = [functools.partial(pull, *each) for each in zip(passes, places)]
  return None, *lax.switch(choice, pulls, *operands, cotangents)


def _instantiate(cotangent: Any) -> Any:
  if isinstance(cotangent, SymbolicZero):
    return jnp.zeros(cotangent.shape, cotangent.dtype)
  return cotangent


switch.defvjp(_switch_fwd, _switch_bwd, symbolic_zeros=True)
