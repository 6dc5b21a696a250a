# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.report.figures."""

from absl.testing import absltest
import numpy as np

from adaptanet_jax.models.subnet import MIXED, UNIFORM, UNIFORM_DELTA
from adaptanet_jax.report import figures, tables


class FiguresTest(absltest.TestCase):

  def test_each_line_is_in_the_legend_once(self):
    rows = [
        {'phase': phase, 'step': step} | dict.fromkeys(names, 0.5)
        for phase, names in (
            ('teacher', ['test_top1']),
            ('lock_in', ['test_top1/1.0', 'test_top1/0.5']),
            ('joint', ['test_top1/1.0', 'test_top1/0.5', 'test_top1/0.5d']),
        )
        for step in (2, 4)
    ]
    axes = figures.draw_training(rows).axes[0]
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    self.assertEqual(names, ['teacher', 'x1.0', 'x0.5', 'x0.5d'])
    # Phases follow each other: that of the joint phase starts at step 8.
    self.assertLen(axes.lines, 6)
    np.testing.assert_array_equal(axes.lines[-1].get_xdata(), [10, 12])

  def test_accuracies_that_differ_little_have_their_own_ticks(self):
    top1 = np.linspace(0.973, 0.991, 256).reshape(4, 4, 4, 4)
    figure = figures.draw_costs({'madds': top1, 'top1': top1}, 'madds', '', 1.0)
    figure.canvas.draw()
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    self.assertLen(set(labels), len(labels))
    self.assertIn('97.50%', labels)

  def test_a_front_can_be_sought_among_some_subnets_alone(self):
    top1 = np.indices((4,) * 4).sum(0) / 100.0
    figure = figures.draw_costs(
        {'ms': top1, 'top1': top1}, 'ms', '', 1.0,
        front_of=['0.75-1.0-1.0-1.0', '0.25-0.25-0.25-0.25'],
    )
    (front,) = figure.axes[0].lines
    # One of 4 stages one step narrower, and all of them three.
    np.testing.assert_allclose(front.get_xdata(), [0.01, 0.12])

  def test_subnets_are_coloured_by_how_many_of_their_stages_are_deltas(self):
    top1 = np.indices((8,) * 4).sum(0) / 100.0
    figure = figures.draw_costs({'madds': top1, 'top1': top1}, 'madds', '', 2.0)
    axes = figure.axes[0]
    self.assertEqual(
        [text.get_text() for text in axes.get_legend().get_texts()],
        ['widths only: 256', 'some stages delta: 3584',
         'every stage delta: 256', 'Pareto front: 29'],
    )
    widths, _, deltas = (c.get_offsets() for c in axes.collections)
    # From choice 0 to 3, and from 4 to 7, at all stages; costs are scaled.
    np.testing.assert_allclose(widths.min(0), [0.0, 0.0])
    np.testing.assert_allclose(widths.max(0), [0.24, 0.12])
    np.testing.assert_allclose(deltas.min(0), [0.32, 0.16])

  def test_the_examples_of_policies_stand_above_and_the_test_split_below(self):
    def bins(shift):
      return [
          {'subnet': str(subnet), 'confidence': n, 'top1': shift + n / 100}
          for n, subnet in enumerate(UNIFORM + UNIFORM_DELTA)
      ]

    gates = {n: {'bins': bins(0.1), 'bins_test': bins(0.5)} for n in '13'}
    figure = figures.draw_confidence(gates)
    above, _, below, _ = figure.axes
    self.assertEqual(
        [a.get_ylabel() for a in (above, below)],
        ['accuracy, policy images', 'accuracy, test images'],
    )
    for axes, shift in ((above, 0.1), (below, 0.5)):
      self.assertEqual(
          [(line.get_label(), *line.get_ydata()) for line in axes.lines],
          [
              (f'x{subnet.stages[0]}', shift + n / 100)
              for n, subnet in enumerate(UNIFORM + UNIFORM_DELTA)
          ],
      )
    self.assertEqual(
        [axes.get_title() for axes in figure.axes[:2]], ['gate 1', 'gate 3']
    )

  def test_networks_stand_at_their_madds_and_mean_accuracies(self):
    def section(top1):
      widths = ('1.0', '0.75', '0.5', '0.25')
      return {
          'uniform': {
              rho: {'top1': top1 - n / 10, 'madds': (4 - n) * 10**6}
              for n, rho in enumerate(widths)
          },
          'mixed': {str(s): {'top1': 0.25, 'madds': 10**6} for s in MIXED},
          'random': {'mean': 0.5, 'std': 0.1, 'madds_mean': 10},
          'exact': {'mean': 0.5, 'min': 0.5, 'max': 0.5, 'subnets': 256},
      }

    column = tables.Column(
        network='usnet', title='US', sections=[section(0.7), section(0.9)]
    )
    uniform, mixed = figures.draw_comparison([column]).axes[0].lines
    np.testing.assert_allclose(uniform.get_xdata(), [4.0, 3.0, 2.0, 1.0])
    np.testing.assert_allclose(uniform.get_ydata(), [0.8, 0.7, 0.6, 0.5])
    np.testing.assert_allclose(mixed.get_ydata(), [0.25] * 4)


if __name__ == '__main__':
  absltest.main()
