# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Settings of every test; set before the first computation."""

import gc
import os

# Makes what all workers share, before pytest starts them.
import tests.testing

# A test runs a program a few times and compiles it first: a third of the time.
os.environ['XLA_FLAGS'] = ' '.join((
    os.environ.get('XLA_FLAGS', ''),
    tests.testing.xla_flags(),
))

import jax

# As in `main`.
gc.set_threshold(10_000)
jax.config.update('jax_numpy_rank_promotion', 'raise')
# More than one, so that a mapped function that mixes up devices fails.
jax.config.update('jax_num_cpu_devices', 4)

# What takes minutes comes first, so that no worker is left alone with it.
_FIRST = (
    'tests/pipeline_test.py',
    'tests/baseline_pipeline_test.py',
    'tests/processes_test.py',
    'tests/bad_input_test.py',
    'tests/serving/engine_test.py',
    'tests/teachers/torch_resnet_test.py',
)


def pytest_collection_modifyitems(items):
  """Sorts files by how long they take; within a file nothing changes."""

  def rank(item):
    path = item.nodeid.partition('::')[0]
    return _FIRST.index(path) if path in _FIRST else len(_FIRST)

  items.sort(key=rank)
