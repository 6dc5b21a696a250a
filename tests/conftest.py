# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Settings of all tests, made before the first computation."""

import gc
import os
import signal

# Makes the folder that all workers share, before pytest starts them.
import tests.testing

# A test compiles a program and runs it a few times, so fast compiling pays: the
# tests then take a third of the time.
os.environ['XLA_FLAGS'] = ' '.join((
    os.environ.get('XLA_FLAGS', ''),
    tests.testing.xla_flags(),
))

import jax

# Tests that run in the background ignore interrupts, and so would every program
# they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
  signal.signal(signal.SIGINT, signal.default_int_handler)

# The same threshold as in `main`.
gc.set_threshold(10_000)
jax.config.update('jax_numpy_rank_promotion', 'raise')
# Several devices, so that a mapped function that mixes them up fails.
jax.config.update('jax_num_cpu_devices', 4)

# Files that take minutes come first, so that no worker is left with one alone.
_FIRST = (
    'tests/pipeline_test.py',
    'tests/baseline_pipeline_test.py',
    'tests/processes_test.py',
    'tests/bad_input_test.py',
    'tests/serving/engine_test.py',
    'tests/teachers/torch_resnet_test.py',
)


def pytest_collection_modifyitems(items):
  """Moves slow files to the front; keeps the order within a file."""

  def rank(item):
    path = item.nodeid.partition('::')[0]
    return _FIRST.index(path) if path in _FIRST else len(_FIRST)

  items.sort(key=rank)
