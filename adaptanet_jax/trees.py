# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trees of arrays whose parts are named by slash-separated paths."""

from collections.abc import Mapping, Sequence
from typing import Any
import zlib

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax.errors import some

Tree = dict[str, Any]


def split(
    tree: Mapping[str, Any], parts: Sequence[str]
) -> tuple[Tree, Tree]:
  """Splits a tree into the leaves below some parts, and the rest.

  Args:
    tree: nested dict of arrays.
    parts: paths such as `backbone/stage1`. A tree may lack some: a classifier
      has parameters, but no batch statistics.

  Returns:
    Two nested dicts that `merge` puts together again.
  """
  flat = traverse_util.flatten_dict(tree, sep='/')
  chosen = {name for part in parts for name in _below(flat, part)}
  inside = {name: leaf for name, leaf in flat.items() if name in chosen}
  outside = {name: leaf for name, leaf in flat.items() if name not in chosen}
  return (
      traverse_util.unflatten_dict(inside, sep='/'),
      traverse_util.unflatten_dict(outside, sep='/'),
  )


def merge(*trees: Mapping[str, Any]) -> Tree:
  """Merges nested dicts; a later leaf replaces an earlier one."""
  flat: dict[str, Any] = {}
  for tree in trees:
    flat.update(traverse_util.flatten_dict(tree, sep='/'))
  return traverse_util.unflatten_dict(flat, sep='/')


def flat(tree: Any) -> dict[str, np.ndarray]:
  """Returns the leaves of a tree on the host, by path."""
  found: dict[str, np.ndarray] = traverse_util.flatten_dict(
      jax.device_get(tree), sep='/'
  )
  return found


def overlay(tree: Mapping[str, Any], other: Mapping[str, Any]) -> Tree:
  """Replaces the leaves of `tree` that `other` has in the same shape."""
  flat = traverse_util.flatten_dict(tree, sep='/')
  others = traverse_util.flatten_dict(other, sep='/')
  for name, leaf in flat.items():
    if name in others and others[name].shape == leaf.shape:
      flat[name] = others[name]
  return traverse_util.unflatten_dict(flat, sep='/')


def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  """Returns the shapes of a tree's leaves, by path."""
  flat = traverse_util.flatten_dict(dict(tree), sep='/')
  return {name: tuple(leaf.shape) for name, leaf in flat.items()}


def mismatches(
    found: Mapping[str, tuple[int, ...]],
    expected: Mapping[str, tuple[int, ...]],
) -> list[str]:
  """Says how arrays differ from those of a network; empty: they fit.

  Args:
    found: shapes by name.
    expected: the network's.
  """
  unlike = [
      f'{name} {found[name]} against {expected[name]}'
      for name in sorted(found.keys() & expected.keys())
      if found[name] != expected[name]
  ]
  parts = {
      'it lacks': sorted(expected.keys() - found.keys()),
      'it has beyond the network': sorted(found.keys() - expected.keys()),
      'shapes differ:': unlike,
  }
  return [f'{text} {some(names)}' for text, names in parts.items() if names]


def is_traced(tree: Any) -> bool:
  """Returns whether any leaf of a tree is a tracer."""
  leaves = jax.tree.leaves(tree)
  return any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)


def checksum(tree: Any) -> int:
  """Returns a checksum of a tree's arrays."""
  value = 0
  for leaf in jax.tree.leaves(tree):
    value = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), value)
  return value


def draw_like(shapes: Any, *, seed: int = 0) -> Any:
  """Draws variables of a network when their exact values do not matter.

  Unlike in fresh variables, no leaf is constant; nothing has to be compiled.

  Args:
    shapes: tree of arrays or of their shapes.
    seed: seed of the values.

  Returns:
    The same tree: kernels by their fan-in, scales and variances about 1.
  """
  rng = np.random.default_rng(seed)

  def draw_leaf(path: Any, leaf: Any) -> jax.Array:
    noise = rng.standard_normal(leaf.shape, np.float32)
    name = path[-1].key
    if name == 'kernel':
      return jnp.array(noise * np.sqrt(2.0 / np.prod(leaf.shape[:-1])))
    return jnp.array(0.1 * noise + (name in ('scale', 'var')), jnp.float32)

  return jax.tree_util.tree_map_with_path(draw_leaf, shapes)


def _below(flat: Mapping[str, Any], part: str) -> list[str]:
  return [
      name for name in flat if name == part or name.startswith(part + '/')
  ]
