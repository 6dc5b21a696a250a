# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Names what pictures show:

  python -m adaptanet_jax.classify --model=digits PICTURE...

Prints a table, line by line, or with --json a list of objects with `file`,
`label`, `confidence` and `subnet`. A file that cannot be read is reported on
stderr and left out; the exit status is then 1.
"""

import argparse
from collections.abc import Iterator
import glob
import json
import os
import signal
import sys
from typing import Any

import numpy as np

from adaptanet_jax import commands
from adaptanet_jax.errors import UsageError
from adaptanet_jax.models.subnet import Subnet

# Pictures that go through the network at once.
_BATCH_SIZE = 64
_COMMAND = 'adaptanet_jax.classify'


def _parser() -> argparse.ArgumentParser:
  parser = commands.parser_for_model(
      _COMMAND, 'Names what pictures show.'
  )
  how = parser.add_mutually_exclusive_group()
  how.add_argument(
      '--subnet', help='such as 1.0-0.5d-0.25-1.0; default: the largest'
  )
  how.add_argument(
      '--madds', type=float, help='budget: the most accurate subnet within it'
  )
  how.add_argument(
      '--policy', help='such as joint/budget: picks a subnet for each picture'
  )
  parser.add_argument(
      '--json', action='store_true', help='prints a list of objects'
  )
  parser.add_argument(
      'files', nargs='+', metavar='FILE',
      help="a picture, or a pattern such as 'photos/*.jpg'",
  )
  return parser


def find_files(patterns: list[str]) -> list[str]:
  """Returns the files that the given names and glob patterns match, in order.

  Args:
    patterns: names or patterns; a shell may have left some `*` unexpanded.

  Raises:
    UsageError: a pattern matches nothing.
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
    # First what may be mistyped: to load JAX and the model takes seconds.
    files = find_files(args.files)
    if args.subnet is not None:
      Subnet.parse(args.subnet)
    import adaptanet_jax

    net = adaptanet_jax.load(args.model)
    chosen: dict[str, Any] = {'policy': args.policy}
    if args.subnet is not None:
      chosen['subnet'] = args.subnet
    if args.madds is not None:
      chosen['subnet'] = net.within(args.madds)
    widths = [
        max(map(len, names)) for names in (files, net.about.class_names)
    ]
    rows: list[dict[str, Any]] = []
    for names, images in _batches(net, files):
      answers = net.answer(images, **chosen)
      batch = [
          {
              'file': name,
              'label': answer.label,
              'confidence': round(answer.confidence, 4),
              'subnet': str(answer.subnet),
          }
          for name, answer in zip(names, answers)
      ]
      rows += batch
      if not args.json:
        _print_table(batch, *widths)
    if args.json:
      print(json.dumps(rows, indent=1))
    if len(rows) < len(files):
      sys.exit(1)


def _batches(
    net: Any, files: list[str]
) -> Iterator[tuple[list[str], np.ndarray]]:
  """Yields batches of file names and of the pixels that the network reads.

  All batches but the last have one size, so that few programs are compiled.
  Files that cannot be read are left out; stderr says why.

  Args:
    net: the network.
    files: paths of the pictures.
  """
  from adaptanet_jax.inference import pictures

  names: list[str] = []
  images: list[np.ndarray] = []
  for file in files:
    try:
      images.append(
          pictures.to_pixels(
              file, net.net.image_shape, net.about.shorter_side
          )
      )
      names.append(file)
    except UsageError as error:
      print(f'{_COMMAND}: {error}', file=sys.stderr)
    if len(names) == _BATCH_SIZE:
      yield names, np.stack(images)
      names, images = [], []
  if names:
    yield names, np.stack(images)


def _print_table(rows: list[dict[str, Any]], width: int, names: int) -> None:
  for row in rows:
    print(
        f'{row["file"]:<{width}}  {row["label"]:<{names}}  '
        f'{row["confidence"]:7.2%}  {row["subnet"]}',
        flush=True,
    )


if __name__ == '__main__':
  # Ends it in silence when what reads its output, such as `head`, has ended.
  signal.signal(signal.SIGPIPE, signal.SIG_DFL)
  main(sys.argv[1:])
