# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Start and end of a run, in one process or in one of several."""

import multiprocessing
import os
import signal
import sys
import traceback
from typing import NoReturn

import jax
import ml_collections

from adaptanet_jax import experiment, preemption, processes
from adaptanet_jax.errors import OF_DISKS, UsageError, file_problem

_RESUME = 'Run the same command again to resume.'
# What a run that was asked to stop says, and its exit status.
_STOPS = {
    signal.SIGTERM: ('Asked to stop.', preemption.EXIT_CODE),
    signal.SIGINT: ('Interrupted.', 128 + signal.SIGINT),
}
# `_leave` exits without cleaning up; Python then removes leaked semaphores, and
# would warn of them.
_LEAKS = 'ignore::UserWarning:multiprocessing.resource_tracker'


def run(
    config: ml_collections.ConfigDict,
    workdir: str,
    place: tuple[str | None, int | None, int | None],
) -> None:
  """Joins the other processes of the job, if there are any, and runs.

  Errors that a user can correct, a request to stop and an interrupt end the
  process with one line that says why. After any other error of one of several
  processes, JAX ends the others within two minutes.

  Args:
    config: the whole configuration.
    workdir: folder for all that the run writes.
    place: arguments of `processes.initialize`.
  """
  # The process that removes them inherits this.
  warnings = os.environ.get('PYTHONWARNINGS')
  os.environ['PYTHONWARNINGS'] = ','.join(filter(None, (warnings, _LEAKS)))
  try:
    processes.initialize(*place)
    preemption.NOTICE.listen()
    experiment.run(config, workdir)
  except UsageError as error:
    _leave(str(error), 1, told_by_all=True)
  except OSError as error:
    problem = file_problem(error, workdir)
    if problem is None:
      _crash(error)
    if error.errno in OF_DISKS:
      problem += (
          ' Once the disk can be written to, the same command resumes from the '
          'newest checkpoint.'
      )
    _leave(problem, 1, told_by_all=True)
  except KeyboardInterrupt:
    why, code = _STOPS[signal.SIGINT]
    _leave(f'{why} {_RESUME}', code)
  except preemption.Preempted as notice:
    why, code = _STOPS[preemption.NOTICE.signal]
    _leave(' '.join(filter(None, (why, str(notice), _RESUME))), code)
  except Exception as error:
    _crash(error)


def _crash(error: Exception) -> NoReturn:
  """Raises an error that nobody expected; with several processes, exits.

  At a normal exit JAX would wait five minutes for the other processes, which
  wait for this one.
  """
  if not jax.distributed.is_initialized():
    raise error
  traceback.print_exception(error)
  _leave(f'Process {jax.process_index()} failed.', 1, told_by_all=True)


def _leave(reason: str, code: int, *, told_by_all: bool = False) -> NoReturn:
  """Ends this process with a line that gives the reason."""
  # `timeout`, for one, asks twice: the line and the code still count.
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
  if told_by_all or processes.is_writer():
    print(f'adaptanet_jax: {reason}', file=sys.stderr, flush=True)
  if code == preemption.EXIT_CODE:  # All processes were asked to stop.
    jax.distributed.shutdown()  # They wait for each other.
  # Exits at once: a normal exit can take minutes, waiting for threads that
  # compile, and for the other processes if only this one failed.
  for worker in multiprocessing.active_children():
    worker.kill()  # They ignore SIGTERM.
  sys.stdout.flush()
  os._exit(code)
