# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the commands have in common: their flags, and how they fail."""

import argparse
from collections.abc import Iterator
import contextlib
import errno
import importlib.util
import os
import re
import sys
from typing import Any

from absl import flags, logging

from adaptanet_jax.errors import UsageError

# Of a full or a broken disk, where nobody knows which file it was.
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


@contextlib.contextmanager
def one_line_errors(command: str) -> Iterator[None]:
  """Ends the process with one line if what a user gave is not valid.

  Args:
    command: that the line begins with.
  """
  # Orbax logs much that is of no use to a user.
  logging.set_verbosity(logging.WARNING)
  try:
    yield
  except UsageError as error:
    sys.exit(f'{command}: {error}')
  except OSError as error:
    if error.filename:
      sys.exit(f'{command}: {error.filename}: {error.strerror}.')
    if error.errno not in _OF_DISKS:
      raise
    sys.exit(f'{command}: {error.strerror}.')


def parser(
    command: str, description: str, **options: Any
) -> argparse.ArgumentParser:
  """Returns the parser of a command, without flags.

  Args:
    command: the module that is run.
    description: what it does.
    **options: of `argparse.ArgumentParser`.
  """
  return argparse.ArgumentParser(
      prog=f'python -m {command}',
      description=description,
      allow_abbrev=False,
      **options,
  )


def parser_for_model(
    command: str, description: str, *, more: str = '', **options: Any
) -> argparse.ArgumentParser:
  """Returns the parser of a command that takes a model.

  Args:
    command: see `parser`.
    description: see `parser`.
    more: what else may be a model.
    **options: see `parser`.
  """
  found = parser(command, description, **options)
  found.add_argument(
      '--model',
      required=True,
      help=f'an included model, such as digits; a bundle, or a workdir{more}',
  )
  return found


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the flags of a run; exits with one line if that fails.

  Args:
    argv: the command line, program name first.

  Returns:
    What is left of it.
  """
  values = flags.FLAGS
  try:
    rest = values([_installed(arg) for arg in argv])
    if not (values.config and values.workdir):
      raise flags.Error('Both --config and --workdir have to be given')
    _ = values.config.name  # A missing file is an error only when it is read.
    return rest
  except (AttributeError, KeyError) as error:  # The config lacks a setting.
    # ml_collections gives its name in quotes, escaped if it has a suggestion.
    found = re.search(r"'(\w+)", str(error).replace('\\', ''))
    name = found[1] if found else str(error)
    given = [arg for arg in argv if name in arg.split('=')[0].split('.')]
    hint = re.search(r'Did you mean "(\w+)"', str(error).replace('\\', ''))
    problem = (
        f'Unknown setting {given[0] if given else name}; expected one that '
        'configs/common.py declares'
        + (f', such as {hint[1]}.' if hint else '.')
    )
  except (flags.Error, OSError) as error:
    # The last line: a config's own error comes with its traceback as text.
    problem = str(error).strip().splitlines()[-1].strip().rstrip('.')
    problem = problem.removeprefix('ValueError: ')
    problem += '. Usage: --config=configs/FILE.py[:VARIANT] --workdir=DIR'
  sys.exit(f'adaptanet_jax: {problem}')


def _installed(arg: str) -> str:
  """Names the configuration that was installed, where the folder has none.

  Args:
    arg: of a command line; `--config=configs/digits.py` works in any folder.
  """
  found = re.fullmatch(r'(--?config=)?(configs/[^:]*\.py)(:.*)?', arg)
  spec = importlib.util.find_spec('configs')
  if not found or os.path.exists(found[2]) or not spec or not spec.origin:
    return arg
  path = os.path.join(os.path.dirname(os.path.dirname(spec.origin)), found[2])
  if not os.path.exists(path):
    return arg
  return f'{found[1] or ""}{path}{found[3] or ""}'
