# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.training.objectives."""

import dataclasses
import functools
from unittest import mock

from absl.testing import absltest, parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from adaptanet_jax import trees
from adaptanet_jax.models import supernet
from adaptanet_jax.models.gates import GateSet
from adaptanet_jax.models.resnet import ResNet
from adaptanet_jax.models.subnet import CHOICES
from adaptanet_jax.training import forward, losses, mdsr, objectives

_NET = ResNet('resnet26x8', 'cifar', 'gn', 5, (16, 16, 1))
_NETS = forward.Networks(teacher=_NET, student=_NET)
_SPACE = mdsr.SubnetSpace(4, 4)
# v of Eq. 3; not a half, so that v in place of 1 - v is noticed.
_V = 0.25
# The step from which the soft cross-entropy counts.
_SOFT_FROM = 5


@functools.cache
def _variables(seed, norm='gn'):
  net = dataclasses.replace(_NET, norm=norm)
  return jax.device_get(jax.jit(net.init)(jax.random.key(seed)))


def _batch():
  rng = np.random.default_rng(9)
  images = rng.standard_normal((4, 16, 16, 1), np.float32)
  return jnp.asarray(images), jnp.array([0, 1, 2, 4])


def _inputs(frozen=None, teacher=None, rng=None, step=0):
  """Returns what a step reads in addition to what it trains."""
  rng = jax.random.key(0) if rng is None else rng
  return objectives.StepInputs(
      frozen or {}, teacher or {}, *_batch(), rng, step
  )


@functools.cache
def _outputs(seed):
  """Returns the anchors and logits of the batch, by name."""
  logits, anchors = _forward(_variables(seed), _batch()[0])
  return anchors | {'logits': logits}


@jax.jit
def _forward(variables, images):
  return _NET.forward(variables, images)


@functools.cache
def _rng(prefix):
  """Returns the first key that draws a prefix, and its subnets."""
  rngs = jax.random.split(jax.random.key(0), 1000)
  draw = jax.jit(jax.vmap(lambda rng: mdsr.draw_subnets(rng, _SPACE, 3)))
  subnets = np.asarray(draw(rngs))
  first = (subnets[:, 0, :3] == prefix).all(-1).argmax()
  np.testing.assert_array_equal(subnets[first, 0, :3], prefix)
  return rngs[first], subnets[first]


@jax.jit
def _gradients(student, teacher, rng, step=0):
  """Returns gradients and metrics of a step of phase cascade4, module M4."""
  params, rest = trees.split(
      student['params'], ('backbone/stage4', 'backbone/head')
  )
  grads, _, metrics = objectives.anchor_gradients(
      params,
      {},
      _inputs({'params': rest}, teacher, rng, step),
      nets=_NETS,
      space=_SPACE,
      input_from='student',
      num_random=3,
      weighting=mdsr.Weighting(
          _V, soft_weight=0.25, soft_from=_SOFT_FROM
      ),
  )
  return grads, metrics


def _module_4(variables, x, choice):
  anchor, _ = _NET.run_stage(variables, x, 4, choice)
  return {'anchor4': anchor, 'logits': _NET.run_head(variables, anchor)}


def _mean_squared_errors(outputs, targets):
  return sum(jnp.mean((outputs[k] - targets[k]) ** 2) for k in outputs)


@functools.partial(jax.jit, static_argnums=3)
def _equation_3(student, targets, stops, subnets, soft=0.0):
  """Returns Eq. 3 of M4 and its gradient, one subnet after the other.

  Args:
    student: variables of the student.
    targets: anchors and logits of the teacher.
    stops: 1 to stop the gradient of the largest subnet as a target, else 0.
    subnets: branch indices of each subnet, the largest first.
    soft: share of the soft cross-entropy to the teacher.

  Returns:
    `(loss, loss of the largest)`, and the gradient of the loss.
  """
  x, _ = _batch()
  for n in (1, 2, 3):
    x, _ = _NET.run_stage(student, x, n, CHOICES[subnets[0][n - 1]])
  y = {name: targets[name] for name in ('anchor4', 'logits')}

  def equation(params):
    variables = {'params': trees.merge(student['params'], params)}
    largest, *others = [
        _module_4(variables, x, CHOICES[subnet[3]]) for subnet in subnets
    ]
    held = jax.tree.map(
        lambda out: stops * jax.lax.stop_gradient(out) + (1 - stops) * out,
        largest,
    )
    first = _mean_squared_errors(largest, y)
    rest = sum(
        _V * _mean_squared_errors(other, y)
        + (1 - _V) * _mean_squared_errors(other, held)
        for other in others
    )
    probabilities = jax.nn.softmax(y['logits'])
    cross_entropies = [
        -(probabilities * jax.nn.log_softmax(output['logits'])).sum(-1).mean()
        for output in (largest, *others)
    ]
    loss = (1 - soft) * (first + rest / len(others))
    return loss + soft * sum(cross_entropies) / len(subnets), first

  params, _ = trees.split(
      student['params'], ('backbone/stage4', 'backbone/head')
  )
  return jax.value_and_grad(equation, has_aux=True)(params)


class AnchorGradientsTest(parameterized.TestCase):

  def test_they_are_those_of_equation_3_written_out(self):
    rng, subnets = _rng((2, 0, 3))
    self.assertEqual(sorted(subnets[:, 3]), [0, 1, 2, 3])
    grads, metrics = _gradients(_variables(1), _variables(0), rng)
    (loss, first), expected = _equation_3(
        _variables(1), _outputs(0), 1.0, tuple(map(tuple, subnets))
    )
    chex.assert_trees_all_close(grads, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(metrics['loss'], loss, rtol=1e-5)
    np.testing.assert_allclose(metrics['loss_largest'], first, rtol=1e-5)

  @parameterized.parameters((_SOFT_FROM - 1, 0.0), (_SOFT_FROM, 0.25))
  def test_in_the_end_a_share_of_it_is_a_soft_cross_entropy(self, step, soft):
    rng, subnets = _rng((2, 0, 3))
    grads, metrics = _gradients(_variables(1), _variables(0), rng, step)
    (loss, _), expected = _equation_3(
        _variables(1), _outputs(0), 1.0, tuple(map(tuple, subnets)), soft
    )
    chex.assert_trees_all_close(grads, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(metrics['loss'], loss, rtol=1e-5)

  def test_the_largest_subnet_is_held_still_as_a_target(self):
    rng, subnets = _rng((2, 0, 3))
    grads, _ = _gradients(_variables(1), _variables(0), rng)
    _, moving = _equation_3(
        _variables(1), _outputs(0), 0.0, tuple(map(tuple, subnets))
    )
    kernel = ('backbone', 'stage4', 'block1', 'conv1', 'kernel')
    actual, wrong = grads, moving
    for key in kernel:
      actual, wrong = actual[key], wrong[key]
    # The difference exceeds rounding.
    difference = np.abs(actual - wrong).max()
    self.assertGreater(difference, 0.01 * np.abs(actual).max())

  def test_a_largest_subnet_that_equals_the_teacher_is_left_alone(self):
    # The student runs at full width before the module, so the largest subnet
    # equals the teacher. Weights that only it reads get no gradient: its own
    # loss is zero, and as the target of narrower subnets it is constant.
    rng, _ = _rng((0, 0, 0))
    grads, metrics = _gradients(_variables(0), _variables(0), rng)
    self.assertAlmostEqual(float(metrics['loss_largest']), 0.0, places=9)
    self.assertGreater(float(metrics['loss_smallest']), 0.0)
    # Stage 4 has 64 inner channels; widths below 1 run at most 48 of them.
    kernel = np.abs(grads['backbone']['stage4']['block1']['conv1']['kernel'])
    self.assertEqual(kernel.shape, (1, 1, 128, 64))
    self.assertLess(kernel[..., 48:].max(), 1e-5 * kernel.max())
    for first in (0, 16, 32):
      self.assertGreater(kernel[..., first : first + 16].max(), 0.0)

  def test_a_lock_in_adds_the_errors_of_all_anchors(self):
    space, rng = mdsr.SubnetSpace(1, 4), jax.random.key(3)
    student, images = _variables(1), _batch()[0]
    grads, _, metrics = jax.jit(
        functools.partial(
            objectives.anchor_gradients,
            nets=_NETS,
            space=space,
            input_from='student',
            num_random=1,
            weighting=mdsr.Weighting(_V),
        )
    )(student['params'], {}, _inputs(teacher=_variables(0), rng=rng))
    run = jax.jit(functools.partial(supernet.forward, _NET))

    def outputs(params):
      found = []
      for subnet in mdsr.draw_subnets(rng, space, 1):
        logits, anchors = run({'params': params}, images, subnet)
        found.append(anchors | {'logits': logits})
      return found

    target, (held, *_) = _outputs(0), outputs(student['params'])
    self.assertLen(target, 5)

    def equation(params):
      largest, *others = outputs(params)
      each = [
          _V * _mean_squared_errors(other, target)
          + (1 - _V) * _mean_squared_errors(other, held)
          for other in others
      ]
      return float(_mean_squared_errors(largest, target) + sum(each) / 2)

    np.testing.assert_allclose(
        metrics['loss'], equation(student['params']), rtol=1e-5
    )
    # The derivative along the gradient, by differences.
    step = 1e-3 / optax.global_norm(grads)
    after, before = (
        equation(optax.tree.add_scale(student['params'], way * step, grads))
        for way in (1.0, -1.0)
    )
    np.testing.assert_allclose(
        (after - before) / (2 * step), optax.global_norm(grads) ** 2, rtol=0.02
    )

  def test_metrics_are_of_the_corners(self):
    rng, subnets = _rng((2, 0, 3))
    _, metrics = _gradients(_variables(1), _variables(0), rng)
    self.assertSameElements(
        metrics,
        [
            'loss',
            'loss_largest',
            'loss_smallest',
            'top1_largest',
            'top1_smallest',
        ],
    )
    smallest = CHOICES[subnets[1][3]]
    self.assertEqual(smallest.rho, 0.25)
    x, labels = _batch()
    for n in (1, 2, 3):
      x, _ = _NET.run_stage(_variables(1), x, n, CHOICES[subnets[0][n - 1]])
    for name, choice in (('largest', CHOICES[0]), ('smallest', smallest)):
      found = _module_4(_variables(1), x, choice)
      loss = _mean_squared_errors(found, {k: _outputs(0)[k] for k in found})
      np.testing.assert_allclose(metrics[f'loss_{name}'], loss, rtol=1e-4)
      right = (np.argmax(found['logits'], -1) == labels).mean()
      self.assertEqual(metrics[f'top1_{name}'], right)


  def test_the_smallest_is_the_last_corner(self):
    space = mdsr.SubnetSpace(4, 4, 'joint')  # Corners x1, x.25, x1d, x.25d.
    each = jnp.arange(5.0)
    scanned = {'loss': each, 'teacher_loss': each, 'top1': each / 10}
    with (
        mock.patch.object(
            objectives, '_module_data', return_value=(_batch()[0], {})
        ),
        mock.patch.object(
            objectives, 'scan_subnets', return_value=({}, {}, scanned)
        ),
    ):
      _, _, metrics = objectives.anchor_gradients(
          {}, {}, _inputs(teacher={}, rng=jax.random.key(0)), nets=_NETS,
          space=space, input_from='teacher', num_random=1,
          weighting=mdsr.Weighting(_V),
      )
    self.assertEqual(float(metrics['loss_smallest']), 3.0)
    self.assertAlmostEqual(float(metrics['top1_smallest']), 0.3)


class RunModuleTest(parameterized.TestCase):

  @parameterized.parameters((2, 2), (3, 4))
  def test_a_student_that_is_the_teacher_has_no_loss(self, first, last):

    @jax.jit
    def run(variables, targets, choices):
      outputs, _ = forward.run_module(
          _NETS,
          variables,
          variables,
          targets[f'anchor{first - 1}'],
          choices,
          stages=range(first, last + 1),
          moving=(),
      )
      targets = {name: targets[name] for name in outputs}
      return outputs, losses.anchor_loss(outputs, targets)

    outputs, loss = run(_variables(0), _outputs(0), jnp.zeros(4, jnp.int32))
    names = [f'anchor{n}' for n in range(first, 5)]
    self.assertSameElements(outputs, [*names, 'logits'])
    self.assertLess(float(loss), 1e-9)
    # After the module the teacher's stages run, whatever the choices are; the
    # module's own stages follow their choices.
    after = jnp.where(jnp.arange(4) < last, 0, 3)
    _, loss = run(_variables(0), _outputs(0), after)
    self.assertLess(float(loss), 1e-9)
    _, loss = run(_variables(0), _outputs(0), 3 - after)
    self.assertGreater(float(loss), 1e-3)


_DELTA_NET = dataclasses.replace(_NET, delta='conv3x3')
_GATES = GateSet((1, 4), 5, 4)


@functools.cache
def _with_deltas_and_gates():
  gates = _GATES.shapes(_NET.anchor_shapes)
  return trees.draw_like(trees.merge(_DELTA_NET.shapes(), gates), seed=4)


class DeltaGradientsTest(parameterized.TestCase):

  def test_they_are_those_of_equation_3_with_the_largest_as_target(self):
    student, teacher = _with_deltas_and_gates(), _variables(0)
    space = mdsr.SubnetSpace(4, 4, 'delta')
    rng = jax.random.key(5)
    subnets = np.asarray(mdsr.draw_subnets(rng, space, 3))
    own, rest = trees.split(student['params'], ('delta/stage4',))
    grads, _, metrics = jax.jit(
        functools.partial(
            objectives.anchor_gradients,
            nets=forward.Networks(_NET, _DELTA_NET),
            space=space,
            input_from='student',
            num_random=3,
            weighting=mdsr.Weighting(_V),
        )
    )(own, {}, _inputs({'params': rest}, teacher, rng))

    targets = _outputs(0)

    def equation(own):
      variables = {'params': trees.merge(rest, own)}
      x, _ = _batch()
      for n in (1, 2, 3):
        choice = CHOICES[subnets[0][n - 1]]
        x, _ = _DELTA_NET.run_stage(variables, x, n, choice)
      y = {name: targets[name] for name in ('anchor4', 'logits')}

      def module_4(choice):
        anchor, _ = _DELTA_NET.run_stage(variables, x, 4, choice)
        return {
            'anchor4': anchor,
            'logits': _DELTA_NET.run_head(variables, anchor),
        }

      largest = module_4(CHOICES[0])  # Frozen: no gradient of its own.
      others = [module_4(CHOICES[subnet[3]]) for subnet in subnets]
      return sum(
          _V * _mean_squared_errors(other, y)
          + (1 - _V) * _mean_squared_errors(other, largest)
          for other in others
      ) / len(others)

    loss, expected = jax.jit(jax.value_and_grad(equation))(own)
    self.assertEqual(subnets[:, 3].tolist()[:2], [4, 7])
    np.testing.assert_allclose(metrics['loss'], loss, rtol=1e-4)
    chex.assert_trees_all_close(grads, expected, rtol=1e-3, atol=1e-4)
    self.assertTrue(np.any(grads['delta']['stage4']['conv']['kernel']))


class GateGradientsTest(parameterized.TestCase):

  @functools.cached_property
  def _run(self):
    variables = _with_deltas_and_gates()
    _, frozen = trees.split(variables['params'], ('gates',))

    def run(gates, own):
      return objectives.gate_gradients(
          {'gates': own},
          {'gates': {k: variables['batch_stats']['gates'][k] for k in own}},
          _inputs({'params': frozen}),
          net=_DELTA_NET,
          gates=gates,
          space=mdsr.SubnetSpace(1, 4, 'joint'),
          num_random=2,
          divergence='forward',
      )

    return run

  def test_each_gate_trains_as_if_it_were_alone(self):
    own = _with_deltas_and_gates()['params']['gates']
    grads, stats, metrics = jax.jit(functools.partial(self._run, _GATES))(own)
    chex.assert_tree_all_finite((grads, stats, metrics))
    self.assertTrue(np.any(grads['gates']['gate1']['log_variance']['kernel']))
    alone = dataclasses.replace(_GATES, anchors=(4,))
    only = {'gate4': own['gate4']}
    run = jax.jit(functools.partial(self._run, alone))
    grads4, stats4, metrics4 = run(only)
    chex.assert_trees_all_close(
        grads4['gates']['gate4'], grads['gates']['gate4'], rtol=1e-4, atol=1e-4
    )
    chex.assert_trees_all_close(
        stats4['gates']['gate4'], stats['gates']['gate4'], rtol=1e-5
    )
    np.testing.assert_allclose(
        metrics4['loss/gate4'], metrics['loss/gate4'], rtol=1e-5
    )
    np.testing.assert_allclose(
        metrics['loss'],
        metrics['loss/gate1'] + metrics['loss/gate4'],
        rtol=1e-6,
    )


@functools.cache
def _label_gradients(norm):
  run = functools.partial(
      objectives.label_gradients,
      net=dataclasses.replace(_NET, norm=norm),
      label_smoothing=0.1,
  )
  variables = _variables(0, norm)
  stats = variables.get('batch_stats', {})
  return jax.jit(run)(variables['params'], stats, _inputs())


class FoldingTest(parameterized.TestCase):

  def test_gradients_are_those_of_layers_that_standardize(self):
    net = dataclasses.replace(_NET, norm='gn_ws')
    variables = _variables(0, 'gn_ws')
    run = functools.partial(
        objectives.label_gradients, net=net.folded, label_smoothing=0.1
    )
    grads, _, metrics = jax.jit(objectives.folding(run, net, net))(
        variables['params'], {}, _inputs()
    )
    expected, _, expected_metrics = _label_gradients('gn_ws')
    chex.assert_trees_all_close(grads, expected, rtol=1e-3, atol=1e-5)
    chex.assert_trees_all_close(metrics, expected_metrics, rtol=1e-5)

  def test_an_objective_of_plain_kernels_stays_as_it_is(self):
    self.assertIs(
        objectives.folding(objectives.label_gradients, _NET, _NET),
        objectives.label_gradients,
    )

  def test_frozen_part_and_teacher_are_folded_too(self):
    net = dataclasses.replace(_NET, norm='gn_ws')
    given = []

    def objective(params, stats, inputs):
      trees_of = inputs.frozen, inputs.teacher
      given.extend((params, *(tree['params'] for tree in trees_of)))
      return params, stats, {}

    stem, rest = trees.split(
        _variables(0, 'gn_ws')['params'], ('backbone/stem',)
    )
    teacher = _variables(1, 'gn_ws')
    objectives.folding(objective, net, net)(
        stem, {}, _inputs({'params': rest}, teacher)
    )
    expected = [
        net.fold({'params': tree})['params']
        for tree in (stem, rest, teacher['params'])
    ]
    chex.assert_trees_all_close(given, expected, rtol=1e-5)


class LabelGradientsTest(parameterized.TestCase):

  @parameterized.parameters('gn', 'gn_ws', 'bn')
  def test_gradients_are_finite_and_batch_stats_new(self, norm):
    grads, stats, metrics = _label_gradients(norm)
    chex.assert_tree_all_finite((grads, stats, metrics))
    params = _variables(0, norm)['params']
    chex.assert_trees_all_equal_shapes_and_dtypes(grads, params)
    largest = jax.tree.map(lambda grad: np.abs(grad).max(), grads)
    self.assertGreater(min(jax.tree.leaves(largest)), 0.0)
    old_stats = _variables(0, norm).get('batch_stats', {})
    self.assertEqual(bool(stats), norm == 'bn')
    chex.assert_trees_all_equal_shapes_and_dtypes(stats, old_stats)
    stayed = jax.tree.map(np.array_equal, stats, old_stats)
    self.assertFalse(any(jax.tree.leaves(stayed)))

  def test_gradients_and_metrics_are_of_the_full_network(self):
    grads, _, metrics = _label_gradients('gn')
    images, labels = _batch()

    def smoothed(params):
      logits, _ = _NET.forward({'params': params}, images)
      # A tenth of the target is spread over the classes.
      log_probabilities = jax.nn.log_softmax(logits)
      of_label = log_probabilities[np.arange(len(labels)), labels]
      loss = -(0.9 * of_label + 0.1 * log_probabilities.mean(-1)).mean()
      return loss, logits

    (loss, logits), expected = jax.jit(
        jax.value_and_grad(smoothed, has_aux=True)
    )(_variables(0)['params'])
    chex.assert_trees_all_close(grads, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(metrics['loss'], loss, rtol=1e-5)
    right = (np.argmax(logits, -1) == labels).mean()
    self.assertEqual(metrics['top1'], right)


if __name__ == '__main__':
  absltest.main()
