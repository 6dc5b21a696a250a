# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.tensorboard."""

import gc
import pathlib
import struct
import tempfile
from unittest import mock

from absl.testing import absltest
from tensorboardX.proto import event_pb2

from adaptanet_jax import experiment, progress, tensorboard
from adaptanet_jax.errors import UsageError
from configs import digits


def _events(path):
  """The scalars of an events file: length, checksum, event, checksum, ..."""
  data, found = path.read_bytes(), []
  while data:
    (length,) = struct.unpack('<Q', data[:8])
    event = event_pb2.Event.FromString(data[12 : 12 + length])
    data = data[16 + length :]
    for value in event.summary.value:
      found.append((event.step, value.tag, value.simple_value))
  return found


class TensorBoardTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.workdir = self.enterContext(tempfile.TemporaryDirectory())
    self.folder = pathlib.Path(self.workdir, 'tensorboard')

  def _write(self, phase, first, *steps):
    log = tensorboard.TensorBoardLog(self.workdir)
    seconds = log.rewind(phase, first)
    for step in steps:
      log.write(phase, step, step / 2, {'loss': step / 4, 'test_top1/0.5': 0.5})
    del log
    gc.collect()  # Closes the file.
    return seconds

  def _steps(self, phase):
    (path,) = (self.folder / phase).iterdir()
    return [step for step, tag, _ in _events(path) if tag == 'loss']

  def test_each_phase_is_a_run_with_all_numbers(self):
    self._write('teacher', 0, 2, 4)
    self._write('cascade1', 0, 8)
    (path,) = (self.folder / 'teacher').iterdir()
    self.assertEqual(
        _events(path),
        [
            (2, 'seconds', 1.0), (2, 'loss', 0.5), (2, 'test_top1/0.5', 0.5),
            (4, 'seconds', 2.0), (4, 'loss', 1.0), (4, 'test_top1/0.5', 0.5),
        ],
    )
    self.assertEqual(self._steps('cascade1'), [8])

  def test_a_phase_that_goes_on_has_each_step_once(self):
    self._write('teacher', 0, 2, 4, 6)
    # As after a kill between the checkpoint of step 4 and the next one.
    self.assertEqual(self._write('teacher', 4, 6, 8), 2.0)
    self.assertEqual(self._steps('teacher'), [2, 4, 6, 8])

  def test_metrics_are_the_same_as_without(self):
    self._write('teacher', 0, 2, 4)
    path = pathlib.Path(self.workdir, 'metrics.jsonl')
    text = path.read_text()
    path.unlink()
    log = progress.MetricsLog(self.workdir)
    for step in (2, 4):
      log.write('teacher', step, step / 2,
                {'loss': step / 4, 'test_top1/0.5': 0.5})
    self.assertEqual(path.read_text(), text)

  def test_without_the_package_a_run_ends_before_it_writes(self):
    workdir = pathlib.Path(self.workdir, 'run')
    config = digits.get_config('smoke')
    config.tensorboard = True
    with mock.patch.object(
        tensorboard.importlib.util, 'find_spec', return_value=None
    ):
      with self.assertRaisesRegex(
          UsageError, 'tensorboard = True needs.*tensorboardX.*pip install'
      ):
        experiment.run(config, str(workdir))
    self.assertFalse(workdir.exists())


if __name__ == '__main__':
  absltest.main()
