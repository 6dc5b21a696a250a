# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Shared parts of the benchmarks: interleaved timing, checks, tables, JSON.

Programs to compare run one after the other, round after round, so that all see
the same state of the machine. A ratio is taken within a round; the table has
its median over the rounds and its spread: (highest - lowest) / median.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import datetime
import json
import math
import os
import platform
import sys
import time
from typing import Any

from absl import flags
import jax
import numpy as np

from adaptanet_jax import compiler, machine, trees, versions
from adaptanet_jax.export import runtime
from adaptanet_jax.inference.about import About
from adaptanet_jax.inference.network import Supernet
from adaptanet_jax.models.parts import Variables
from adaptanet_jax.models.resnet import ResNet
from adaptanet_jax.platforms import auto_dtype

ROUNDS = flags.DEFINE_integer('rounds', 5, 'Rounds of timed runs.')
_OUT = flags.DEFINE_string(
    'out', None, 'JSON file to write; default results/benchmarks/PLATFORM/.'
)
# Least seconds of one program in a round, and the most runs to reach them.
_SECONDS = 0.1
_MOST_RUNS = 200
# Environment variables that affect speed.
_SETTINGS = ('GLIBC_TUNABLES', 'XLA_FLAGS', 'OMP_NUM_THREADS')
_PACKAGES = (
    'jax', 'jaxlib', 'flax', 'numpy', 'torch', 'onnxruntime', 'openvino',
    'libtpu', 'jax-cuda12-plugin', 'nvidia-cuda-nvcc-cu12',
)


def tolerance() -> float:
  """Returns how far results may differ, as a share of the largest magnitude."""
  return 1e-3 if auto_dtype() == 'float32' else 5e-2


def network_and_images(
    architecture: str, batch_size: int, *, side: int = 32,
    delta: str | None = 'conv3x3',
) -> tuple[ResNet, Variables, np.ndarray]:
  """Returns a network with GroupNorm, its random weights, and images for it.

  Args:
    architecture: name in `architectures.ARCHITECTURES`.
    batch_size: number of images.
    side: side of the images in pixels; below 64 the stem is CIFAR's.
    delta: kind of its delta substitutes, if it has any.

  Returns:
    The network, its variables, and `float32[B, side, side, 3]`.
  """
  stem = 'cifar' if side < 64 else 'imagenet'
  shape = (side, side, 3)
  net = ResNet(
      architecture, stem, 'gn', 100, shape, auto_dtype(), delta=delta
  )
  images = np.random.default_rng(0).standard_normal((batch_size, *shape))
  return net, trees.draw_like(net.shapes()), images.astype(np.float32)


def supernet_of(net: ResNet, variables: Variables) -> Supernet:
  """Wraps a network with random weights as a `Supernet`, as if loaded."""
  return Supernet(
      net,
      None,
      variables,
      about=About(
          name=net.architecture,
          class_names=tuple(map(str, range(net.num_classes))),
          shorter_side=0,
          dtype_is_auto=False,
          trained={},
          accuracies={},
      ),
  )


def session_options(num_threads: int = 0) -> Any:
  """Returns options with which ONNX Runtime's threads do not disturb others.

  Args:
    num_threads: threads of a model; 0: one for each core.
  """
  import onnxruntime

  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = num_threads
  # Its threads spin between the operations of a run, as they do for users, but
  # not while the next program is timed.
  options.add_session_config_entry('session.force_spinning_stop', '1')
  return options


def time_in_turns(
    runs: Mapping[Any, Callable[[], Any]],
) -> dict[Any, np.ndarray]:
  """Times functions round after round, each several times in a row.

  In practice a program runs repeatedly, so in each round a function first runs
  once untimed. Long ones need that, too: on a virtual machine that gives free
  pages back to its host, a step of 2.1 s that had to allocate its 870 MB again
  took 3.2 to 4.1 s after 2 s of another program, 1.2 to 2.8 s of them in the
  kernel.

  Args:
    runs: functions that return when their work is done, or return JAX arrays.

  Returns:
    Median seconds of a run in each round, `float[rounds]`.
  """
  counts = {}
  for name, run in runs.items():
    jax.block_until_ready(run())
    once = _timed(run)
    counts[name] = int(np.clip(math.ceil(_SECONDS / once), 1, _MOST_RUNS))
  times: dict[Any, list[float]] = {name: [] for name in runs}
  for _ in range(ROUNDS.value):
    for name, run in runs.items():
      jax.block_until_ready(run())
      times[name].append(
          float(np.median([_timed(run) for _ in range(counts[name])]))
      )
  return {name: np.array(values) for name, values in times.items()}


def _timed(run: Callable[[], Any]) -> float:
  started = time.perf_counter()
  jax.block_until_ready(run())
  return time.perf_counter() - started


def check_peers(wanted: Any) -> None:
  """Exits if peers are wanted on an accelerator; they run only on the host.

  Args:
    wanted: whether any peer is wanted.
  """
  if wanted and jax.default_backend() != 'cpu':
    sys.exit(
        f'Peers run on the CPU, and JAX on a {jax.default_backend()}; expected '
        'no --peer, or JAX_PLATFORMS=cpu.'
    )


def check_same(
    what: str, outputs: Mapping[str, Any], *, tolerance: float = 1e-3
) -> None:
  """Exits if the programs to compare do not compute the same.

  Args:
    what: name of what they compute, for the message.
    outputs: arrays by name; the others are compared with the first.
    tolerance: largest difference, as a share of the largest magnitude.
  """
  (first, expected), *rest = (
      (name, np.asarray(array, np.float64)) for name, array in outputs.items()
  )
  for name, actual in rest:
    if actual.shape != expected.shape:
      sys.exit(
          f'{what}: {name} gives {actual.shape}, {first} {expected.shape}; '
          'expected the same shape.'
      )
    difference = runtime.difference(actual, expected)
    if not difference <= tolerance:
      sys.exit(
          f'{what}: {name} and {first} differ by {difference:.1e} of the '
          f'largest value; expected at most {tolerance:.0e}, so their times '
          'are not compared.'
      )


@dataclasses.dataclass
class Ratio:
  """A ratio of times over several rounds.

  Attributes:
    median: median of the rounds.
    spread: (highest - lowest) / median.
  """

  median: float
  spread: float

  @classmethod
  def of(cls, times: np.ndarray, reference: np.ndarray) -> 'Ratio':
    """Divides the times of each round.

    Args:
      times: `float[rounds]`.
      reference: `float[rounds]`, from the same rounds.

    Returns:
      `times` over `reference`.
    """
    ratios = times / reference
    median = float(np.median(ratios))
    return cls(median, float(np.ptp(ratios) / median))

  def __str__(self) -> str:
    return f'{self.median:.2f} ~{self.spread:.0%}'


class Report:
  """A table that is printed row by row and kept as JSON.

  Until all rows are there, the file's name ends in `.partial`, so that an
  interrupted run does not overwrite the file of a complete one.

  Attributes:
    name: name of the benchmark.
    columns: headings of the columns.
  """

  def __init__(self, name: str, about: str, columns: Sequence[str]) -> None:
    self.name, self.columns = name, columns
    self._widths = [max(12, len(column)) for column in columns]
    self._rows: list[dict[str, Any]] = []
    self._about = about
    self._path = _OUT.value or os.path.join(
        'results', 'benchmarks', jax.default_backend(), f'{name}.json'
    )
    self._command = _command(name, sys.argv[1:])
    os.makedirs(os.path.dirname(os.path.abspath(self._path)), exist_ok=True)
    print(
        f'{name}: {about}\n{json.dumps(device())}\n'
        f'Kept in {self._path}.partial until all rows are there',
        flush=True,
    )
    self._print(columns)

  def _print(self, cells: Sequence[str]) -> None:
    first = max(24, self._widths[0])
    print(
        f'{cells[0]:<{first}}',
        *(f'{cell:>{n}}' for cell, n in zip(cells[1:], self._widths[1:])),
        sep='  ',
        flush=True,
    )

  def add(self, label: str, cells: Sequence[Any], **values: Any) -> None:
    """Prints and keeps a row.

    Args:
      label: its first column.
      cells: the other columns; None for one that was not measured.
      **values: further values for the file only.
    """
    texts = ['' if cell is None else _text(cell) for cell in cells]
    self._print([label, *texts])
    row = dict(zip(self.columns, (label, *cells)))
    self._rows.append(row | values)
    self._write()  # After each row, so that an interrupted run keeps its rows.

  def done(self) -> None:
    """Renames the file to its final name, now that it has all rows.

    Exits if a file of that name has what a command with other flags measured.
    """
    if os.path.exists(self._path):
      with open(self._path, encoding='utf-8') as file:
        before = json.load(file)['command']
      if sorted(before.split()) != sorted(self._command.split()):
        sys.exit(
            f'{self._path} has the figures of {before!r}, so these stay in '
            f'{self._path}.partial; expected --out=FILE.'
        )
    os.replace(f'{self._path}.partial', self._path)
    print(f'Kept in {self._path}')

  def _write(self) -> None:
    found = {
        'benchmark': self.name,
        'about': self._about,
        'command': self._command,
        'date': datetime.date.today().isoformat(),
        'device': device(),
        'environment': {k: os.environ[k] for k in _SETTINGS if k in os.environ},
        'compiler_options': compiler.options(),
        'rounds': ROUNDS.value,
        'rows': self._rows,
    }
    text = json.dumps(found, indent=1, default=_plain)
    with open(f'{self._path}.partial', 'w', encoding='utf-8') as file:
      file.write(f'{text}\n')


def _command(name: str, arguments: Sequence[str]) -> str:
  """Returns the command of a benchmark, without the file that it writes."""
  kept: list[str] = []
  rest = iter(arguments)
  for argument in rest:
    if argument == '--out':
      next(rest)
    elif not argument.startswith('--out='):
      kept.append(argument)
  return ' '.join(('python -m', f'benchmarks.{name}', *kept))


def _plain(value: Any) -> Any:
  return value.item() if hasattr(value, 'item') else dataclasses.asdict(value)


def _text(cell: Any) -> str:
  return f'{cell:,.2f}' if isinstance(cell, float) else str(cell)


def device() -> dict[str, Any]:
  """Describes the device, its host and the versions of packages."""
  return {
      'platform': jax.default_backend(),
      'kind': jax.devices()[0].device_kind,
      'count': jax.device_count(),
      'host': machine.processor(),
      'cores': machine.num_cores(),
      'python': platform.python_version(),
      'versions': versions.installed(_PACKAGES),
  }
