# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Serves a model on several machines, by Ray Serve:

  pip install 'ray[serve]' 'adaptanet_jax[serve]'
  python launch/ray_serve.py --model=digits --min_replicas=2 --max_replicas=8

Each replica is the application of `adaptanet_jax.serve` around an engine, a
queue and a controller of its own. Ray balances requests among them, starts more
of them as load rises and others in place of those that die. A folder that
--model names has to be on every machine.
"""

import argparse
import threading
from typing import Any

from ray import serve


@serve.ingress()
class Replica:
  """One process with the model."""

  def __init__(self, model: str, slo_ms: float, menu: str, most: int) -> None:
    # Here, for the process that starts all this need not load JAX.
    from adaptanet_jax.serving import engine, profile, service

    folder = profile.default_folder()
    profile.keep_programs(folder)
    loaded = engine.load_engine(model, most)
    names = tuple(menu.split(',')) if menu else ()
    measured = profile.create(
        loaded.net, loaded, folder=folder, names=names
    )
    self._shorter_side = loaded.net.about.shorter_side
    self._service = service.Service(
        'model', loaded, measured, seconds=1e-3 * slo_ms
    )

  def __serve_build_asgi_app__(self) -> Any:
    """Returns what answers; Ray calls it once."""
    from adaptanet_jax.serving import app

    return app.create_app(self._service, shorter_side=self._shorter_side)

  def check_health(self) -> None:
    """Has Ray replace a replica whose thread is dead or hangs."""
    if not self._service.is_live:
      raise RuntimeError('The thread that runs batches is dead, or hangs.')


def application(args: argparse.Namespace) -> Any:
  """Returns what Ray is to run."""
  deployment = serve.deployment(
      Replica,
      ray_actor_options={'num_cpus': args.cpus, 'num_gpus': args.gpus},
      # The queue of a replica, not Ray's, knows deadlines.
      max_ongoing_requests=args.ongoing,
      autoscaling_config={
          'min_replicas': args.min_replicas,
          'max_replicas': args.max_replicas,
          'target_ongoing_requests': args.ongoing / 4,
      },
      health_check_period_s=2,
      health_check_timeout_s=10,
      graceful_shutdown_timeout_s=20,
  )
  return deployment.bind(args.model, args.slo_ms, args.menu, args.max_batch)


def parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  found = argparse.ArgumentParser(description='Serves a model by Ray Serve.')
  add = found.add_argument
  add('--model', required=True, help='as for adaptanet_jax.serve')
  add('--slo_ms', type=float, default=50.0, help='as for adaptanet_jax.serve')
  add('--menu', default='', help='as for adaptanet_jax.serve')
  add('--max_batch', type=int, default=32, help='as for adaptanet_jax.serve')
  add('--min_replicas', type=int, default=1, help='kept at all times')
  add('--max_replicas', type=int, default=4, help='under the highest load')
  add('--ongoing', type=int, default=128, help='most requests of a replica')
  add('--cpus', type=float, default=1.0, help='of a replica')
  add('--gpus', type=float, default=0.0, help='of a replica')
  add('--host', default='127.0.0.1', help='address to listen at')
  add('--port', type=int, default=8000, help='to listen at')
  return found


def main() -> None:
  """Runs until it is interrupted."""
  args = parser().parse_args()
  serve.start(http_options={'host': args.host, 'port': args.port})
  serve.run(application(args), name='adaptanet')
  print(f'Serving at http://{args.host}:{args.port}/v2/models/model')
  threading.Event().wait()


if __name__ == '__main__':
  main()
