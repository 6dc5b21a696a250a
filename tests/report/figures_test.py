# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.report.figures."""

from absl.testing import absltest
import numpy as np

from adaptanet_jax.report import figures


class FiguresTest(absltest.TestCase):

  def test_accuracies_that_differ_little_have_their_own_ticks(self):
    top1 = np.linspace(0.973, 0.991, 256).reshape(4, 4, 4, 4)
    figure = figures.draw_costs({'madds': top1, 'top1': top1}, 'madds', '', 1.0)
    figure.canvas.draw()
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    self.assertLen(set(labels), len(labels))
    self.assertIn('97.50%', labels)


if __name__ == '__main__':
  absltest.main()
