# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.models.stages."""

import dataclasses
import gc
import pickle

from absl.testing import absltest, parameterized
import chex
import jax
import numpy as np

from adaptanet_jax import trees
from adaptanet_jax.evaluation import cost
from adaptanet_jax.models import stages
from adaptanet_jax.models.resnet import ResNet
from adaptanet_jax.models.subnet import Subnet

_NET = ResNet('resnet26x8', 'cifar', 'gn', 10, (16, 16, 1), delta='conv3x3')


def _images():
  return np.random.default_rng(1).standard_normal((2, 16, 16, 1), np.float32)


class ForwardTest(parameterized.TestCase):

  @parameterized.parameters(
      (True, '1.0-0.5d-0.25-0.75'),
      (True, '0.25d-1.0-0.5-1.0d'),
      # Without anchors a stage passes on only its active channels.
      (False, '0.25-1.0-0.5-0.75'),
  )
  def test_equals_the_static_form(self, anchors, name):
    net = _NET
    if not anchors:
      net = dataclasses.replace(net, delta=None, anchors=False)
    variables, subnet = trees.draw_like(net.shapes()), Subnet.parse(name)
    expected, _ = net.forward(variables, _images(), subnet)
    run = stages.Stages(net, variables)
    # First another choice of stage 1, with the same choices after it.
    run(_images(), Subnet((subnet.stages[2], *subnet.stages[1:])))
    actual = run(_images(), subnet)
    chex.assert_trees_all_close(actual, expected, rtol=1e-5, atol=1e-5)

  def test_computes_in_the_type_of_the_network(self):
    net = dataclasses.replace(_NET, dtype='bfloat16')
    variables = trees.draw_like(net.shapes())
    subnet = Subnet.parse('0.5-1.0-0.25-0.5d')
    run = stages.Stages(net, variables)
    actual = run(_images(), subnet)
    static = jax.jit(lambda v, x: net.forward(v, x, subnet)[0])
    expected = static(variables, _images())
    chex.assert_trees_all_close(actual, expected, rtol=0.05, atol=0.05)
    kernels = [
        leaf.dtype.name
        for weights in run._weights.values()
        for leaf in weights
        if leaf.ndim > 1
    ]
    self.assertEqual(set(kernels), {'bfloat16'})

  def test_a_choice_is_compiled_once_whatever_is_around_it(self):
    net = dataclasses.replace(_NET, num_classes=7)  # Unlike in any other test.
    run = stages.Stages(net, trees.draw_like(net.shapes()))
    names = ('1.0-0.5-0.5-1.0', '0.5-0.5-1.0-1.0', '1.0-0.5-1.0-1.0')
    counts = []
    # Not by `jax.log_compiles`, which other threads do not see.
    jax.config.update('jax_log_compiles', True)
    self.addCleanup(jax.config.update, 'jax_log_compiles', False)
    for name in names:
      with self.assertLogs('jax', 'WARNING') as logs:
        run(_images(), Subnet.parse(name))
        jax.numpy.zeros(names.index(name) + 101)  # Logs in any case.
      counts.append(sum('Compiling jit(run_with)' in m for m in logs.output))
    # First all four stages, then stage 1 at .5 and stage 3 at 1.0, then none.
    self.assertEqual(counts, [4, 2, 0])

  def test_a_program_holds_its_weights_cut_to_its_width(self):
    run = stages.Stages(_NET, trees.draw_like(_NET.shapes()))
    costs = cost.cost_table(_NET)
    for choice in _NET.choices[::3]:
      run(_images(), Subnet((choice,) * 4))
      for number, (rows,) in zip((2, 3, 4), costs.stages[1:]):
        (weights,) = [
            weights
            for kind, weights in run._weights.items()
            if kind[:2] == (number, choice)
        ]
        kernels = [leaf for leaf in weights if leaf.ndim > 1]
        # Each has a norm with a scale and an offset for each output channel.
        self.assertEqual(
            sum(k.size + 2 * k.shape[-1] for k in kernels),
            rows[choice.index].params,
            f'{choice} of stage {number}',
        )

  @parameterized.parameters('jit', 'vmap', 'grad')
  def test_it_runs_in_programs_of_others_and_keeps_nothing_of_them(self, kind):
    variables = trees.draw_like(_NET.shapes())
    run = stages.Stages(_NET, variables)
    subnet = Subnet.parse('1.0-0.5d-0.25-0.75')
    expected = stages.Stages(_NET, variables)(_images(), subnet)

    def total(images):
      return run(images, subnet).sum()

    if kind == 'jit':
      within = jax.jit(lambda images: run(images, subnet))(_images())
      chex.assert_trees_all_close(within, expected, rtol=1e-5, atol=1e-5)
    elif kind == 'vmap':
      within = jax.vmap(lambda image: run(image[None], subnet)[0])(_images())
      chex.assert_trees_all_close(within, expected, rtol=1e-5, atol=1e-5)
    else:
      chex.assert_tree_all_finite(jax.jit(jax.grad(total))(_images()))
    # Then outside of the user's program, and in another program.
    again = run(_images(), subnet)
    chex.assert_trees_all_close(again, expected, rtol=1e-5, atol=1e-5)
    other = jax.jit(lambda images: run(images, subnet) + 1)(_images())
    chex.assert_trees_all_close(other, expected + 1, rtol=1e-5, atol=1e-5)
    self.assertFalse(trees.is_traced(run._weights))

  def test_a_copy_by_pickle_runs_the_same(self):
    run = stages.Stages(_NET, trees.draw_like(_NET.shapes()))
    subnet = Subnet.parse('1.0-0.5d-0.25-0.75')
    expected = run(_images(), subnet)
    copy = pickle.loads(pickle.dumps(run))
    chex.assert_trees_all_equal(copy(_images(), subnet), expected)

  def test_another_batch_shares_the_weights(self):
    run = stages.Stages(_NET, trees.draw_like(_NET.shapes()))
    subnet = Subnet.parse('0.5-0.5-0.25-0.5d')
    one = run(_images()[:1], subnet)
    weights = dict(run._weights)
    gc.collect()
    before = len(jax.live_arrays())
    both = run(_images(), subnet)
    gc.collect()
    self.assertEqual(len(jax.live_arrays()), before + 1)  # The logits.
    chex.assert_trees_all_close(both[:1], one, rtol=1e-5, atol=1e-5)
    self.assertEqual(weights.keys(), run._weights.keys())
    for key, found in weights.items():
      self.assertIs(found, run._weights[key])


if __name__ == '__main__':
  absltest.main()
