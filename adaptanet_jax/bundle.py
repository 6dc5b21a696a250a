# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Writes the network that a run has trained as a bundle, a portable folder:

  python -m adaptanet_jax.bundle --workdir=/tmp/digits --out=/tmp/bundle
"""

import argparse
import os
import sys

from adaptanet_jax import commands

_COMMAND = 'adaptanet_jax.bundle'


def _parser() -> argparse.ArgumentParser:
  parser = commands.parser(
      _COMMAND, 'Writes what a run has trained as a bundle.'
  )
  parser.add_argument('--workdir', required=True, help='workdir of the run')
  parser.add_argument(
      '--out', required=True, help='folder to write; new, or empty'
  )
  parser.add_argument(
      '--examples', type=int, default=0, metavar='COUNT',
      help='how many test images to put into it, with their labels',
  )
  return parser


def main(argv: list[str]) -> None:
  """Loads a run's network and saves it as a bundle."""
  args = _parser().parse_args(argv)
  with commands.one_line_errors(_COMMAND):
    # Imported late, so that a mistyped option fails without loading JAX.
    from adaptanet_jax.inference import bundle, trained
    from adaptanet_jax.inference.network import BACKENDS

    workdir = os.path.expanduser(args.workdir)
    net = trained.load(workdir, backend=BACKENDS[0])
    examples = None
    if args.examples:
      examples = trained.examples(workdir, args.examples)
    bundle.save(net, args.out, examples)
  print(f'Bundle: {args.out}', file=sys.stderr)


if __name__ == '__main__':
  main(sys.argv[1:])
