# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Bundles: a trained network as a folder to take away.

It needs neither the workdir nor what only training does: `weights.safetensors`;
`network.json`, which says what they are the weights of, on which data they were
trained and how good they are; `subnets.csv`, `policies.json` and
`statistics.npz` as a run has them, where it has them; `examples.npz`, some of
the images that it was tested on, where they were given; and `README.md`, a
model card. Kernels are stored as the network runs them (`ResNet.fold`).
"""

from collections.abc import Mapping
import dataclasses
import os
import pathlib
from typing import Any

from flax import traverse_util
import jax
import numpy as np
import safetensors
from safetensors import numpy as safetensors_numpy

from adaptanet_jax import platforms, trees
from adaptanet_jax.errors import UsageError, some
from adaptanet_jax.evaluation import calibration, subnet_table
from adaptanet_jax.inference.network import About, Supernet, check_count
from adaptanet_jax.models.gates import GATES, GateSet, gate_name
from adaptanet_jax.models.resnet import ResNet, Variables
from adaptanet_jax.workdir import (
  Paths,
  digest,
  new_folder,
  read_json,
  write_json,
)

_FORMAT = 'adaptanet_jax bundle'
_VERSION = 1
_NETWORK, _WEIGHTS, _CARD = 'network.json', 'weights.safetensors', 'README.md'
_EXAMPLES = 'examples.npz'
Examples = tuple[np.ndarray, np.ndarray]
# Where the models that come with the package are.
_PACKAGED = pathlib.Path(__file__).parent.parent / 'pretrained'


def packaged() -> dict[str, str]:
  """Returns the folders of the models that come with the package, by name."""
  return {
      path.parent.name: str(path.parent)
      for path in sorted(_PACKAGED.glob(f'*/{_NETWORK}'))
  }


def is_bundle(path: str) -> bool:
  """Returns whether a folder is, or claims to be, a bundle."""
  return os.path.exists(os.path.join(path, _NETWORK))


def save(
    net: Supernet, folder: str, examples: Examples | None = None
) -> None:
  """Writes a bundle.

  Args:
    net: a loaded network.
    folder: must not exist yet, or be empty.
    examples: images `uint8[B, H, W, C]` and `int[B]` labels to put into it.

  Raises:
    UsageError: there is something in that folder, or the examples do not fit.
  """
  if examples:
    _check_examples(net, *examples)
  with new_folder(folder) as partial:
    _write(net, partial, examples)


def _check_examples(
    net: Supernet, images: np.ndarray, labels: np.ndarray
) -> None:
  net.check(images)
  labels, classes = np.asarray(labels), len(net.about.class_names)
  if labels.shape != (len(images),) or not np.all(
      (labels >= 0) & (labels < classes)
  ):
    raise UsageError(
        f'Labels of the examples are {labels.dtype}{list(labels.shape)}; '
        f'expected int[{len(images)}], each from 0 to {classes - 1}.'
    )


def _write(net: Supernet, folder: str, examples: Examples | None) -> None:
  flat = traverse_util.flatten_dict(jax.device_get(net.variables), sep='/')
  # Only the gates that policies read; no user asks for the others.
  read = [gate_name(n) for n in net.gates.anchors] if net.gates else []
  weights = {
      name: np.ascontiguousarray(leaf)
      for name, leaf in flat.items()
      if f'/{GATES}/' not in name or name.split('/')[2] in read
  }
  # Not `save_file`, whose files nobody else may read.
  weights_file = pathlib.Path(folder, _WEIGHTS)
  weights_file.write_bytes(safetensors_numpy.save(weights))
  paths = Paths(folder)
  if net.subnets:
    subnet_table.write(folder, net.subnets)
  if net.policy_table:
    write_json(paths.policies, net.policy_table)
  if net.calibrated != 'none':
    calibration.save(paths.statistics, net.statistics)
  if examples:
    images, labels = map(np.asarray, examples)
    np.savez_compressed(
        os.path.join(folder, _EXAMPLES), images=images, labels=labels
    )
  network = dataclasses.asdict(net.net)
  # What the device at hand suggests is decided where the bundle is loaded.
  network.pop('axis_name')
  if net.about.dtype_is_auto:
    network['dtype'] = 'auto'
  gates = None
  if net.gates:
    gates = dataclasses.asdict(net.gates)
    gates.pop('axis_name')
  files = sorted(os.listdir(folder))
  with open(os.path.join(folder, _CARD), 'w', encoding='utf-8') as file:
    file.write(_card(net, examples))
  values = {
      'format': _FORMAT,
      'version': _VERSION,
      'network': network,
      'gates': gates,
      'calibrated': net.calibrated,
      'about': dataclasses.asdict(net.about),
      'sha256': {name: digest(os.path.join(folder, name)) for name in files},
  }
  write_json(os.path.join(folder, _NETWORK), values)


def load(folder: str, *, backend: str) -> Supernet:
  """Loads a bundle.

  Args:
    folder: that `save` has written.
    backend: one of `network.BACKENDS`.

  Returns:
    The network.

  Raises:
    UsageError: a file is missing, damaged, or not of a bundle.
  """
  path = os.path.join(folder, _NETWORK)
  values = read_json(path)
  if values.get('format') != _FORMAT or values.get('version') != _VERSION:
    raise UsageError(
        f'{path} is of format {values.get("format")!r}, version '
        f'{values.get("version")!r}; expected {_FORMAT!r}, version {_VERSION}.'
    )
  try:
    digests = dict(values['sha256'])
    net, gates = _networks(values)
    about = About(**_tuples(values['about']))
    calibrated = values['calibrated']
  except (KeyError, TypeError, ValueError) as error:
    raise UsageError(
        f'{path} is damaged ({type(error).__name__}: {error}); expected what '
        'net.save wrote.'
    ) from error
  for name, expected in digests.items():
    file = os.path.join(folder, os.path.basename(name))
    if not os.path.exists(file):
      raise UsageError(f'{folder} lacks {name}; expected a whole bundle.')
    _check_digest(file, expected)
  paths = Paths(folder)
  return Supernet(
      net,
      gates,
      _read_weights(os.path.join(folder, _WEIGHTS), net, gates),
      subnets=subnet_table.read(folder),
      policy_table=(
          read_json(paths.policies) if os.path.exists(paths.policies) else {}
      ),
      calibrated=calibrated,
      statistics=(
          calibration.load(paths.statistics) if calibrated != 'none' else ()
      ),
      backend=backend,
      about=about,
  )


def examples(
    folder: str, count: int | None
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the examples in a bundle; see `load.examples`."""
  path = os.path.join(folder, _EXAMPLES)
  if not os.path.exists(path):
    raise UsageError(
        f'{folder} has no {_EXAMPLES}; expected a bundle that was saved with '
        'examples.'
    )
  digests = read_json(os.path.join(folder, _NETWORK)).get('sha256', {})
  _check_digest(path, digests.get(_EXAMPLES))
  with np.load(path) as found:
    images, labels = found['images'], found['labels']
  count = check_count(count, len(labels), folder)
  return images[:count], labels[:count]


def _networks(values: Mapping[str, Any]) -> tuple[ResNet, GateSet | None]:
  network = _tuples(values['network'])
  if network['dtype'] == 'auto':
    network['dtype'] = platforms.auto_dtype()
  gates = values['gates'] and GateSet(**_tuples(values['gates']))
  return ResNet(**network), gates


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
  """Returns JSON values as they were before they were JSON."""
  return {
      key: tuple(value) if isinstance(value, list) else value
      for key, value in values.items()
  }


def _read_weights(
    path: str, net: ResNet, gates: GateSet | None
) -> Variables:
  shapes = net.shapes()
  if gates:
    shapes = trees.merge(shapes, gates.shapes(net.anchor_shapes()))
  expected = {
      name: leaf.shape
      for name, leaf in traverse_util.flatten_dict(shapes, sep='/').items()
  }
  try:
    found = safetensors_numpy.load_file(path)
  except (safetensors.SafetensorError, OSError) as error:
    raise UsageError(
        f'{path} cannot be read ({error}); expected a safetensors file.'
    ) from error
  wrong = {
      name
      for name in expected.keys() | found.keys()
      if name not in found
      or name not in expected
      or found[name].shape != expected[name]
  }
  if wrong:
    raise UsageError(
        f'{path} does not fit {_NETWORK}: {some(sorted(wrong))} missing, too '
        'many or of another shape; expected the weights of that network.'
    )
  return traverse_util.unflatten_dict(found, sep='/')


def _check_digest(path: str, expected: str | None) -> None:
  if digest(path) != expected:
    raise UsageError(
        f'{path} is damaged: its SHA-256 is not the one in {_NETWORK}; '
        'expected the file that was saved. Copy the bundle again.'
    )


def _card(net: Supernet, examples: Examples | None) -> str:
  """Returns a model card."""
  tested = (
      f'\n`adaptanet_jax.examples` returns {len(examples[1]):,} of the test '
      'images.'
      if examples
      else ''
  )
  about = net.about
  rows = '\n'.join(
      f'| {name} | {100.0 * entry["top1"]:.2f} | {entry["madds"] / 1e6:,.2f} |'
      for name, entry in about.accuracies.items()
  )
  count = len(net.net.choices) ** 4
  trained, shape = about.trained, ' x '.join(map(str, net.net.image_shape))
  data = trained['dataset']
  return f"""# {about.name}

A network of {count:,} subnets: each of its four stages runs as one of
{', '.join(map(str, net.net.choices))}, chosen at run time.

    import adaptanet_jax

    net = adaptanet_jax.load('THIS_FOLDER')
    print(net.classify('picture.png', subnet='1.0-0.5-0.25-1.0'))

- Architecture: {net.net.architecture}, stem {net.net.stem}, norm {net.net.norm}
- Images: {shape}, {len(about.class_names)} classes
- Trained on: {data['name']}, {data['train_examples']:,} images
- By: configuration {trained['config']}, seed {trained['seed']}, commit
  {trained['git']}, on {trained['device']['kind']}

Accuracy on the test split, {data['test_examples']:,} images that nothing was
trained or chosen on:

| subnet | top-1, % | M MAdds |
|---|---|---|
{rows}

`subnets.csv` has all of them.{tested}

It was trained for research; how good it is on other images than those of the
data set is not known.
"""
