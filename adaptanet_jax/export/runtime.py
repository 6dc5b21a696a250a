# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs an exported network; needs numpy and onnxruntime, and nothing else.

  import runtime

  net = runtime.load()                       # the folder that this file is in
  net(images, '1.0-0.5d-0.25-1.0')           # uint8[B, H, W, C] to logits
  net(images, net.within(madds=5e6))         # the best subnet that is so cheap
  logits, subnets = net.route(images)        # gates choose for each image
  net.measure()                              # takes times on this device, and
  net(images, net.within(milliseconds=1.0))  # then chooses by them

As a command it runs the examples that came along and says how far its answers
are from the expected ones; with the names of pictures it says what they show,
which takes Pillow; with --measure it takes times and writes `latency.csv`.

A folder of format stablehlo takes jax in place of onnxruntime.
"""

from __future__ import annotations  # Devices have older Pythons.

import argparse
import csv
import json
import os
import time
from typing import Any

import numpy as np

_HERE = os.path.dirname(os.path.abspath(__file__))
FORMAT, VERSION = 'adaptanet_jax export', 1
NUM_STAGES = 4
# Of a stage, in the order of their numbers: widths, then widths of its delta.
CHOICES = ('1.0', '0.75', '0.5', '0.25', '1.0d', '0.75d', '0.5d', '0.25d')
_LATENCIES = 'latency.csv'


def load(folder: str = _HERE, **options: Any) -> Network:
  """Loads an exported network.

  Args:
    folder: that it was exported to.
    **options: of `onnxruntime.InferenceSession`, such as `providers` and
      `sess_options`.

  Returns:
    A function of images.

  Raises:
    ValueError: a file is missing or of another format.
  """
  path = os.path.join(folder, 'export.json')
  if not os.path.exists(path):
    raise ValueError(f'{folder} has no export.json; expected an exported net.')
  with open(path, encoding='utf-8') as file:
    about = json.load(file)
  found = about.get('format'), about.get('version')
  if found != (FORMAT, VERSION):
    raise ValueError(
        f'{path} is of format {found[0]!r}, version {found[1]!r}; expected '
        f'{FORMAT!r}, version {VERSION}.'
    )
  table = {}
  with open(os.path.join(folder, 'subnets.csv'), encoding='utf-8') as file:
    for row in csv.DictReader(file):
      name = row.pop('subnet')
      table[name] = {column: float(value) for column, value in row.items()}
  return Network(
      folder, about, table, _RUNS[about['kind']](folder, about, options)
  )


class Network:
  """An exported network as a function of images.

  Attributes:
    folder: that it was exported to.
    about: what `export.json` says.
    table: figures of each subnet, by its name, in the order of the export.
    milliseconds: of each subnet on this device, one image at a time; `{}` until
      `measure` has taken them, here or in a process before.
  """

  def __init__(
      self, folder: str, about: dict[str, Any],
      table: dict[str, dict[str, float]], run: Any,
  ) -> None:
    self.folder, self.about, self.table = folder, about, table
    self.milliseconds: dict[str, float] = {}
    path = os.path.join(folder, _LATENCIES)
    if os.path.exists(path):
      with open(path, encoding='utf-8') as file:
        self.milliseconds = {
            row['subnet']: float(row['milliseconds'])
            for row in csv.DictReader(file)
        }
    self._run = run

  @property
  def image_shape(self) -> tuple[int, ...]:
    """`(H, W, C)` of the images."""
    return tuple(self.about['image_shape'])

  @property
  def class_names(self) -> list[str]:
    """Names of the classes, by label."""
    return list(self.about['class_names'])

  @property
  def subnets(self) -> list[str]:
    """Names of the subnets that it can run as."""
    return list(self.table)

  @property
  def policies(self) -> list[str]:
    """Names of the policies that `route` knows."""
    return list(self.about['policies'])

  def __call__(self, images: np.ndarray, subnet: str = '') -> np.ndarray:
    """Runs one subnet.

    Args:
      images: `uint8[B, H, W, C]`.
      subnet: such as '1.0-0.5d-0.25-1.0'; '': the first of `subnets`.

    Returns:
      Logits `float32[B, classes]`.

    Raises:
      ValueError: the images or the subnet do not fit the network.
    """
    name = str(subnet) or self.subnets[0]
    if name not in self.table:
      raise ValueError(
          f'Subnet {name!r} is not in this export; expected one of its '
          f'{len(self.table):,}, such as {", ".join(self.subnets[:4])}.'
      )
    logits: np.ndarray = self._run(self._checked(images), _codes(name))
    return logits

  def route(
      self, images: np.ndarray, policy: str = ''
  ) -> tuple[np.ndarray, list[str]]:
    """Lets the gates choose a subnet for each image, one image at a time.

    Args:
      images: `uint8[B, H, W, C]`.
      policy: one of `policies`; '': the first.

    Returns:
      Logits `float32[B, classes]`, and the subnet of each image.

    Raises:
      ValueError: the images do not fit, or there is no such policy.
    """
    if not self.policies:
      raise ValueError(
          'This export has no policies; expected one of format onnx, of a '
          'network that has them, with policies=True.'
      )
    policy = policy or self.policies[0]
    if policy not in self.policies:
      raise ValueError(
          f'Unknown policy {policy!r}; expected one of '
          f'{", ".join(self.policies)}.'
      )
    number = self.policies.index(policy)
    checked = self._checked(images)
    rows = [
        self._run.route(checked[n : n + 1], number) for n in range(len(checked))
    ]
    return np.concatenate([logits for logits, _ in rows]), [
        '-'.join(CHOICES[code] for code in codes) for _, codes in rows
    ]

  def within(
      self, *, madds: float | None = None, milliseconds: float | None = None
  ) -> str:
    """Returns the most accurate subnet that takes at most so much.

    Args:
      madds: multiply-accumulates of an image.
      milliseconds: of an image, as `measure` has found.

    Raises:
      ValueError: no subnet is that cheap, or what it takes to choose is not
        known.
    """
    if (madds is None) == (milliseconds is None):
      raise ValueError('Expected either madds or milliseconds.')
    first = self.table[self.subnets[0]]
    if 'expected_top1' not in first:
      raise ValueError(
          'Accuracies on held-out examples were not measured; expected an '
          'export of an AdaptaNet whose phase policies was done.'
      )
    if madds is not None:
      limit, unit = madds, 'MAdds'
      costs = {name: row['madds'] for name, row in self.table.items()}
    else:
      limit, unit, costs = float(milliseconds or 0), 'ms', self.milliseconds
      if not costs:
        raise ValueError(
            'Times are not known here; expected measure() to have run.'
        )
    within = [name for name in costs if costs[name] <= limit]
    if not within:
      least = min(costs.values())
      raise ValueError(
          f'No subnet takes at most {limit:,} {unit}; expected {least:,} or '
          'more.'
      )
    # Many may be equal: then more work is safer.
    return max(
        within,
        key=lambda name: (self.table[name]['expected_top1'], costs[name]),
    )

  def measure(
      self, *, rounds: int = 5, runs: int = 10, save: bool = False
  ) -> dict[str, float]:
    """Takes the time of every subnet on this device, one image at a time.

    Where there are many, of one and of those that differ from it in one stage;
    what they add is added up for all others.

    Args:
      rounds: through all of them, so that they see the device alike.
      runs: of each in a round, after one that is not timed.
      save: whether to write them to the folder, for later processes.

    Returns:
      Milliseconds by subnet, which `within` then goes by.
    """
    image = np.zeros((1, *self.image_shape), np.uint8)
    codes = {name: _codes(name) for name in self.subnets}
    start = codes[self.subnets[0]]
    singles = [start]
    for n in range(NUM_STAGES):
      for code in sorted({code[n] for code in codes.values()} - {start[n]}):
        singles.append((*start[:n], code, *start[n + 1 :]))
    add_up = len(codes) > len(singles)
    times = _times(
        self._run, image, singles if add_up else list(codes.values()),
        rounds, runs,
    )
    found = {}
    for name, own in codes.items():
      found[name] = times[start] + sum(
          times[(*start[:n], own[n], *start[n + 1 :])] - times[start]
          for n in range(NUM_STAGES)
      ) if add_up else times[own]
    self.milliseconds = {name: max(t, 0.0) for name, t in found.items()}
    if save:
      path = os.path.join(self.folder, _LATENCIES)
      with open(f'{path}.tmp', 'w', encoding='utf-8', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(('subnet', 'milliseconds'))
        writer.writerows(self.milliseconds.items())
      os.replace(f'{path}.tmp', path)
    return self.milliseconds

  def check(self) -> float:
    """Runs the examples that came along.

    Returns:
      How far the answers are from the expected ones, at most, as a share of the
      largest.

    Raises:
      ValueError: an image is put into another class.
    """
    worst = 0.0
    with np.load(os.path.join(self.folder, 'example.npz')) as example:
      for name, expected in zip(example['subnets'], example['logits']):
        found = self(example['images'], str(name))
        if (found.argmax(-1) != expected.argmax(-1)).any():
          raise ValueError(
              f'Subnet {name} puts the examples into classes '
              f'{found.argmax(-1)}; expected {expected.argmax(-1)}.'
          )
        worst = max(worst, difference(found, expected))
    return worst

  def _checked(self, images: np.ndarray) -> np.ndarray:
    images = np.asarray(images)
    fits = images.shape[1:] == self.image_shape and len(images)
    if images.dtype != np.uint8 or not fits:
      raise ValueError(
          f'Images are {images.dtype}{list(images.shape)}; expected uint8[B, '
          f'{", ".join(map(str, self.image_shape))}], B at least 1.'
      )
    return images


def difference(found: np.ndarray, expected: np.ndarray) -> float:
  """Returns the largest difference as a share of the largest magnitude."""
  return float(np.abs(found - expected).max() / np.abs(expected).max())


def read(path: str, image_shape: tuple[int, ...], shorter_side: int = 0) -> Any:
  """Reads a picture as the network takes it; needs Pillow.

  Args:
    path: of a file.
    image_shape: `(H, W, C)` of the result, H = W.
    shorter_side: what the shorter side is scaled to before the centre is cut,
      in pixels; 0: H.

  Returns:
    `uint8[H, W, C]`.
  """
  from PIL import Image, ImageOps

  size, _, colours = image_shape
  with Image.open(path) as file:
    picture = ImageOps.exif_transpose(file)
  if picture.has_transparency_data:
    picture = picture.convert('RGBA')
    white = Image.new('RGBA', picture.size, 'white')
    picture = Image.alpha_composite(white, picture)
  picture = picture.convert('L' if colours == 1 else 'RGB')
  scale = max(shorter_side, size) / min(picture.size)
  width, height = (round(side * scale) for side in picture.size)
  picture = picture.resize((width, height), Image.Resampling.BILINEAR)
  top, left = (height - size) // 2, (width - size) // 2
  pixels = np.asarray(picture)[top : top + size, left : left + size]
  return pixels.reshape(image_shape)


def _codes(subnet: str) -> tuple[int, ...]:
  return tuple(CHOICES.index(choice) for choice in subnet.split('-'))


def _times(
    run: Any, image: np.ndarray, subnets: Any, rounds: int, runs: int
) -> dict[tuple[int, ...], float]:
  """Returns the lowest of the medians of the rounds, in milliseconds."""
  medians: dict[tuple[int, ...], list[float]] = {own: [] for own in subnets}
  for _ in range(rounds):
    for own in subnets:
      run(image, own)
      times = []
      for _ in range(runs):
        started = time.perf_counter()
        run(image, own)
        times.append(1e3 * (time.perf_counter() - started))
      medians[own].append(float(np.median(times)))
  return {own: min(values) for own, values in medians.items()}


class _Onnx:
  """One model that takes its subnet with every batch, or is one alone."""

  def __init__(self, folder: str, about: Any, options: Any) -> None:
    self._session = _session(os.path.join(folder, 'model.onnx'), options)
    self._inputs = {tensor.name for tensor in self._session.get_inputs()}
    del about

  def __call__(self, images: Any, codes: Any) -> np.ndarray:
    return self._infer(images, codes, -1)[0]

  def route(self, image: Any, policy: int) -> Any:
    return self._infer(image, (0,) * NUM_STAGES, policy)

  def _infer(self, images: Any, codes: Any, policy: int) -> Any:
    feed = {
        'images': images,
        'choices': np.array(codes, np.int64),
        'policy': np.array([policy], np.int64),
    }
    return self._session.run(
        None, {name: feed[name] for name in self._inputs}
    )


class _Stages:
  """A model for each choice of each stage, loaded when it is first met."""

  def __init__(self, folder: str, about: Any, options: Any) -> None:
    self._folder, self._options = folder, options
    self._sessions: dict[str, Any] = {}
    del about

  def __call__(self, images: Any, codes: Any) -> np.ndarray:
    x = images
    for n, code in enumerate(codes, start=1):
      x = self._infer(f'stage{n}_{CHOICES[code]}', x)
    return self._infer('head', x)

  def _infer(self, name: str, x: Any) -> Any:
    if name not in self._sessions:
      path = os.path.join(self._folder, f'{name}.onnx')
      self._sessions[name] = _session(path, self._options)
    session = self._sessions[name]
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def _session(path: str, options: Any) -> Any:
  import onnxruntime

  options = {'providers': ['CPUExecutionProvider'], **options}
  return onnxruntime.InferenceSession(path, **options)


class _StableHlo:
  """One program, compiled anew for each size of a batch."""

  def __init__(self, folder: str, about: Any, options: Any) -> None:
    import jax
    from jax import export

    del options
    with open(os.path.join(folder, 'model.jax'), 'rb') as file:
      program = export.deserialize(bytearray(file.read()))
    # What it was compiled with, where this is the compiler: equal to the bit.
    known = about['versions']['jaxlib'] == jax.lib.__version__
    on_cpu = known and jax.default_backend() == 'cpu'
    self._jitted = jax.jit(
        program.call,
        compiler_options=about['compiler_options'] if on_cpu else None,
    )
    self._weights: dict[str, Any] = {}
    self._statistics: dict[str, dict[str, Any]] = {}
    with np.load(os.path.join(folder, 'weights.npz')) as file:
      for name, array in file.items():
        kind, _, rest = name.partition('/')
        if kind == 'statistics':
          choice, _, path = rest.partition('/')
          own = self._statistics.setdefault(choice, {})
          own[path] = jax.device_put(array)
        else:
          self._weights[name] = jax.device_put(array)

  def __call__(self, images: Any, codes: Any) -> np.ndarray:
    own = self._statistics.get(CHOICES[codes[0]], {})
    weights = {**self._weights, **own}
    return np.asarray(
        self._jitted(weights, images, np.array(codes, np.int32))
    )


_RUNS = {
    'onnx': _Onnx, 'static': _Onnx, 'stages': _Stages, 'stablehlo': _StableHlo
}


def _main() -> None:
  parser = argparse.ArgumentParser(
      description='Checks the exported network, or classifies pictures.'
  )
  parser.add_argument('--subnet', default='', help='default: the first')
  parser.add_argument('--measure', action='store_true', help='take times')
  parser.add_argument('pictures', nargs='*')
  args = parser.parse_args()
  try:
    net = load()
    if args.measure:
      times = net.measure(save=True)
      low, high = min(times.values()), max(times.values())
      print(f'{len(times):,} subnets, {low:.3f} to {high:.3f} ms: {_LATENCIES}')
    elif not args.pictures:
      print(f'Largest difference from the expected logits: {net.check():.1e}')
    for path in args.pictures:
      side = net.about['shorter_side']
      logits = net(read(path, net.image_shape, side)[None], args.subnet)[0]
      shares = np.exp(logits - logits.max())
      label = net.class_names[logits.argmax()]
      print(f'{path}  {label}  {shares.max() / shares.sum():.2%}')
  except (ValueError, OSError) as error:
    what = str(error)
    if isinstance(error, OSError) and error.filename:
      what = f'{error.filename}: {error.strerror}'
    raise SystemExit(f'runtime: {what}') from error


if __name__ == '__main__':
  _main()
