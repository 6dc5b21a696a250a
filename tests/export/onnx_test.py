# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Compares all branches of all kinds of networks in ONNX Runtime and JAX."""

import dataclasses
import pathlib
import shutil
import tempfile

from absl.testing import absltest, parameterized
import jax
import numpy as np
import onnx

from adaptanet_jax import trees
from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation import calibration
from adaptanet_jax.export import folder as folder_lib, runtime
from adaptanet_jax.inference.network import Supernet
from adaptanet_jax.models import delta, layers
from adaptanet_jax.models.resnet import ResNet
from adaptanet_jax.models.subnet import LARGEST, Subnet
from tests.inference import bundle_test

_SMALL = 'resnet26x8'
# Networks with every norm, kind of delta and stem, with and without anchors, of
# even and odd sides, each with a value of `memory`.
_NETS = {
    'gn_ws': (
        ResNet(
            _SMALL, 'cifar_half', 'gn_ws', 10, (16, 16, 1), delta='separable'
        ),
        'fast',
    ),
    'gn': (
        ResNet(
            _SMALL, 'cifar', 'gn', 7, (17, 17, 3), 'bfloat16', delta='conv3x3'
        ),
        'small',
    ),
    'ln': (
        ResNet(
            _SMALL, 'imagenet', 'ln', 5, (33, 33, 3), delta='bottleneck'
        ),
        'fast',
    ),
    'bn': (
        ResNet(_SMALL, 'cifar_half', 'bn', 10, (16, 16, 1), delta='stream'),
        'small',
    ),
    'gn32': (ResNet(_SMALL, 'cifar', 'gn32', 10, (16, 16, 1)), 'fast'),
    'bn_private': (
        ResNet(
            _SMALL, 'cifar', 'bn_private', 10, (16, 16, 3), anchors=False
        ),
        'fast',
    ),
    'bn_switchable': (
        ResNet(
            _SMALL, 'imagenet', 'bn_switchable', 10, (32, 32, 3), anchors=False
        ),
        'small',
    ),
}


def supernet(net, **options):
  return Supernet(
      net,
      None,
      trees.draw_like(net.shapes(), seed=1),
      about=dataclasses.replace(
          bundle_test._about(),
          class_names=tuple(map(str, range(net.num_classes))),
      ),
      **options,
  )


def images_of(net, count=8):
  return np.random.default_rng(2).integers(
      0, 256, (count, *net.image_shape), np.uint8
  )


class OnnxTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(tempfile.mkdtemp())
    self.addCleanup(shutil.rmtree, self.root)

  def _export(self, net, **options):
    folder = self.root / f'exported_{len(list(self.root.iterdir()))}'
    net.export(str(folder), **({'verify': False} | options))
    return runtime.load(str(folder))

  def _assert_same(self, exported, net, subnets):
    """Asserts equal logits; a bfloat16 network is exported as float32."""
    net = folder_lib._in_float32(net)
    images = images_of(net.net)
    for subnet in subnets:
      expected = np.asarray(net(images, subnet))
      found = exported(images, str(subnet))
      with self.subTest(str(subnet)):
        self.assertLess(runtime.difference(found, expected), 2e-5)
        np.testing.assert_array_equal(found.argmax(-1), expected.argmax(-1))

  def test_every_kind_has_a_network_here(self):
    self.assertEqual({n.norm for n, _ in _NETS.values()}, set(layers.NORMS))
    self.assertEqual({n.stem for n, _ in _NETS.values()}, set(layers.STEMS))
    self.assertContainsSubset(delta.KINDS, {n.delta for n, _ in _NETS.values()})

  @parameterized.parameters(*_NETS)
  def test_every_branch_and_random_subnets_are_those_of_jax(self, name):
    net, memory = _NETS[name]
    net = supernet(net)
    exported = self._export(net, memory=memory)
    self.assertLen(exported.subnets, len(net.net.choices) ** 4)
    subnets = folder_lib.tried([net.parse(s) for s in exported.subnets])
    parts = {part for s in subnets for part in enumerate(s.stages)}
    self.assertLen(parts, 4 * len(net.net.choices))
    self._assert_same(exported, net, subnets)

  def test_every_stage_of_resnet50_and_its_delta(self):
    net = supernet(
        ResNet('resnet50', 'cifar', 'gn', 10, (8, 8, 3), delta='conv3x3')
    )
    names = ['1.0-0.25-0.5-0.75', '0.5d-0.75d-0.25d-1.0d']
    exported = self._export(net, subnets=names)
    self.assertEqual(exported.subnets, names)
    self._assert_same(exported, net, names)

  @parameterized.parameters('bn', 'bn_switchable')
  def test_each_uniform_subnet_has_its_own_statistics(self, name):
    net, memory = _NETS[name]
    drawn = trees.draw_like(net.shapes(), seed=3)
    statistics = calibration.of_training(net, drawn)
    rng = np.random.default_rng(0)
    statistics = tuple(
        trees.draw_like(of_stage, seed=int(rng.integers(99)))
        for of_stage in statistics
    )
    own = supernet(net, statistics=statistics, calibrated='uniform')
    exported = self._export(own, memory=memory)
    uniform = [str(Subnet((choice,) * 4)) for choice in net.choices]
    self.assertEqual(exported.subnets, uniform)
    self._assert_same(exported, own, uniform)
    with self.assertRaisesRegex(UsageError, '1.0-1.0-1.0-0.5 were not calibr'):
      self._export(own, subnets=['1.0-1.0-1.0-0.5'])
    every = supernet(net, statistics=statistics, calibrated='subnet')
    with self.assertRaisesRegex(UsageError, 'batch statistics of its own, and'):
      self._export(every)
    one = ['0.5-0.25-1.0-0.75']
    exported = self._export(every, format='static', subnets=one)
    self._assert_same(exported, every, one)

  def test_few_subnets_have_few_weights(self):
    net = supernet(_NETS['gn'][0])
    sizes = []
    for subnets in (['0.5-0.5-0.5-0.5'], ['0.5-0.5-0.5-0.5', '1.0-1.0-0.5-0.5'],
                    None):
      exported = self._export(net, subnets=subnets, memory='small')
      model = onnx.load(pathlib.Path(exported.folder) / 'model.onnx')
      sizes.append(sum(
          int(np.prod(tensor.dims)) for tensor in model.graph.initializer
      ))
      self.assertEqual(
          sum(node.op_type == 'If' for node in model.graph.node),
          {0: 0, 1: 2, 2: 4}[len(sizes) - 1],
      )
    self.assertLess(sizes[0], sizes[1])
    self.assertLess(sizes[1], sizes[2])
    # An export of all subnets has each weight once, and little else.
    weights = sum(leaf.size for leaf in jax.tree.leaves(net.variables))
    self.assertLess(sizes[2], 1.02 * weights)

  def test_what_cannot_be_exported_is_refused_by_name(self):
    net = supernet(_NETS['gn'][0])
    for options, message in (
        ({'format': 'tflite'}, "Unknown format 'tflite'; expected one of onnx"),
        ({'memory': 'tiny'}, "Unknown memory 'tiny'; expected one of fast"),
        ({'subnets': ['2.0']}, "Unknown subnet '2.0'"),
        ({'subnets': []}, r'subnets = \[\]; expected a list of at least one'),
        ({'subnets': '1.0-1.0-1.0-1.0'}, 'expected a list'),
        ({'subnets': LARGEST}, 'expected a list'),
        ({'subnets': 3}, 'subnets = 3; expected a list'),
        ({'subnets': [LARGEST], 'format': 'stablehlo'}, 'expected no subnets'),
        (
            {'subnets': ['1.0-1.0-1.0-1.0', '0.5-0.5-0.5-0.5'],
             'format': 'static'},
            'format static has one',
        ),
    ):
      with self.assertRaisesRegex(UsageError, message):
        self._export(net, **options)
    self.assertEmpty(list(self.root.iterdir()))


if __name__ == '__main__':
  absltest.main()
