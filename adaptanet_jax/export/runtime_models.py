# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The files of an exported folder; a part of runtime.py, in the same folder.

A model runs a batch of images under four codes, one for each stage, and reports
what affects its times.
"""

from __future__ import annotations  # Devices have older Pythons.

import hashlib
import importlib
import json
import os
from typing import Any

import numpy as np

FORMAT, VERSION = 'adaptanet_jax export', 1
# The file that makes a folder an export.
INDEX = 'export.json'
_KEYS = (
    *('kind', 'image_shape', 'shorter_side', 'class_names', 'policies'),
    *('versions', 'sha256'),
)
NUM_STAGES = 4
# The choices of a stage in the order of their codes: widths, then widths of its
# delta.
CHOICES = ('1.0', '0.75', '0.5', '0.25', '1.0d', '0.75d', '0.5d', '0.25d')


def codes_of(subnet: str) -> tuple[int, ...]:
  """Returns the codes of a subnet's stages."""
  return tuple(CHOICES.index(choice) for choice in subnet.split('-'))


def full_name(subnet: str) -> str:
  """Writes `x0.5` out as `0.5-0.5-0.5-0.5`; other names stay as they are."""
  if not subnet.startswith('x'):
    return subnet
  return '-'.join([subnet[1:]] * NUM_STAGES)


def name_of(codes: Any) -> str:
  """Returns the name of the subnet with these four codes."""
  return '-'.join(CHOICES[code] for code in codes)


def find_module(name: str, package: str) -> Any:
  """Imports a module that may not be installed.

  Args:
    name: name of the module.
    package: package that provides the module.

  Raises:
    ValueError: the module cannot be imported.
  """
  try:
    return importlib.import_module(name)
  except ImportError as error:
    raise ValueError(
        f'{package} cannot be imported ({error}); expected it to be installed, '
        f'as by `pip install --upgrade {package}`.'
    ) from error


class Onnx:
  """One model that takes its subnet with every batch, or that is one subnet."""

  FILES = ('model.onnx',)

  def __init__(self, folder: str, about: Any, options: Any) -> None:
    self._session = _session(os.path.join(folder, self.FILES[0]), options)
    self._inputs = {tensor.name for tensor in self._session.get_inputs()}
    self.surroundings = _surroundings(self._session)
    del about

  def __call__(self, images: Any, codes: Any) -> np.ndarray:
    return self._infer(images, codes, -1)[0]

  def route(self, image: Any, policy: int) -> Any:
    """Runs a policy, by its number; returns logits and codes of one image."""
    logits, codes, *again = self._infer(image, (0,) * NUM_STAGES, policy)
    # Older exports know no second look.
    if again and again[0][0] >= 0:
      codes = again[0]
      logits = self(image, codes)
    return logits, codes

  def _infer(self, images: Any, codes: Any, policy: int) -> Any:
    feed = {
        'images': images,
        'choices': np.array(codes, np.int64),
        'policy': np.array([policy], np.int64),
    }
    return self._session.run(
        None, {name: feed[name] for name in self._inputs}
    )


class Stages:
  """A model for each choice of each stage, loaded when it is first used."""

  FILES = ('head.onnx',)

  def __init__(self, folder: str, about: Any, options: Any) -> None:
    self._folder, self._options = folder, options
    self._sessions: dict[str, Any] = {}
    self.surroundings = _surroundings(self._loaded('head'))
    del about

  def __call__(self, images: Any, codes: Any) -> np.ndarray:
    x = images
    for n, code in enumerate(codes, start=1):
      x = self._infer(f'stage{n}_{CHOICES[code]}', x)
    return self._infer('head', x)

  def _infer(self, name: str, x: Any) -> Any:
    session = self._loaded(name)
    return session.run(None, {session.get_inputs()[0].name: x})[0]

  def _loaded(self, name: str) -> Any:
    if name not in self._sessions:
      path = os.path.join(self._folder, f'{name}.onnx')
      self._sessions[name] = _session(path, self._options)
    return self._sessions[name]


def _session(path: str, options: Any) -> Any:
  onnxruntime = find_module('onnxruntime', 'onnxruntime')
  options = {'providers': ['CPUExecutionProvider'], **options}
  try:
    return onnxruntime.InferenceSession(path, **options)
  except Exception as error:  # Its errors share no base class.
    what = (str(error).splitlines() or [type(error).__name__])[0]
    raise ValueError(
        f'{path} cannot be loaded ({what}); expected options that ONNX Runtime '
        f'{onnxruntime.__version__} takes, and what it can run.'
    ) from error


def _surroundings(session: Any) -> dict[str, str]:
  options = session.get_session_options()
  threads = options.intra_op_num_threads, options.inter_op_num_threads
  try:
    spinning = options.get_session_config_entry(
        'session.intra_op.allow_spinning'
    )
  except Exception:  # Such as RuntimeError, if nobody set it.
    spinning = 'default'
  return {
      'runtime': f'onnxruntime {find_module("onnxruntime", "").__version__}',
      'providers': ', '.join(session.get_providers()),
      'threads': ', '.join(map(str, threads)),
      'spinning': spinning,
  }


class StableHlo:
  """One program, compiled for each batch size."""

  FILES = ('model.jax', 'weights.npz')

  def __init__(self, folder: str, about: Any, options: Any) -> None:
    jax, export = (find_module(n, 'jax') for n in ('jax', 'jax.export'))
    if options:
      raise ValueError(
          f'{", ".join(options)} with format stablehlo; expected no options, '
          'which are those of onnxruntime.'
      )
    program_file, weights_file = (
        os.path.join(folder, name) for name in self.FILES
    )
    with open(program_file, 'rb') as file:
      program = export.deserialize(bytearray(file.read()))
    # With the exporter's compiler and options, results are equal to the bit.
    known = about['versions']['jaxlib'] == jax.lib.__version__
    on_cpu = known and jax.default_backend() == 'cpu'
    self.surroundings = {
        'runtime': f'jax {jax.__version__}',
        'providers': jax.devices()[0].device_kind,
        'threads': '',
    }
    self._jitted = jax.jit(
        program.call,
        compiler_options=about['compiler_options'] if on_cpu else None,
    )
    self._weights: dict[str, Any] = {}
    self._statistics: dict[str, dict[str, Any]] = {}
    with np.load(weights_file) as arrays:
      for name, array in arrays.items():
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


# Classes by the kind of an export.
KINDS: dict[str, Any] = {
    'onnx': Onnx, 'static': Onnx, 'stages': Stages, 'stablehlo': StableHlo
}


def is_export(folder: str) -> bool:
  """Returns whether a folder is an exported network."""
  return os.path.exists(os.path.join(folder, INDEX))


def read_about(folder: str) -> dict[str, Any]:
  """Reads `export.json`, and checks the files that it lists.

  Raises:
    ValueError: a file is missing, damaged or of another format.
  """
  path = os.path.join(folder, INDEX)
  if not is_export(folder):
    raise ValueError(f'There is no {path}; expected an exported network.')
  try:
    with open(path, encoding='utf-8') as file:
      about = dict(json.load(file))
    found = about.get('format'), about.get('version')
    if found == (FORMAT, VERSION):
      about['sha256'] = dict(about['sha256'])
      missing = [key for key in _KEYS if key not in about]
      if missing:
        raise ValueError(f'it lacks {", ".join(missing)}')
  except (ValueError, TypeError, KeyError) as error:
    raise ValueError(
        f'{path} is damaged ({error}); expected what was exported. Copy the '
        'folder again.'
    ) from error
  if found != (FORMAT, VERSION):
    raise ValueError(
        f'{path} is of format {found[0]!r}, version {found[1]!r}; expected '
        f'{FORMAT!r}, version {VERSION}.'
    )
  if about['kind'] not in KINDS:
    raise ValueError(
        f'{path} is of kind {about["kind"]!r}; expected one of '
        f'{", ".join(KINDS)}.'
    )
  _check_files(folder, about['sha256'], KINDS[about['kind']].FILES)
  return about


def _check_files(
    folder: str, digests: dict[str, str], needed: tuple[str, ...]
) -> None:
  """Raises ValueError if a file is missing or not as it was exported."""
  for name in sorted({*digests, *needed, 'subnets.csv', 'example.npz'}):
    path = os.path.join(folder, os.path.basename(name))
    if not os.path.exists(path):
      raise ValueError(
          f'{folder} lacks {name}; expected a whole folder. Copy it again.'
      )
    if digest(path) != digests.get(name):
      raise ValueError(
          f'{path} is damaged: its SHA-256 is not the one in export.json; '
          'expected the file that was exported. Copy the folder again.'
      )


def digest(path: str) -> str:
  """Returns the SHA-256 of a file."""
  found = hashlib.sha256()
  with open(path, 'rb') as file:
    while part := file.read(2**20):
      found.update(part)
  return found.hexdigest()
