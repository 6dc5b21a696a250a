# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Loads a server for long: does its memory grow, does it lose answers?

  python -m benchmarks.serving_soak --model=digits --minutes=60 --rate=200

Starts `adaptanet_jax.serve` as a user does and sends it requests. After each
minute it prints the server's resident memory, open files and threads; and how
many requests got no answer, a server error, or the answer to another request:
an answer has to name the same class as the first answer for the same image and
subnet.
"""

from collections import deque
import os
import re
import subprocess
import sys
import threading

from absl import app, flags
import numpy as np

import adaptanet_jax
from benchmarks import serving_load, serving_traces

_MODEL = flags.DEFINE_string('model', 'digits', 'As for serve.')
_CACHE = flags.DEFINE_string('cache_dir', None, 'As for serve.')
_MINUTES = flags.DEFINE_float('minutes', 60.0, 'In all.')
_RATE = flags.DEFINE_float('rate', 200.0, 'Requests a second, on the mean.')


def _holds(pid):
  """Returns resident MB, open files and threads of a process."""
  with open(f'/proc/{pid}/status', encoding='utf-8') as file:
    text = file.read()
  found = dict(re.findall(r'^(VmRSS|Threads):\s+(\d+)', text, re.MULTILINE))
  files = len(os.listdir(f'/proc/{pid}/fd'))
  return int(found['VmRSS']) / 1024.0, files, int(found['Threads'])


def _start():
  """Starts a server; returns its process and its port."""
  flags_of = [f'--model={_MODEL.value}', '--port=0', '--name=model']
  if _CACHE.value:
    flags_of.append(f'--cache_dir={_CACHE.value}')
  process = subprocess.Popen(
      [sys.executable, '-m', 'adaptanet_jax.serve', *flags_of],
      stderr=subprocess.PIPE, text=True,
  )
  for line in process.stderr or ():
    found = re.match(r'Serving .*:(\d+), within', line)
    if found:
      # Its later output has to be read, too: a full pipe would block it.
      threading.Thread(
          target=deque, args=(process.stderr, 0), daemon=True
      ).start()
      return process, int(found[1])
  sys.exit('The server did not start.')


def main(argv):
  """Prints a line each minute."""
  del argv
  images, _ = adaptanet_jax.examples(_MODEL.value)
  process, port = _start()
  classes: dict[tuple[int, str], int] = {}
  print('minute  requests  200  503, 504  lost  failed  mixed up  MB  files  '
        'threads')
  try:
    for minute in range(max(1, round(_MINUTES.value))):
      seconds = min(60.0, 60.0 * _MINUTES.value)
      arrivals = serving_traces.arrivals(
          'spikes', rate=_RATE.value, seconds=seconds, seed=minute, folder=None
      )
      found = serving_load.replay(port, arrivals, images[:, None], {})
      statuses = found['statuses']
      mixed = sum(
          classes.setdefault((n % len(images), subnet), label) != label
          for n, (subnet, label) in enumerate(
              zip(found['subnets'].ravel(), found['classes'].ravel())
          )
          if subnet
      )
      refused = int(np.isin(statuses, (503, 504)).sum())
      counts = [int((statuses == code).sum()) for code in (200, 0)]
      failed = len(statuses) - sum(counts) - refused
      holds = _holds(process.pid)
      print(
          f'{minute:6} {len(statuses):9} {counts[0]:6} {refused:7} '
          f'{counts[1]:5} {failed:6} {mixed:8} {holds[0]:8.0f} {holds[1]:5} '
          f'{holds[2]:5}',
          flush=True,
      )
  finally:
    process.terminate()
    print('exit status', process.wait())


if __name__ == '__main__':
  app.run(main)
