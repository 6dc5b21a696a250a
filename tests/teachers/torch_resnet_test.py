# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.teachers.torch_resnet, against the originals."""

import functools
import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import chex
from flax import traverse_util
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from adaptanet_jax import workspace
from adaptanet_jax.errors import UsageError
from adaptanet_jax.models.layers import normalize
from adaptanet_jax.models.resnet import ResNet
from adaptanet_jax.teachers import torch_file, torch_resnet
from tests import testing
from tests.teachers import originals
from tests.testing import run

_ORIGINALS = json.loads(originals.PATH.read_text())
_NORMS = {
    'torchvision.resnet50': 'bn',
    'timm.resnet50': 'bn',
    'timm.resnet50_gn': 'gn32',
}


def _net(norm, **changes):
  settings = {
      'architecture': 'resnet50',
      'stem': 'imagenet',
      'norm': norm,
      'num_classes': originals.NUM_CLASSES,
      'image_shape': (originals.SIDE, originals.SIDE, 3),
  }
  return ResNet(**(settings | changes))


@functools.cache
def _weights(title):
  return {
      name: originals.weight(name, tuple(shape))
      for name, shape in _ORIGINALS[title]['shapes'].items()
      if shape or 'num_batches' not in name
  }


def _state(title):
  """Returns a state dict in PyTorch's form; its arrays are shared."""
  return dict(_weights(title))


def _contrast(kernel):
  """Returns what a first convolution makes of the step from grey to white."""
  grey, white = (
      normalize(jnp.full((1, 1, 1, kernel.shape[2]), level, jnp.uint8))
      for level in (128, 255)
  )
  return jnp.einsum('hwio,i->hwo', kernel, (white - grey).ravel())


class TorchResNetTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory())
    )

  def _save(self, state, name='weights.safetensors'):
    path = str(self.folder / name)
    save_file(state, path)
    return path

  def _assert_refused(self, path, net, *texts):
    with self.assertRaises(UsageError) as caught:
      torch_resnet.load(path, net)
    for text in ('config.teacher.weights', *texts):
      self.assertIn(text, str(caught.exception))

  @parameterized.parameters(*_NORMS)
  def test_logits_are_the_originals(self, title):
    net = _net(_NORMS[title])
    state = _state(title) | {'bn1.num_batches_tracked': np.array(7)}
    variables, notes = torch_resnet.load(self._save(state), net)
    self.assertEmpty(notes)
    chex.assert_trees_all_equal_shapes_and_dtypes(variables, net.shapes())
    logits, _ = jax.jit(net.forward)(variables, originals.images())
    expected = np.array(_ORIGINALS[title]['logits'], np.float32)
    self.assertGreater(np.ptp(expected), 1.0)
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=1e-4)

  @parameterized.parameters(
      *('module.', '_orig_mod.', 'module._orig_mod.', '_orig_mod.module.'),
      *('model.', 'net.', 'ema.module.', 'backbone.', 'student.encoder.'),
  )
  def test_what_wraps_a_network_is_taken_off(self, prefix):
    state = _state('timm.resnet50')
    wrapped = {prefix + name: array for name, array in state.items()}
    (plain, _), (same, _) = (
        torch_resnet.load(self._save(s), _net('bn')) for s in (state, wrapped)
    )
    chex.assert_trees_all_equal(plain, same)

  def _load_tree(self, tree, net=None, **options):
    """Loads a file that contains a tree."""
    path = self.folder / 'tree.pth'
    path.write_bytes(b'')
    with mock.patch.object(torch_file, 'read', return_value=tree):
      return torch_resnet.load(str(path), net or _net('bn'), **options)[0]

  def test_a_state_dict_is_found_under_any_key(self):
    state = _state('timm.resnet50')
    other = {name: array + 1 for name, array in state.items()}
    beside = {'epoch': 3, 'args': torch_file.Other(), 'best': np.ones(3)}
    expected = self._load_tree(state)
    for tree in (
        *({key: state} for key in ('state_dict', 'net', 'network', 'ema')),
        {'ema': {'module': state}},
        {'checkpoint': {'model_state': {'net': state}}, 'optimizer': {}},
        # The network is preferred to its average, in any order.
        {'state_dict_ema': other, 'state_dict': state},
        {'ema': {'module': other}, 'model': state},
        {
            'model_ema': {f'module.{n}': a for n, a in state.items()}
            | {'n_averaged': np.array(7)}
        },
    ):
      chex.assert_trees_all_equal(self._load_tree(tree | beside), expected)

  @parameterized.parameters(
      ({'epoch': 3, 'args': {}}, 'holds the keys args, epoch and no tensors'),
      ({}, 'holds nothing and no tensors'),
      ([1], 'holds a list and no tensors'),
      (torch_file.Other(), 'holds a Other and no tensors'),
      (
          {'a': {'conv1.weight': np.ones(1)}, 'b': {'fc.weight': np.ones(1)}},
          'has several networks, under a, b; expected one',
      ),
      (
          {'q.conv1.weight': np.ones(1), 'k.conv1.weight': np.ones(1)},
          'has several networks, whose names start with k., q.;',
      ),
      (
          {'encoder.weight': np.ones(1)},
          'it lacks bn1.bias, bn1.running_mean, bn1.running_var and 264 more; '
          'it has beyond the network encoder.weight',
      ),
  )
  def test_where_no_network_is_found_it_is_said_what_is(self, tree, text):
    with self.assertRaises(UsageError) as caught:
      self._load_tree(tree)
    self.assertIn(text, str(caught.exception))
    self.assertNotIn('\n', str(caught.exception))

  @parameterized.parameters(
      ('layer1.0.conv1.weight', np.nan, 'has 1 of 4096 numbers that are not f'),
      ('fc.bias', -np.inf, 'has 1 of 10 numbers that are not finite'),
      ('bn1.running_var', -1.0, 'has variances below 0'),
  )
  def test_numbers_that_are_none_are_named(self, name, value, text):
    state = _state('timm.resnet50')
    state[name] = state[name].copy()
    state[name].flat[3] = value
    self._assert_refused(self._save(state), _net('bn'), f'{name} in', text)

  def test_other_kinds_of_numbers(self):
    state = _state('timm.resnet50')
    expected, _ = torch_resnet.load(self._save(state), _net('bn'))
    for dtype in ('float64', ml_dtypes.bfloat16, 'float16'):
      found = self._load_tree({n: a.astype(dtype) for n, a in state.items()})
      chex.assert_trees_all_equal_shapes_and_dtypes(found, expected)
      chex.assert_trees_all_close(found, expected, rtol=2**-8, atol=1e-6)
    large = state | {'fc.bias': np.full(10, 1e300)}
    with self.assertRaisesRegex(UsageError, 'fc.bias.*10 of 10 numbers that'):
      self._load_tree(large)
    whole = state | {'fc.weight': np.ones((10, 2048), np.int8)}
    with self.assertRaisesRegex(UsageError, 'fc.weight in .* is int8; exp'):
      self._load_tree(whole)

  def test_what_does_not_fit_is_told_of_both_sides(self):
    state = _state('torchvision.resnet50')
    del state['layer2.0.downsample.0.weight']
    state['layer9.weight'] = np.zeros(3, np.float32)
    self._assert_refused(
        self._save(state),
        _net('bn', num_classes=7, stem='cifar'),
        'it lacks layer2.0.downsample.0.weight;',
        'it has beyond the network layer9.weight;',
        'conv1.weight (7, 7, 3, 64) against (3, 3, 3, 64)',
        'fc.weight (2048, 10) against (2048, 7)',
        'fc.bias (10,) against (7,)',
        "stem 'cifar', norm 'bn' and 7 classes",
    )

  def test_of_many_names_a_few_are_told(self):
    self._assert_refused(
        self._save(_state('timm.resnet50_gn')),
        _net('bn'),
        'it lacks bn1.running_mean, bn1.running_var, layer1.0.bn1.running_mean',
        'and 103 more',
    )

  def test_a_missing_or_damaged_file_is_refused(self):
    self._assert_refused('/no/such.pth', _net('bn'), 'is not a file')
    path = self.folder / 'torn.safetensors'
    path.write_bytes(b'\x00\x01')
    self._assert_refused(str(path), _net('bn'), 'cannot be read')

  def test_what_pytorch_wrote_but_no_network_is_refused(self):
    path = str(originals.SAVED / 'module.pth')
    self._assert_refused(path, _net('bn'), 'holds a Linear and no tensors')

  def test_a_page_named_as_weights_is_refused(self):
    path = self.folder / 'resnet50.pth'
    path.write_bytes(b'<!DOCTYPE html><html>404</html>')
    self._assert_refused(str(path), _net('bn'), "starts with b'<!DOCTYPE html>")


class AdaptTest(parameterized.TestCase):
  """Tests of weights for other classes or other colour channels."""

  def _load(self, state, net, adapt=True):
    with tempfile.TemporaryDirectory() as folder:
      path = str(pathlib.Path(folder, 'weights.safetensors'))
      save_file(state, path)
      return torch_resnet.load(path, net, adapt=adapt)

  def test_what_fits_is_left_as_it_is(self):
    state, net = _state('timm.resnet50'), _net('bn')
    found, notes = self._load(state, net)
    self.assertEmpty(notes)
    expected, _ = self._load(state, net, adapt=False)
    chex.assert_trees_all_equal(found, expected)

  @parameterized.parameters('other', 'none', 'bias')
  def test_a_classifier_of_other_classes_is_left_out(self, case):
    state = _state('timm.resnet50')
    net = _net('bn', num_classes=10 if case != 'other' else 3)
    if case != 'other':
      del state['fc.bias']
    if case == 'none':
      del state['fc.weight']
    found, notes = self._load(state, net)
    self.assertEqual(
        notes,
        {
            'other': ['the classifier of 10 classes starts at random for 3'],
            'none': ['the classifier that it lacks starts at random for 10'],
            'bias': ['the classifier of 10 classes starts at random for 10'],
        }[case],
    )
    self.assertNotIn('head', found['params']['backbone'])
    shapes = traverse_util.flatten_dict(net.shapes())
    expected = {key: shapes[key] for key in shapes if 'head' not in key}
    chex.assert_trees_all_equal_shapes_and_dtypes(
        traverse_util.flatten_dict(found), expected
    )
    with self.assertRaisesRegex(UsageError, 'does not fit.*epochs above 0'):
      self._load(state, net, adapt=False)

  def test_a_classifier_without_axes_is_refused(self):
    state = _state('timm.resnet50') | {'fc.bias': np.array(1.0)}
    with self.assertRaisesRegex(UsageError, 'beyond the network fc.bias'):
      self._load(state, _net('bn'))

  def test_grey_pictures_look_to_it_as_grey_colours_did(self):
    state = _state('timm.resnet50')
    shape = (originals.SIDE, originals.SIDE)
    grey = _net('bn', image_shape=(*shape, 1))
    found, notes = self._load(state, grey)
    self.assertEqual(
        notes, ['the first convolution of 3 channels is summed to 1']
    )
    kernel = found['params']['backbone']['stem']['conv']['kernel']
    expected = _contrast(state['conv1.weight'].transpose(2, 3, 1, 0))
    np.testing.assert_allclose(
        _contrast(kernel), expected, rtol=1e-4, atol=1e-5
    )
    # The opposite: from one channel to three.
    back, notes = self._load(
        state | {'conv1.weight': kernel.transpose(3, 2, 0, 1).copy()},
        _net('bn'),
    )
    self.assertEqual(
        notes, ['the first convolution of 1 channels is spread over 3']
    )
    again = back['params']['backbone']['stem']['conv']['kernel']
    self.assertEqual(again.shape, (7, 7, 3, 64))
    np.testing.assert_allclose(_contrast(again), expected, rtol=1e-4, atol=1e-5)
    with self.assertRaisesRegex(UsageError, r'\(7, 7, 3, 64\) against \(7, 7'):
      self._load(state, grey, adapt=False)

  def test_another_network_stays_an_error(self):
    state = _state('timm.resnet50')
    for net in (_net('gn32'), _net('bn', stem='cifar')):
      with self.assertRaisesRegex(UsageError, 'does not fit'):
        self._load(state, net)


class RunTest(absltest.TestCase):

  def test_a_batchnorm_teacher_over_a_groupnorm_student(self):
    """Runs with a small teacher that is stored under PyTorch's names."""
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    net = ResNet('resnet26x8', 'cifar', 'bn', 10, (16, 16, 1))
    weights = folder / 'teacher.safetensors'
    save_file(originals.state_of(net), weights)
    flags = (
        '--config=configs/digits.py:smoke',
        f'--config.teacher.weights={weights}',
        '--config.teacher.norm=bn',
        '--config.teacher.epochs=0.',
        '--config.phases=teacher,cascade',
        # A teacher that is not trained does not need a whole batch.
        '--config.teacher.batch_size=128',
        '--config.data.train_examples=64',
        '--config.data.test_examples=32',
    )
    done = run(folder / 'run', *flags)
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertNotIn('teacher: step', done.stderr)
    results = json.loads((folder / 'run' / 'results.json').read_text())
    self.assertEqual(results['teacher']['params'], sum(
        leaf.size for leaf in jax.tree.leaves(net.shapes()['params'])
    ))
    self.assertIn('cascade4', results['seconds'])

  def test_weights_of_other_classes_and_colours_are_trained_on(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    other = ResNet('resnet26x8', 'cifar', 'gn', 7, (16, 16, 3))
    weights = folder / 'colours.safetensors'
    save_file(originals.state_of(other), weights)
    flags = (
        '--config=configs/digits.py:smoke',
        f'--config.teacher.weights={weights}',
        '--config.teacher.epochs=1.',
        '--config.teacher.warmup_epochs=0.',
        '--config.phases=teacher',
        '--config.data.train_examples=64',
        '--config.data.test_examples=32',
        '--config.log_every_steps=1',
    )
    done = run(folder / 'run', *flags)
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn(
        f'{weights}: the classifier of 7 classes starts at random for 10; the '
        'first convolution of 3 channels is summed to 1.\n',
        done.stderr,
    )
    self.assertIn('teacher: step 1/1', done.stderr)

  def test_a_teacher_starts_from_what_fits_and_draws_the_rest(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    other = ResNet('resnet26x8', 'cifar', 'gn', 7, (16, 16, 1))
    state = originals.state_of(other)
    weights = folder / 'classes.safetensors'
    save_file(state, weights)
    config = testing.config(
        '--config=configs/digits.py:smoke',
        f'--config.teacher.weights={weights}',
    )
    nets, _ = workspace.networks(config, 10, (16, 16, 1))
    imported, _ = torch_resnet.load(str(weights), nets.teacher, adapt=True)
    teacher = workspace._teacher(
        mock.Mock(config=config, nets=nets, imported=imported)
    )
    chex.assert_trees_all_equal_shapes_and_dtypes(
        teacher, nets.teacher.shapes()
    )
    backbone = teacher['params']['backbone']
    np.testing.assert_array_equal(
        backbone['stem']['conv']['kernel'],
        state['conv1.weight'].transpose(2, 3, 1, 0),
    )
    self.assertGreater(np.ptp(backbone['head']['kernel']), 0)


if __name__ == '__main__':
  absltest.main()
