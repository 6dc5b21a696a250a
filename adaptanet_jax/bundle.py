# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Writes what a run has trained as a bundle, a folder to take away:

  python -m adaptanet_jax.bundle --workdir=/tmp/digits --out=/tmp/bundle
"""

import os
import sys

from absl import app, flags

from adaptanet_jax import commands

_WORKDIR = flags.DEFINE_string('workdir', None, 'Of the run.')
_OUT = flags.DEFINE_string('out', None, 'Folder to write; new, or empty.')
_EXAMPLES = flags.DEFINE_integer(
    'examples', 0, 'How many test images to put into it, with their labels.'
)


def main(argv: list[str]) -> None:
  """Loads the run, and saves it."""
  del argv
  from adaptanet_jax.inference import bundle, trained
  from adaptanet_jax.inference.network import BACKENDS

  with commands.one_line_errors('adaptanet_jax.bundle'):
    workdir = os.path.expanduser(str(_WORKDIR.value))
    net = trained.load(workdir, backend=BACKENDS[0])
    count = int(_EXAMPLES.value or 0)
    examples = trained.examples(workdir, count) if count else None
    bundle.save(net, str(_OUT.value), examples)
  print(f'Bundle: {_OUT.value}', file=sys.stderr)


if __name__ == '__main__':
  flags.mark_flags_as_required(('workdir', 'out'))
  app.run(main)
