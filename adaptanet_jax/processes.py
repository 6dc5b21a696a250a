# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Jobs of several processes: which of them writes, and when they wait.

Every process runs the same program on its own devices. Batches are split among
processes; everything else that they compute is the same in all of them, except
times, so one process writes it. Checkpoints are the exception: each process
writes its share.
"""

from collections.abc import Iterator
import contextlib
import errno
import fcntl
import io
import os
from typing import IO, Any
import zlib

import jax
from jax.experimental import multihost_utils
import numpy as np

from adaptanet_jax.errors import UsageError

_LOCK = '.lock'


def initialize(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
  """Joins the other processes of a job, if there are any.

  On TPU pods, under SLURM and under Open MPI, JAX detects all arguments;
  elsewhere flags give them. Must be called before anything else of JAX.

  Args:
    coordinator: `host:port` at which process 0 can be reached; None: detect.
    num_processes: number of processes of the job; None: detect.
    process_id: number of this process, from 0; None: detect.

  Raises:
    UsageError: only some arguments are given, the address or the number is not
      valid, or the other processes do not answer.
  """
  given = (coordinator, num_processes, process_id)
  is_given = any(value is not None for value in given)
  if is_given and None in given:
    raise UsageError(
        f'--coordinator={coordinator} --num_processes={num_processes} '
        f'--process_id={process_id} is incomplete; expected all three, or none '
        'of them on a TPU pod or under SLURM, which provide them.'
    )
  if coordinator is not None and not _is_address(coordinator):
    raise UsageError(
        f'--coordinator={coordinator} is not an address; expected host:port, '
        'such as 10.0.0.1:8476.'
    )
  if num_processes is not None and not 0 <= (process_id or 0) < num_processes:
    raise UsageError(
        f'--process_id={process_id} is not one of {num_processes} processes; '
        f'expected 0 to {num_processes - 1}.'
    )
  try:
    jax.distributed.initialize(*given)
  except ValueError as error:
    # Without a cluster JAX asks for this argument: the process is alone. Other
    # errors come from a cluster.
    if is_given or 'coordinator_address' not in str(error):
      raise
  except RuntimeError as error:
    raise UsageError(
        'The processes of the job did not find each other '
        f'({str(error).splitlines()[0]}); expected all of them to be started '
        'within five minutes, with the same coordinator.'
    ) from error
  # Now, while all are here: the first barrier times out after 30 seconds.
  wait('joined')


def _is_address(text: str) -> bool:
  host, _, port = text.rpartition(':')
  digits = port.isascii() and port.isdigit()
  return bool(host) and digits and 0 < int(port) < 65536


def here() -> tuple[int, int]:
  """Returns the number of this process and the number of processes."""
  return jax.process_index(), jax.process_count()


def is_writer() -> bool:
  """Returns whether this process is the one that writes files and tables."""
  return jax.process_index() == 0


def wait(name: str) -> None:
  """Waits until every process has called this with the same name."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def gather(tree: Any) -> Any:
  """Concatenates the arrays of all processes, in the order of the processes.

  Args:
    tree: numpy arrays, `[..., n]` in every process.

  Returns:
    The same tree, `[..., processes * n]`, in every process.
  """
  if jax.process_count() == 1:
    return tree
  return jax.tree.map(joined, multihost_utils.process_allgather(tree))


def joined(x: np.ndarray) -> np.ndarray:
  """Joins the last axes of parts, `[parts, ..., n]` to `[..., parts * n]`."""
  return np.moveaxis(x, 0, -2).reshape(*x.shape[1:-1], -1)


def any_of(flag: bool) -> bool:
  """Returns whether a flag is true in any process."""
  return bool(gather(np.array([flag])).any())


def check_agreed(
    what: str,
    value: str,
    expected: str = 'the same command, version, data and workdir everywhere',
) -> None:
  """Raises UsageError, in all processes, unless they have the same value."""
  values = gather(np.array([zlib.crc32(value.encode())], np.uint32))
  if len(set(values.tolist())) > 1:
    raise UsageError(
        f'The processes of this job differ in {what}; that of process '
        f'{jax.process_index()} is {value[:500]}. Expected {expected}.'
    )


def check_shared(folder: str) -> None:
  """Raises UsageError, in all processes, unless they see the same folder."""
  if jax.process_count() == 1:
    return
  path = os.path.join(folder, '.shared')
  with replacing(path) as file:
    file.write('Every process of a job has to see this.')
  wait('written')
  seen = gather(np.array([os.path.exists(path)]))
  if is_writer():
    os.remove(path)
  if not seen.all():
    raise UsageError(
        f'Processes {np.flatnonzero(~seen).tolist()} do not see what process 0 '
        f'wrote to {folder}; expected a folder that all of them share.'
    )


@contextlib.contextmanager
def sole_user(folder: str) -> Iterator[None]:
  """Keeps other jobs out of a folder that this one writes to.

  The lock ends with the job, however the job ends. A folder that cannot be
  written to is not locked, since jobs can only read it.

  Args:
    folder: created if it does not exist, and then removed if it stays empty.

  Raises:
    UsageError: in all processes, if another job uses the folder.
  """
  locked = _locked(folder) if is_writer() else contextlib.nullcontext(True)
  with locked as is_ours:
    if any_of(not is_ours):
      raise UsageError(
          f'{folder} is in use by another run; expected one at a time. Wait '
          'until it ends, or use another --workdir.'
      )
    yield


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[bool]:
  """Locks a folder if possible; yields False if another process has it."""
  path, is_new = os.path.join(folder, _LOCK), not os.path.exists(folder)
  os.makedirs(folder, exist_ok=True)
  try:
    file = open(path, 'a', encoding='ascii')
  except OSError as error:
    if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
      raise
    yield True
    return
  with file:
    is_ours = _take(file)
    if is_ours and not os.path.exists(path):
      # Who had the lock before has removed it, and the folder: make them again.
      with _locked(folder) as is_ours:
        yield is_ours
      return
    try:
      yield is_ours
    finally:
      # A process without the lock leaves the folder to the one that has it.
      if is_new and is_ours and os.listdir(folder) == [_LOCK]:
        os.remove(path)
        with contextlib.suppress(OSError):  # Another one may just have come.
          os.rmdir(folder)


def _take(file: IO[str]) -> bool:
  """Locks a file for this process; returns False if another one has it."""
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    return False
  except OSError:
    pass  # Some shared file systems have no locks.
  return True


@contextlib.contextmanager
def replacing(path: str, mode: str = 'w', **options: Any) -> Iterator[IO[Any]]:
  """Replaces a file in one step: at all times it is whole, old or new.

  Args:
    path: path of the file.
    mode: 'w' or 'wb'.
    **options: further arguments of `open`.

  Yields:
    A file to write to. In processes other than the writer it is discarded.
  """
  if not is_writer():
    yield io.BytesIO() if 'b' in mode else io.StringIO()
    return
  if 'b' not in mode:
    options.setdefault('encoding', 'utf-8')
  try:
    with open(path + '.tmp', mode, **options) as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(path + '.tmp', path)
  except BaseException:
    with contextlib.suppress(OSError):
      os.remove(path + '.tmp')
    raise
