# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What all benchmarks share: interleaved timing, checks, a table, a JSON file.

Things to compare run in turns, round after round, so that they see the machine
alike. A ratio is taken within a round; the table has its median over rounds and
its spread, highest less lowest over the median.
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

from adaptanet_jax import compiler, platforms, trees, versions
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
# What a round of one thing takes, at least, with no more runs than these.
_SECONDS = 0.1
_MOST_RUNS = 200
# What has a say in how fast things run.
_SETTINGS = ('GLIBC_TUNABLES', 'XLA_FLAGS', 'OMP_NUM_THREADS')
_PACKAGES = (
    'jax', 'jaxlib', 'flax', 'numpy', 'torch', 'onnxruntime', 'openvino',
    'libtpu', 'jax-cuda12-plugin', 'nvidia-cuda-nvcc-cu12',
)


def tolerance() -> float:
  """Returns how far results may differ, as a share of the largest."""
  return 1e-3 if auto_dtype() == 'float32' else 5e-2


def network_and_images(
    architecture: str, batch_size: int, *, side: int = 32,
    delta: str | None = 'conv3x3',
) -> tuple[ResNet, Variables, np.ndarray]:
  """Returns a network with GroupNorm, its random weights, and images for it.

  Args:
    architecture: name in `architectures.ARCHITECTURES`.
    batch_size: images.
    side: pixels of an image; those of less than 64 go through CIFAR's stem.
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
  """Returns a network of random weights as what is loaded and exported."""
  return Supernet(
      net,
      None,
      variables,
      subnets={},
      policy_table={},
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
  """Returns options of ONNX Runtime, whose threads leave others their turn.

  Args:
    num_threads: of a model; 0: one for each core.
  """
  import onnxruntime

  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = num_threads
  # Else its threads would wait for work through the next one's turn.
  options.add_session_config_entry('session.intra_op.allow_spinning', '0')
  return options


def time_in_turns(
    runs: Mapping[Any, Callable[[], Any]],
) -> dict[Any, np.ndarray]:
  """Times functions round after round, each several times in a row.

  In use one run follows another of the same, so a turn begins with a run that
  is not timed. A long one needs that too: on a virtual machine that gives free
  pages back to its host, a step of 2.1 s that took its 870 MB anew took 3.2 to
  4.1 s after 2 s of another program, 1.2 to 2.8 s of them in the kernel.

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
  """Leaves the program if peers, which run on the host, are not to be had.

  Args:
    wanted: whether any peer is.
  """
  if wanted and jax.default_backend() != 'cpu':
    sys.exit(
        f'Peers run on the CPU, and JAX on a {jax.default_backend()}; expected '
        'no --peer, or JAX_PLATFORMS=cpu.'
    )


def check_same(
    what: str, outputs: Mapping[str, Any], *, tolerance: float = 1e-3
) -> None:
  """Leaves the program if things to compare do not compute the same.

  Args:
    what: they compute.
    outputs: arrays by name; the first is what the others are held against.
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
  """A ratio of times over rounds.

  Attributes:
    median: of the rounds.
    spread: highest less lowest, over the median.
  """

  median: float
  spread: float

  @classmethod
  def of(cls, times: np.ndarray, reference: np.ndarray) -> 'Ratio':
    """Divides the times of each round.

    Args:
      times: `float[rounds]`.
      reference: `float[rounds]`, of the same rounds.

    Returns:
      Their ratio.
    """
    ratios = times / reference
    median = float(np.median(ratios))
    return cls(median, float(np.ptp(ratios) / median))

  def __str__(self) -> str:
    return f'{self.median:.2f} ~{self.spread:.0%}'


class Report:
  """A table that is printed row by row, and kept as JSON.

  Until it is done, the file's name ends in `.partial`: a run that is cut off
  takes no other one's place.

  Attributes:
    name: of the benchmark.
    columns: heads of the table.
  """

  def __init__(self, name: str, about: str, columns: Sequence[str]) -> None:
    self.name, self.columns = name, columns
    self._widths = [max(12, len(column)) for column in columns]
    self._rows: list[dict[str, Any]] = []
    self._about = about
    self._path = _OUT.value or os.path.join(
        'results', 'benchmarks', jax.default_backend(), f'{name}.json'
    )
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
    """Prints a row.

    Args:
      label: what it is of.
      cells: the other columns; None for one that was not measured.
      **values: what else the file is to have of it.
    """
    texts = ['' if cell is None else _text(cell) for cell in cells]
    self._print([label, *texts])
    row = dict(zip(self.columns, (label, *cells)))
    self._rows.append(row | values)
    self._write()  # What is cut off has what it has measured.

  def done(self) -> None:
    """Puts the file in its place, now that it has all rows."""
    os.replace(f'{self._path}.partial', self._path)
    print(f'Kept in {self._path}')

  def _write(self) -> None:
    arguments = ' '.join(a for a in sys.argv[1:] if not a.startswith('--out='))
    found = {
        'benchmark': self.name,
        'about': self._about,
        'command': f'python -m benchmarks.{self.name} {arguments}'.strip(),
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


def _plain(value: Any) -> Any:
  return value.item() if hasattr(value, 'item') else dataclasses.asdict(value)


def _text(cell: Any) -> str:
  return f'{cell:,.2f}' if isinstance(cell, float) else str(cell)


def device() -> dict[str, Any]:
  """Says what is measured on, and with which versions."""
  return {
      'platform': jax.default_backend(),
      'kind': jax.devices()[0].device_kind,
      'count': jax.device_count(),
      'host': platforms.processor(),
      'cores': len(os.sched_getaffinity(0)),
      'python': platform.python_version(),
      'versions': versions.installed(_PACKAGES),
  }
