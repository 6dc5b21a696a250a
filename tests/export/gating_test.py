# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Compares gates in ONNX Runtime with those in JAX."""

from absl.testing import absltest, parameterized
import jax
import numpy as np
import onnxruntime

from adaptanet_jax import trees
from adaptanet_jax.export import gating, graph as graph_lib
from adaptanet_jax.export.network import Map
from adaptanet_jax.models.gates import CONFIDENCES, GateSet
from adaptanet_jax.models.resnet import ResNet

# Sides are odd, so that strides of 2 pad one edge: 33, 17 and 9 become 9, 5 and
# 3, of which all but the last are pooled.
_NET = ResNet('resnet26x8', 'cifar', 'gn', 12, (33, 33, 3))


def _session(gates, number, shape):
  """Returns a session: anchor `float32[1, C, H, W]` to its confidence."""
  height, width, channels = shape

  def describe(graph):
    anchor = Map('anchor', channels, (height, width))
    graph.name(gates.confide(graph, number, anchor), 'confidence')

  model = graph_lib.build(
      describe,
      [graph_lib.Tensor('anchor', np.float32, (1, channels, height, width))],
      [graph_lib.Tensor('confidence', np.float32, (1,))],
  )
  return onnxruntime.InferenceSession(
      model.SerializeToString(), providers=['CPUExecutionProvider']
  )


class GatesTest(parameterized.TestCase):

  @parameterized.product(
      [
          {'number': 1, 'num_classes': 12},
          {'number': 2, 'num_classes': 12},
          {'number': 3, 'num_classes': 12},
          {'number': 3, 'num_classes': 1},
      ],
      confidence=CONFIDENCES,
  )
  def test_a_gate_is_as_confident_as_in_jax(
      self, confidence, number, num_classes
  ):
    shapes = _NET.anchor_shapes
    gates = GateSet((1, 2, 3), num_classes, 3, confidence=confidence)
    variables = trees.draw_like(gates.shapes(shapes), seed=number)
    own = gating.Gates(
        gates,
        *(trees.flat(variables[k]) for k in ('params', 'batch_stats')),
        policies=(),
        edges=(),
    )
    session = _session(own, number, shapes[number - 1])
    rng = np.random.default_rng(number)
    confide = jax.jit(lambda x: gates.confide(variables, number, x))
    for _ in range(3):
      anchor = np.maximum(rng.standard_normal((1, *shapes[number - 1])), 0.0)
      anchor = anchor.astype(np.float32)
      (found,) = session.run(
          None, {'anchor': anchor.transpose(0, 3, 1, 2).copy()}
      )
      np.testing.assert_allclose(found, confide(anchor), rtol=1e-4, atol=1e-5)


if __name__ == '__main__':
  absltest.main()
