# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the StableHLO export."""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from absl.testing import absltest
import chex
from flax import traverse_util
import numpy as np

from adaptanet_jax.export import stablehlo
from adaptanet_jax.models.convolution import DEPTHWISE_TAPS
from adaptanet_jax.models.resnet import ResNet
from tests import testing
from tests.export import onnx_test
from tests.inference import bundle_test

_NET = ResNet(
    'resnet26x8', 'cifar_half', 'gn_ws', 10, (16, 16, 1), delta='separable'
)
_SUBNETS = ('1.0-1.0-1.0-1.0', '0.25-0.5-0.75-1.0')
# Runs `images` under each subnet, on our side and on the export's.
_RUN = """
def run(count):
  return [np.asarray(net(images[:count], subnet)) for subnet in {subnets!r}]

images = np.load('images.npy')
"""
_OURS = """
import numpy as np
import adaptanet_jax
net = adaptanet_jax.load('bundle', backend='switch')
""" + _RUN + """
np.savez('expected', *run(3))
net.export('exported', format='stablehlo', verify=False)
"""
_EXPORTED = """
import sys
import numpy as np
sys.path.insert(0, 'exported')
import runtime
net = runtime.load()
""" + _RUN + """
np.savez('found', *run(3), *run(1))
print(sorted({{'adaptanet_jax', 'flax', 'onnxruntime'}} & set(sys.modules)))
"""


class StableHloTest(absltest.TestCase):

  def test_each_platform_has_its_own_forms(self):
    weights = traverse_util.flatten_dict(_NET.folded.shapes(), sep='/')
    forms = {}
    for platforms in (('cpu',), ('cuda',), ('tpu',), stablehlo.PLATFORMS):
      text = stablehlo.export(_NET.folded, weights, platforms).mlir_module()
      forms[platforms] = (
          len(re.findall(f'call @{DEPTHWISE_TAPS}', text)),
          len(re.findall(r'stablehlo\.convolution', text)),
      )
    # CPU programs compute depthwise and small convolutions in another form.
    self.assertGreater(forms['cpu',][0], 0)
    self.assertEqual(forms['cuda',][0], 0)
    self.assertLess(forms['cpu',][1], forms['cuda',][1])
    self.assertEqual(forms['tpu',], forms['cuda',])
    self.assertGreaterEqual(forms[stablehlo.PLATFORMS][1], forms['cuda',][1])
    self.assertEqual(forms[stablehlo.PLATFORMS][0], forms['cpu',][0])

  def test_each_uniform_subnet_has_its_own_statistics(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    net = bundle_test.calibrated('uniform')
    # The export is verified against JAX.
    net.export(str(folder), format='stablehlo')
    about = json.loads((folder / 'export.json').read_text())
    self.assertEqual(about['verified']['subnets'], 4)
    with np.load(folder / 'weights.npz') as weights:
      kept = {name.split('/')[1] for name in weights if 'statistics/' in name}
    self.assertEqual(kept, {'1.0', '0.75', '0.5', '0.25'})

  def test_a_process_with_jax_alone_runs_it_equal_to_the_bit(self):
    root = pathlib.Path(tempfile.mkdtemp())
    self.addCleanup(shutil.rmtree, root)
    # Without deltas there are half as many branches to compile.
    onnx_test.supernet(_NET.without_delta).save(str(root / 'bundle'))
    np.save(root / 'images.npy', onnx_test.images_of(_NET, 3))

    env = testing.environment()
    env['XLA_FLAGS'] += f' {testing.xla_flags()}'  # Compiles faster.

    def run(code, path):
      done = subprocess.run(
          [sys.executable, '-c', code.format(subnets=_SUBNETS)],
          cwd=root,
          env=env | {'PYTHONPATH': path},
          capture_output=True,
          text=True,
          check=False,
      )
      self.assertEqual(done.returncode, 0, done.stderr)
      return done.stdout

    run(_OURS, str(testing.ROOT))
    self.assertEqual(run(_EXPORTED, ''), '[]\n')
    found, expected = (
        list(np.load(root / f'{name}.npz').values())
        for name in ('found', 'expected')
    )
    chex.assert_trees_all_equal(found[:2], expected)
    for one, all_three in zip(found[2:], expected):
      np.testing.assert_allclose(one[0], all_three[0], atol=1e-5)


if __name__ == '__main__':
  absltest.main()
