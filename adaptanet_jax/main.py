# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trains and evaluates an AdaptaNet:

  python -m adaptanet_jax.main --config=configs/digits.py --workdir=/tmp/digits
"""

import gc
import os
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from adaptanet_jax import commands

_CONFIG = config_flags.DEFINE_config_file(
    'config',
    None,
    'What to run: a file of configs/; --config.KEY=VALUE changes a setting.',
    lock_config=True,
)
_WORKDIR = flags.DEFINE_string(
    'workdir', None, 'Folder of checkpoints, metrics and results.'
)
_COORDINATOR = flags.DEFINE_string(
    'coordinator',
    None,
    'host:port of process 0; not needed on a TPU pod or under SLURM.',
)
_NUM_PROCESSES = flags.DEFINE_integer(
    'num_processes', None, 'Processes of the job; with --coordinator.'
)
_PROCESS_ID = flags.DEFINE_integer(
    'process_id', None, 'Number of this process, from 0; with --coordinator.'
)
# Tracing makes millions of objects that stay. Python's garbage collector, by
# default run after 700 new ones, took 5 to 10% of the CPU time of a smoke run.
_GARBAGE_THRESHOLD = 10_000


def main(argv: list[str]) -> None:
  """Runs the experiment that the flags describe."""
  if len(argv) > 1:
    sys.exit(f'adaptanet_jax: Unexpected argument {argv[1]!r}; expected flags.')
  # Orbax and TFDS log much that users do not need.
  logging.set_verbosity(logging.WARNING)
  gc.set_threshold(_GARBAGE_THRESHOLD)
  # Imported here, so that processes that only decode images do not load JAX.
  from adaptanet_jax import job

  job.run(
      _CONFIG.value,
      os.path.expanduser(str(_WORKDIR.value)),
      (_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value),
  )


def run() -> None:
  """Parses flags and calls `main`."""
  with commands.one_line_errors('adaptanet_jax'):
    app.run(main, flags_parser=commands.parse_flags)


if __name__ == '__main__':
  run()
