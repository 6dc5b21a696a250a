# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a phase: its trained part, and its optimizer's state.

`checkpoints/<phase>/<step>/` holds the items `variables` and `opt_state`; the
latter has the moving averages too, if the phase keeps them. What
a phase does not train is in the last checkpoint of an earlier phase, and is
never written again.
"""

from collections.abc import Mapping
import errno
import os
import shutil
from typing import Any

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from adaptanet_jax import trees
from adaptanet_jax.errors import UsageError
from adaptanet_jax.training.step import TrainState


def is_complete(workdir: str, phase: str, step: int) -> bool:
  """Returns whether a phase has a whole checkpoint of its last step."""
  # Orbax renames a folder to its step once all of it is written.
  return os.path.isdir(os.path.join(workdir, 'checkpoints', phase, str(step)))


class PhaseCheckpoints:
  """Saves and restores one phase of a run; a context manager."""

  def __init__(self, workdir: str, phase: str, *, keep: int) -> None:
    self._directory = os.path.abspath(
        os.path.join(workdir, 'checkpoints', phase)
    )
    self._manager = ocp.CheckpointManager(
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

    One that was cut off while it was written does not count.
    """
    return self._manager.latest_step()

  def save(self, state: TrainState) -> None:
    """Writes a checkpoint; it takes its name only once it is whole.

    Raises:
      OSError: with `errno.ENOSPC`, the disk is full.
    """
    state = jax.device_get(state)
    items = ocp.args.Composite(
        variables=ocp.args.StandardSave(_variables(state)),
        opt_state=ocp.args.StandardSave(_leaves(_optimizing(state))),
    )
    # Orbax tells of a full disk from several threads at once: ask before.
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    if shutil.disk_usage(self._directory).free < size:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    try:
      self._manager.save(int(state.step), args=items, force=True)
    except Exception as error:
      # TensorStore has its own kind of error for each layer below.
      if os.strerror(errno.ENOSPC) in str(error):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
      raise

  def restore(self, like: TrainState) -> TrainState:
    """Returns the newest checkpoint as a state of the same shapes as `like`.

    Raises:
      UsageError: it is damaged, or of another network.
    """
    step = self._manager.latest_step()
    treedef = jax.tree.structure(_optimizing(like))
    items = self._restore(
        variables=_variables(like), opt_state=_leaves(_optimizing(like))
    )
    count = len(items['opt_state'])
    opt_state, average = jax.tree.unflatten(
        treedef, [items['opt_state'][_leaf_name(n)] for n in range(count)]
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
    # A collection that the phase trains nothing of was not saved.
    trained = {name: tree for name, tree in like.items() if tree}
    return self._restore(variables=trained)['variables']

  def _restore(self, **like: Any) -> dict[str, Any]:
    step = self._manager.latest_step()
    path = os.path.join(self._directory, str(step))
    targets = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    try:
      found = self._manager.item_metadata(step)['variables']
      problems = _mismatches(found, targets['variables'])
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
    except Exception as error:  # Orbax raises as many kinds as it has layers.
      reason = str(error).strip().splitlines() or [type(error).__name__]
      raise UsageError(
          f'Checkpoint {path} cannot be read ({reason[0][:200]}); expected a '
          'whole checkpoint. Delete that folder to go on from the one before '
          'it, or from the start of the phase.'
      ) from error
    raise UsageError(
        f'Checkpoint {path} is of another network: ' + '; '.join(problems)
    )


def _variables(state: TrainState) -> trees.Tree:
  stats = {'batch_stats': state.batch_stats} if state.batch_stats else {}
  return {'params': state.params} | stats


def _optimizing(state: TrainState) -> Any:
  """Returns what only a phase that goes on needs."""
  return state.opt_state, state.average


def _leaf_name(number: int) -> str:
  return f'{number:04d}'


def _leaves(tree: Any) -> dict[str, Any]:
  # By position: an optimizer's state nests tuples that a checkpoint forgets.
  return {_leaf_name(n): leaf for n, leaf in enumerate(jax.tree.leaves(tree))}


def _mismatches(found: Any, expected: trees.Tree) -> list[str]:
  """Lists what differs between a checkpoint's shapes and a network's."""
  have, want = (
      jax.tree.map(
          lambda leaf: tuple(leaf.shape),
          traverse_util.flatten_dict(dict(tree), sep='/'),
      )
      for tree in (getattr(found, 'tree', found), expected)
  )
  problems = []
  if missing := sorted(want.keys() - have.keys()):
    problems.append(f'it lacks {_some(missing)}')
  if extra := sorted(have.keys() - want.keys()):
    problems.append(f'it has {_some(extra)}, which the network lacks')
  shapes = [
      f'{name} {have[name]} against the network\'s {want[name]}'
      for name in sorted(have.keys() & want.keys())
      if have[name] != want[name]
  ]
  if shapes:
    problems.append(f'shapes differ: {_some(shapes)}')
  return problems


def _some(names: list[str]) -> str:
  rest = f' and {len(names) - 3} more' if len(names) > 3 else ''
  return ', '.join(names[:3]) + rest
