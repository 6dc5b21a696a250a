# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The menu of a server, and how long each entry takes on this device.

MAdds do not predict it: on two cores a subnet with a quarter of them takes half
of the time, and with one image two thirds. So every entry is timed at every
batch size. The times are kept in a file named by a hash of what they depend on.

S = entries of the menu, B = batch sizes, K = choices of a stage.
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import os
import sys
from typing import Any

from absl import logging
import jax
import numpy as np

import adaptanet_jax
from adaptanet_jax import machine
from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation import latency, subnet_table
from adaptanet_jax.models.subnet import UNIFORM, Subnet
from adaptanet_jax.serving import policies
from adaptanet_jax.serving.check import check
from adaptanet_jax.serving.controller import SIZES, Entry, Profile
from adaptanet_jax.serving.engine import Engine
from adaptanet_jax.workdir import read_json, write_json

MOST_ENTRIES = 12
# Batch size at which the times of all subnets are estimated for the menu.
_ESTIMATED_AT = 8
# Timed runs of each entry and size.
_RUNS = 10
# If more batches of requests than this share of the timed runs ran meanwhile,
# the times are not kept. With fewer, the least time of an entry is still that
# of an idle machine.
_MOST_BESIDE = 0.1


def prepare(cache_dir: str | None) -> str:
  """Makes JAX keep compiled programs here, unless it has a folder for them.

  Args:
    cache_dir: folder of profiles and of programs; None: one in the user's
      cache.

  Returns:
    The folder of profiles.
  """
  cache = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  folder = os.path.expanduser(
      cache_dir or os.path.join(cache, 'adaptanet_jax')
  )
  if not jax.config.values['jax_compilation_cache_dir']:
    jax.config.update(
        'jax_compilation_cache_dir', os.path.join(folder, 'programs')
    )
  # Programs are many and small: also those that compile quickly are kept.
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
  return folder


@dataclasses.dataclass(frozen=True)
class Asked:
  """What a menu should have.

  Attributes:
    folder: folder of profiles.
    sizes: batch sizes in ascending order, from 1.
    names: subnets of the menu; empty: those of `choose_menu`.
    policy: policy whose rungs are on the menu, too; None: no policy.
  """

  folder: str
  sizes: tuple[int, ...] = SIZES
  names: tuple[str, ...] = ()
  policy: str | None = None

  def path(self, engine: Engine) -> str:
    """Returns the file for the times of such a menu of a network."""
    on = _digest(json.dumps(
        engine.described | {
            'version': adaptanet_jax.__version__,
            'processor': machine.processor(),
            'cores': machine.num_cores(),
            'sizes': self.sizes,
        },
        sort_keys=True,
    ))
    asked = _digest(f'{on} {",".join(self.names)} {self.policy}')
    return os.path.join(self.folder, f'profile-{asked[:16]}.json')


def create(
    engine: Engine, asked: Asked, *, begun: Callable[[], int] = lambda: 0
) -> Profile:
  """Chooses a menu and times it, or reads the times if it was timed before.

  Either way every program of the menu has run, and was checked, when it
  returns. Times are kept unless so many batches ran meanwhile that they made
  them longer.

  Args:
    engine: runs the network.
    asked: what the menu should have.
    begun: returns how many batches of other engines have begun so far.

  Raises:
    UsageError: the network has no accuracies, no such subnet or no such policy,
      or `check` raises it.
  """
  # First of all, so that a wrong name costs no time and leaves no file.
  named = tuple(_entry(engine, name) for name in asked.names)
  rungs: tuple[Entry, ...] = ()
  if asked.policy:
    rungs = policies.rungs(engine, asked.policy, _accuracies(engine))
  path, sizes = asked.path(engine), asked.sizes
  print(f'Loading the menu of {engine.name} ...', file=sys.stderr, flush=True)
  with _alone(path):
    kept = _read(path, sizes)
    if not kept:
      return _measured(engine, path, sizes, named, rungs, begun)
  warm(engine, kept)
  check(engine, kept.entries, sizes[-1])
  return kept


@contextlib.contextmanager
def _alone(path: str) -> Iterator[None]:
  """Lets one process at a time read, or measure, the times of a menu.

  Side by side, as replicas start, each would make the others' times longer.
  """
  with contextlib.ExitStack() as stack:
    try:
      os.makedirs(os.path.dirname(path), exist_ok=True)
      file = stack.enter_context(open(f'{path}.lock', 'w', encoding='utf-8'))
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        logging.warning('Waiting for another process to measure the menu.')
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
      logging.warning('%s cannot be locked (%s).', path, error.strerror)
    yield


def _measured(
    engine: Engine,
    path: str,
    sizes: tuple[int, ...],
    named: tuple[Entry, ...],
    rungs: tuple[Entry, ...],
    begun: Callable[[], int],
) -> Profile:
  """Chooses a menu and times it; keeps the times unless many batches ran."""
  before = begun()
  entries = (named or choose_menu(engine, sizes[-1])) + rungs
  profile = Profile(entries, sizes, _time(engine, entries, sizes))
  ran = begun() - before
  runs = len(_runnable(entries)) * len(sizes)
  if not named:
    runs += len(latency.single_changes(len(_accuracies(engine))))
  timed = _RUNS * runs
  check(engine, entries, sizes[-1])
  if ran <= _MOST_BESIDE * timed:
    _keep(path, profile)
  else:
    logging.warning(
        '%d batches ran while the menu was measured: its times are not kept, '
        'and the next start measures again.',
        ran,
    )
  return profile


def is_kept(engine: Engine, asked: Asked) -> bool:
  """Returns whether `create` has measured such a menu before."""
  return os.path.exists(asked.path(engine))


def _digest(text: str) -> str:
  return hashlib.sha256(text.encode()).hexdigest()


def warm(engine: Engine, profile: Profile) -> None:
  """Runs every entry at every size once, a policy by either rule."""
  for name in _runnable(profile.entries):
    for size in profile.sizes:
      _runner(engine, name, size)()


def _runner(engine: Engine, name: str, size: int) -> Callable[[], Any]:
  return functools.partial(engine.run, _blank(engine, size), name)


def choose_menu(
    engine: Engine, most: int = SIZES[-1]
) -> tuple[Entry, ...]:
  """Chooses the subnets of uniform width, and some of the `front`.

  If the engine can run only some subnets, some of these in place of the front.

  Args:
    engine: runs the network.
    most: most images of a batch.

  Returns:
    At most 12 entries, in ascending order of accuracy.

  Raises:
    UsageError: the network has no accuracies.
  """
  subnets = {str(subnet): _entry(engine, str(subnet)) for subnet in UNIFORM}
  every = engine.runnable or front(engine, most)
  others = [name for name in every if name not in subnets]
  room = MOST_ENTRIES - len(subnets)
  # Evenly spread along the front.
  places = np.linspace(0, len(others) - 1, min(room, len(others)))
  for place in np.unique(places.round().astype(int)):
    subnets[others[place]] = _entry(engine, others[place])
  return tuple(
      sorted(subnets.values(), key=lambda e: (e.accuracy, e.madds))
  )


def front(engine: Engine, most: int = SIZES[-1]) -> list[str]:
  """Returns the Pareto front of time and accuracy, the fastest subnet first.

  The times of all subnets are estimated from those of single stages.

  Args:
    engine: runs the network.
    most: most images of a batch.

  Raises:
    UsageError: the network has no accuracies.
  """
  accuracies, times = _accuracies(engine), estimate(engine, most)
  return [
      str(Subnet.decode(np.array(np.unravel_index(position, times.shape))))
      for position in subnet_table.pareto_front(
          times.ravel(), accuracies.ravel()
      )
  ]


def estimate(engine: Engine, most: int = SIZES[-1]) -> np.ndarray:
  """Estimates the times of all subnets from single changes to the largest.

  Args:
    engine: runs the network.
    most: most images of a batch.

  Returns:
    Seconds `float[K, K, K, K]` for a batch of a medium size.
  """
  size = min(_ESTIMATED_AT, most)
  codes = latency.single_changes(len(_accuracies(engine)))
  milliseconds = _measure([
      functools.partial(
          engine.run, _blank(engine, size), str(Subnet.decode(code))
      )
      for code in codes
  ])
  return 1e-3 * latency.stage_sums(*latency.stage_table(milliseconds))


def _accuracies(engine: Engine) -> np.ndarray:
  for column in subnet_table.ACCURACIES:
    if column in engine.subnets:
      return engine.subnets[column]
  raise UsageError(
      "The accuracies of the model's subnets were not measured; expected a run "
      'whose phases evaluation and policies are done, or a bundle of one.'
  )


def _entry(engine: Engine, name: str) -> Entry:
  accuracies = _accuracies(engine)
  try:
    subnet = Subnet.parse(name)
    name, code = str(subnet), tuple(subnet.encode())
    accuracy = float(accuracies[code])
  except (ValueError, IndexError) as error:
    raise UsageError(
        f'{name!r} is not a subnet of this model; expected one such as '
        '1.0-0.5-0.25-1.0.'
    ) from error
  if engine.runnable and name not in engine.runnable:
    raise UsageError(
        f'Subnet {name} has no batch statistics of its own; expected one of '
        f'{", ".join(engine.runnable)}.'
    )
  return Entry(name, accuracy, int(engine.subnets['madds'][code]))


def _time(
    engine: Engine, entries: Sequence[Entry], sizes: Sequence[int]
) -> np.ndarray:
  """Returns seconds `float[S, B]`, which never decrease with the size.

  The images that are timed all take one path. So what is timed of a policy are
  the rungs on which all images follow its first rule alone, and on which none
  does. Between them, a batch takes the time of the images that each rule has,
  at the sizes that they are padded to.
  """
  timed = _runnable(entries)
  runs = [_runner(engine, name, size) for name in timed for size in sizes]
  rows = 1e-3 * _measure(runs).reshape(len(timed), -1)
  by_name = dict(zip(timed, rows))
  seconds = []
  for entry in entries:
    first, last = (by_name[name] for name in _ends(entry))
    if entry.policy:
      looks = engine.policies[entry.policy].look is not None
      first = _between(sizes, entry.share or 0.0, first, last, looks)
    seconds.append(first)
  return np.maximum.accumulate(np.stack(seconds), 1)


def _between(
    sizes: Sequence[int],
    share: float,
    first: np.ndarray,
    last: np.ndarray,
    looks: bool,
) -> np.ndarray:
  """Returns the times of a rung, `float[B]`.

  Args:
    sizes: batch sizes.
    share: share of the images that follow the policy's first rule alone.
    first: times if all of them do, `float[B]`.
    last: times if none does.
    looks: whether the others follow the first rule as well, and then the
      second.
  """
  places = np.arange(len(sizes))
  others = np.ceil(np.round((1.0 - share) * np.array(sizes), 6))
  to = np.minimum(np.searchsorted(sizes, others), places)
  rest = np.where(others > 0, (last - first if looks else last)[to], 0.0)
  alone = np.array(sizes) - others
  at = np.minimum(np.searchsorted(sizes, alone), places)
  return rest + (first if looks else np.where(alone > 0, first[at], 0.0))


def _runnable(entries: Sequence[Entry]) -> list[str]:
  """Returns the names of what is run to time some entries, each once."""
  return list(dict.fromkeys(name for e in entries for name in _ends(e)))


def _ends(entry: Entry) -> tuple[str, str]:
  """Returns the names of the rungs that an entry lies between, or its own."""
  if not entry.policy:
    return entry.name, entry.name
  return f'{entry.policy}@1.00', f'{entry.policy}@0.00'


def _measure(runs: Sequence[Callable[[], Any]]) -> np.ndarray:
  # Times with the least other work on the machine; the margin covers the rest.
  rows = latency.measure(runs, num_runs=_RUNS)
  return np.array([row['ms_quiet'] for row in rows], float)


def _blank(engine: Engine, size: int) -> np.ndarray:
  return np.zeros((size, *engine.image_shape), np.uint8)


def _keep(path: str, profile: Profile) -> None:
  try:
    write_json(path, {
        'entries': [dataclasses.asdict(entry) for entry in profile.entries],
        'sizes': profile.sizes,
        'seconds': profile.seconds.tolist(),
    })
  except OSError as error:
    logging.warning(
        '%s cannot be written (%s): the next start measures again.',
        path, error.strerror,
    )


def _read(path: str, sizes: tuple[int, ...]) -> Profile | None:
  if not os.path.exists(path):
    return None
  try:
    values = read_json(path)
    entries = tuple(Entry(**entry) for entry in values['entries'])
    seconds = np.array(values['seconds'], float)
    if seconds.shape != (len(entries), len(sizes)) or not (seconds > 0).all():
      raise ValueError('its times are not those of its entries')
  except (OSError, UsageError, KeyError, TypeError, ValueError) as error:
    logging.warning('%s is damaged (%s); measuring again.', path, error)
    return None
  return Profile(entries, sizes, seconds)
