# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The machine that this process runs on; in an export a part of runtime.py."""

import os
import platform
import subprocess


def num_cores() -> int:
  """Returns the number of cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):  # Not on macOS.
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def processor() -> str:
  """Returns the name of this machine's CPU, or what tells it from others."""
  try:
    with open('/proc/cpuinfo', encoding='utf-8') as file:
      lines = [line.partition(':')[::2] for line in file]
  except OSError:  # Only Linux has it.
    lines = []
  models = {
      value.strip() for key, value in lines if key.lower().startswith('model')
  }
  # An ARM core has numbers in place of a name.
  cores = {
      f'{key.strip()} {value.strip()}'
      for key, value in lines
      if key.startswith(('CPU implementer', 'CPU part', 'CPU variant'))
  }
  return (
      max(models, key=len, default='')
      or ', '.join(sorted(cores))
      or _apple_processor()
      or f'{platform.processor()} of {platform.node()}'
  )


def _apple_processor() -> str:
  """Returns the name of a Mac's CPU; '' on other systems."""
  # `platform.processor` says 'arm' of all of them.
  asked = ['sysctl', '-n', 'machdep.cpu.brand_string']
  try:
    found = subprocess.run(asked, capture_output=True, text=True, check=False)
  except OSError:
    return ''
  return found.stdout.strip()
