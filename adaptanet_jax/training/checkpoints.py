# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a phase: its trained part, and its optimizer's state.

`checkpoints/<phase>/<step>/` holds the items `variables` and `opt_state`;
`opt_state` includes the moving averages, if the phase keeps them. The variables
that a phase does not train are in the last checkpoint of an earlier phase, and
are not written again.
"""

from collections.abc import Mapping
import errno
import json
import os
import shutil
from typing import Any

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from adaptanet_jax import processes, trees
from adaptanet_jax.errors import OF_DISKS, UsageError
from adaptanet_jax.training.step import TrainState
from adaptanet_jax.workdir import Paths

# The file that Orbax writes last into a checkpoint's folder.
_METADATA = '_CHECKPOINT_METADATA'


def is_complete(workdir: str, phase: str, step: int) -> bool:
  """Returns whether a phase has a whole checkpoint of a step."""
  return _is_whole(os.path.join(Paths(workdir).checkpoints(phase), str(step)))


def has_checkpoints(workdir: str, phase: str) -> bool:
  """Returns whether a phase has a whole checkpoint of any step."""
  return bool(_list(Paths(workdir).checkpoints(phase))[0])


def _list(folder: str) -> tuple[list[str], list[str]]:
  """Returns the folders of whole checkpoints of a phase, and of cut-off ones.
  """
  whole, fragments = [], []
  if os.path.isdir(folder):
    for name in sorted(os.listdir(folder)):
      if name.isdigit() and _is_whole(os.path.join(folder, name)):
        whole.append(name)
      elif name.split('.')[0].isdigit():  # Orbax adds .orbax-checkpoint-tmp.
        fragments.append(name)
  return whole, fragments


def _is_whole(path: str) -> bool:
  """Returns whether a checkpoint was written completely.

  Orbax records the time of completion, and only then gives the folder its name.
  The name proves nothing: copies, and some renames, can stop halfway.
  """
  try:
    with open(os.path.join(path, _METADATA), encoding='utf-8') as file:
      return bool(json.load(file).get('commit_timestamp_nsecs'))
  except (FileNotFoundError, NotADirectoryError, ValueError):
    return False


class _Manager(ocp.CheckpointManager):
  """Leaves it to `preemption.NOTICE` to ask JAX whether to stop.

  With several processes JAX keeps one count of steps. Asked here with the steps
  of a phase, it would agree on a step that the run has passed, and never stop.
  """

  def reached_preemption(self, step: int) -> bool:
    del step
    return False


class PhaseCheckpoints:
  """Saves and restores one phase of a run; a context manager."""

  def __init__(self, workdir: str, phase: str, *, keep: int) -> None:
    """Makes the folder of the phase and lists its checkpoints.

    Args:
      workdir: folder of the run.
      phase: name of the phase.
      keep: how many of the newest checkpoints a save keeps.
    """
    self._directory = os.path.abspath(Paths(workdir).checkpoints(phase))
    self._fragments = _list(self._directory)[1]  # The first save removes them.
    if self._fragments and processes.is_writer():
      logging.warning(
          'Skipping %s: it was cut off while it was written.',
          ', '.join(map(self._path, self._fragments)),
      )
    self._manager = _Manager(
        self._directory,
        item_handlers={
            name: ocp.StandardCheckpointHandler()
            for name in ('variables', 'opt_state')
        },
        options=ocp.CheckpointManagerOptions(
            max_to_keep=keep, enable_async_checkpointing=False
        ),
    )

  def __enter__(self) -> 'PhaseCheckpoints':
    return self

  def __exit__(self, *unused: Any) -> None:
    self._manager.close()

  def latest_step(self) -> int | None:
    """Returns the step of the newest whole checkpoint, None if there is none.

    A checkpoint that was cut off while it was written does not count.
    """
    return max(map(int, _list(self._directory)[0]), default=None)

  def _path(self, name: str) -> str:
    return os.path.join(self._directory, name)

  def save(self, state: TrainState) -> None:
    """Writes a checkpoint, which gets its final name only once it is whole.

    Args:
      state: what to save; with several processes, from `devices.replicate`.

    Raises:
      OSError: the disk is full or broken; see `errors.OF_DISKS`.
    """
    step = int(state.step)
    if processes.here()[1] == 1:
      state = jax.device_get(state)  # Several processes write a share each.
    items = ocp.args.Composite(
        variables=ocp.args.StandardSave(state.trained),
        opt_state=ocp.args.StandardSave(_leaves(_optimizing(state))),
    )
    self._remove_fragments()
    # Orbax reports a full disk from several threads at once, so check first.
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    if processes.any_of(shutil.disk_usage(self._directory).free < size):
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    try:
      self._manager.save(step, args=items, force=True)
    except Exception as error:
      # TensorStore has its own error type for each layer below.
      for number in OF_DISKS:
        if os.strerror(number) in str(error):
          raise OSError(number, os.strerror(number)) from error
      raise

  def _remove_fragments(self) -> None:
    """Removes cut-off checkpoints; Orbax would count some of them as whole."""
    fragments, self._fragments = self._fragments, []
    if processes.is_writer():
      for name in fragments:
        shutil.rmtree(self._path(name), ignore_errors=True)
    processes.wait('cut-off checkpoints are gone')
    if fragments:
      self._manager.reload()

  def restore(self, like: TrainState) -> TrainState:
    """Returns the newest checkpoint as a state of the same shapes as `like`.

    Raises:
      UsageError: it is damaged, or belongs to another network.
    """
    step = self.latest_step()
    items = self._restore(
        variables=like.trained, opt_state=_leaves(_optimizing(like))
    )
    opt_state, average = jax.tree.unflatten(
        jax.tree.structure(_optimizing(like)),
        # Keys are padded positions: sorted, they are in order.
        jax.tree.leaves(items['opt_state']),
    )
    return TrainState(
        step=jnp.asarray(step, jnp.int32),
        params=items['variables']['params'],
        batch_stats=items['variables'].get('batch_stats', {}),
        opt_state=opt_state,
        average=average,
    )

  def restore_variables(self, like: Mapping[str, Any]) -> trees.Tree:
    """Returns the newest checkpoint's variables; raises as `restore` does."""
    # Collections in which the phase trains nothing were not saved.
    trained = {name: tree for name, tree in like.items() if tree}
    return self._restore(variables=trained)['variables']

  def _restore(self, **like: Any) -> dict[str, Any]:
    step = self.latest_step()
    path = self._path(str(step))
    targets = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    try:
      found = self._manager.item_metadata(step)['variables']
      # Of what Orbax knows of each array, only the shape is needed.
      problems = trees.mismatches(
          trees.shapes(getattr(found, 'tree', found)),
          trees.shapes(targets['variables']),
      )
      if not problems:
        return dict(
            self._manager.restore(
                step,
                args=ocp.args.Composite(
                    **{
                        name: ocp.args.StandardRestore(target)
                        for name, target in targets.items()
                    }
                ),
            )
        )
    except Exception as error:  # Each layer of Orbax has its own error types.
      reason = str(error).strip().splitlines() or [type(error).__name__]
      raise UsageError(
          f'Checkpoint {path} cannot be read ({reason[0][:200]}); expected a '
          'whole checkpoint. Delete that folder to resume from the one before '
          'it, or from the start of the phase.'
      ) from error
    raise UsageError(
        f'Checkpoint {path} belongs to another network: ' + '; '.join(problems)
    )


def _optimizing(state: TrainState) -> Any:
  """Returns the parts of a state that only a resumed phase needs."""
  return state.opt_state, state.average


def _leaves(tree: Any) -> dict[str, Any]:
  # Keyed by position: checkpoints lose the nested tuples of optimizers.
  return {f'{n:04d}': leaf for n, leaf in enumerate(jax.tree.leaves(tree))}
