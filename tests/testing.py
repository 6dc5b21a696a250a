# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Helpers for tests that run the program as a user does."""

import os
import pathlib
import subprocess
import sys
import tempfile

from absl import flags as absl_flags
import ml_collections
from ml_collections import config_flags

# The variable that names the folder of compiled programs, which all runs share.
# The first process makes and removes it; the workers of pytest inherit it.
_PROGRAMS = 'ADAPTANET_TEST_PROGRAMS'
if _PROGRAMS not in os.environ:
  _FOLDER = tempfile.TemporaryDirectory(prefix='adaptanet_programs_')
  os.environ[_PROGRAMS] = _FOLDER.name
# The variable with the flags that `xla_flags` has found; also inherited.
_FLAGS = 'ADAPTANET_TEST_XLA_FLAGS'
ROOT = pathlib.Path(__file__).parent.parent

# The smallest run that has every phase; two phases have several checkpoints.
TINY = (
    '--config=configs/digits.py:smoke',
    # XLA's options, which differ between a run and the tests, change the
    # rounding of standardised kernels.
    '--config.model.norm=gn',
    '--config.teacher.norm=gn',
    '--config.data.train_examples=80',
    '--config.data.held_out=0.2',
    '--config.data.test_examples=40',
    '--config.teacher.epochs=2.',
    '--config.teacher.warmup_epochs=0.',
    # At the usual rate so short a run is chaotic and magnifies rounding.
    '--config.teacher.learning_rate=0.01',
    '--config.teacher.batch_size=16',
    # The second module takes long enough to be killed in the middle.
    '--config.cascade.epochs=(1.,4.,1.,1.)',
    '--config.cascade.batch_size=16',
    '--config.lock_in.batch_size=16',
    '--config.delta.cascade.batch_size=16',
    '--config.delta.lock_in.batch_size=16',
    '--config.joint.epochs=1.',
    '--config.joint.batch_size=16',
    '--config.gates.batch_size=16',
    '--config.evaluation.batch_size=40',
    '--config.checkpoint.every_steps=4',
    '--config.log_every_steps=1',
)


def xla_flags() -> str:
  """Returns the options of a run with `fast_compile`, as flags of XLA.

  A second process finds them, because XLA reads XLA_FLAGS only once, before its
  first program, and aborts if it does not know a flag.
  """
  if _FLAGS not in os.environ:
    code = 'from adaptanet_jax import compiler\n'
    code += 'for name, value in compiler.options(fast_compile=True).items():\n'
    code += '  text = value if isinstance(value, str) else int(value)\n'
    code += '  print(f"--{name}={text}")'
    os.environ[_FLAGS] = subprocess.run(
        [sys.executable, '-c', code],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.replace('\n', ' ').strip()
  return os.environ[_FLAGS]


def command(workdir: pathlib.Path | str, *flags: str) -> list[str]:
  """Returns the command that a user would type."""
  return [
      sys.executable,
      '-m',
      'adaptanet_jax.main',
      f'--workdir={workdir}',
      *flags,
  ]


def run(
    workdir: pathlib.Path | str, *flags: str, num_devices: int = 1
) -> subprocess.CompletedProcess[str]:
  """Runs the program on fake CPU devices; returns the ended process."""
  return subprocess.run(
      command(workdir, *flags),
      cwd=ROOT,
      env=environment(num_devices),
      capture_output=True,
      text=True,
      check=False,
  )


def config(*flags: str) -> ml_collections.ConfigDict:
  """Returns the configuration that these flags of the program describe."""
  argv = ['main', *flags]
  values = absl_flags.FlagValues()
  config_flags.DEFINE_config_file(
      'config', flag_values=values, lock_config=True, sys_argv=argv
  )
  values(argv)
  return values.config


def environment(num_devices: int = 1) -> dict[str, str]:
  """Returns the environment of a run on some fake CPU devices."""
  flag = f'--xla_force_host_platform_device_count={num_devices}'
  return os.environ | {
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': flag,
      # Runs share most of their programs. Some are killed while they write one,
      # so it is no folder that is kept.
      'JAX_COMPILATION_CACHE_DIR': os.environ[_PROGRAMS],
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.2',
  }
