# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Serves a fake engine in a process of its own, and prints its port.

  python -m tests.serving.fake_server [hang | die | drain]

A batch takes half a second, so that a test can act while it runs. With `hang`
a batch never ends, with `die` it ends its thread, and with `drain` the server
drains for ten minutes after a signal.
"""

import sys
import threading
import time

from adaptanet_jax.serving import health
from tests.serving import fakes


class _Engine(fakes.FakeEngine):

  def run(self, images, name, start=0):
    if 'hang' in sys.argv:
      threading.Event().wait()
    if 'die' in sys.argv:
      raise SystemExit
    time.sleep(0.5)
    return super().run(images, name, start)


def main():
  """Serves in the main thread, where signals arrive."""
  health._HANG_SECONDS = 1.0
  drain_seconds = 600.0 if 'drain' in sys.argv else 0.3
  running = fakes.Running(_Engine(), seconds=0.1, drain_seconds=drain_seconds)

  def tell():
    while not running.server.started:
      time.sleep(0.01)
    (listening,) = running.server.servers[0].sockets
    print(listening.getsockname()[1], flush=True)

  threading.Thread(target=tell, daemon=True).start()
  running.server.run()


if __name__ == '__main__':
  main()
