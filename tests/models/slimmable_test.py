# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.models.slimmable."""

import functools
import itertools

from absl.testing import absltest, parameterized
import chex
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax.models import slimmable
from adaptanet_jax.models.architectures import ARCHITECTURES
from adaptanet_jax.models.layers import EXPANSION
from adaptanet_jax.models.subnet import WIDTHS, WidthMask

_TOTAL = 8
_FULL = WidthMask.full(_TOTAL)
_close = functools.partial(chex.assert_trees_all_close, rtol=1e-4, atol=1e-5)


def _normal(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape, np.float32)


def _images(mask, *, seed=0):
  return _normal(3, 4, 5, mask.active, seed=seed) * 2.0 + 1.0


def _affine(total=_TOTAL):
  return jnp.array(_normal(total, seed=1)), jnp.array(_normal(total, seed=2))


def _statistics():
  variance = np.square(_normal(_TOTAL, seed=4)) + 0.5
  return jnp.array(_normal(_TOTAL, seed=3)), jnp.array(variance)


@functools.partial(jax.jit, static_argnums=1)
def _group_norm(x, mask):
  return slimmable.group_norm(x, *_affine(mask.total), mask)


@functools.partial(jax.jit, static_argnums=1)
def _layer_norm(x, mask):
  return slimmable.layer_norm(x, *_affine(mask.total), mask)


def _batch_norm(x, mask, *, train):
  return slimmable.batch_norm(
      x, *_affine(), *_statistics(), mask, train=train
  )[0]


# Normalisations as functions of input and mask, over `_TOTAL` channels.
_NORMS = {
    'group_norm': _group_norm,
    'layer_norm': _layer_norm,
    'batch_norm_train': functools.partial(_batch_norm, train=True),
    'batch_norm_eval': functools.partial(_batch_norm, train=False),
}
_EACH_NORM = tuple((name, norm) for name, norm in _NORMS.items())
_PAIRS_OF_WIDTHS = tuple(itertools.product(WIDTHS, WIDTHS))


class CutTest(parameterized.TestCase):

  def test_keeps_the_leading_part_of_the_trailing_axes(self):
    array = np.arange(2 * 4 * 8).reshape(2, 4, 8)
    actual = slimmable.cut(array, WidthMask(3, 4), WidthMask(2, 8))
    np.testing.assert_array_equal(actual, array[:, :3, :2])

  def test_raises_where_an_axis_is_not_the_total(self):
    with self.assertRaisesRegex(
        ValueError, r'Expected trailing axes \(4, 8\), got .*\(2, 4, 7\)'
    ):
      slimmable.cut(jnp.zeros((2, 4, 7)), WidthMask(3, 4), WidthMask(2, 8))


class StandardizeTest(parameterized.TestCase):

  def test_each_output_channel_has_mean_0_and_length_1(self):
    kernel = _normal(3, 3, 4, 5) * 7.0 + 2.0
    flat = np.asarray(slimmable.standardize(kernel)).reshape(-1, 5)
    np.testing.assert_allclose(flat.mean(0), 0.0, atol=1e-6)
    np.testing.assert_allclose(np.square(flat).sum(0), 1.0, rtol=1e-5)

  def test_a_value_worked_by_hand(self):
    # 1, 2 and 3 minus their mean are -1, 0 and 1, a vector of length sqrt(2).
    kernel = jnp.array([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1)
    actual = slimmable.standardize(kernel)
    _close(actual.ravel(), jnp.array([-1.0, 0.0, 1.0]) / np.sqrt(2.0))

  def test_scale_and_offset_of_a_channel_change_nothing(self):
    kernel = _normal(1, 1, 8, 3)
    _close(
        slimmable.standardize(kernel * 5.0 - 1.0),
        slimmable.standardize(kernel),
    )

  def test_the_gradient_of_a_constant_kernel_is_finite(self):
    def loss(kernel):
      return (slimmable.standardize(kernel) * _normal(3, 3, 4, 2)).sum()

    chex.assert_tree_all_finite(jax.grad(loss)(jnp.ones((3, 3, 4, 2))))


class ConvTest(parameterized.TestCase):

  @parameterized.product(
      widths=((1.0, 1.0), (0.25, 1.0), (1.0, 0.25), (0.75, 0.5)),
      layer=((1, 1), (1, 2), (3, 1), (3, 2)),
  )
  def test_equals_flax_given_the_sliced_kernel(self, widths, layer):
    size, strides = layer
    in_mask = WidthMask.at(widths[0], _TOTAL)
    out_mask = WidthMask.at(widths[1], 12)
    x = _images(in_mask)
    kernel = _normal(size, size, _TOTAL, 12, seed=1)
    sliced = kernel[:, :, : in_mask.active, : out_mask.active]
    pad = (size - 1) // 2
    small = nn.Conv(
        out_mask.active,
        (size, size),
        strides,
        padding=((pad, pad), (pad, pad)),
        use_bias=False,
    )
    actual = slimmable.conv(x, kernel, in_mask, out_mask, strides=strides)
    _close(actual, small.apply({'params': {'kernel': sliced}}, x))

  @parameterized.parameters(1, 3)
  def test_inactive_weights_get_no_gradient(self, size):
    in_mask, out_mask = WidthMask(2, _TOTAL), WidthMask(3, 12)
    x = _images(in_mask)

    def loss(kernel):
      return slimmable.conv(x, kernel, in_mask, out_mask).sum()

    gradient = np.array(jax.grad(loss)(_normal(size, size, _TOTAL, 12)))
    self.assertTrue(np.all(gradient[:, :, :2, :3] != 0.0))
    gradient[:, :, :2, :3] = 0.0
    np.testing.assert_array_equal(gradient, 0.0)

  @parameterized.parameters(1, 3)
  def test_wrong_channels_raise(self, size):
    kernel = jnp.zeros((size, size, _TOTAL, 12))
    with self.assertRaisesRegex(
        ValueError, r'Expected 4 active channels of 8, got .*\(3, 4, 5, 8\)'
    ):
      slimmable.conv(
          _images(_FULL), kernel, WidthMask(4, _TOTAL), WidthMask.full(12)
      )

  def test_a_kernel_of_another_size_raises(self):
    kernel = jnp.zeros((3, 3, _TOTAL, 11))
    with self.assertRaisesRegex(
        ValueError, r'trailing axes \(8, 12\), got .*\(3, 3, 8, 11\)'
    ):
      slimmable.conv(_images(_FULL), kernel, _FULL, WidthMask.full(12))

  @parameterized.parameters(1, 3)
  def test_bfloat16_stays_bfloat16(self, size):
    x = _images(_FULL).astype(jnp.bfloat16)
    kernel = _normal(size, size, _TOTAL, 12)
    y = slimmable.conv(x, kernel, _FULL, WidthMask(3, 12))
    self.assertEqual(y.dtype, jnp.bfloat16)
    expected = slimmable.conv(_images(_FULL), kernel, _FULL, WidthMask(3, 12))
    # bfloat16 has 8 bits: a sum of 72 products near 1 is off by some
    # hundredths.
    chex.assert_trees_all_close(
        y.astype(jnp.float32), expected, rtol=0.05, atol=0.3
    )

  def test_traces_once_for_each_pair_of_widths(self):
    chex.clear_trace_counter()
    kernel = _normal(1, 1, _TOTAL, _TOTAL)

    @functools.partial(jax.jit, static_argnums=(2, 3))
    @chex.assert_max_traces(len(_PAIRS_OF_WIDTHS))
    def run(x, kernel, in_mask, out_mask):
      return slimmable.conv(x, kernel, in_mask, out_mask)

    for in_rho, out_rho in _PAIRS_OF_WIDTHS * 2:
      # New masks of equal value, which must not cause another trace.
      in_mask = WidthMask.at(in_rho, _TOTAL)
      out_mask = WidthMask.at(out_rho, _TOTAL)
      y = run(_images(in_mask), kernel, in_mask, out_mask)
      self.assertEqual(y.shape[-1], out_mask.active)


class DenseTest(parameterized.TestCase):

  @parameterized.parameters((1.0, 1.0), (0.25, 1.0), (1.0, 0.25), (0.75, 0.5))
  def test_equals_flax_given_the_sliced_parameters(self, in_rho, out_rho):
    in_mask, out_mask = WidthMask.at(in_rho, 8), WidthMask.at(out_rho, 12)
    x = _normal(3, in_mask.active)
    kernel, bias = _normal(8, 12, seed=1), _normal(12, seed=2)
    sliced = {
        'kernel': kernel[: in_mask.active, : out_mask.active],
        'bias': bias[: out_mask.active],
    }
    actual = slimmable.dense(x, kernel, bias, in_mask, out_mask)
    _close(actual, nn.Dense(out_mask.active).apply({'params': sliced}, x))

  @parameterized.parameters(
      ((3, 7), (8, 12), (12,), r'8 active channels of 8, got .*\(3, 7\)'),
      ((3, 8), (8, 11), (12,), r'axes \(8, 12\), got .*\(8, 11\)'),
      ((3, 8), (8, 12), (11,), r'axes \(12,\), got .*\(11,\)'),
  )
  def test_wrong_shapes_raise(self, x, kernel, bias, message):
    with self.assertRaisesRegex(ValueError, message):
      slimmable.dense(
          jnp.zeros(x),
          jnp.zeros(kernel),
          jnp.zeros(bias),
          WidthMask.full(8),
          WidthMask.full(12),
      )

  def test_bfloat16_stays_bfloat16(self):
    x = _normal(3, 8).astype(jnp.bfloat16)
    y = slimmable.dense(
        x, _normal(8, 12), _normal(12), WidthMask.full(8), WidthMask(6, 12)
    )
    self.assertEqual(y.dtype, jnp.bfloat16)
    chex.assert_shape(y, (3, 6))


class EveryNormTest(parameterized.TestCase):

  @parameterized.named_parameters(*_EACH_NORM)
  def test_bfloat16_stays_bfloat16_but_is_normalised_in_float32(self, norm):
    x = jnp.asarray(_images(_FULL), jnp.bfloat16)
    y = norm(x, _FULL)
    self.assertEqual(y.dtype, jnp.bfloat16)
    # The float32 result is rounded once.
    expected = norm(x.astype(jnp.float32), _FULL).astype(jnp.bfloat16)
    chex.assert_trees_all_equal(y, expected)

  @parameterized.named_parameters(*_EACH_NORM)
  def test_wrong_channels_raise(self, norm):
    with self.assertRaisesRegex(
        ValueError, r'Expected 4 active channels of 8, got .*\(3, 4, 5, 8\)'
    ):
      norm(_images(_FULL), WidthMask(4, _TOTAL))

  @parameterized.product(
      norm=(slimmable.group_norm, slimmable.layer_norm), wrong=(0, 1)
  )
  def test_parameters_of_another_size_raise(self, norm, wrong):
    params = list(_affine())
    params[wrong] = params[wrong][:4]
    with self.assertRaisesRegex(ValueError, r'axes \(8,\), got .*\(4,\)'):
      norm(_images(_FULL), *params, _FULL)

  @parameterized.product(train=(True, False), wrong=(0, 1, 2, 3))
  def test_batch_norm_parameters_of_another_size_raise(self, train, wrong):
    params = [*_affine(), *_statistics()]
    params[wrong] = params[wrong][:4]
    with self.assertRaisesRegex(ValueError, r'axes \(8,\), got .*\(4,\)'):
      slimmable.batch_norm(_images(_FULL), *params, _FULL, train=train)

  @parameterized.named_parameters(*_EACH_NORM)
  def test_traces_once_for_each_width(self, norm):
    chex.clear_trace_counter()

    @functools.partial(jax.jit, static_argnums=(1,))
    @chex.assert_max_traces(len(WIDTHS))
    def run(x, mask):
      return norm(x, mask)

    for rho in WIDTHS * 2:
      mask = WidthMask.at(rho, _TOTAL)
      y = run(_images(mask), mask)
      self.assertEqual(y.shape[-1], mask.active)

  def test_a_trace_more_than_allowed_is_noticed(self):
    # The guard that the tests above rely on can fail.
    chex.clear_trace_counter()

    @functools.partial(jax.jit, static_argnums=(1,))
    @chex.assert_max_traces(1)
    def run(x, mask):
      return slimmable.cut(x, mask)

    run(jnp.zeros(_TOTAL), WidthMask(2, _TOTAL))
    with self.assertRaisesRegex(AssertionError, 'is traced > 1 times'):
      run(jnp.zeros(_TOTAL), WidthMask(4, _TOTAL))


class GroupNormTest(parameterized.TestCase):

  @parameterized.parameters(
      # The greatest divisor of a quarter of `total` that is at most 16.
      (4, 1),
      (8, 2),
      (16, 4),
      (20, 5),
      (32, 8),
      (64, 16),
      (68, 1),  # 17 is prime.
      (72, 9),  # 18 = 2 * 9.
      (96, 12),  # 24 = 2 * 12.
      (128, 16),
      (2048, 16),
  )
  def test_group_size(self, total, expected):
    self.assertEqual(slimmable.group_size(total), expected)

  @parameterized.parameters(*ARCHITECTURES)
  def test_no_group_straddles_a_width_of_any_layer(self, name):
    shape = ARCHITECTURES[name]
    streams = {EXPANSION * planes for planes in shape.planes}
    for total in {shape.stem_channels, *shape.planes} | streams:
      for rho in WIDTHS:
        active = WidthMask.at(rho, total).active
        self.assertEqual(active % slimmable.group_size(total), 0)

  def test_value_by_hand(self):
    # Two of four channels are active, in groups of one. 1 and 3 have mean 2 and
    # deviation 1, so they become -1 and 1; times 2, plus 10: 8 and 12. The
    # constant channel becomes its offset, 20.
    x = jnp.array([[1.0, 5.0], [3.0, 5.0]]).reshape(1, 2, 1, 2)
    y = slimmable.group_norm(
        x,
        jnp.array([2.0, 2.0, 0.0, 0.0]),
        jnp.array([10.0, 20.0, 0.0, 0.0]),
        WidthMask(2, 4),
    )
    # The deviation is sqrt(1 + epsilon).
    off = 2.0 / (1.0 + 1e-5) ** 0.5
    _close(y.reshape(2, 2), jnp.array([[10.0 - off, 20.0], [10.0 + off, 20.0]]))

  @parameterized.parameters(4, 8, 32)
  def test_full_width_equals_flax(self, total):
    mask = WidthMask.full(total)
    x = _images(mask)
    scale, bias = _affine(total)
    reference = nn.GroupNorm(
        num_groups=None,
        group_size=slimmable.group_size(total),
        epsilon=1e-5,
    )
    expected = reference.apply({'params': {'scale': scale, 'bias': bias}}, x)
    _close(_group_norm(x, mask), expected)

  @parameterized.product(rho=WIDTHS, total=(4, 8, 32, 128))
  def test_sliced_equals_the_slice_of_the_full_one(self, rho, total):
    full, mask = WidthMask.full(total), WidthMask.at(rho, total)
    x = _images(full)
    sliced = _group_norm(x[..., : mask.active], mask)
    _close(sliced, _group_norm(x, full)[..., : mask.active])

  @parameterized.product(rho=WIDTHS, total=(8, 32))
  def test_gradient_equals_the_derived_one(self, rho, total):
    mask = WidthMask.at(rho, total)
    x, (scale, bias) = _images(mask), _affine(total)
    g = _normal(*x.shape, seed=5)

    def plain(x, scale, bias):
      size = slimmable.group_size(total)
      groups = x.reshape(*x.shape[:3], -1, size)
      mean = groups.mean((1, 2, 4), keepdims=True)
      var = jnp.square(groups - mean).mean((1, 2, 4), keepdims=True)
      x = ((groups - mean) / jnp.sqrt(var + 1e-5)).reshape(x.shape)
      shape = (1, 1, 1, mask.active)
      scale, bias = (p[: mask.active].reshape(shape) for p in (scale, bias))
      return x * scale + bias

    def ours(x, scale, bias):
      return slimmable.group_norm(x, scale, bias, mask)

    def run(norm):
      return jax.jit(lambda *args: jax.vjp(norm, *args)[1](g))(x, scale, bias)

    actual = run(ours)
    chex.assert_trees_all_close(actual, run(plain), rtol=1e-3, atol=1e-4)
    # Parameters of inactive channels are not read, so their gradient is zero.
    for gradient in actual[1:]:
      np.testing.assert_array_equal(gradient[mask.active :], 0.0)

  @parameterized.parameters(0.0, 1.0, -300.0)
  def test_constant_input_has_a_finite_value_and_gradient(self, constant):
    x = jnp.full((2, 3, 3, _TOTAL), constant)
    g = _normal(*x.shape)

    def norm(x, scale, bias):
      return slimmable.group_norm(x, scale, bias, _FULL)

    y, pull = jax.vjp(norm, x, *_affine())
    chex.assert_tree_all_finite((y, pull(g)))


class LayerNormTest(parameterized.TestCase):

  @parameterized.parameters(*WIDTHS)
  def test_equals_flax_given_the_sliced_parameters(self, rho):
    mask = WidthMask.at(rho, _TOTAL)
    x = _images(mask)
    scale, bias = (param[: mask.active] for param in _affine())
    # Flax's fast variance, E[x^2] - E[x]^2, is too inexact for so few channels.
    reference = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False)
    expected = reference.apply({'params': {'scale': scale, 'bias': bias}}, x)
    _close(_layer_norm(x, mask), expected)

  def test_each_position_stands_alone(self):
    x = _images(_FULL)
    changed = x.copy()
    changed[0, 0, 0] += np.arange(_TOTAL)
    y, y_changed = np.array(_layer_norm(x, _FULL)), _layer_norm(changed, _FULL)
    self.assertFalse(np.allclose(y[0, 0, 0], y_changed[0, 0, 0]))
    y[0, 0, 0] = y_changed[0, 0, 0]
    _close(y, y_changed)


class BatchNormTest(parameterized.TestCase):

  @parameterized.product(rho=WIDTHS, train=(True, False))
  def test_equals_flax_given_the_sliced_parameters(self, rho, train):
    mask = WidthMask.at(rho, _TOTAL)
    x = _images(mask)
    names = ('scale', 'bias', 'mean', 'var')
    params = dict(zip(names, (*_affine(), *_statistics())))
    small = {name: param[: mask.active] for name, param in params.items()}
    reference = nn.BatchNorm(
        use_running_average=not train, momentum=0.9, epsilon=1e-5
    )
    expected, updated = reference.apply(
        {
            'params': {name: small[name] for name in names[:2]},
            'batch_stats': {name: small[name] for name in names[2:]},
        },
        x,
        mutable=['batch_stats'],
    )
    y, mean, var = slimmable.batch_norm(x, **params, mask=mask, train=train)
    _close(y, expected)
    _close(mean[: mask.active], updated['batch_stats']['mean'])
    _close(var[: mask.active], updated['batch_stats']['var'])

  @parameterized.parameters(*WIDTHS)
  def test_training_moves_the_active_statistics_alone(self, rho):
    mask = WidthMask.at(rho, _TOTAL)
    old = _statistics()
    _, *new = slimmable.batch_norm(
        _images(mask), *_affine(), *old, mask, train=True
    )
    for before, after in zip(old, new):
      chex.assert_shape(after, before.shape)
      active = slice(mask.active)
      self.assertTrue(np.all(before[active] != after[active]))
      rest = slice(mask.active, None)
      np.testing.assert_array_equal(before[rest], after[rest])

  def test_evaluation_moves_no_statistics(self):
    old = _statistics()
    _, *new = slimmable.batch_norm(
        _images(_FULL), *_affine(), *old, _FULL, train=False
    )
    chex.assert_trees_all_equal(tuple(new), old)

  def test_moving_averages_by_hand(self):
    # 0 and 4 have mean 2 and variance 4. 0.9 * 0 + 0.1 * 2 = 0.2, and
    # 0.9 * 1 + 0.1 * 4 = 1.3. The second channel is not active.
    zeros, ones = jnp.zeros(2), jnp.ones(2)
    _, mean, var = slimmable.batch_norm(
        jnp.array([0.0, 4.0]).reshape(2, 1, 1, 1),
        ones,
        zeros,
        zeros,
        ones,
        WidthMask(1, 2),
        train=True,
    )
    _close(mean, jnp.array([0.2, 0.0]))
    _close(var, jnp.array([1.3, 1.0]))

  def test_statistics_over_a_mapped_axis_are_those_of_the_whole_batch(self):
    x = _normal(4, 3, 3, _TOTAL)
    params = (*_affine(), *_statistics())

    def run(x, axis_name=None):
      return slimmable.batch_norm(
          x, *params, _FULL, train=True, axis_name=axis_name
      )

    mapped = jax.vmap(
        functools.partial(run, axis_name='batch'), axis_name='batch'
    )
    y, mean, var = mapped(x.reshape(2, 2, 3, 3, _TOTAL))
    whole = run(x)
    for device in range(2):
      _close((y.reshape(x.shape), mean[device], var[device]), whole)


if __name__ == '__main__':
  absltest.main()
