# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trains and evaluates an AdaptaNet:

  python -m adaptanet_jax.main --config=configs/digits.py --workdir=/tmp/digits

This file holds flags and process set-up only.
"""

import errno
import gc
import multiprocessing
import os
import re
import signal
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from adaptanet_jax.errors import UsageError

_CONFIG = config_flags.DEFINE_config_file(
    'config', None, 'What to run: a file of configs/.', lock_config=True
)
_WORKDIR = flags.DEFINE_string(
    'workdir', None, 'Folder of checkpoints, metrics and results.'
)
_COORDINATOR = flags.DEFINE_string(
    'coordinator',
    None,
    'host:port of process 0, where neither a TPU pod nor SLURM tells.',
)
_NUM_PROCESSES = flags.DEFINE_integer(
    'num_processes', None, 'Processes of the job; with --coordinator.'
)
_PROCESS_ID = flags.DEFINE_integer(
    'process_id', None, 'Number of this process, from 0; with --coordinator.'
)
# Tracing makes millions of objects that stay. Python's collector, which comes
# after 700 new ones by itself, took 5 to 10 % of the CPU time of a smoke run.
_GARBAGE_THRESHOLD = 10_000
_GO_ON = 'Run the same command again to go on.'


def main(argv: list[str]) -> None:
  """Runs the experiment that the flags describe."""
  if len(argv) > 1:
    sys.exit(f'adaptanet_jax: Unexpected argument {argv[1]!r}; expected flags.')
  # Orbax and TFDS tell much that is of no use to whoever watches a run.
  logging.set_verbosity(logging.WARNING)
  gc.set_threshold(_GARBAGE_THRESHOLD)
  # Here, so that processes that only decode images need not load JAX.
  from adaptanet_jax import preemption, processes

  try:
    processes.initialize(
        _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value
    )
    preemption.NOTICE.listen()
    from adaptanet_jax import experiment

    experiment.run(_CONFIG.value, os.path.expanduser(str(_WORKDIR.value)))
  except UsageError as error:
    _leave(str(error), 1, told_by_all=True)
  except OSError as error:
    if error.errno == errno.ENOSPC:
      _leave(
          f'No space left on the device of {_WORKDIR.value}. Free some and run '
          'the same command again: it goes on from its newest checkpoint.',
          1,
          told_by_all=True,
      )
    if not error.filename:
      raise
    _leave(f'{error.filename}: {error.strerror}.', 1, told_by_all=True)
  except KeyboardInterrupt:
    _leave(f'Interrupted. {_GO_ON}', 128 + signal.SIGINT)
  except preemption.Preempted as notice:
    saved = f'{notice} ' if str(notice) else ''
    _leave(f'Asked to stop. {saved}{_GO_ON}', preemption.EXIT_CODE)


def _leave(reason: str, code: int, *, told_by_all: bool = False) -> None:
  """Ends this process with one line of why."""
  from adaptanet_jax import preemption, processes

  if told_by_all or processes.is_writer():
    print(f'adaptanet_jax: {reason}', file=sys.stderr, flush=True)
  if code == preemption.EXIT_CODE:
    processes.part()
  # At once: threads that compile, and processes that failed alone, would be
  # waited for, for minutes.
  for worker in multiprocessing.active_children():
    worker.terminate()
  sys.stdout.flush()
  os._exit(code)


def parse_flags(argv: list[str]) -> list[str]:
  """Parses flags; exits with one line if that fails.

  Args:
    argv: the command line, program name first.

  Returns:
    What is left of it.
  """
  try:
    rest = flags.FLAGS(argv)
    if not (_CONFIG.value and _WORKDIR.value):
      raise flags.Error('Both --config and --workdir have to be given')
    _ = _CONFIG.value.name  # A missing file is an error only when it is read.
    return rest
  except (AttributeError, KeyError) as error:  # The config lacks a setting.
    # ml_collections gives its name in quotes, escaped if it has a suggestion.
    found = re.search(r"'(\w+)", str(error).replace('\\', ''))
    name = found[1] if found else str(error)
    given = [arg for arg in argv if name in arg.split('=')[0].split('.')]
    hint = re.search(r'Did you mean "(\w+)"', str(error).replace('\\', ''))
    problem = (
        f'Unknown setting {given[0] if given else name}; expected one that '
        'configs/common.py declares'
        + (f', such as {hint[1]}.' if hint else '.')
    )
  except (flags.Error, OSError) as error:
    # The last line: a config's own error comes with its traceback as text.
    problem = str(error).strip().splitlines()[-1].strip().rstrip('.')
    problem += '. Usage: --config=configs/FILE.py[:VARIANT] --workdir=DIR'
  sys.exit(f'adaptanet_jax: {problem}')


def run() -> None:
  """Parses flags and calls `main`."""
  app.run(main, flags_parser=parse_flags)


if __name__ == '__main__':
  run()
