# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A 2-D convolution whose gradients XLA's CPU compiler runs at full speed.

That compiler rewrites a convolution into the form that its kernels need only in
the entry computation; inside a `lax.switch` or a `lax.scan` gradients stay
naive loops (jaxlib 0.10.2, 2 cores, batch 64, 16x16x16: 77 ms for a kernel
gradient in a branch, 0.9 ms outside of one). So on CPU the gradients are
written in that form to begin with. Other platforms use XLA's own gradients. The
form is chosen at lowering, because one trace may serve several platforms.

B = batch, H = height, W = width, C = input channels, D = output channels.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp

from adaptanet_jax import platforms

_LAYOUT = ('NHWC', 'HWIO', 'NHWC')
# Below this many output rows or columns XLA's CPU convolution is 10 to 50 times
# slower than the equivalent matrix product.
_SMALLEST_CPU_IMAGE = 3

_Form = Callable[..., Any]


def conv2d(x: jax.Array, kernel: jax.Array, strides: int) -> jax.Array:
  """Convolves with symmetric padding (k - 1) // 2, as PyTorch does.

  Args:
    x: `(B, H, W, C)` input.
    kernel: `(k, k, C, D)` kernel, k odd.
    strides: step in both directions, at most k.

  Returns:
    `(B, ceil(H / strides), ceil(W / strides), D)`.
  """
  is_small = min(x.shape[1:3]) <= strides * (_SMALLEST_CPU_IMAGE - 1)
  return _conv(strides, is_small)(x, kernel)


def dot(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Convolves with a 1x1 kernel.

  XLA's CPU back end runs this product 1.2 to 2 times faster than the equivalent
  convolution; other back ends show no difference.

  Args:
    x: `(..., C)` input.
    kernel: `(C, D)` kernel.

  Returns:
    `(..., D)`.
  """
  return _dot()(x, kernel)


def depthwise_conv2d(
    x: jax.Array, kernel: jax.Array, strides: int
) -> jax.Array:
  """Convolves each channel separately, padded as `conv2d` does.

  Args:
    x: `(B, H, W, C)` input.
    kernel: `(k, k, C)` kernel, k odd.
    strides: step in both directions.

  Returns:
    `(B, ceil(H / strides), ceil(W / strides), C)`.
  """
  return _depthwise(strides)(x, kernel)


@functools.cache
def _conv(strides: int, is_small: bool) -> _Form:
  plain = functools.partial(_xla_conv, strides=strides)
  if is_small:
    matrix = functools.partial(_matrix_conv, strides=strides)
    return _by_platform(cpu=matrix, default=plain)
  gradients = functools.partial(_cpu_gradients, strides=strides)
  return _by_platform(cpu=plain, default=plain, cpu_gradients=gradients)


@functools.cache
def _dot() -> _Form:
  return _by_platform(
      cpu=jnp.dot, default=jnp.dot, cpu_gradients=_cpu_dot_gradients
  )


@functools.cache
def _depthwise(strides: int) -> _Form:
  return _by_platform(
      cpu=functools.partial(depthwise_taps, strides=strides),
      default=functools.partial(_grouped_conv, strides=strides),
  )


def _by_platform(
    *, cpu: _Form, default: _Form, cpu_gradients: _Form | None = None
) -> _Form:
  """Returns a convolution whose two passes suit the platform they run on.

  Args:
    cpu: maps an input and a kernel to the output, on a CPU.
    default: the same on all other platforms.
    cpu_gradients: maps input, kernel and cotangent to gradients, on a CPU;
      None: the derived gradients of `cpu`.
  """
  cpu_gradients = cpu_gradients or _gradients_of(cpu)

  @jax.custom_vjp
  def run(x: jax.Array, kernel: jax.Array) -> jax.Array:
    if cpu is default:
      return default(x, kernel)
    return platforms.select(x, kernel, cpu=cpu, default=default)

  # Jitted, so that both forms are traced once per shape, not once per layer.
  @jax.jit
  def pull(residuals: tuple[jax.Array, jax.Array], g: jax.Array) -> Any:
    return platforms.select(
        *residuals, g, cpu=cpu_gradients, default=_gradients_of(default)
    )

  run.defvjp(lambda *args: (run(*args), args), pull)
  return run


def _gradients_of(form: _Form) -> _Form:
  """Returns a function from input, kernel and cotangent to gradients."""

  def gradients(x: jax.Array, kernel: jax.Array, g: jax.Array) -> Any:
    by_x = jax.linear_transpose(lambda x: form(x, kernel), x)
    by_kernel = jax.linear_transpose(lambda kernel: form(x, kernel), kernel)
    return *by_x(g), *by_kernel(g)

  return gradients


# Name of the next function in a traced program.
DEPTHWISE_TAPS = 'depthwise_taps'


@functools.partial(jax.jit, static_argnums=(2,))
def depthwise_taps(
    x: jax.Array, kernel: jax.Array, strides: int
) -> jax.Array:
  """Computes `depthwise_conv2d` as a sum over the taps of the kernel.

  XLA's CPU back end runs it 5 to 20 times faster than its grouped convolution,
  and its gradients 15 to 400 times (jaxlib 0.10.2, 2 cores, batch 64). It is
  jitted separately, so that its MAdds can be counted by name.
  """
  taps = kernel.reshape(-1, 1, 1, 1, kernel.shape[-1])
  patches = _patches(x, kernel.shape[0], strides)
  return sum(
      (patch * tap for patch, tap in zip(patches[1:], taps[1:])),
      patches[0] * taps[0],
  )


def _xla_conv(x: jax.Array, kernel: jax.Array, strides: int) -> jax.Array:
  pad = (kernel.shape[0] - 1) // 2
  return lax.conv_general_dilated(
      x,
      kernel,
      (strides, strides),
      ((pad, pad), (pad, pad)),
      dimension_numbers=_LAYOUT,
  )


def _patches(x: jax.Array, size: int, strides: int) -> list[jax.Array]:
  """Returns the inputs that each tap of a kernel reads, in row-major order."""
  pad = (size - 1) // 2
  rows, columns = (-(-side // strides) for side in x.shape[1:3])
  x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
  return [
      x[
          :,
          i : i + (rows - 1) * strides + 1 : strides,
          j : j + (columns - 1) * strides + 1 : strides,
      ]
      for i in range(size)
      for j in range(size)
  ]


def _matrix_conv(x: jax.Array, kernel: jax.Array, strides: int) -> jax.Array:
  patches = jnp.concatenate(_patches(x, kernel.shape[0], strides), -1)
  return jnp.dot(patches, kernel.reshape(-1, kernel.shape[-1]))


def _grouped_conv(
    x: jax.Array, kernel: jax.Array, strides: int
) -> jax.Array:
  pad = (kernel.shape[0] - 1) // 2
  return lax.conv_general_dilated(
      x,
      kernel[:, :, None, :],
      (strides, strides),
      ((pad, pad), (pad, pad)),
      dimension_numbers=_LAYOUT,
      feature_group_count=x.shape[-1],
  )


def _cpu_gradients(
    x: jax.Array, kernel: jax.Array, g: jax.Array, strides: int
) -> tuple[jax.Array, jax.Array]:
  x, g = _as_they_are(x, g)
  return _input_gradient(x, kernel, g, strides), _kernel_gradient(
      x, kernel, g, strides
  )


def _as_they_are(*arrays: jax.Array) -> tuple[jax.Array, ...]:
  """Materialises arrays before anything reads them transposed.

  Otherwise XLA recomputes the operations behind them, a norm and its gradient,
  in the order of the transposed array, each element from another cache line:
  62 ms instead of 5 (jaxlib 0.10.2, 2 cores, 32768x256).
  """
  return lax.optimization_barrier(arrays)


def _cpu_dot_gradients(
    x: jax.Array, kernel: jax.Array, g: jax.Array
) -> tuple[jax.Array, jax.Array]:
  x, g = _as_they_are(x, g)
  by_x = jnp.dot(g, kernel.T)
  by_kernel = jnp.dot(
      x.reshape(-1, x.shape[-1]).T, g.reshape(-1, g.shape[-1])
  )
  return by_x, by_kernel


def _input_gradient(
    x: jax.Array, kernel: jax.Array, g: jax.Array, strides: int
) -> jax.Array:
  """Convolves `g` with the flipped kernel, phase by phase if it is strided.

  Row s * m + p of the input (s the stride, p its phase) was read by tap
  p + pad - s * a of output row m + a. So each phase is a convolution of `g`
  with its own taps, and all phases together are no more work than the forward
  convolution. Spreading `g` out with zeros first takes s * s times as much.
  """
  batch, *sides, channels = x.shape
  size = kernel.shape[0]
  pad = (size - 1) // 2
  # The barrier keeps XLA from folding a transpose back into the convolution.
  turned = lax.optimization_barrier(
      jnp.flip(kernel, (0, 1)).transpose(0, 1, 3, 2)
  )
  if strides == 1:
    return _xla_conv(g, turned, 1)

  def of_phase(*phase: int) -> jax.Array:
    taps, edges = [], []
    for p in phase:
      first, last = -((size - 1 - p - pad) // strides), (p + pad) // strides
      tap = p + pad - strides * first  # The tap at the first offset.
      taps.append(slice(size - 1 - tap, None, strides))
      edges.append((-first, last))
    return lax.conv_general_dilated(
        g, turned[tuple(taps)], (1, 1), edges, dimension_numbers=_LAYOUT
    )

  phases = range(strides)
  y = jnp.stack(
      [jnp.stack([of_phase(p, q) for q in phases], 3) for p in phases], 2
  )
  y = y.reshape(batch, *(strides * out for out in g.shape[1:3]), channels)
  return y[:, : sides[0], : sides[1]]


def _kernel_gradient(
    x: jax.Array, kernel: jax.Array, g: jax.Array, strides: int
) -> jax.Array:
  """Convolves `x` with `g`, with the channel and batch axes swapped."""
  size = kernel.shape[0]
  pad = (size - 1) // 2
  edges = [
      (pad, (out - 1) * strides + size - side - pad)
      for side, out in zip(x.shape[1:3], g.shape[1:3])
  ]
  gradient = lax.conv_general_dilated(
      lax.optimization_barrier(x.transpose(3, 1, 2, 0)),
      lax.optimization_barrier(g.transpose(1, 2, 0, 3)),
      (1, 1),
      edges,
      rhs_dilation=(strides, strides),
      dimension_numbers=_LAYOUT,
  )
  return gradient.transpose(1, 2, 0, 3)
