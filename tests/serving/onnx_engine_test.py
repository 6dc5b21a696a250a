# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.serving.onnx_engine."""

import json
import pathlib
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np

from adaptanet_jax.errors import UsageError
from adaptanet_jax.models.subnet import UNIFORM
from adaptanet_jax.serving import profile as profile_lib
from adaptanet_jax.serving.engines import load_engine
from adaptanet_jax.serving.service import Service
from tests.inference import bundle_test
from tests.serving import fakes

_SUBNET = '0.25-1.0d-0.5-0.25d'


class OnnxEngineTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.root = pathlib.Path(tempfile.mkdtemp())
    cls.addClassCleanup(shutil.rmtree, cls.root)
    cls.net = bundle_test.supernet()
    cls.folder = str(cls.root / 'exported')
    cls.net.export(cls.folder, policies=False, verify=False)
    cls.engine = load_engine(cls.folder)

  def test_it_gives_the_network_s_answers(self):
    images = bundle_test.images(3)
    logits, subnets = self.engine.run(images, _SUBNET)
    np.testing.assert_allclose(logits, self.net(images, _SUBNET), atol=1e-4)
    self.assertEqual(subnets, [_SUBNET] * 3)

  def test_weights_are_those_of_its_models_alone(self):
    folder = str(self.root / 'again')
    self.net.export(folder, policies=False, verify=False)
    path = pathlib.Path(folder, 'export.json')
    about = json.loads(path.read_text())
    changed = about['sha256'] | {'runtime.py': '0'}
    again = load_engine(folder)
    again._net.about['sha256'] = changed
    self.assertEqual(again.weights, self.engine.weights)
    other = load_engine(folder)
    other._net.about['sha256'] = changed | {'model.onnx': '0'}
    self.assertNotEqual(other.weights, self.engine.weights)

  def test_it_describes_the_model_as_the_other_engine_does(self):
    bundle = str(self.root / 'bundle')
    self.net.save(bundle)
    other = load_engine(bundle)
    for name in ('name', 'image_shape', 'class_names', 'shorter_side'):
      self.assertEqual(getattr(self.engine, name), getattr(other, name))
    np.testing.assert_array_equal(
        self.engine.subnets['expected_top1'], other.subnets['expected_top1']
    )
    self.assertNotEqual(self.engine.described, other.described)

  def test_it_is_served(self):
    times = np.random.default_rng(0).random((8,) * 4)
    with mock.patch.object(profile_lib, 'estimate', return_value=times):
      profile = profile_lib.create(
          self.engine, profile_lib.Asked(str(self.root))
      )
    names = [entry.name for entry in profile.entries]
    self.assertContainsSubset(map(str, UNIFORM), names)
    service = Service('fake', self.engine, profile, seconds=20.0)
    running = self.enter_context(fakes.Running(self.engine, service=service))
    image = bundle_test.images(1)
    status, values = running.infer(image, {'subnet': names[0]})
    self.assertEqual(status, 200, values)
    np.testing.assert_allclose(
        fakes.outputs(values)['logits'],
        self.net(image, names[0])[0],
        atol=1e-4,
    )

  def test_policies_are_refused(self):
    with self.assertRaisesRegex(UsageError, 'none, for the model has none'):
      asked = profile_lib.Asked(
          str(self.root), names=(_SUBNET,), policy='joint/budget'
      )
      profile_lib.create(self.engine, asked)

  def test_what_cannot_be_served_is_refused(self):
    folder = str(self.root / 'static')
    self.net.export(folder, format='static', verify=False)
    with self.assertRaisesRegex(
        UsageError, 'format static; expected onnx or stages'
    ):
      load_engine(folder)
    with open(pathlib.Path(folder, 'model.onnx'), 'ab') as file:
      file.write(b'more')
    with self.assertRaisesRegex(UsageError, 'model.onnx'):
      load_engine(folder)
    folder = str(self.root / 'program')
    self.net.export(folder, format='stablehlo', verify=False)
    with self.assertRaisesRegex(UsageError, 'format stablehlo; expected onnx'):
      load_engine(folder)
    folder = str(self.root / 'few')
    self.net.export(folder, subnets=[_SUBNET], policies=False, verify=False)
    with self.assertRaisesRegex(UsageError, 'has 1 of the subnets; expected a'):
      load_engine(folder)


if __name__ == '__main__':
  absltest.main()
