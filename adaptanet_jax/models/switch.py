# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""`lax.switch` whose gradient keeps what the branch that runs needs, no more.

JAX's own keeps the activations of every branch, each in a place of its own,
those that did not run as zeros. Here all branches share one place, and what
they keep is what is dear to compute again, outputs of convolutions and moments
of norms: the rest is computed anew for the gradient, in less time than it takes
to write it down. Gradients are computed by those operands alone that something
differentiates by: not by a frozen backbone.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
from typing import Any

import jax
from jax import lax
from jax.custom_derivatives import SymbolicZero
import jax.numpy as jnp

from adaptanet_jax.models.slimmable import DEAR

# What profiles and programs call the copying of what a gradient needs.
KEPT = 'kept'


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def switch(
    branches: Sequence[Callable[..., Any]], choice: jax.Array, *operands: Any
) -> Any:
  """Runs the branch that `choice` names; no tangents, gradients only.

  Args:
    branches: functions of the operands whose outputs have the same shapes.
    choice: `int32[]`, index into them.
    *operands: trees of arrays.

  Returns:
    The outputs of that branch.
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


@jax.named_scope(KEPT)
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


@jax.named_scope(KEPT)
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


switch.defvjp(_switch_fwd, _switch_bwd, symbolic_zeros=True)
