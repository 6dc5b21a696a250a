# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.report.figures."""

from absl.testing import absltest
import numpy as np

from adaptanet_jax.report import figures


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


if __name__ == '__main__':
  absltest.main()
