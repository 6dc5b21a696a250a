# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.models.resnet."""

import dataclasses
import functools

from absl.testing import absltest, parameterized
import chex
from flax import linen as nn, traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import devices, trees
from adaptanet_jax.models import resnet, slimmable
from adaptanet_jax.models.architectures import ARCHITECTURES
from adaptanet_jax.models.layers import NORMS, STEMS, Bottleneck, Norm
from adaptanet_jax.models.resnet import (
  BACKBONE,
  ResNet,
  anchor_name,
  stage_name,
  stage_numbers,
)
from adaptanet_jax.models.subnet import (
  CHOICES,
  MIXED,
  WIDTHS,
  StageChoice,
  Subnet,
  WidthMask,
)

# Norm 'gn', stem 'cifar', 10 classes, 1 colour. A bottleneck with p planes and
# i input channels has kernels of i * p, 9 * p * p and p * 4p, and norms of
# 2 * (p + p + 4p); the first of a stage also has a shortcut of i * 4p with a
# norm of 2 * 4p. So for 'resnet26x8': stem 9 * 8 + 16 = 88;
# stage 1: 8 * 8 + 576 + 256 + 96 + 256 + 64 = 1312, 256 + 576 + 256 + 96 =
# 1184; stage 2: 512 + 2304 + 1024 + 192 + 2048 + 128 = 6208, 1024 + 2304 + 1024
# + 192 = 4544; stage 3: 2048 + 9216 + 4096 + 384 + 8192 + 256 = 24192, 4096 +
# 9216 + 4096 + 384 = 17792; stage 4: 8192 + 36864 + 16384 + 768 + 32768 + 512 =
# 95488, 16384 + 36864 + 16384 + 768 = 70400; head 256 * 10 + 10 = 2570.
# 88 + 2496 + 10752 + 41984 + 165888 + 2570 = 223778.
_NUM_PARAMS = {
    'resnet152': 58_155_466,
    'resnet101': 42_511_818,
    'resnet50': 23_519_690,
    'resnet26': 13_957_834,
    'resnet26x32': 3_502_442,
    'resnet26x16': 882_106,
    'resnet26x8': 223_778,
}


def _net(norm='gn', **changes):
  net = ResNet('resnet26x8', 'cifar', norm, 10, (16, 16, 1))
  return dataclasses.replace(net, **changes)


@functools.cache
def _shapes(net):
  return jax.eval_shape(net.init, jax.random.key(0))


def _num_params(net):
  return sum(leaf.size for leaf in jax.tree.leaves(_shapes(net)['params']))


def _images(shape=(16, 16, 1), seed=0):
  return np.random.default_rng(seed).standard_normal((2, *shape), np.float32)


class ArchitectureTest(parameterized.TestCase):

  def test_every_architecture_has_a_parameter_count(self):
    self.assertEqual(set(_NUM_PARAMS), set(ARCHITECTURES))

  @parameterized.parameters(*ARCHITECTURES)
  def test_parameter_count(self, name):
    net = ResNet(name, 'cifar', 'gn', 10, (16, 16, 1))
    self.assertEqual(_num_params(net), _NUM_PARAMS[name])

  @parameterized.parameters(
      ('resnet50', 25_557_032),
      ('resnet101', 44_549_160),
      ('resnet152', 60_192_808),
  )
  def test_has_as_many_parameters_as_that_of_torchvision(self, name, count):
    net = ResNet(name, 'imagenet', 'gn', 1000, (224, 224, 3))
    self.assertEqual(_num_params(net), count)

  def test_name_counts_the_layers(self):
    # Three layers in each block, the stem and the classifier.
    for name, shape in ARCHITECTURES.items():
      num_layers = 3 * sum(shape.depths) + 2
      self.assertStartsWith(name, f'resnet{num_layers}')

  @parameterized.parameters(
      # The stem takes 224 to 112 pixels, the pool to 56; 4 * (64 to 512)
      # channels.
      (
          'resnet50',
          'imagenet',
          224,
          ((56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 2048)),
      ),
      (
          'resnet26x8',
          'cifar',
          16,
          ((16, 16, 32), (8, 8, 64), (4, 4, 128), (2, 2, 256)),
      ),
      (
          'resnet26x8',
          'cifar_half',
          16,
          ((8, 8, 32), (4, 4, 64), (2, 2, 128), (1, 1, 256)),
      ),
  )
  def test_anchor_shapes(self, name, stem, side, expected):
    net = ResNet(name, stem, 'gn', 10, (side, side, 3))
    self.assertEqual(net.anchor_shapes, expected)

  @parameterized.parameters(
      ('architecture', ARCHITECTURES), ('stem', STEMS), ('norm', NORMS)
  )
  def test_an_unknown_name_raises_with_the_choices(self, field, choices):
    with self.assertRaisesRegex(
        ValueError,
        rf"Unknown {field} 'nothing'; expected one of .*{sorted(choices)[-1]}",
    ):
      _net(**{field: 'nothing'})

  def test_equal_networks_are_one_key(self):
    self.assertLen({_net(), _net(), _net('bn')}, 2)

  def test_shapes_do_not_depend_on_who_asks_first(self):
    net = _net(delta='conv3x3')
    expected = net.shapes()
    resnet._shapes.cache_clear()
    found = []

    def run(x):
      found.append(net.shapes())
      return x

    mapped = devices.over_devices(run, in_axes=(0,), out_axes=0)
    mapped.lower(jnp.zeros(jax.local_device_count()))
    self.assertEqual(
        {leaf.sharding for leaf in jax.tree.leaves(found)}, {None}
    )
    chex.assert_trees_all_equal_shapes_and_dtypes(found, [expected])

  def test_parameters_are_parts_of_the_backbone(self):
    self.assertEqual(
        set(_shapes(_net())['params']['backbone']),
        {'stem', 'stage1', 'stage2', 'stage3', 'stage4', 'head'},
    )

  @parameterized.parameters(*NORMS)
  def test_parameters_are_float32_and_statistics_are_of_batch_norms(self, norm):
    variables = _shapes(_net(norm, dtype='bfloat16'))
    is_batch_norm = norm.startswith('bn')
    self.assertEqual('batch_stats' in variables, is_batch_norm)
    for leaf in jax.tree.leaves(variables):
      self.assertEqual(leaf.dtype, jnp.float32)

  def test_names_count_from_one(self):
    self.assertEqual(list(stage_numbers()), [1, 2, 3, 4])
    self.assertEqual((stage_name(1), anchor_name(4)), ('stage1', 'anchor4'))


class ForwardTest(parameterized.TestCase):

  @parameterized.product(
      norm=tuple(NORMS), subnet=(Subnet.uniform(0.25), MIXED[0])
  )
  def test_every_subnet_has_the_same_anchor_shapes(self, norm, subnet):
    net = _net(norm, dtype='bfloat16')

    def forward(variables, images):
      return net.forward(variables, images, subnet)

    logits, features = jax.eval_shape(forward, _shapes(net), _images())
    self.assertEqual(
        list(features), ['anchor1', 'anchor2', 'anchor3', 'anchor4']
    )
    for feature, shape in zip(features.values(), net.anchor_shapes):
      chex.assert_shape(feature, (2, *shape))
      self.assertEqual(feature.dtype, jnp.bfloat16)
    chex.assert_shape(logits, (2, 10))
    self.assertEqual(logits.dtype, jnp.float32)

  @parameterized.parameters(Subnet.uniform(1.0), MIXED[0])
  def test_folded_variables_give_the_same_logits(self, subnet):
    net = _net('gn_ws')
    self.assertEqual(net.folded, _net('gn'))

    @jax.jit
    def logits(variables, images):
      runs = (net, variables), (net.folded, net.fold(variables)), (
          net.folded, variables
      )
      return [run.forward(with_, images, subnet)[0] for run, with_ in runs]

    variables = trees.draw_like(net.shapes())
    expected, folded, unfolded = logits(variables, _images())
    chex.assert_trees_all_close(folded, expected, rtol=1e-5, atol=1e-5)
    self.assertGreater(np.abs(unfolded - expected).max(), 1e-2)

  def test_folding_changes_kernels_of_convolutions_alone(self):
    net = _net('gn_ws', delta='conv3x3')
    gate = {'params': {'gates': {'gate1': {'kernel': jnp.ones((3, 3, 2, 2))}}}}
    variables = trees.merge(trees.draw_like(net.shapes()), gate)
    flat, folded = (
        traverse_util.flatten_dict(tree['params'], sep='/')
        for tree in (variables, net.fold(variables))
    )
    changed = [n for n in flat if not np.array_equal(flat[n], folded[n])]
    kernels = [
        name
        for name in flat
        if name.endswith('/kernel')
        and not name.startswith(('backbone/head', 'gates'))
    ]
    self.assertEqual(changed, kernels)
    self.assertIn('delta/stage4/conv/kernel', changed)

  @parameterized.parameters('gn', 'ln', 'bn')
  def test_a_norm_of_plain_kernels_has_nothing_to_fold(self, norm):
    net = _net(norm)
    variables = {'params': {}}
    self.assertIs(net.fold(variables), variables)
    self.assertEqual(net.folded, net)

  @parameterized.product(number=(1, 2, 3, 4), choice=CHOICES[:4])
  def test_every_choice_of_a_stage_has_its_anchor_shape(self, number, choice):
    net = ResNet('resnet50', 'imagenet', 'gn', 10, (64, 64, 3))
    shapes = ((64, 64, 3), *net.anchor_shapes)
    run = functools.partial(net.run_stage, number=number, choice=choice)
    images = jax.ShapeDtypeStruct((2, *shapes[number - 1]), jnp.float32)
    anchor, stats = jax.eval_shape(run, _shapes(net), images)
    chex.assert_shape(anchor, (2, *shapes[number]))
    self.assertEmpty(stats)

  def test_full_width_equals_flax_layers(self):
    net = _net()
    variables, x = trees.draw_like(net.shapes()), _images()
    run = functools.partial(net.run_stage, number=1, choice=StageChoice())
    actual, _ = jax.jit(run)(variables, x)
    params = variables['params']['backbone']

    def conv_norm(layer, x):
      size, features = layer['kernel'].shape[0], layer['kernel'].shape[-1]
      pad = (size - 1) // 2
      x = nn.Conv(
          features,
          (size, size),
          padding=((pad, pad), (pad, pad)),
          use_bias=False,
      ).apply({'params': {'kernel': layer['kernel']}}, x)
      group_size = slimmable.group_size(features)
      norm = nn.GroupNorm(None, group_size, epsilon=1e-5)
      return norm.apply({'params': layer['norm']}, x)

    def expected(x):
      x = nn.relu(conv_norm(params['stem']['conv'], x))
      for block in (params['stage1']['block1'], params['stage1']['block2']):
        y = nn.relu(conv_norm(block['conv1'], x))
        y = nn.relu(conv_norm(block['conv2'], y))
        y = conv_norm(block['conv3'], y)
        if 'shortcut' in block:
          x = conv_norm(block['shortcut'], x)
        x = nn.relu(x + y)
      return x

    chex.assert_trees_all_close(
        actual, jax.jit(expected)(x), rtol=1e-4, atol=1e-4
    )

  def test_head_pools_and_classifies(self):
    # The mean of 1 and 3 is 2; 2 * 10 + 0.5 = 20.5, 2 * -1 + 0 = -2.
    net = _net(num_classes=2)
    kernel = jnp.zeros((256, 2)).at[0].set(jnp.array([10.0, -1.0]))
    head = {'kernel': kernel, 'bias': jnp.array([0.5, 0.0])}
    anchor = jnp.array([1.0, 3.0]).reshape(1, 2, 1, 1)
    variables = {'params': {'backbone': {'head': head}}}
    for channels in (256, 64):  # All channels, or only the first ones.
      padded = jnp.pad(anchor, ((0, 0),) * 3 + ((0, channels - 1),))
      logits = net.run_head(variables, padded)
      chex.assert_trees_all_close(logits, jnp.array([[20.5, -2.0]]))

  @parameterized.parameters('1.0d', '0.25d')
  def test_a_delta_without_a_substitute_raises(self, name):
    choice = Subnet.parse('-'.join([name] * 4)).stages[0]
    with self.assertRaisesRegex(
        ValueError, 'Stage 2 has no delta substitute; expected .* 1.0, 0.75'
    ):
      _net().run_stage({}, _images((16, 16, 32)), 2, choice)

  def test_a_stage_runs_on_its_own_variables_alone(self):
    net = _net('bn')
    variables = trees.draw_like(net.shapes())
    own = {
        name: {'backbone': {'stage2': tree['backbone']['stage2']}}
        for name, tree in variables.items()
    }
    x = _images((16, 16, 32))
    run = jax.jit(
        functools.partial(net.run_stage, number=2, choice=StageChoice(0.25))
    )
    chex.assert_trees_all_equal(run(own, x), run(variables, x))


class BottleneckTest(parameterized.TestCase):

  def _run(self, params, x, in_mask, rho, **attributes):
    block = Bottleneck('gn', 4, strides=1, **attributes)

    @jax.jit
    def run(params, x):
      x, kept = x[..., : in_mask.active], x[..., in_mask.active :]
      y, kept = block.apply(
          {'params': params}, x, in_mask, kept, rho=rho, train=False
      )
      return y if kept is None else jnp.concatenate([y, kept], -1)

    return run(params, x)

  def _params(self, **attributes):
    block = Bottleneck('gn', 4, strides=1, **attributes)
    in_mask = WidthMask.full(16)

    def init(rng):
      x = jnp.ones((1, 3, 3, 16))
      return block.init(rng, x, in_mask, rho=1.0, train=False)['params']

    return trees.draw_like(jax.eval_shape(init, jax.random.key(0)))

  @parameterized.product(rho=WIDTHS, project=(False, True))
  def test_an_inner_block_passes_the_rest_of_the_stream_on(self, rho, project):
    attributes = {'project': project, 'anchor': False}
    in_mask = WidthMask.full(16) if project else WidthMask.at(rho, 16)
    x = _images((3, 3, 16))
    params = self._params(**attributes)
    y = self._run(params, x, in_mask, rho, **attributes)
    chex.assert_shape(y, x.shape)
    active = WidthMask.at(rho, 16).active
    kept = x
    if project:
      shortcut = params['shortcut']
      kept = slimmable.conv(x, shortcut['kernel'], in_mask, in_mask)
      kept = nn.relu(
          slimmable.group_norm(
              kept, shortcut['norm']['scale'], shortcut['norm']['bias'], in_mask
          )
      )
    chex.assert_trees_all_close(
        y[..., active:], kept[..., active:], rtol=1e-5, atol=1e-6
    )
    self.assertFalse(np.allclose(y[..., :active], kept[..., :active]))

  def test_an_anchor_block_writes_the_whole_stream(self):
    attributes = {'project': False, 'anchor': True}
    x = np.abs(_images((3, 3, 16)))
    y = self._run(
        self._params(**attributes), x, WidthMask(4, 16), 0.25, **attributes
    )
    moved = np.any(np.abs(y - x) > 1e-4, axis=(0, 1, 2))
    np.testing.assert_array_equal(moved, np.ones(16, bool))

  @parameterized.product(rho=(0.75, 0.5, 0.25), anchor=(False, True))
  def test_reads_the_leading_channels_of_the_input_alone(self, rho, anchor):
    attributes = {'project': False, 'anchor': anchor}
    mask = WidthMask.at(rho, 16)
    params = self._params(**attributes)
    x = _images((3, 3, 16))
    changed = x.copy()
    changed[..., mask.active :] += 1.0
    run = functools.partial(
        self._run, params, in_mask=mask, rho=rho, **attributes
    )
    # The active output channels depend only on the active input channels.
    chex.assert_trees_all_equal(
        run(x)[..., : mask.active], run(changed)[..., : mask.active]
    )

  @parameterized.product(
      rho=(0.75, 0.25), anchor=(False, True), project=(False, True)
  )
  def test_reads_active_parameters_and_no_others(self, rho, anchor, project):
    attributes = {'project': project, 'anchor': anchor}
    inner = WidthMask.at(rho, 4).active
    stream = WidthMask.at(rho, 16)
    in_mask = WidthMask.full(16) if project else stream
    written = 16 if anchor else stream.active
    active = {
        'conv1': (in_mask.active, inner),
        'conv2': (inner, inner),
        'conv3': (inner, written),
        'shortcut': (16, 16),
    }
    params = self._params(**attributes)
    x = _images((3, 3, 16))

    def loss(params):
      y = self._run(params, x, in_mask, rho, **attributes)
      return jnp.sum(y * _images((3, 3, 16), seed=1))

    def inactive_moved(name, array):
      array = array.copy()
      read = active[name.split('/')[0]][-min(array.ndim, 2) :]
      kept = (..., *(slice(count) for count in read))
      moved = array + 7.0
      moved[kept] = array[kept]
      return moved

    flat = traverse_util.flatten_dict(params, sep='/')
    moved = traverse_util.unflatten_dict(
        {name: inactive_moved(name, np.array(a)) for name, a in flat.items()},
        sep='/',
    )
    with self.assertRaises(AssertionError):
      chex.assert_trees_all_equal(moved, params)
    value_and_grad = jax.jit(jax.value_and_grad(loss))
    value, gradients = value_and_grad(params)
    np.testing.assert_array_equal(value_and_grad(moved)[0], value)
    # The active part of each leaf gets a gradient, and the rest exactly zero.
    for name, g in traverse_util.flatten_dict(gradients, sep='/').items():
      g = np.array(g)
      read = active[name.split('/')[0]][-min(g.ndim, 2) :]
      kept = (..., *(slice(count) for count in read))
      self.assertGreater(np.abs(g[kept]).max(), 1e-6, name)
      g[kept] = 0.0
      np.testing.assert_array_equal(g, 0.0, name)


class BatchStatsTest(parameterized.TestCase):

  @parameterized.product(
      norm=('bn', 'bn_private', 'bn_switchable'), number=(1, 2), rho=(1.0, 0.5)
  )
  def test_training_returns_those_of_the_stage_that_ran(
      self, norm, number, rho
  ):
    net = _net(norm)
    old_variables = trees.draw_like(net.shapes())
    x = _images() if number == 1 else _images((16, 16, 32))
    old = old_variables['batch_stats']['backbone']

    def run(variables, x):
      return net.run_stage(
          variables, x, number, StageChoice(rho), moving=(BACKBONE,)
      )[1]

    new = jax.jit(run)(old_variables, x)['backbone']
    names = {'stem', 'stage1'} if number == 1 else {'stage2'}
    self.assertEqual(set(new), names)
    chex.assert_trees_all_equal_shapes_and_dtypes(
        new, {name: old[name] for name in names}
    )
    row = WIDTHS.index(rho)
    for name in names:
      before = traverse_util.flatten_dict(old[name], sep='/')
      for leaf, after in traverse_util.flatten_dict(new[name], sep='/').items():
        moved = np.array(before[leaf] != after)
        if norm != 'bn':
          self.assertFalse(np.delete(moved, row, axis=0).any(), leaf)
          moved = moved[row]
        # The active channels have moved: the first ones, without a gap.
        count = moved.sum()
        self.assertGreaterEqual(count, rho * len(moved))
        self.assertTrue(moved[:count].all(), leaf)
        if 'shortcut' not in leaf and 'block2/conv3' not in leaf:
          self.assertEqual(count, rho * len(moved), leaf)

  @parameterized.product(norm=tuple(NORMS), moving=((), (BACKBONE,)))
  def test_there_are_none_without_training_or_without_batch_norm(
      self, norm, moving
  ):
    net = _net(norm)

    def run(variables, x):
      choice = StageChoice(0.5)
      return net.run_stage(variables, x, 1, choice, moving=moving)[1]

    stats = jax.eval_shape(run, _shapes(net), _images())
    self.assertEqual(bool(stats), bool(moving) and norm.startswith('bn'))

  @parameterized.product(
      norm=('bn', 'bn_private', 'bn_switchable'), train=(False, True)
  )
  def test_initialising_leaves_the_statistics_at_zero_and_one(
      self, norm, train
  ):
    x, mask = jnp.full((2, 3, 3, 2), 5.0), WidthMask(2, 4)
    variables = Norm(norm).init(
        jax.random.key(0), x, mask, rho=0.5, train=train
    )
    np.testing.assert_array_equal(variables['batch_stats']['mean'], 0.0)
    np.testing.assert_array_equal(variables['batch_stats']['var'], 1.0)

  def test_private_statistics_share_one_scale(self):
    shapes = jax.eval_shape(_net('bn_private').init, jax.random.key(0))
    for collection, shape in (('params', (8,)), ('batch_stats', (4, 8))):
      norm = shapes[collection]['backbone']['stem']['conv']['norm']
      for leaf in jax.tree.leaves(norm):
        self.assertEqual(leaf.shape, shape)

  def test_switchable_batch_norm_keeps_a_row_for_each_width(self):
    # Rows 0 to 3 belong to 1.0, 0.75, 0.5 and 0.25. At 0.5 row 2 is read:
    # (x - 2) / 1 * 3 + 1, for x = 5: 10.
    norm = Norm('bn_switchable')
    row = jnp.arange(4.0).reshape(4, 1) * jnp.ones((1, 4))
    variables = {
        'params': {'scale': row + 1.0, 'bias': row - 1.0},
        'batch_stats': {'mean': row, 'var': jnp.ones((4, 4))},
    }
    y = norm.apply(
        variables,
        jnp.full((1, 1, 1, 2), 5.0),
        WidthMask(2, 4),
        rho=0.5,
        train=False,
    )
    chex.assert_trees_all_close(y.ravel(), jnp.array([10.0, 10.0]), rtol=1e-4)


if __name__ == '__main__':
  absltest.main()
