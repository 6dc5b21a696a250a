# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Writes a network for other runtimes, as a self-contained folder:

  python -m adaptanet_jax.export --model=digits --out=/tmp/exported
"""

import argparse
import sys

from adaptanet_jax import commands

_COMMAND = 'adaptanet_jax.export'


def _parser() -> argparse.ArgumentParser:
  parser = commands.parser_for_model(
      _COMMAND, 'Writes a network for other runtimes.'
  )
  parser.add_argument(
      '--out', required=True, help='folder to write; new, or empty'
  )
  parser.add_argument(
      '--format', default='onnx',
      help='onnx, stablehlo, stages or static; default: %(default)s',
  )
  parser.add_argument(
      '--memory', default='fast',
      help='for format onnx: fast or small; default: %(default)s',
  )
  parser.add_argument(
      '--subnets',
      help='subnets that it can run, joined by ","; not with format '
      'stablehlo; default: all, or with format static the largest',
  )
  parser.add_argument(
      '--calibration',
      help='batch statistics of a network with BatchNorm: subnet, uniform or '
      'none; default: those that it was measured with',
  )
  return parser


def main(argv: list[str]) -> None:
  """Loads the network, and exports it."""
  args = _parser().parse_args(argv)
  with commands.one_line_errors(_COMMAND):
    import adaptanet_jax  # Late: a mistyped flag is reported at once.

    net = adaptanet_jax.load(args.model, calibration=args.calibration)
    net.export(
        args.out,
        format=args.format,
        memory=args.memory,
        subnets=None if args.subnets is None else args.subnets.split(','),
    )
  print(f'Exported: {args.out}', file=sys.stderr)


if __name__ == '__main__':
  main(sys.argv[1:])
