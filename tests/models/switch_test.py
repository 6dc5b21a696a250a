# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.models.switch."""

from absl.testing import absltest, parameterized
import chex
import jax
from jax import lax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
import numpy as np

from adaptanet_jax.models.slimmable import SAVED
from adaptanet_jax.models.switch import switch

_WIDTHS = (7, 3, 0)
_BATCH, _CHANNELS = 16, 5


def _branch(width, *, half=False):
  """Returns a branch with residuals `(B, width)`, also bfloat16 if `half`."""

  def run(kernel, shift, x):
    y = checkpoint_name(x @ kernel[:, :width], SAVED)
    y = jnp.tanh(y) + shift
    if half:
      y = checkpoint_name(y.astype(jnp.bfloat16), SAVED)
      y = jnp.square(y).astype(x.dtype)
    return y.sum(-1)

  return run


def _operands(dtype=np.float32):
  rng = np.random.default_rng(0)
  shapes = (_CHANNELS, max(_WIDTHS)), (), (_BATCH, _CHANNELS)
  return tuple(
      jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes
  )


class SwitchTest(parameterized.TestCase):

  @parameterized.product(
      choice=(0, 1, 2), by=((0, 1, 2), (0,), (2,)), half=(False, True)
  )
  def test_gradients_equal_those_of_lax(self, choice, by, half):
    # Only the second branch has residuals of a second type.
    branches = tuple(
        _branch(width, half=half and n == 1) for n, width in enumerate(_WIDTHS)
    )

    def gradients(switch):
      def loss(index, *operands):
        return jnp.square(switch(index, *operands)).sum()

      argnums = tuple(1 + n for n in by)
      operands = _operands(np.float64)
      return jax.grad(loss, argnums)(jnp.int32(choice), *operands)

    # In float32 the rounding of a sum over 16 images could hide small errors.
    with jax.enable_x64(True):
      actual = gradients(lambda *arguments: switch(branches, *arguments))
      expected = gradients(
          lambda index, *operands: lax.switch(index, branches, *operands)
      )
    chex.assert_trees_all_close(actual, expected, rtol=1e-12, atol=1e-12)

  def test_branches_share_the_place_of_what_they_keep(self):
    branches = tuple(map(_branch, _WIDTHS))
    operands = _operands()
    for choice in range(len(_WIDTHS)):
      _, pull = jax.vjp(
          lambda *moving, choice=choice: switch(
              branches, jnp.int32(choice), *moving
          ),
          *operands,
      )
      sizes = [leaf.size for leaf in jax.tree.leaves(pull) if leaf.ndim]
      given = [operand.size for operand in operands if operand.ndim]
      self.assertCountEqual(sizes, [*given, _BATCH * max(_WIDTHS)])


if __name__ == '__main__':
  absltest.main()
