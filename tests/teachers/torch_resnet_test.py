# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.teachers.torch_resnet, against the originals."""

import json
import pathlib
import sys
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import chex
import jax
import numpy as np
from safetensors.numpy import save_file

from adaptanet_jax.errors import UsageError
from adaptanet_jax.models.resnet import ResNet
from adaptanet_jax.teachers import torch_resnet
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


def _state(title):
  """Returns a state dict, as PyTorch would have it."""
  return {
      name: originals.weight(name, tuple(shape))
      for name, shape in _ORIGINALS[title]['shapes'].items()
      if shape or 'num_batches' not in name
  }


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
    variables = torch_resnet.load(self._save(state), net)
    chex.assert_trees_all_equal_shapes_and_dtypes(variables, net.shapes())
    logits, _ = jax.jit(net.forward)(variables, originals.images())
    expected = np.array(_ORIGINALS[title]['logits'], np.float32)
    self.assertGreater(np.ptp(expected), 1.0)
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=1e-4)

  @parameterized.parameters('module.', '_orig_mod.', 'module._orig_mod.')
  def test_what_wraps_a_network_is_taken_off(self, prefix):
    state = _state('timm.resnet50')
    wrapped = {prefix + name: array for name, array in state.items()}
    plain, same = (
        torch_resnet.load(self._save(s), _net('bn')) for s in (state, wrapped)
    )
    chex.assert_trees_all_equal(plain, same)

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
    self._assert_refused('/no/such.pth', _net('bn'), 'is no file')
    path = self.folder / 'torn.safetensors'
    path.write_bytes(b'\x00\x01')
    self._assert_refused(str(path), _net('bn'), 'cannot be read')

  def test_a_pickle_without_pytorch_is_refused_with_what_to_do(self):
    path = self.folder / 'weights.pth'
    path.write_bytes(b'')
    with mock.patch.dict(sys.modules, torch=None):
      self._assert_refused(
          str(path), _net('bn'), 'takes PyTorch to read', 'pip install torch'
      )

  def test_a_pickle_is_read_by_pytorch(self):
    """PyTorch itself is stood in for: it is too large to install for a test."""

    class Tensor:

      def __init__(self, array):
        self._array = array

      def float(self):
        return self

      def numpy(self):
        return self._array

    state = _state('timm.resnet50')
    wrapped = {
        'epoch': 3,
        'state_dict': {name: Tensor(array) for name, array in state.items()},
    }
    torch = mock.Mock(Tensor=Tensor, load=mock.Mock(return_value=wrapped))
    path = self.folder / 'weights.pth'
    path.write_bytes(b'')
    with mock.patch.dict(sys.modules, torch=torch):
      found = torch_resnet.load(str(path), _net('bn'))
    torch.load.assert_called_once_with(
        str(path), map_location='cpu', weights_only=True
    )
    chex.assert_trees_all_equal(
        found, torch_resnet.load(self._save(state), _net('bn'))
    )


class RunTest(absltest.TestCase):

  def test_a_batchnorm_teacher_over_a_groupnorm_student(self):
    """The teacher of a small net, under PyTorch's names, through a run."""
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    net = ResNet('resnet26x8', 'cifar', 'bn', 10, (16, 16, 1))
    state = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(net.shapes()):
      name = torch_resnet._name(tuple(part.key for part in path))
      # `(H, W, I, O)` to `(O, I, H, W)`, and `(I, O)` to `(O, I)`.
      shape = (*leaf.shape[:-3:-1], *leaf.shape[:-2])
      state[name] = originals.weight(name, shape)
    weights = folder / 'teacher.safetensors'
    save_file(state, weights)
    flags = (
        '--config=configs/digits.py:smoke',
        f'--config.teacher.weights={weights}',
        '--config.teacher.norm=bn',
        '--config.teacher.epochs=0.',
        '--config.phases=teacher,cascade',
        '--config.data.train_examples=32',
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
    again = run(folder / 'run', *flags)
    self.assertEqual(again.returncode, 0, again.stderr)
    self.assertIn('All is done', again.stdout)


if __name__ == '__main__':
  absltest.main()
