# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Serves a model on several machines with Ray Serve:

  pip install 'ray[serve]' '.[serve]'
  python -m launch.ray_serve --model=digits --min_replicas=2 --max_replicas=8

Each replica is the application of `adaptanet_jax.serve` with its own engine,
queue and controller. Ray balances requests among the replicas, starts more of
them as load rises and replaces those that die. If --model names a folder, every
machine needs it. The model of a replica cannot be changed, so a token is only
for inference.
"""

import argparse
import math
import sys
import threading
import time
from typing import Any

from ray import serve

from adaptanet_jax import commands
from adaptanet_jax.errors import UsageError
from adaptanet_jax.serving import flags

_COMMAND = 'launch.ray_serve'
_NAME = 'adaptanet'


@serve.ingress()
class Replica:
  """One process with the model."""

  def __init__(self, args: argparse.Namespace, token: str | None) -> None:
    # Imported here because the process that starts the replicas needs no JAX.
    from adaptanet_jax.serving import start

    self._service = start.create_service(args, 'model')
    self._app = start.create_app(args, self._service, token=token)

  def __serve_build_asgi_app__(self) -> Any:
    """Returns the ASGI application; Ray calls this once."""
    return self._app

  def check_health(self) -> None:
    """Raises if batches fail or never end, so that Ray replaces the replica.

    Otherwise one that fails, and so has the shortest queue, would be sent most
    of the requests.
    """
    if not self._service.is_ready:
      raise RuntimeError(
          'Batches fail, or the thread that runs them is dead or hangs.'
      )


def application(args: argparse.Namespace, token: str | None) -> Any:
  """Returns the application for Ray to run.

  Args:
    args: values of the flags.
    token: token that inference needs; None: none.
  """
  deployment = serve.deployment(
      Replica,
      ray_actor_options={
          'num_cpus': args.cpus,
          'num_gpus': args.gpus,
          # XLA would start a thread for each core of the machine.
          'runtime_env': {'env_vars': {'NPROC': str(_threads(args))}},
      },
      # Requests wait in the replica's queue, because Ray's knows no deadlines.
      max_ongoing_requests=args.ongoing,
      autoscaling_config={
          'min_replicas': args.min_replicas,
          'max_replicas': args.max_replicas,
          'target_ongoing_requests': _target(args),
      },
      health_check_period_s=2,
      health_check_timeout_s=10,
      graceful_shutdown_timeout_s=20,
  )
  return deployment.bind(args, token)


def _threads(args: argparse.Namespace) -> int:
  return max(1, math.ceil(args.cpus))


def _target(args: argparse.Namespace) -> float:
  """Returns the requests in progress if each takes half of its deadline."""
  return max(1.0, args.rate * 1e-3 * args.slo_ms / 2.0)


def parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  found = commands.parser_for_model(_COMMAND, 'Serves a model by Ray Serve.')
  add = found.add_argument
  add('--min_replicas', type=int, default=1, help='fewest replicas')
  add('--max_replicas', type=int, default=4, help='most replicas')
  add(
      '--rate', type=float, default=200.0,
      help='requests a second that one replica is meant for; take half of '
      'what adaptanet_jax.serve prints when it starts',
  )
  add('--ongoing', type=int, default=128, help='requests a replica takes')
  add('--cpus', type=float, default=1.0, help='CPUs of a replica, and threads')
  add('--gpus', type=float, default=0.0, help='GPUs of a replica')
  add('--host', default='127.0.0.1', help='address to listen at')
  add('--port', type=int, default=8000, help='port to listen at')
  flags.add_service(found)
  return found


def check(args: argparse.Namespace) -> str | None:
  """Checks the flags; see `flags.check_service`."""
  flags.check_ranges(
      args, ('max_replicas', 1, 10_000), ('min_replicas', 0, args.max_replicas),
      ('rate', 0.001, 1e6), ('ongoing', 1, 1_000_000), ('cpus', 0, 1024),
      ('gpus', 0, 1024), ('port', 1, 65535),
  )
  if _target(args) > args.ongoing:
    raise UsageError(
        f'--ongoing={args.ongoing}; expected at least '
        f'{math.ceil(_target(args))}, as many as are in progress at --rate: '
        "with fewer, requests would wait in Ray's queue, which knows no "
        'deadlines.'
    )
  if args.token_file and not args.require_token:
    raise UsageError(
        '--token_file; expected --require_token with it: the model of a '
        'replica cannot be changed, so a token is only for inference.'
    )
  return flags.check_service(args)


def deploy(app: Any) -> None:
  """Starts the replicas, and waits until one of them runs.

  Args:
    app: what `application` returns.

  Raises:
    UsageError: none of them could be started.
  """
  try:
    serve.run(app, name=_NAME)
  except RuntimeError as error:
    # Raised as soon as one dies or cannot be started, though others may start.
    # If this process started Ray, they would end with it.
    while not (found := _deployment(error)).replica_states.get('RUNNING'):
      failed = found.status_trigger == 'REPLICA_STARTUP_FAILED'
      if failed and not any(found.replica_states.values()):
        # The last line of a traceback; Ray's log has all of it.
        _, _, cause = found.message.strip().rpartition('\n')
        raise UsageError(
            f'No replica could be started: {cause or error}'
        ) from error
      time.sleep(1.0)
    print('A replica failed while others started.', file=sys.stderr)


def _deployment(error: RuntimeError) -> Any:
  """Returns Ray's view of the replicas; raises `error` if it has none."""
  application = serve.status().applications.get(_NAME)
  if not application or not application.deployments:
    raise error
  (found,) = application.deployments.values()
  return found


def main() -> None:
  """Serves until it is interrupted."""
  args = parser().parse_args()
  with commands.one_line_errors(_COMMAND):
    token = check(args)
    serve.start(http_options={'host': args.host, 'port': args.port})
    deploy(application(args, token))
    print(f'Serving at http://{args.host}:{args.port}/v2/models/model')
    threading.Event().wait()


if __name__ == '__main__':
  main()
