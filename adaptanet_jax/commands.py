# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Shared parts of the commands: their flags, and how they report errors."""

import argparse
from collections.abc import Iterator, Mapping
import contextlib
import importlib.util
import io
import os
import re
import signal
import sys
from typing import Any

from absl import flags, logging
import ml_collections
from ml_collections import config_flags

from adaptanet_jax.errors import UsageError, file_problem


@contextlib.contextmanager
def one_line_errors(command: str) -> Iterator[None]:
  """Ends the process with one line if an input is invalid, or if interrupted.

  Args:
    command: name that the line begins with.
  """
  # Orbax logs much that a user does not need.
  logging.set_verbosity(logging.WARNING)
  if isinstance(sys.stdout, io.TextIOWrapper):
    # Names of files and classes may have characters that it cannot print.
    sys.stdout.reconfigure(errors='backslashreplace')
  try:
    yield
  except UsageError as error:
    sys.exit(f'{command}: {error}')
  except OSError as error:
    problem = file_problem(error)
    if problem is None:
      raise
    sys.exit(f'{command}: {problem}')
  except KeyboardInterrupt:
    print(f'{command}: Interrupted.', file=sys.stderr)
    sys.exit(128 + signal.SIGINT)


def parser(command: str, description: str) -> argparse.ArgumentParser:
  """Returns the parser of a command, without flags.

  Args:
    command: the module that is run.
    description: what the command does.
  """
  return argparse.ArgumentParser(
      prog=f'python -m {command}', description=description, allow_abbrev=False
  )


def parser_for_model(
    command: str, description: str, *, more: str = ''
) -> argparse.ArgumentParser:
  """Returns the parser of a command that takes a model.

  Args:
    command: see `parser`.
    description: see `parser`.
    more: text on what else --model may name.
  """
  found = parser(command, description)
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
    The arguments that are not flags.
  """
  values = flags.FLAGS
  try:
    rest = values([_installed(arg) for arg in argv])
    if not (values.config and values.workdir):
      raise flags.Error('Both --config and --workdir have to be given')
    _ = values.config.name  # Reads the file, and fails if there is none.
    _check_settings(config_flags.get_override_values(values['config']))
    return rest
  except IndexError:  # The flag sets an element of a tuple.
    given = [arg for arg in argv if '[' in arg.split('=')[0]]
    problem = (
        f'{" ".join(given)} sets a part of a setting; expected all of it, such '
        'as --config.cascade.epochs=1,2,3,4.'
    )
  except (AttributeError, KeyError) as error:  # The config lacks a setting.
    # ml_collections quotes the name, and escapes the quotes with a suggestion.
    text = str(error).replace('\\', '')
    # Of a name below a setting it tells the whole path; a name that a
    # configuration sets is a key.
    found = (
        re.search(r'lookup: .*\.(\w+)', text)
        or re.search(r'Key "(\w+)"', text)
        or re.search(r"'(\w+)", text)
    )
    name = found[1] if found else text
    given = [arg for arg in argv if name in arg.split('=')[0].split('.')]
    hint = re.search(r'Did you mean "(\w+)"', text)
    problem = (
        f'Unknown setting {given[0] if given else name}; expected one that '
        'configs/common.py declares'
        + (f', such as {hint[1]}.' if hint else '.')
    )
  except (flags.Error, OSError) as error:
    # Only the last line: a config's own error includes its traceback as text.
    problem = str(error).strip().splitlines()[-1].strip().rstrip('.')
    problem = problem.removeprefix('ValueError: ')
    if isinstance(error, OSError):
      problem += f'; expected a file such as {", ".join(_configurations())}'
    problem += '. Usage: --config=configs/FILE.py[:VARIANT] --workdir=DIR'
  sys.exit(f'adaptanet_jax: {problem}')


def _check_settings(given: Mapping[str, Any]) -> None:
  """Raises flags.Error if a section is set, with whatever is in it.

  Args:
    given: values on the command line, by dotted key.
  """
  for key, value in given.items():
    if isinstance(value, ml_collections.ConfigDict):
      raise flags.Error(
          f'--config.{key} is a section; expected one of its settings, such as '
          '--config.data.name=digits'
      )


def _folder_of_configs() -> str:
  """Returns the folder of the installed configurations."""
  spec = importlib.util.find_spec('configs')
  return os.path.dirname(spec.origin) if spec and spec.origin else 'configs'


def _configurations() -> list[str]:
  """Returns the configurations that are installed."""
  return [
      f'configs/{name}'
      for name in sorted(os.listdir(_folder_of_configs()))
      if name.endswith('.py') and name not in ('__init__.py', 'common.py')
  ]


def _installed(arg: str) -> str:
  """Replaces a configuration that the folder lacks by the installed one.

  Args:
    arg: an argument of the command line, such as `--config=configs/digits.py`.
  """
  found = re.fullmatch(r'(--?config=)?configs/([^:]*\.py)(:.*)?', arg)
  if not found or os.path.exists(os.path.join('configs', found[2])):
    return arg
  path = os.path.join(_folder_of_configs(), found[2])
  if not os.path.exists(path):
    return arg
  return f'{found[1] or ""}{path}{found[3] or ""}'
