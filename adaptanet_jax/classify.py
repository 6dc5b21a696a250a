# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Names what pictures show:

  python -m adaptanet_jax.classify --model=digits PICTURE...

As a table, or with --json as a list of objects with `file`, `label`,
`confidence` and `subnet`.
"""

import argparse
import glob
import json
import os
import sys

from adaptanet_jax import commands
from adaptanet_jax.errors import UsageError

# Pictures that go through the network at a time.
_BATCH_SIZE = 64
_COMMAND = 'adaptanet_jax.classify'


def _parser() -> argparse.ArgumentParser:
  parser = commands.parser_for_model(
      _COMMAND, 'Names what pictures show.'
  )
  how = parser.add_mutually_exclusive_group()
  how.add_argument('--subnet', help='such as 1.0-0.5d-0.25-1.0; default: x1.0')
  how.add_argument(
      '--madds', type=float, help='budget: the most accurate subnet within it'
  )
  how.add_argument(
      '--policy', help='such as joint/budget: picks a subnet for each picture'
  )
  parser.add_argument('--json', action='store_true', help='a list of objects')
  parser.add_argument('files', nargs='+', metavar='FILE')
  return parser


def find_files(patterns: list[str]) -> list[str]:
  """Returns the files that names and patterns of names stand for, in order.

  Args:
    patterns: a shell may have left some `*` as they are.

  Raises:
    UsageError: nothing matches one of them.
  """
  found: list[str] = []
  for pattern in patterns:
    if os.path.exists(pattern):
      matches = [pattern]
    else:
      matches = sorted(glob.glob(pattern, recursive=True))
    if not matches:
      raise UsageError(f'There is no {pattern}; expected a picture.')
    found += matches
  return found


def main(argv: list[str]) -> None:
  """Classifies files and prints what they show."""
  args = _parser().parse_args(argv)
  with commands.one_line_errors(_COMMAND):
    files = find_files(args.files)
    import adaptanet_jax  # Late: a mistyped file need not wait for JAX.

    net = adaptanet_jax.load(args.model)
    subnet = args.subnet or '1.0-1.0-1.0-1.0'
    if args.madds is not None:
      subnet = str(net.within(args.madds))
    answers = [
        answer
        for start in range(0, len(files), _BATCH_SIZE)
        for answer in net.classify(
            files[start : start + _BATCH_SIZE], subnet, policy=args.policy
        )
    ]
  rows = [
      {
          'file': file,
          'label': answer.label,
          'confidence': round(answer.confidence, 4),
          'subnet': str(answer.subnet),
      }
      for file, answer in zip(files, answers)
  ]
  if args.json:
    print(json.dumps(rows, indent=1))
    return
  width = max(len(file) for file in files)
  names = max(len(answer.label) for answer in answers)
  for row in rows:
    print(
        f'{row["file"]:<{width}}  {row["label"]:<{names}}  '
        f'{row["confidence"]:7.2%}  {row["subnet"]}'
    )


if __name__ == '__main__':
  main(sys.argv[1:])
