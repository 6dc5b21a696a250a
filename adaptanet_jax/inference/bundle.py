# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Bundles: a trained network as a portable folder.

Loading a bundle needs neither the workdir nor the training code. It has
`weights.safetensors`; `network.json`, which describes the network, the data
that it was trained on and its accuracy; `subnets.csv`, `policies.json` and
`statistics.npz` as in a workdir, if the run has them; `examples.npz`, some test
images, if they were given; and `README.md`, a model card. Kernels are stored as
the network runs them (`ResNet.fold`).
"""

from collections.abc import Mapping
import dataclasses
import os
import pathlib
from typing import Any

from flax import traverse_util
import numpy as np
import safetensors
from safetensors import numpy as safetensors_numpy

from adaptanet_jax import platforms, trees, versions
from adaptanet_jax.errors import UsageError, check_count
from adaptanet_jax.evaluation import (
  calibration as calibration_lib,
  subnet_table,
)
from adaptanet_jax.evaluation.calibration import CALIBRATIONS
from adaptanet_jax.inference.about import About
from adaptanet_jax.inference.network import Supernet
from adaptanet_jax.inference.pictures import as_array
from adaptanet_jax.models.gates import GATES, GateSet, gate_name
from adaptanet_jax.models.layers import BATCH_NORMS, MEANS, STDS
from adaptanet_jax.models.parts import Variables
from adaptanet_jax.models.resnet import ResNet
from adaptanet_jax.workdir import (
  Paths,
  digest,
  digests,
  new_folder,
  read_json,
  write_json,
)

_FORMAT = 'adaptanet_jax bundle'
_VERSION = 1
NETWORK = 'network.json'
_WEIGHTS, _CARD = 'weights.safetensors', 'README.md'
_EXAMPLES = 'examples.npz'
Examples = tuple[np.ndarray, np.ndarray]
_PACKAGES = ('jax', 'jaxlib', 'flax', 'numpy')
# Folder of the models that come with the package.
_PACKAGED = pathlib.Path(__file__).parent.parent / 'pretrained'


def packaged() -> dict[str, str]:
  """Returns the folders of the models that come with the package, by name."""
  return {
      path.parent.name: str(path.parent)
      for path in sorted(_PACKAGED.glob(f'*/{NETWORK}'))
  }


def is_bundle(path: str) -> bool:
  """Returns whether a folder is, or claims to be, a bundle."""
  return os.path.exists(os.path.join(path, NETWORK))


def save(
    net: Supernet, folder: str, examples: Examples | None = None
) -> None:
  """Writes a bundle.

  Args:
    net: a loaded network.
    folder: folder to write; must not exist yet, or be empty.
    examples: images `uint8[B, H, W, C]` and `int[B]` labels to include.

  Raises:
    UsageError: the folder is not empty, or the examples do not fit.
  """
  if examples is not None:
    if not isinstance(examples, tuple | list) or len(examples) != 2:
      raise UsageError(
          f'examples is a {type(examples).__name__}; expected a pair, images '
          'and labels.'
      )
    examples = _checked_examples(net, *examples)
  with new_folder(folder, index=NETWORK) as partial:
    _write(net, partial, examples)


def _checked_examples(net: Supernet, images: Any, labels: Any) -> Examples:
  images = net.check_shape(images)
  labels = np.asarray(as_array(labels))
  classes = len(net.about.class_names)
  if (
      labels.dtype.kind not in 'iu'
      or labels.shape != (len(images),)
      or not np.all((labels >= 0) & (labels < classes))
  ):
    raise UsageError(
        f'Labels of the examples are {labels.dtype}{list(labels.shape)}; '
        f'expected int[{len(images)}], each from 0 to {classes - 1}.'
    )
  return np.asarray(images), labels.astype(np.int32)


def _write(net: Supernet, folder: str, examples: Examples | None) -> None:
  # Keep only the gates that policies read.
  read = [gate_name(n) for n in net.gates.anchors] if net.gates else []
  weights = {
      name: np.ascontiguousarray(leaf)
      for name, leaf in trees.flat(net.variables).items()
      if f'/{GATES}/' not in name or name.split('/')[2] in read
  }
  # Not `save_file`, whose files only their owner may read.
  weights_file = pathlib.Path(folder, _WEIGHTS)
  weights_file.write_bytes(safetensors_numpy.save(weights))
  paths = Paths(folder)
  if net.subnets:
    subnet_table.write(folder, net.subnets)
  if net.policy_table:
    write_json(paths.policies, net.policy_table)
  if net.calibrated != 'none':
    calibration_lib.save(paths.statistics, net.statistics)
  if examples:
    np.savez_compressed(
        os.path.join(folder, _EXAMPLES), images=examples[0], labels=examples[1]
    )
  network = dataclasses.asdict(net.net)
  # Settings that depend on the device are decided when the bundle is loaded.
  network.pop('axis_name')
  if net.about.dtype_is_auto:
    network['dtype'] = 'auto'
  gates = None
  if net.gates:
    gates = dataclasses.asdict(net.gates)
    gates.pop('axis_name')
  sums = digests(folder)
  with open(os.path.join(folder, _CARD), 'w', encoding='utf-8') as file:
    file.write(_card(net, examples))
  values = {
      'format': _FORMAT,
      'version': _VERSION,
      'network': network,
      'gates': gates,
      'calibrated': net.calibrated,
      'about': dataclasses.asdict(net.about),
      'pixels': _pixels(net.net),
      'versions': versions.installed(_PACKAGES),
      'sha256': sums,
  }
  write_json(os.path.join(folder, NETWORK), values)


def _pixels(net: ResNet) -> dict[str, list[float]]:
  """Returns the mean and deviation that normalise pixels from 0 to 1."""
  colours = net.image_shape[-1]
  return {'mean': list(MEANS[colours]), 'deviation': list(STDS[colours])}


def load(
    folder: str, *, calibration: str | None = None, backend: str
) -> Supernet:
  """Loads a bundle.

  Args:
    folder: folder of the bundle, which `save` has written.
    calibration: see `load.load`.
    backend: one of `network.BACKENDS`.

  Returns:
    The network.

  Raises:
    UsageError: a file is missing, damaged or of another format, or there are no
      batch statistics for that calibration.
  """
  path = os.path.join(folder, NETWORK)
  values = read_json(path)
  if values.get('format') != _FORMAT or values.get('version') != _VERSION:
    raise UsageError(
        f'{path} is of format {values.get("format")!r}, version '
        f'{values.get("version")!r}; expected {_FORMAT!r}, version {_VERSION}.'
    )
  try:
    sums = dict(values['sha256'])
    net, gates = _networks(values)
    shapes = _shapes(net, gates)
    about = About(**_tuples(values['about']))
    saved = values['calibrated']
    _check_values(values, net, about)
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise UsageError(
        f'{path} is damaged ({type(error).__name__}: {error}); expected what '
        'net.save wrote.'
    ) from error
  _check_files(folder, sums, saved)
  calibration = _calibration(net, saved, calibration, folder)
  table = subnet_table.read(folder)
  if not calibration_lib.has_accuracies_of(calibration, saved):
    table = subnet_table.without_accuracies(table)
    about = dataclasses.replace(about, accuracies={})
  paths = Paths(folder)
  has_policies = os.path.exists(paths.policies)
  return Supernet(
      net,
      gates,
      _read_weights(os.path.join(folder, _WEIGHTS), shapes),
      subnets=table,
      policy_table=read_json(paths.policies) if has_policies else {},
      calibrated=calibration,
      statistics=(
          () if calibration == 'none'
          else calibration_lib.load(paths.statistics)
      ),
      backend=backend,
      about=about,
  )


def _check_values(
    values: Mapping[str, Any], net: ResNet, about: About
) -> None:
  """Raises ValueError if a description contradicts itself or this program."""
  if values['calibrated'] not in CALIBRATIONS:
    raise ValueError(f'calibrated is {values["calibrated"]!r}')
  if len(about.class_names) != net.num_classes:
    raise ValueError(
        f'{len(about.class_names)} names of {net.num_classes} classes'
    )
  # Older bundles have no `pixels`.
  if values.get('pixels', _pixels(net)) != _pixels(net):
    raise ValueError(f'pixels are {values["pixels"]}, here {_pixels(net)}')


def _check_files(folder: str, sums: Mapping[str, str], saved: str) -> None:
  """Raises UsageError unless all files to read are as they were saved."""
  paths = Paths(folder)
  needed = {_WEIGHTS, *sums}
  if saved != 'none':
    needed.add(os.path.basename(paths.statistics))
  may_be = {os.path.basename(p) for p in (paths.subnets, paths.policies)}
  for name in sorted(needed | may_be):
    file = os.path.join(folder, os.path.basename(name))
    if os.path.exists(file):
      _check_digest(file, sums.get(name))
    elif name in needed:
      raise UsageError(f'{folder} lacks {name}; expected a whole bundle.')


def _calibration(
    net: ResNet, saved: str, wanted: str | None, folder: str
) -> str:
  """Returns the calibration to run with; saved statistics suit all of them."""
  is_read = net.norm in BATCH_NORMS
  choices = ('none',) if is_read and saved == 'none' else CALIBRATIONS
  if wanted not in (None, *choices):
    having = f', for which {folder} has batch statistics' if is_read else ''
    raise UsageError(
        f'calibration = {wanted!r}; expected one of {", ".join(choices)}'
        f'{having}.'
    )
  return wanted if wanted and is_read else saved


def examples(
    folder: str, count: int | None
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the examples in a bundle; see `load.examples`."""
  path = os.path.join(folder, _EXAMPLES)
  if not os.path.exists(path):
    raise UsageError(
        f'{folder} has no {_EXAMPLES}; expected a model that was saved with '
        "examples, such as 'digits'."
    )
  sums = read_json(os.path.join(folder, NETWORK)).get('sha256')
  _check_digest(path, dict(sums or {}).get(_EXAMPLES))
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
  """Returns JSON values with the lists as tuples, as they were when saved."""
  return {
      key: tuple(value) if isinstance(value, list) else value
      for key, value in values.items()
  }


def _shapes(
    net: ResNet, gates: GateSet | None
) -> dict[str, tuple[int, ...]]:
  """Returns the shapes of all leaves by path."""
  shapes = net.shapes()
  if gates:
    shapes = trees.merge(shapes, gates.shapes(net.anchor_shapes))
  return trees.shapes(shapes)


def _read_weights(
    path: str, expected: Mapping[str, tuple[int, ...]]
) -> Variables:
  try:
    found = safetensors_numpy.load_file(path)
  except (safetensors.SafetensorError, OSError) as error:
    raise UsageError(
        f'{path} cannot be read ({error}); expected a safetensors file.'
    ) from error
  if problems := trees.mismatches(trees.shapes(found), expected):
    raise UsageError(
        f'{path} does not fit {NETWORK}: {"; ".join(problems)}. Expected the '
        'weights of that network.'
    )
  return traverse_util.unflatten_dict(found, sep='/')


def _check_digest(path: str, expected: str | None) -> None:
  if digest(path) != expected:
    raise UsageError(
        f'{path} is damaged: its SHA-256 is not the one in {NETWORK}; '
        'expected the file that was saved. Copy the bundle again.'
    )


def _card(net: Supernet, examples: Examples | None) -> str:
  """Returns the text of the model card."""
  count = net.net.num_subnets
  shape = ' x '.join(map(str, net.net.image_shape))
  return f"""# {net.about.name}

A network of {count:,} subnets: each of its four stages runs as one of
{', '.join(map(str, net.net.choices))}, chosen at run time.

    import adaptanet_jax

    net = adaptanet_jax.load('THIS_FOLDER')
    print(net.classify('picture.png', subnet='1.0-0.5-0.25-1.0'))

- Architecture: {net.net.architecture}, stem {net.net.stem}, norm {net.net.norm}
- Images: {shape}, {len(net.about.class_names)} classes
{_origin(net, examples)}
It was trained for research; how good it is on other images than those of the
data set is not known.
"""


def _origin(net: Supernet, examples: Examples | None) -> str:
  """Returns the model card's lines on data and accuracy; empty if unknown."""
  about, trained = net.about, net.about.trained
  if not trained:
    return ''
  data = trained['dataset']
  device = trained['device']
  if isinstance(device, dict):  # Older runs did not record it.
    device = device['kind']
  parts = [f"""- Trained on: {data['name']}, {data['train_examples']:,} images
- By: configuration {trained['config']}, seed {trained['seed']}, commit
  {trained['git']}, on {device}"""]
  more = []
  if about.accuracies:
    parts.append(f"""\
Accuracy on the test split, {data['test_examples']:,} images that the network
was not trained on, and its policies were not made from:""")
    table = ['| subnet | top-1, % | M MAdds |', '|---|---|---|']
    for name, entry in about.accuracies.items():
      top1, madds = 100.0 * entry['top1'], entry['madds'] / 1e6
      table.append(f'| {name} | {top1:.2f} | {madds:,.2f} |')
    parts.append('\n'.join(table))
    if 'top1' in net.subnets:
      more.append('`subnets.csv` has all of them.')
  if examples:
    more.append(
        f'`adaptanet_jax.examples` returns {len(examples[1]):,} of the test '
        'images.'
    )
  return '\n\n'.join([*parts, *(['\n'.join(more)] if more else [])]) + '\n'
