# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.training.checkpoints."""

import errno
import os
import pathlib
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import chex
import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np
import optax

from adaptanet_jax.errors import UsageError
from adaptanet_jax.training.checkpoints import PhaseCheckpoints, is_complete
from adaptanet_jax.training.step import TrainState

_TX = optax.adam(1e-3)


def _state(step, *, seed=0, stats=True, width=4, layers=('conv', 'head')):
  """Returns a state after a step of Adam, so that nothing in it is zero."""
  rng = np.random.default_rng(seed)
  params = {
      'backbone': {
          layer: {'kernel': rng.standard_normal((3, width), np.float32)}
          for layer in layers
      }
  }
  mean = {'mean': rng.standard_normal(width, np.float32)}
  _, opt_state = _TX.update(params, _TX.init(params))
  return TrainState(
      step=jnp.asarray(step, jnp.int32),
      params=params,
      batch_stats={'backbone': {'norm': mean}} if stats else {},
      opt_state=opt_state,
  )


def _blank(state):
  return jax.tree.map(jnp.zeros_like, state)


class PhaseCheckpointsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.workdir = self.enterContext(tempfile.TemporaryDirectory())
    self.folder = pathlib.Path(self.workdir, 'checkpoints', 'lock_in')

  def _open(self, keep=2):
    return self.enterContext(
        PhaseCheckpoints(self.workdir, 'lock_in', keep=keep)
    )

  def _save(self, *states):
    with PhaseCheckpoints(self.workdir, 'lock_in', keep=2) as checkpoints:
      for state in states:
        checkpoints.save(state)

  def _assert_refused(self, like, *texts):
    with self.assertRaises(UsageError) as caught:
      self._open().restore(like)
    for text in texts:
      self.assertIn(text, str(caught.exception))

  def test_it_does_not_ask_jax_whether_to_stop(self):
    with mock.patch.object(
        multihost_utils, 'reached_preemption_sync_point'
    ) as asked:
      self._save(_state(1), _state(2))
    asked.assert_not_called()

  @parameterized.named_parameters(('with', True), ('without', False))
  def test_a_state_comes_back_bit_by_bit_batch_stats(self, stats):
    state = _state(7, stats=stats)
    self._save(state)
    restored = self._open().restore(_blank(state))
    chex.assert_trees_all_equal_structs(restored, state)
    chex.assert_trees_all_equal_dtypes(restored, state)
    chex.assert_trees_all_equal(restored, state)
    self.assertEqual(restored.step, 7)

  def test_variables_come_back_without_the_optimizer(self):
    state = _state(7)
    self._save(state)
    variables = self._open().restore_variables(
        {'params': state.params, 'batch_stats': state.batch_stats}
    )
    chex.assert_trees_all_equal(
        variables, {'params': state.params, 'batch_stats': state.batch_stats}
    )

  def test_nothing_saved_has_no_latest_step(self):
    self.assertIsNone(self._open().latest_step())

  def test_the_newest_is_restored(self):
    states = [_state(step, seed=step) for step in (5, 10)]
    self._save(*states)
    checkpoints = self._open()
    self.assertEqual(checkpoints.latest_step(), 10)
    restored = checkpoints.restore(_blank(states[1]))
    chex.assert_trees_all_equal(restored, states[1])

  def test_as_many_as_asked_are_kept(self):
    with PhaseCheckpoints(self.workdir, 'lock_in', keep=2) as checkpoints:
      for step in (1, 2, 3, 4):
        checkpoints.save(_state(step))
        self.assertEqual(checkpoints.latest_step(), step)
    self.assertEqual(sorted(os.listdir(self.folder)), ['3', '4'])

  def test_phases_do_not_see_each_other(self):
    self._save(_state(3))
    other = PhaseCheckpoints(self.workdir, 'cascade1', keep=2)
    self.assertIsNone(self.enterContext(other).latest_step())

  @parameterized.named_parameters(
      # The name that Orbax gives a checkpoint until it is complete.
      ('unnamed', '6.orbax-checkpoint-tmp-1760000000000000', '{}'),
      # What a file system without atomic renaming can leave behind.
      ('empty', '6', None),
      ('torn', '6', '{"commit_timest'),
      ('uncommitted', '6', '{"commit_timestamp_nsecs": null}'),
  )
  def test_one_that_was_cut_off_is_passed_over(self, name, metadata):
    state = _state(3)
    self._save(state, _state(6, seed=6))
    cut_off = self.folder / name
    (self.folder / '6').rename(cut_off)
    shutil.rmtree(cut_off / 'opt_state')
    (cut_off / '_CHECKPOINT_METADATA').unlink()
    if metadata:
      (cut_off / '_CHECKPOINT_METADATA').write_text(metadata)
    with self.assertLogs('absl', 'WARNING') as logs:
      checkpoints = self._open()
    self.assertIn(f'Skipping {cut_off}', logs.output[0])
    self.assertFalse(is_complete(self.workdir, 'lock_in', 6))
    self.assertTrue(is_complete(self.workdir, 'lock_in', 3))
    self.assertEqual(checkpoints.latest_step(), 3)
    chex.assert_trees_all_equal(checkpoints.restore(_blank(state)), state)
    # The same step can be saved again.
    checkpoints.save(_state(6, seed=7))
    self.assertTrue(is_complete(self.workdir, 'lock_in', 6))
    chex.assert_trees_all_equal(
        checkpoints.restore(_blank(state)), _state(6, seed=7)
    )

  def test_a_full_disk_is_told_as_such_and_leaves_the_one_before(self):
    state = _state(3)
    self._save(state)
    checkpoints = self._open()
    full = mock.Mock(free=8)
    with mock.patch.object(shutil, 'disk_usage', return_value=full):
      with self.assertRaisesRegex(OSError, 'No space left') as caught:
        checkpoints.save(_state(6, seed=6))
    self.assertEqual(caught.exception.errno, errno.ENOSPC)
    self.assertEqual(os.listdir(self.folder), ['3'])
    chex.assert_trees_all_equal(checkpoints.restore(_blank(state)), state)

  @parameterized.parameters(errno.ENOSPC, errno.EDQUOT, errno.EIO)
  def test_a_disk_that_fails_meanwhile_is_told_as_such(self, number):
    layers = ValueError(f'INTERNAL: cannot write "x": {os.strerror(number)}')
    checkpoints = self._open()
    with mock.patch.object(
        checkpoints._manager, 'save', side_effect=layers
    ):
      with self.assertRaises(OSError) as caught:
        checkpoints.save(_state(3))
    self.assertEqual(caught.exception.errno, number)

  @parameterized.product(
      item=('variables', 'opt_state'),
      damage=('truncate', 'overwrite', 'delete'),
  )
  def test_a_damaged_one_is_refused_with_its_folder(self, item, damage):
    state = _state(3)
    self._save(state)
    files = [
        path for path in (self.folder / '3' / item).rglob('*') if path.is_file()
    ]
    self.assertNotEmpty(files)
    for path in files:
      content = path.read_bytes()
      if damage == 'truncate':
        path.write_bytes(content[: len(content) // 2])
      elif damage == 'overwrite':
        path.write_bytes(b'\xff' * len(content))
      else:
        path.unlink()
    self._assert_refused(
        _blank(state),
        f'Checkpoint {self.folder / "3"} cannot be read',
        'Delete that folder',
    )

  def test_after_the_damaged_folder_is_gone_the_one_before_serves(self):
    state = _state(3)
    self._save(state, _state(6, seed=6))
    # What the message about a damaged checkpoint tells the user to do.
    shutil.rmtree(self.folder / '6')
    restored = self._open().restore(_blank(state))
    chex.assert_trees_all_equal(restored, state)

  def test_other_shapes_are_refused_with_both(self):
    self._save(_state(3, width=4))
    self._assert_refused(
        _blank(_state(3, width=8)),
        str(self.folder / '3'),
        'belongs to another network',
        "params/backbone/conv/kernel (3, 4) against (3, 8)",
        "batch_stats/backbone/norm/mean (4,) against (8,)",
    )

  def test_what_it_lacks_and_what_it_has_beyond_are_named(self):
    self._save(_state(3, layers=('conv', 'old')))
    self._assert_refused(
        _blank(_state(3, layers=('conv', 'new'))),
        'it lacks params/backbone/new/kernel',
        'it has beyond the network params/backbone/old/kernel',
    )

  @parameterized.named_parameters(
      ('lacking', False, True, 'it lacks batch_stats/backbone/norm/mean'),
      ('beyond', True, False, 'the network batch_stats/backbone/norm/mean'),
  )
  def test_batch_stats_have_to_agree(self, saved, wanted, text):
    self._save(_state(3, stats=saved))
    self._assert_refused(_blank(_state(3, stats=wanted)), text)

  def test_a_long_list_of_names_is_cut_with_a_count(self):
    self._save(_state(3, layers=('a',)))
    self._assert_refused(
        _blank(_state(3, layers=('a', 'b', 'c', 'd', 'e', 'f'))),
        'params/backbone/b/kernel, params/backbone/c/kernel, '
        'params/backbone/d/kernel and 2 more',
    )

  def test_another_optimizer_is_refused_with_the_folder(self):
    state = _state(3)
    self._save(state)
    sgd = optax.sgd(0.1, momentum=0.9)
    other = state.replace(opt_state=sgd.init(state.params))
    self._assert_refused(_blank(other), str(self.folder / '3'))


if __name__ == '__main__':
  absltest.main()
