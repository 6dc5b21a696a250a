# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A run whose predictions a test makes up, for tests of analyses."""

import tempfile
import types
from unittest import mock

from absl.testing import parameterized
import jax
import numpy as np

from adaptanet_jax.analyses import common
from adaptanet_jax.evaluation import cost
from adaptanet_jax.evaluation.cost import Cost, CostTable
from configs import digits

# Choice c of stage n costs (c + 1) * 10^n MAdds, n from 0, and the head 5.
COSTS = CostTable(
    tuple((tuple(Cost((c + 1) * 10**n, 0) for c in range(8)),)
          for n in range(4)),
    (Cost(5, 0),),
)
_GATE_MADDS = {1: 100, 2: 200, 3: 400}


def split(*labels):
  split = mock.MagicMock(labels=np.array(labels))
  split.__len__.return_value = len(labels)
  return split


class MeasuredTestCase(parameterized.TestCase):
  """Has `work`, and `outputs`, what predictors return by split."""

  def setUp(self):
    super().setUp()
    config = digits.get_config('smoke')
    config.evaluation.batch_size = 2 * jax.device_count()
    config.policies.bins = 2
    self.work = types.SimpleNamespace(
        config=config,
        workdir=self.enter_context(tempfile.TemporaryDirectory()),
        dataset=types.SimpleNamespace(test=split(1, 2, 3, 4, 5)),
        gates=types.SimpleNamespace(anchors=(1, 2, 3), confidence='margin'),
        supernet=None,
        variables={'student': {}},
    )
    self.outputs = {}
    for where, name, value in (
        (cost, 'cost_table', lambda net: COSTS),
        (cost, 'gate_madds', lambda gates, net: _GATE_MADDS),
        (common, 'predict', self._predict),
    ):
      self.enter_context(mock.patch.object(where, name, value))

  def _predict(self, work, program, variables, split, *more, **options):
    del work, program, variables, more, options
    return self.outputs[split]
