# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs an exported network; needs only numpy and onnxruntime.

  import runtime

  net = runtime.load()                       # the folder that this file is in
  net(images, '1.0-0.5d-0.25-1.0')           # uint8[B, H, W, C] to logits
  net(images, net.within(madds=5e6))         # the best subnet within 5 M MAdds
  logits, subnets = net.route(images)        # a policy chooses for each image
  net.measure()                              # times subnets on this device
  net(images, net.within(milliseconds=1.0))  # the best subnet within 1 ms

As a command it runs the included examples and prints how far the logits are
from the expected ones. Given names of pictures it classifies them, which needs
Pillow. With --measure it times the subnets and writes `latency.json`.

A folder of format stablehlo needs jax instead of onnxruntime.
"""

from __future__ import annotations  # Devices have older Pythons.

import argparse
import csv
import os
import signal
import sys
from typing import Any

try:
  import numpy as np
except ImportError as error:
  if __name__ != '__main__':
    raise
  raise SystemExit(
      'runtime: numpy is not installed; expected what `pip install numpy '
      'onnxruntime` brings.'
  ) from error

if __package__:
  from adaptanet_jax.export import runtime_latency, runtime_models
else:  # In an exported folder.
  try:
    import runtime_latency  # type: ignore[no-redef]
    import runtime_models  # type: ignore[no-redef]
  except ModuleNotFoundError as error:
    if __name__ != '__main__':
      raise
    raise SystemExit(
        f'runtime: {error.name}.py is missing; expected all files of the '
        'exported folder.'
    ) from error

_HERE = os.path.dirname(os.path.abspath(__file__))


def load(folder: str = _HERE, **options: Any) -> Network:
  """Loads an exported network.

  Args:
    folder: folder that the network was exported to.
    **options: options of `onnxruntime.InferenceSession`, such as `providers`
      and `sess_options`.

  Returns:
    The network, a function of images.

  Raises:
    ValueError: a file is missing, damaged or of another format, or a package
      is not installed.
  """
  # Files are also read later, when the working directory may be another.
  folder = os.path.abspath(os.path.expanduser(folder))
  about = runtime_models.read_about(folder)
  run = runtime_models.KINDS[about['kind']](folder, about, options)
  table = {}
  with open(os.path.join(folder, 'subnets.csv'), encoding='utf-8') as file:
    for row in csv.DictReader(file):
      name = row.pop('subnet')
      table[name] = {column: float(value) for column, value in row.items()}
  return Network(folder, about, table, run)


class Network:
  """An exported network as a function of images.

  Attributes:
    folder: folder that it was exported to.
    about: contents of `export.json`.
    table: figures of each subnet, by its name, in the order of the export.
    surroundings: what its times depend on: the files of the export, and how
      they run, such as the version and the threads.
    milliseconds: time of each subnet on this device for one image; `{}` until
      `measure` has run, here or, with `save`, in an earlier process.
  """

  def __init__(
      self, folder: str, about: dict[str, Any],
      table: dict[str, dict[str, float]], run: Any,
  ) -> None:
    self.folder, self.about, self.table = folder, about, table
    self._run = run
    index = os.path.join(folder, runtime_models.INDEX)
    self.surroundings: dict[str, str] = {
        'export': runtime_models.digest(index)[:12], **run.surroundings
    }
    self.milliseconds, self._untimed = runtime_latency.read(
        folder, self.surroundings
    )

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
    """Names of the subnets that it can run."""
    return list(self.table)

  @property
  def policies(self) -> list[str]:
    """Names of the policies that `route` knows."""
    return list(self.about['policies'])

  def __call__(self, images: np.ndarray, subnet: str = '') -> np.ndarray:
    """Runs one subnet.

    Args:
      images: `uint8[B, H, W, C]`.
      subnet: such as '1.0-0.5d-0.25-1.0', or 'x0.5' for that choice in all
        stages; '': the first of `subnets`.

    Returns:
      Logits `float32[B, classes]`.

    Raises:
      ValueError: the images or the subnet do not fit the network.
    """
    name = runtime_models.full_name(str(subnet)) or self.subnets[0]
    if name not in self.table:
      raise ValueError(
          f'Subnet {name!r} is not in this export; expected one of its '
          f'{len(self.table):,}, such as {", ".join(self.subnets[:4])}.'
      )
    logits: np.ndarray = self._run(
        self._checked(images), runtime_models.codes_of(name)
    )
    return logits

  def route(
      self, images: np.ndarray, policy: str = 'joint/budget'
  ) -> tuple[np.ndarray, list[str]]:
    """Lets a policy choose a subnet for each image, one image at a time.

    Args:
      images: `uint8[B, H, W, C]`.
      policy: one of `policies`.

    Returns:
      Logits `float32[B, classes]`, and the subnet that they are from, for each
      image.

    Raises:
      ValueError: the images do not fit, or there is no such policy.
    """
    if not self.policies:
      raise ValueError(
          'This export has no policies; expected one of format onnx, of a '
          'network that has them, with policies=True.'
      )
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
        runtime_models.name_of(codes) for _, codes in rows
    ]

  def within(
      self, *, madds: float | None = None, milliseconds: float | None = None
  ) -> str:
    """Returns the most accurate subnet within a budget: MAdds or time.

    Args:
      madds: most multiply-accumulates for one image.
      milliseconds: most milliseconds for one image, by the times of `measure`.

    Raises:
      ValueError: the budget is not valid, no subnet is within it, or accuracies
        or times are not known.
    """
    if (madds is None) == (milliseconds is None):
      raise ValueError('Expected either madds or milliseconds.')
    first = self.table[self.subnets[0]]
    if 'expected_top1' not in first:
      raise ValueError(
          'Accuracies on held-out examples were not measured; expected an '
          'export of an AdaptaNet whose phase policies was done.'
      )
    given, unit = (madds, 'MAdds') if milliseconds is None else (
        milliseconds, 'ms'
    )
    try:
      limit = float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
      raise ValueError(f'{given!r} {unit}; expected a number.') from error
    costs = self.milliseconds
    if unit == 'MAdds':
      costs = {name: row['madds'] for name, row in self.table.items()}
    elif not costs:
      raise ValueError(self._untimed)
    within = [name for name in costs if costs[name] <= limit]
    if not within:
      least = min(costs.values())
      raise ValueError(
          f'No subnet takes at most {limit:,} {unit}; expected {least:,} or '
          'more.'
      )
    # Many may be equally accurate: then more work is safer.
    return max(
        within,
        key=lambda name: (self.table[name]['expected_top1'], costs[name]),
    )

  def measure(
      self, *, rounds: int = 5, runs: int = 10, save: bool = False
  ) -> dict[str, float]:
    """Times every subnet on this device, for one image.

    If there are many, it times one and those that differ from it in one stage;
    the times of all others are sums of the differences, checked on random ones.

    Args:
      rounds: passes over all subnets, so that changes of the device affect all.
      runs: timed runs of each subnet in a round, after one that is not timed.
      save: whether to write the times to the folder, for later processes.

    Returns:
      Milliseconds by subnet, which `within` uses from now on.

    Raises:
      ValueError: `rounds` or `runs` is below 1, or the sums are far from the
        times of random subnets, as when the device has other work.
    """
    if rounds < 1 or runs < 1:
      raise ValueError(
          f'rounds = {rounds}, runs = {runs}; expected at least 1 of each.'
      )
    image = np.zeros((1, *self.image_shape), np.uint8)
    codes = {name: runtime_models.codes_of(name) for name in self.subnets}
    self.milliseconds = runtime_latency.measure(
        lambda own: self._run(image, own), codes, rounds, runs
    )
    if save:
      runtime_latency.write(
          self.folder, self.surroundings, self.milliseconds
      )
    return self.milliseconds

  def check(self) -> float:
    """Runs the included examples.

    Returns:
      The largest difference from the expected logits, as a share of the largest
      of these.

    Raises:
      ValueError: an image gets another class than expected.
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
        # Unlike `max`, this keeps a NaN.
        worst = np.maximum(worst, difference(found, expected))
    return float(worst)

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
  apart = np.abs(found - expected).max()
  # A network that has not learnt anything may answer with zeros alone.
  return float(apart / np.abs(expected).max()) if apart else 0.0


def read(
    path: str, image_shape: tuple[int, ...], shorter_side: int = 0
) -> np.ndarray:
  """Reads a picture and prepares it as for the network's tests; needs Pillow.

  Args:
    path: path of a file: JPEG, PNG, WEBP, GIF, BMP or TIFF.
    image_shape: `(H, W, C)` of the result, H = W.
    shorter_side: pixels that the shorter side is scaled to before the centre is
      cropped; 0: H.

  Returns:
    `uint8[H, W, C]`.

  Raises:
    ValueError: the picture cannot be read, or Pillow is not installed.
  """
  images = _pictures()
  try:
    with open(path, 'rb') as file:
      pixels: np.ndarray = images.decode(
          file.read(), image_shape, shorter_side
      )
  except (OSError, ValueError) as error:
    reason = getattr(error, 'strerror', None) or str(error)
    raise ValueError(
        f'{path}: {reason}. Expected a picture, such as a JPEG or a PNG.'
    ) from error
  return pixels


def _pictures() -> Any:
  """Returns the module that decodes pictures, also for the network's tests."""
  name = 'adaptanet_jax.data.images' if __package__ else 'runtime_pictures'
  return runtime_models.find_module(name, 'pillow')


def _main() -> int:
  parser = argparse.ArgumentParser(
      description='Checks the exported network, or classifies pictures.'
  )
  parser.add_argument('--subnet', default='', help='default: the first')
  parser.add_argument('--measure', action='store_true', help='times subnets')
  parser.add_argument(
      'pictures', nargs='*', help='files; without any it runs the examples'
  )
  args = parser.parse_args()
  if args.subnet and not args.pictures:
    parser.error('--subnet is for pictures; expected the names of some.')
  net = load()
  if args.measure:
    times = net.measure(save=True)
    low, high = min(times.values()), max(times.values())
    print(f'{len(times):,} subnets, {low:.3f} to {high:.3f} ms; kept')
  elif not args.pictures:
    print(f'Largest difference from the expected logits: {net.check():.1e}')
  return 0 if _classify(net, args.pictures, args.subnet) else 1


def _classify(net: Network, paths: list[str], subnet: str) -> bool:
  """Prints the classes of pictures; returns whether all could be read."""
  if paths:
    _pictures()  # Reports a missing Pillow once, not for each picture.
  unread = 0
  for path in paths:
    try:
      picture = read(path, net.image_shape, net.about['shorter_side'])
    except ValueError as error:
      print(f'runtime: {error}', file=sys.stderr)
      unread += 1
      continue
    logits = net(picture[None], subnet)[0]
    shares = np.exp(logits - logits.max())
    label = net.class_names[logits.argmax()]
    print(f'{path}  {label}  {shares.max() / shares.sum():.2%}')
  return not unread


if __name__ == '__main__':
  # As other commands do when what reads their output, such as `head`, ends.
  if hasattr(signal, 'SIGPIPE'):  # Not on Windows.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
  # Names of files and classes may have characters that it cannot print.
  sys.stdout.reconfigure(errors='backslashreplace')  # type: ignore[union-attr]
  try:
    sys.exit(_main())
  except (ValueError, OSError) as error:
    what = str(error)
    if isinstance(error, OSError) and error.filename:
      what = f'{error.filename}: {error.strerror}'
    raise SystemExit(f'runtime: {what}') from error
  except KeyboardInterrupt:
    print('runtime: Interrupted.', file=sys.stderr)
    sys.exit(128 + signal.SIGINT)
