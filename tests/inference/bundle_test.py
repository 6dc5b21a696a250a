# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.inference.bundle and of load."""

import dataclasses
import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import chex
import jax
import ml_collections
import numpy as np
from PIL import Image
from safetensors import numpy as safetensors_numpy

import adaptanet_jax
from adaptanet_jax import trees
from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation import (
  calibration as calibration_lib,
  policies,
  subnet_table,
)
from adaptanet_jax.inference import bundle, trained
from adaptanet_jax.inference.about import About
from adaptanet_jax.inference.network import Supernet
from adaptanet_jax.models import gates as gates_lib, routing
from adaptanet_jax.models.gates import GateSet
from adaptanet_jax.models.resnet import ResNet
from adaptanet_jax.models.subnet import Subnet
from adaptanet_jax.workdir import digest
from tests import testing

_NET = ResNet(
    'resnet26x8', 'cifar_half', 'gn_ws', 10, (16, 16, 1), delta='conv3x3'
)
_GATES = GateSet((1, 2, 3), 10, 4)
# The gates that a run trains; policies read all but the last.
_TRAINED_GATES = GateSet((1, 2, 3, 4), 10, 4)
_SUBNETS = ('1.0-1.0-1.0-1.0', '0.25-0.5d-0.75-1.0d')


def _about():
  return About(
      name='a test',
      class_names=tuple('zero one two three four five six seven eight nine'
                        .split()),
      shorter_side=0,
      dtype_is_auto=True,
      trained={
          'config': 'digits',
          'git': 'abc',
          'seed': 0,
          'dataset': {
              'name': 'digits', 'train_examples': 1038, 'test_examples': 500
          },
          'device': {'kind': 'cpu'},
      },
      accuracies={'all x1.0': {'top1': 0.98, 'madds': 1_000_000}},
  )


def supernet():
  """Returns a network of random weights, with all that a run produces."""
  gates = _TRAINED_GATES.shapes(_NET.anchor_shapes)
  shapes = trees.merge(_NET.shapes(), gates)
  rule = policies.Rule.by_bin(2, np.array([[0, 7], [4, 1], [2, 2]]))
  edges = [np.zeros((8**n, 1), np.float32) for n in (1, 2, 3)]
  madds = np.arange(8.0**4).reshape((8,) * 4)
  return Supernet(
      _NET,
      _GATES,
      trees.draw_like(shapes),
      subnets={'madds': madds.astype(int), 'expected_top1': madds / 4096.0},
      policy_table=policies.to_json(
          {'joint': {'budget': policies.Mixture.of(rule)}},
          edges,
          _GATES.confidence,
      ),
      about=_about(),
  )


def calibrated(calibration='subnet', subnets=None):
  """Returns a network with BatchNorm and random statistics of subnets."""
  net = ResNet('resnet26x8', 'cifar_half', 'bn', 10, (16, 16, 1))
  drawn = trees.draw_like(net.shapes(), seed=1)
  return Supernet(
      net,
      None,
      drawn,
      subnets=subnets or {},
      about=_about(),
      calibrated=calibration,
      statistics=() if calibration == 'none' else tuple(
          trees.draw_like(of_stage, seed=n)
          for n, of_stage in enumerate(calibration_lib.of_training(net, drawn))
      ),
  )


def images(count=3):
  return np.random.default_rng(0).integers(
      0, 256, (count, 16, 16, 1), np.uint8
  )


class BundleTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.root = pathlib.Path(tempfile.mkdtemp())
    cls.addClassCleanup(shutil.rmtree, cls.root)
    cls.net = supernet()
    cls.folder = cls.root / 'bundle'
    cls.net.save(str(cls.folder))
    cls.loaded = adaptanet_jax.load(str(cls.folder))

  def _copy(self):
    folder = pathlib.Path(tempfile.mkdtemp(dir=self.root)) / 'copy'
    shutil.copytree(self.folder, folder)
    return folder

  def test_it_has_its_files_and_no_others(self):
    self.assertCountEqual(
        [path.name for path in self.folder.iterdir()],
        [
            *('weights.safetensors', 'network.json', 'subnets.csv'),
            *('policies.json', 'README.md'),
        ],
    )

  def test_whoever_may_read_one_of_its_files_may_read_all(self):
    modes = {path.stat().st_mode for path in self.folder.iterdir()}
    self.assertLen(modes, 1)

  @parameterized.parameters(*_SUBNETS)
  def test_logits_are_equal_to_the_bit(self, subnet):
    np.testing.assert_array_equal(
        self.loaded(images(), subnet), self.net(images(), subnet)
    )

  def test_routing_and_choosing_are_as_they_were(self):
    (logits, subnets), (expected, taken) = (
        net.route(images(), 'joint/budget') for net in (self.loaded, self.net)
    )
    np.testing.assert_array_equal(logits, expected)
    self.assertEqual(subnets, taken)
    self.assertEqual(self.loaded.policies, ['joint/budget'])
    self.assertEqual(self.loaded.within(2000.0), self.net.within(2000.0))
    self.assertEqual(self.loaded.about, _about())

  def test_kernels_are_stored_as_they_run(self):
    self.assertEqual(self.loaded.net.norm, 'gn')
    own = self.net.variables['params']
    read = {n: gate for n, gate in own['gates'].items() if n != 'gate4'}
    own = own | {'gates': read}
    chex.assert_trees_all_equal(self.loaded.variables['params'], own)

  def test_saved_again_it_is_the_same(self):
    again = self.root / 'again'
    self.loaded.save(str(again))
    for path in self.folder.iterdir():
      self.assertEqual((again / path.name).read_bytes(), path.read_bytes())

  def test_nothing_is_overwritten(self):
    folder = self.root / 'full'
    folder.mkdir()
    (folder / 'mine.txt').write_text('mine')
    with self.assertRaisesRegex(UsageError, 'full is not empty; expected'):
      self.net.save(str(folder))
    self.assertEqual([path.name for path in folder.iterdir()], ['mine.txt'])

  def test_a_save_that_fails_leaves_nothing_behind(self):
    folder = self.root / 'failed'
    with mock.patch.object(
        bundle, '_card', side_effect=OSError(28, 'No space left')
    ):
      with self.assertRaises(OSError):
        self.net.save(str(folder))
    self.assertEmpty([p for p in self.root.iterdir() if 'failed' in p.name])

  @parameterized.parameters(
      'weights.safetensors', 'subnets.csv', 'policies.json'
  )
  def test_a_damaged_or_missing_file_is_refused_by_name(self, name):
    folder = self._copy()
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with self.assertRaisesRegex(UsageError, rf'{name} is damaged: its SHA-256'):
      adaptanet_jax.load(str(folder))
    (folder / name).unlink()
    with self.assertRaisesRegex(UsageError, f'copy lacks {name}'):
      adaptanet_jax.load(str(folder))

  def test_examples_come_back_if_they_were_given(self):
    folder = self.root / 'with_examples'
    labels = np.array([3, 1, 4])
    self.net.save(str(folder), examples=(images(), labels))
    found = adaptanet_jax.examples(str(folder), 2)
    chex.assert_trees_all_equal(found, (images()[:2], labels[:2]))
    self.assertEqual(found[1].dtype, np.int32)
    self.assertIn('returns 3 of the test', (folder / 'README.md').read_text())
    with self.assertRaisesRegex(UsageError, '4 examples .*; expected 1 to 3'):
      adaptanet_jax.examples(str(folder), 4)
    with self.assertRaisesRegex(UsageError, 'bundle has no examples.npz'):
      adaptanet_jax.examples(str(self.folder))
    path = folder / 'examples.npz'
    path.write_bytes(path.read_bytes()[:-1])
    with self.assertRaisesRegex(UsageError, 'examples.npz is damaged'):
      adaptanet_jax.examples(str(folder))

  @parameterized.parameters(
      (images()[..., :0], [1, 2, 3], r'uint8\[3, 16, 16, 0\]; expected'),
      (images(), [1, 2], r'int64\[2\]; expected int\[3\], each from 0 to 9'),
      (images(), [1, 2, 10], r'int64\[3\]; expected int\[3\], each'),
      (images(), [0.5, 1.0, 2.0], r'float64\[3\]; expected int\[3\], each'),
      (images(), ['1', '2', '3'], r'<U1\[3\]; expected int\[3\], each'),
  )
  def test_examples_that_do_not_fit_are_refused(self, pixels, labels, message):
    folder = self.root / 'misfits'
    with self.assertRaisesRegex(UsageError, message):
      self.net.save(str(folder), examples=(pixels, labels))
    self.assertFalse(folder.exists())

  @parameterized.parameters(
      [images()], [(images(),)], [(images(), [1, 2, 3], [])], [7]
  )
  def test_examples_are_a_pair(self, examples):
    with self.assertRaisesRegex(UsageError, 'expected a pair, images and lab'):
      self.net.save(str(self.root / 'misfits'), examples)

  @parameterized.named_parameters(
      ('another format', {'format': 'else'}, "of format 'else', version 1"),
      ('a later version', {'version': 2}, 'version 2; expected'),
      ('no networks', {'network': {}}, "damaged .KeyError: 'dtype'"),
      ('null for a network', {'network': None}, 'is damaged .AttributeError'),
      ('a list for one', {'network': []}, 'is damaged .AttributeError'),
      ('a number for about', {'about': 3}, 'is damaged .AttributeError'),
      ('another calibration', {'calibrated': 'x'}, "calibrated is 'x'"),
      ('no sums', {'sha256': 3}, 'is damaged'),
      ('sums of nothing', {'sha256': {}}, 'policies.json is damaged: its SHA'),
      (
          'other pixels',
          {'pixels': {'mean': [0.4], 'deviation': [0.5]}},
          r"pixels are .*\[0.4\].*, here .*\[0.5\]",
      ),
  )
  def test_another_description_is_refused(self, changes, message):
    folder = self._copy()
    path = folder / 'network.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with self.assertRaisesRegex(UsageError, message):
      adaptanet_jax.load(str(folder))

  def test_weights_of_another_network_are_refused_by_name(self):
    folder = self._copy()
    path = folder / 'weights.safetensors'
    weights = safetensors_numpy.load_file(path)
    weights.pop('params/backbone/head/bias')
    safetensors_numpy.save_file(weights, path)
    values = json.loads((folder / 'network.json').read_text())
    values['sha256'][path.name] = digest(path)
    (folder / 'network.json').write_text(json.dumps(values))
    with self.assertRaisesRegex(
        UsageError,
        'does not fit network.json: it lacks params/backbone/head/bias. Exp',
    ):
      adaptanet_jax.load(str(folder))

  def test_gates_of_another_run_are_refused(self):
    with self.assertRaisesRegex(UsageError, "gates = 'other' with .* a bundle"):
      adaptanet_jax.load(str(self.folder), gates='other')

  def test_batch_statistics_come_along(self):
    net = calibrated()
    folder = self.root / 'calibrated'
    net.save(str(folder))
    for calibration in (None, 'uniform', 'none'):
      expected = net
      if calibration:
        expected = calibrated(calibration)
      loaded = adaptanet_jax.load(str(folder), calibration=calibration)
      np.testing.assert_array_equal(
          loaded(images(), '0.5-0.5-0.5-0.5'),
          expected(images(), '0.5-0.5-0.5-0.5'),
      )
    loaded = adaptanet_jax.load(str(folder), calibration='uniform')
    with self.assertRaisesRegex(UsageError, '1.0-0.5-0.5-0.5 were not calibra'):
      loaded(images(), '1.0-0.5-0.5-0.5')
    folder = self.root / 'of_training'
    calibrated('none').save(str(folder))
    with self.assertRaisesRegex(
        UsageError, "calibration = 'uniform'; expected one of none, for which"
    ):
      adaptanet_jax.load(str(folder), calibration='uniform')

  @parameterized.parameters(
      (None, True), ('uniform', True), ('none', False)
  )
  def test_accuracies_of_other_batch_statistics_are_left_out(
      self, calibration, kept
  ):
    folder = self.root / f'measured_{calibration}'
    column = np.arange(256).reshape((4,) * 4)
    table = {'madds': column, 'top1': column / 256.0}
    calibrated(subnets=table).save(str(folder))
    net = adaptanet_jax.load(str(folder), calibration=calibration)
    expected = ['madds', 'top1'] if kept else ['madds']
    self.assertEqual(list(net.subnets), expected)
    self.assertEqual(bool(net.about.accuracies), kept)

  @parameterized.parameters(
      (None, 0.9, True), ('uniform', 0.8, True), ('none', 0.1, False)
  )
  def test_a_run_is_loaded_with_the_accuracies_of_its_statistics(
      self, calibration, top1, has_column
  ):
    def measured(x1):
      return {'uniform': {'1.0': {'top1': x1, 'madds': 7}}}

    config = testing.config(
        '--config=configs/digits.py:smoke', '--config.model.norm=bn'
    )
    section = measured(0.9) | {
        'calibration': 'subnet',
        'by_calibration': {
            'subnet': measured(0.9),
            'uniform': measured(0.8),
            'none': measured(0.1),
        },
    }
    shape = {'num_classes': 10, 'image_shape': [16, 16, 1]}
    results = _about().trained | {'supernet': section}
    results['dataset'] = results['dataset'] | shape
    nets, _ = trained._networks(config, results)
    net = nets.student.without_delta
    variables = trees.draw_like(net.shapes())
    workdir = self.enterContext(tempfile.TemporaryDirectory())
    column = np.zeros((4,) * 4)
    subnet_table.write(workdir, {'params': column, 'top1': column})
    calibration_lib.save(
        f'{workdir}/statistics.npz',
        calibration_lib.of_training(net, variables),
    )
    with mock.patch.object(
        trained, '_restore', return_value=(config, results, variables)
    ):
      found = trained.load(workdir, calibration=calibration, backend='switch')
    self.assertEqual(found.about.accuracies['all x1.0']['top1'], top1)
    self.assertEqual('top1' in found.subnets, has_column)
    folder = self.root / f'of_run_{calibration}'
    found.save(str(folder))
    card = (folder / 'README.md').read_text()
    self.assertIn(f'| all x1.0 | {100.0 * top1:.2f} |', card)
    self.assertEqual('subnets.csv' in card, has_column)

  def test_examples_of_data_with_other_classes_are_refused(self):
    root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def add(split, name):
      (root / split / name).mkdir(parents=True)
      Image.new('L', (8, 8)).save(root / split / name / '1.png')

    for split in ('train', 'test'):
      for name in ('cat', 'dog'):
        add(split, name)
    config = testing.config(
        '--config=configs/pictures.py:smoke', f'--config.data.dir={root}'
    )
    noted = {
        'name': 'folder', 'test_examples': 2, 'class_names': ['cat', 'dog']
    }
    with mock.patch.object(
        trained, '_read', return_value=(config, {'dataset': noted})
    ):
      _, labels = trained.examples('run', None)
      self.assertCountEqual(labels, [0, 1])
      add('train', 'bird')
      with self.assertRaisesRegex(
          UsageError, 'other classes than run was tested on: bird differ; exp'
      ):
        trained.examples('run', None)

  def test_batch_statistics_are_of_no_consequence_to_other_norms(self):
    net = adaptanet_jax.load(str(self.folder), calibration='subnet')
    self.assertEqual(net.calibrated, 'none')
    with self.assertRaisesRegex(UsageError, "calibration = 'all'; expected"):
      adaptanet_jax.load(str(self.folder), calibration='all')

  def test_a_card_says_what_is_known(self):
    for label, trained_, known, unknown in (
        ('nothing', {}, '# a test', ('Trained on', 'Accuracy', 'subnets.csv')),
        (
            'no_accuracy', _about().trained, '- Trained on: digits, 1,038',
            ('Accuracy', '|', 'subnets.csv'),
        ),
    ):
      about = dataclasses.replace(_about(), trained=trained_, accuracies={})
      net = Supernet(_NET, None, self.net.variables, about=about)
      folder = self.root / label
      net.save(str(folder))
      card = (folder / 'README.md').read_text()
      self.assertIn(known, card)
      for text in unknown:
        self.assertNotIn(text, card)

  def test_a_run_that_noted_less_is_loaded(self):
    noted = dict(_about().trained)
    noted['dataset'] = noted['dataset'] | {'num_classes': 10}
    config = ml_collections.ConfigDict({
        'name': 'old', 'compute_dtype': 'auto', 'data': {'shorter_side': 0}
    })
    about = trained._about(config, noted, 'none')
    self.assertEqual(about.trained['augmentation'], 'not recorded')
    # Nor has a model card to know everything.
    del noted['device']
    about = trained._about(config, noted, 'none')
    folder = self.enter_context(tempfile.TemporaryDirectory())
    dataclasses.replace(self.net, about=about).save(f'{folder}/bundle')
    card = pathlib.Path(folder, 'bundle', 'README.md').read_text()
    self.assertIn('commit\n  abc, on not recorded\n', card)

  def test_a_share_of_images_is_answered_at_the_first_look(self):
    first, second = '0.25-0.25-0.25-0.25', '1.0d-1.0d-1.0d-1.0d'
    some = images(4)
    margins = np.asarray(gates_lib.margin(self.net(some, first)))
    borders = np.append(np.sort(margins), 2.0)
    borders[0] = 0.0
    # As many steps as images, so every share of them is exact.
    self.assertLen(set(borders), len(margins) + 1)
    rules = [
        policies.Rule.fixed(self.net.parse(name).encode(), 2)
        for name in (first, second)
    ]
    look = policies.SecondLook(borders, np.zeros(len(borders)))
    edges = [np.zeros((8**n, 1), np.float32) for n in (1, 2, 3)]
    net = dataclasses.replace(
        self.net,
        policy_table=policies.to_json(
            {'width': {'look': policies.Mixture(*rules, 0.5, look)}},
            edges,
            _GATES.confidence,
        ),
    )
    order = np.argsort(margins)
    for share in (None, 0.0, 0.25, 1.0):
      logits, subnets = net.route(some, 'width/look', share=share)
      count = round((1.0 - (0.5 if share is None else share)) * len(margins))
      names = np.where(np.argsort(order) < count, second, first)
      self.assertEqual([*map(str, subnets)], names.tolist())
      for n, name in enumerate(names):
        np.testing.assert_allclose(
            logits[n], self.net(some[n : n + 1], name)[0], atol=1e-4
        )

  @parameterized.parameters(0.0, 0.4, 1.0)
  def test_a_mixture_of_two_subnets_is_drawn_as_in_a_program_that_routes(
      self, share
  ):
    some = images(7)
    first, second = (0, 3, 5, 1), (7, 2, 4, 6)
    mixture = policies.Mixture(
        *(policies.Rule.fixed(subnet, 2) for subnet in (first, second)), share
    )
    edges = [np.zeros((8**n, 1), np.float32) for n in (1, 2, 3)]
    table = policies.to_json(
        {'joint': {'budget': mixture}}, edges, _GATES.confidence
    )
    net = dataclasses.replace(self.net, policy_table=table)
    logits, subnets = net.route(some)
    expected, taken, _ = jax.jit(
        functools.partial(routing.route, net.net, net.gates)
    )(net.variables, some, policies.to_policy(mixture, edges))
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    self.assertEqual(subnets, [Subnet.decode(row) for row in np.array(taken)])
    self.assertLen(set(subnets), 1 if share in (0.0, 1.0) else 2)

  def test_arguments_that_do_not_do_are_refused(self):
    with self.assertRaisesRegex(UsageError, "Unknown backend 'stage'; expecte"):
      adaptanet_jax.load(str(self.folder), backend='stage')
    for share in (7, 'half'):
      with self.assertRaisesRegex(UsageError, 'share = .*a number from 0 to 1'):
        self.net.route(images(), share=share)
    without = Supernet(
        dataclasses.replace(_NET, delta=None, anchors=False),
        None,
        trees.draw_like(dataclasses.replace(_NET, delta=None).shapes()),
        about=_about(),
        backend='stages',
    )
    with self.assertRaisesRegex(UsageError, 'without anchors cannot be split'):
      without.finish(np.zeros((1, 8, 8, 32)), 1, _SUBNETS[0])
    with self.assertRaisesRegex(UsageError, 'should be an array is not one'):
      self.net([[1], [2, 3]])

  @parameterized.parameters(
      (np.zeros((1, 2, 3)), 1, r'Anchor 1 is float64\[1, 2, 3\]; expected'),
      ([[1]], 1, r'Anchor 1 is int64\[1, 1\]; expected'),
      ('text', 1, r'Anchor 1 is <U4\[\]; expected'),
      (np.zeros((0, 8, 8, 32)), 1, r'\[0, 8, 8, 32\]; .*at least 1'),
      (np.full((1, 8, 8, 32), 'a'), 1, r'Anchor 1 is <U1\[1, 8, 8, 32\]; exp'),
      (np.zeros((1, 2, 3)), 0, 'no anchor 0; expected 1, 2 or 3'),
      (np.zeros((1, 2, 3)), 1.5, 'no anchor 1.5; expected 1, 2 or 3'),
      (np.zeros((1, 2, 3)), '1', 'no anchor 1; expected 1, 2 or 3'),
  )
  def test_an_anchor_that_does_not_fit_is_refused(self, x, number, message):
    with self.assertRaisesRegex(UsageError, message):
      self.net.finish(x, number, _SUBNETS[0])

  @parameterized.parameters(
      (None, 'model = None; expected'),
      (3, 'model = 3; expected'),
      ('/nowhere', "no model '/nowhere'; expected .*the folder of a bundle"),
      ('/', '/ has none of network.json, config.json; expected .*included'),
  )
  def test_what_is_no_model_is_refused_with_the_choices(self, model, message):
    with self.assertRaisesRegex(UsageError, message):
      adaptanet_jax.load(model)

  def test_an_export_is_no_model(self):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    pathlib.Path(folder, 'export.json').write_text('{}')
    with self.assertRaisesRegex(UsageError, 'which its own runtime.py runs'):
      adaptanet_jax.load(folder)

  def test_a_model_that_comes_along_is_found_by_its_name(self):
    self.addCleanup(os.chdir, os.getcwd())
    with mock.patch.object(bundle, '_PACKAGED', self.root):
      self.assertContainsSubset({'bundle'}, bundle.packaged())
      os.chdir(self.enterContext(tempfile.TemporaryDirectory()))
      os.mkdir('bundle')  # A folder that is no model.
      net = adaptanet_jax.load('bundle')
    self.assertEqual(net.about.name, 'a test')

  @parameterized.parameters(*[(name,) for name in bundle.packaged()])
  def test_an_included_model_runs_and_routes(self, name):
    net = adaptanet_jax.load(name)
    self.assertLen(net.about.class_names, net.net.num_classes)
    self.assertEqual(net.net.num_subnets, 4096)
    cheap = net.within(madds=net.subnets['madds'].min())
    blank = np.zeros((2, *net.net.image_shape), np.uint8)
    logits = net(blank, cheap)
    self.assertEqual(logits.shape, (2, net.net.num_classes))
    routed, subnets = net.route(blank)
    self.assertTrue(np.isfinite(routed).all())
    self.assertEqual(subnets[0], subnets[1])

  @parameterized.parameters(
      '1.0-1.0-1.0-1.0', '0.25-1.0-0.25-1.0', '0.25d-0.25d-0.25d-0.25d'
  )
  def test_the_included_digits_are_as_right_as_their_table_says(self, subnet):
    net = adaptanet_jax.load('digits')
    images, labels = adaptanet_jax.examples('digits')
    top1 = (np.argmax(net(images, subnet), -1) == labels).mean()
    code = tuple(Subnet.parse(subnet).encode())
    # These are 100 of the 500 images of the table.
    self.assertAlmostEqual(top1, net.subnets['top1'][code], delta=0.04)

  def test_the_package_offers_what_its_functions_take_and_return(self):
    for name in adaptanet_jax.__all__:
      self.assertEqual(getattr(adaptanet_jax, name).__name__, name)

  def test_it_needs_nothing_that_only_training_does(self):
    code = f"""
import sys
import adaptanet_jax
net = adaptanet_jax.load({str(self.folder)!r})
bad = {{'orbax', 'tensorflow_datasets', 'optax', 'grain', 'matplotlib',
       'tensorflow', 'sklearn'}}
print(sorted(bad & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=testing.ROOT,
        env=testing.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    self.assertEqual((done.stdout, done.returncode), ('[]\n', 0), done.stderr)

  def test_the_card_tells_what_it_is(self):
    card = (self.folder / 'README.md').read_text()
    for text in ('4,096 subnets', 'digits, 1,038 images', '98.00 | 1.00'):
      self.assertIn(text, card)

  def test_the_table_is_a_run_s(self):
    chex.assert_trees_all_equal(
        subnet_table.read(str(self.folder)), self.net.subnets
    )


if __name__ == '__main__':
  absltest.main()
