# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Slimmable operations: full-size parameters, computed at a static width.

This is the only module that slices parameters, except that `layers.Norm` takes
the row of a private norm. Every operation takes `WidthMask`s as static
arguments and cuts its parameters to the leading active channels, so a narrow
network does less work: nothing is computed and then masked away.

B = batch, H = height, W = width, C = active channels of the input, D = active
channels of the output; upper-case names with a prime (C', D') are the totals.
"""

import contextlib
import functools
from typing import Any

import jax
from jax import lax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
import numpy as np

from adaptanet_jax.models.convolution import conv2d, depthwise_conv2d, dot
from adaptanet_jax.models.subnet import WidthMask

# Name, in policies of `jax.checkpoint`, of values to keep for the backward
# pass, as they are expensive to recompute: outputs of convolutions, and moments
# of norms (which are small).
SAVED = 'saved'
# Weight of the old value in the running statistics of a batch norm.
MOMENTUM = 0.9
# Added to variances by all norms, as in PyTorch.
EPSILON = 1e-5


def cut(
    array: jax.Array, *masks: WidthMask, dtype: Any = None
) -> jax.Array:
  """Cuts the trailing axes of `array` to the active channels of `masks`.

  Parameters whose values are known while a program is traced are cut during
  tracing, not in the program; `models.stages` keeps the result.

  Args:
    array: parameter whose last `len(masks)` axes have the masks' totals.
    *masks: one mask for each of those axes, in order.
    dtype: type of the result; None: that of `array`.

  Returns:
    The leading part of `array`; `array` itself when there is nothing to do.

  Raises:
    ValueError: an axis does not have its mask's total.
  """
  totals = tuple(mask.total for mask in masks)
  if array.shape[-len(masks) :] != totals:
    raise ValueError(
        f'Expected trailing axes {totals}, got array of shape {array.shape}.'
    )
  whole = all(mask.active == mask.total for mask in masks)
  if whole and dtype in (None, array.dtype):
    return array
  if not isinstance(array, jax.core.Tracer):
    # By numpy, since JAX would compile a program for each shape.
    active: Any = (..., *(slice(mask.active) for mask in masks))
    there: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    if isinstance(array, jax.Array):  # It stays on its device.
      there = jax.default_device(next(iter(array.devices())))
    with jax.ensure_compile_time_eval(), there:
      return jnp.asarray(np.asarray(array)[active], dtype)
  for axis, mask in enumerate(masks, start=array.ndim - len(masks)):
    if mask.active < mask.total:
      array = lax.slice_in_dim(array, 0, mask.active, axis=axis)
  return array if dtype is None else array.astype(dtype)


def standardize(kernel: jax.Array) -> jax.Array:
  """Standardises the kernel of each output channel over all its inputs.

  Weight standardisation (Qiao et al., 2019), which in BiT (Kolesnikov et al.,
  2020) lets GroupNorm train as well as BatchNorm. It is done at full width,
  before any cut, so that every width has a slice of the same kernel.

  Args:
    kernel: `(k, k, C', D')` full-size kernel.

  Returns:
    A kernel of the same shape; that of each output channel has mean 0 and sum
    of squares 1.
  """
  inputs = (0, 1, 2)
  kernel = kernel - kernel.mean(inputs, keepdims=True)
  squares = jnp.square(kernel).sum(inputs, keepdims=True)
  return kernel * lax.rsqrt(squares + 1e-8)


def _check_channels(x: jax.Array, mask: WidthMask) -> None:
  if x.shape[-1] != mask.active:
    raise ValueError(
        f'Expected {mask.active} active channels of {mask.total}, got input of '
        f'shape {x.shape}.'
    )


def conv(
    x: jax.Array,
    kernel: jax.Array,
    in_mask: WidthMask,
    out_mask: WidthMask,
    *,
    strides: int = 1,
) -> jax.Array:
  """Convolves with the active channels of a kernel, without bias.

  Padding is symmetric, (k - 1) // 2 on each side, as in PyTorch, so imported
  teachers see the pixels that they were trained on.

  Args:
    x: `(B, H, W, C)` input.
    kernel: `(k, k, C', D')` full-size kernel, k odd.
    in_mask: C of C' channels.
    out_mask: D of D' channels.
    strides: step in both directions.

  Returns:
    `(B, ceil(H / strides), ceil(W / strides), D)` in the type of `x`.

  Raises:
    ValueError: `x` or `kernel` does not fit the masks.
  """
  _check_channels(x, in_mask)
  kernel = cut(kernel, in_mask, out_mask, dtype=x.dtype)
  if kernel.shape[0] == 1:
    y = dot(x[:, ::strides, ::strides, :], kernel[0, 0])
  else:
    y = conv2d(x, kernel, strides)
  return checkpoint_name(y, SAVED)


def depthwise_conv(
    x: jax.Array, kernel: jax.Array, mask: WidthMask, *, strides: int = 1
) -> jax.Array:
  """Convolves each active channel with its own kernel, without bias.

  Args:
    x: `(B, H, W, C)` input.
    kernel: `(k, k, C')` full-size kernel, k odd.
    mask: C of C' channels.
    strides: step in both directions.

  Returns:
    `(B, ceil(H / strides), ceil(W / strides), C)` in the type of `x`.

  Raises:
    ValueError: `x` or `kernel` does not fit the mask.
  """
  _check_channels(x, mask)
  y = depthwise_conv2d(x, cut(kernel, mask, dtype=x.dtype), strides)
  return checkpoint_name(y, SAVED)


def dense(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    in_mask: WidthMask,
    out_mask: WidthMask,
) -> jax.Array:
  """Applies the active part of a fully connected layer.

  Args:
    x: `(B, C)` input.
    kernel: `(C', D')` full-size kernel.
    bias: `(D',)` full-size bias.
    in_mask: C of C' channels.
    out_mask: D of D' channels.

  Returns:
    `(B, D)` in the type of `x`.

  Raises:
    ValueError: `x`, `kernel` or `bias` does not fit the masks.
  """
  _check_channels(x, in_mask)
  y = jnp.dot(x, cut(kernel, in_mask, out_mask, dtype=x.dtype))
  return y + cut(bias, out_mask, dtype=x.dtype)[None]


def _affine(
    x: jax.Array, scale: jax.Array, bias: jax.Array, dtype: jnp.dtype
) -> jax.Array:
  shape = (1,) * (x.ndim - 1) + (-1,)
  return (x * scale.reshape(shape) + bias.reshape(shape)).astype(dtype)


def group_size(total: int, groups: int | None = None) -> int:
  """Returns the number of channels in each group of a GroupNorm.

  Args:
    total: channels of the layer at full width.
    groups: number of groups, capped at `total`; None: the largest groups of at
      most 16 channels that divide a quarter of `total`. Their size does not
      depend on the width, so no group straddles a width, and a sliced GroupNorm
      equals the slice of the full one.
  """
  quarter, rest = divmod(total, 4)
  if rest or not quarter:
    raise ValueError(f'Expected a multiple of 4 channels, got {total}.')
  if groups:
    return max(1, total // groups)
  return max(d for d in range(1, 17) if quarter % d == 0)


@functools.partial(jax.jit, static_argnames=('mask', 'groups'))
def group_norm(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    mask: WidthMask,
    *,
    groups: int | None = None,
) -> jax.Array:
  """Normalises groups of channels over space, in float32.

  Args:
    x: `(B, H, W, C)` input.
    scale: `(C',)` full-size scale.
    bias: `(C',)` full-size offset.
    mask: C of C' channels.
    groups: number of groups of all C' channels, capped at C'; None: see
      `group_size`.

  Returns:
    `(B, H, W, C)` in the type of `x`.

  Raises:
    ValueError: `x` or the parameters do not fit the mask, or a group would be
      cut.
  """
  _check_channels(x, mask)
  size = group_size(mask.total, groups)
  if mask.active % size:
    raise ValueError(
        f'Expected groups of {size} channels to divide {mask.active} of '
        f'{mask.total}.'
    )
  y = _normalize_groups(
      x.astype(jnp.float32), cut(scale, mask), cut(bias, mask), size
  )
  return y.astype(x.dtype)


def _over_groups(moments: jax.Array, size: int) -> jax.Array:
  """Replaces `(B, C)` moments by their means over groups of channels."""
  means = moments.reshape(moments.shape[0], -1, size).mean(-1)
  return jnp.repeat(means, size, axis=-1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalize_groups(
    x: jax.Array, scale: jax.Array, bias: jax.Array, size: int
) -> jax.Array:
  return _normalize_groups_fwd(x, scale, bias, size)[0]


def _normalize_groups_fwd(
    x: jax.Array, scale: jax.Array, bias: jax.Array, size: int
) -> tuple[jax.Array, Any]:
  # Per-channel moments first: they read `x` once, in its own layout. A mean of
  # squares loses digits if the mean is a hundred times the deviation; outputs
  # of convolutions are not like that, and flax's GroupNorm does the same.
  mean = _over_groups(x.mean((1, 2)), size)
  square = _over_groups(jnp.square(x).mean((1, 2)), size)
  inverse = lax.rsqrt(jnp.maximum(square - jnp.square(mean), 0.0) + EPSILON)
  mean, inverse = checkpoint_name((mean, inverse), SAVED)
  slope = inverse * scale[None]
  offset = bias[None] - mean * slope
  y = x * slope[:, None, None] + offset[:, None, None]
  return y, (x, scale, mean, inverse)


def _normalize_groups_bwd(
    size: int, residuals: Any, g: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Hand-written: half the time of the derived gradient on CPU, less memory."""
  x, scale, mean, inverse = residuals
  num_positions = x.shape[1] * x.shape[2]
  g_sum = g.sum((1, 2))
  # Sum over space of g times the normalised input, (B, C).
  g_dot = ((g * x).sum((1, 2)) - mean * g_sum) * inverse
  # With z the normalised input and h = scale * g, the gradient by x is
  # inverse * (h - group mean of h - z * group mean of (h * z)).
  h_mean = _over_groups(g_sum * scale[None], size) / num_positions
  hz_mean = _over_groups(g_dot * scale[None], size) / num_positions
  by_g = inverse * scale[None]
  by_x = -hz_mean * jnp.square(inverse)
  constant = -inverse * h_mean - by_x * mean
  g_x = (
      g * by_g[:, None, None]
      + x * by_x[:, None, None]
      + constant[:, None, None]
  )
  return g_x, g_dot.sum(0), g_sum.sum(0)


_normalize_groups.defvjp(_normalize_groups_fwd, _normalize_groups_bwd)


def layer_norm(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    mask: WidthMask,
) -> jax.Array:
  """Normalises the active channels at each position, in float32.

  Args:
    x: `(..., C)` input.
    scale: `(C',)` full-size scale.
    bias: `(C',)` full-size offset.
    mask: C of C' channels.

  Returns:
    `(..., C)` in the type of `x`.

  Raises:
    ValueError: `x` or the parameters do not fit the mask.
  """
  _check_channels(x, mask)
  y = x.astype(jnp.float32)
  y = y - y.mean(-1, keepdims=True)
  y = y * lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + EPSILON)
  return _affine(y, cut(scale, mask), cut(bias, mask), x.dtype)


def batch_norm(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    mean: jax.Array,
    var: jax.Array,
    mask: WidthMask,
    *,
    train: bool,
    axis_name: str | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Normalises each active channel over batch and space, in float32.

  Args:
    x: `(B, H, W, C)` input.
    scale: `(C',)` full-size scale.
    bias: `(C',)` full-size offset.
    mean: `(C',)` running mean.
    var: `(C',)` running variance.
    mask: C of C' channels.
    train: use the batch's statistics, and move the running ones towards them.
    axis_name: mapped axis over which batch statistics are averaged.

  Returns:
    `(B, H, W, C)` in the type of `x`; running mean and variance, full size,
    their inactive channels untouched.

  Raises:
    ValueError: `x` or the parameters do not fit the mask.
  """
  _check_channels(x, mask)
  y = x.astype(jnp.float32)
  if train:
    moments = jnp.stack([y.mean((0, 1, 2)), jnp.square(y).mean((0, 1, 2))])
    if axis_name is not None:
      moments = lax.pmean(moments, axis_name)
    moments = checkpoint_name(moments, SAVED)
    now_mean = moments[0]
    now_var = jnp.maximum(moments[1] - jnp.square(now_mean), 0.0)
    mean = _moving_average(mean, now_mean, mask)
    var = _moving_average(var, now_var, mask)
  else:
    now_mean, now_var = cut(mean, mask), cut(var, mask)
  scale = cut(scale, mask) * lax.rsqrt(now_var + EPSILON)
  bias = cut(bias, mask) - now_mean * scale
  return _affine(y, scale, bias, x.dtype), mean, var


def _moving_average(
    old: jax.Array, new: jax.Array, mask: WidthMask
) -> jax.Array:
  new = MOMENTUM * cut(old, mask) + (1.0 - MOMENTUM) * lax.stop_gradient(new)
  return old.at[: mask.active].set(new)
