# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a job of several processes needs: who writes, and who waits for whom.

Every process runs the same program on its own devices. The batches are split
among them; whatever else they compute is the same everywhere, so one of them
writes it.
"""

from collections.abc import Iterator
import contextlib
import os
from typing import IO, Any

import jax
from jax.experimental import multihost_utils
import numpy as np

from adaptanet_jax.errors import UsageError


def initialize(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
  """Joins the other processes of a job, if there are any.

  TPU pods, SLURM and Open MPI tell JAX all that it has to know; anywhere else
  the flags do. Call it before anything else of JAX.

  Args:
    coordinator: `host:port` at which process 0 can be reached; None: find out.
    num_processes: of the job; None: find out.
    process_id: number of this process, from 0; None: find out.

  Raises:
    UsageError: some are given and some not, or the others do not answer.
  """
  given = (coordinator, num_processes, process_id)
  is_given = any(value is not None for value in given)
  if is_given and None in given:
    raise UsageError(
        f'--coordinator={coordinator} --num_processes={num_processes} '
        f'--process_id={process_id} is incomplete; expected all three, or none '
        'of them where a TPU pod or SLURM says who takes part.'
    )
  if num_processes is not None and not 0 <= (process_id or 0) < num_processes:
    raise UsageError(
        f'--process_id={process_id} is not one of {num_processes} processes; '
        f'expected 0 to {num_processes - 1}.'
    )
  try:
    jax.distributed.initialize(*given)
  except ValueError:  # This is no cluster.
    if is_given:
      raise
  except RuntimeError as error:
    raise UsageError(
        f'The {num_processes or ""} processes did not find each other '
        f'({str(error).splitlines()[0]}); expected all of them to be started '
        'within five minutes, with the same coordinator.'
    ) from error


def here() -> tuple[int, int]:
  """Returns the number of this process, and how many there are."""
  return jax.process_index(), jax.process_count()


def is_writer() -> bool:
  """Returns whether this process is the one that writes files and tables."""
  return jax.process_index() == 0


def wait(name: str) -> None:
  """Waits until every process is at the point of this name."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def gather(tree: Any) -> Any:
  """Puts together what the processes have, in their order.

  Args:
    tree: numpy arrays, `[..., n]` in every process.

  Returns:
    The same tree, `[..., processes * n]`, in every process.
  """
  if jax.process_count() == 1:
    return tree
  return jax.tree.map(
      # `(P, ..., n)` to `(..., P, n)`.
      lambda x: np.moveaxis(x, 0, -2).reshape(*x.shape[1:-1], -1),
      multihost_utils.process_allgather(tree),
  )


def to_global(tree: Any) -> Any:
  """Returns what every process has as arrays that belong to all of them.

  So that each writes its share of a checkpoint.

  Args:
    tree: arrays, the same on all devices of all processes.

  Returns:
    Arrays of the whole job; of one process, numpy arrays.
  """
  if jax.process_count() == 1:
    return jax.device_get(tree)
  mesh = jax.sharding.Mesh(np.array(jax.devices()), ('all',))
  return multihost_utils.host_local_array_to_global_array(
      tree, mesh, jax.sharding.PartitionSpec()
  )


def check_shared(folder: str) -> None:
  """Raises UsageError unless all processes see the same folder."""
  if jax.process_count() == 1:
    return
  path = os.path.join(folder, '.shared')
  with replacing(path) as file:
    file.write('Every process of a job has to see this.')
  wait('written')
  if not os.path.exists(path):
    raise UsageError(
        f'Process {jax.process_index()} does not see in {folder} what process '
        '0 has written there; expected a folder that all of them share.'
    )
  wait('seen')
  if is_writer():
    os.remove(path)


@contextlib.contextmanager
def replacing(path: str, mode: str = 'w', **options: Any) -> Iterator[IO[Any]]:
  """Opens a file that is at all times either the old or the new one.

  Args:
    path: of the file.
    mode: 'w' or 'wb'.
    **options: of `open`.

  Yields:
    A file to write to. In processes other than the writer it leads nowhere.
  """
  temporary = path + '.tmp' if is_writer() else os.devnull
  if 'b' not in mode:
    options.setdefault('encoding', 'utf-8')
  with open(temporary, mode, **options) as file:
    yield file
    if is_writer():
      file.flush()
      os.fsync(file.fileno())
  if is_writer():
    os.replace(temporary, path)
