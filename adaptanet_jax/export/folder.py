# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Writes an exported network: its models, and what a runtime must know.

Formats:

  onnx       one model that takes its subnet with every batch
  static     one subnet alone, as a model without choices
  stages     a model for each choice of each stage, for runtimes without `If`
  stablehlo  one program of JAX, for CPUs, GPUs and TPUs, and its weights

Each folder has `export.json`, `subnets.csv`, `example.npz`, and `runtime.py`
with its modules, which runs the export. Activations are float32, whatever type
the network itself computes in.
"""

from collections.abc import Callable, Sequence
import contextlib
import dataclasses
import functools
import importlib.util
import os
import shutil
from typing import Any

import jax
import numpy as np
import tqdm

from adaptanet_jax import machine, trees, versions
from adaptanet_jax.data import images as images_lib
from adaptanet_jax.errors import UsageError, missing_package, some
from adaptanet_jax.evaluation import calibration, cost, subnet_table
from adaptanet_jax.export import (
  runtime,
  runtime_latency,
  runtime_models,
  stablehlo,
)
from adaptanet_jax.inference.network import Supernet
from adaptanet_jax.models.subnet import (
  LARGEST,
  StageChoice,
  Subnet,
  all_subnets,
)
from adaptanet_jax.workdir import digests, new_folder, write_json

FORMATS = ('onnx', 'stablehlo', 'stages', 'static')
MEMORIES = ('fast', 'small')
_PACKAGES = ('jax', 'jaxlib', 'onnx', 'onnxruntime', 'numpy')
# Modules that are copied to an export, by their file name there.
_MODULES = {
    'runtime.py': runtime,
    'runtime_latency.py': runtime_latency,
    'runtime_machine.py': machine,
    'runtime_models.py': runtime_models,
    'runtime_pictures.py': images_lib,
}
# Numbers of images and random subnets on which an export is compared with JAX,
# and how far its logits may be from JAX's, as a share of the largest.
_NUM_IMAGES, _NUM_RANDOM, _TOLERANCE = 4, 16, 1e-4
_NUM_EXAMPLES = 2


def export(
    net: Supernet,
    folder: str,
    *,
    format: str = 'onnx',
    memory: str = 'fast',
    subnets: Sequence[str | Subnet] | None = None,
    policies: bool = True,
    verify: bool = True,
) -> None:
  """Writes a network for other runtimes.

  Args:
    net: a loaded network.
    folder: folder to write; must not exist yet, or be empty.
    format: one of `FORMATS`.
    memory: for format onnx: 'fast', or 'small', which takes less memory and
      more time; docs/export.md has figures.
    subnets: subnets that the export can run; it holds only the weights that
      these read. None: all, or for format static, which has one, the largest.
      Not for format stablehlo, whose one program runs all of them.
    policies: whether to include gates and policies: only in format onnx, from a
      network that has them and no calibration, if `subnets` is None.
    verify: whether to compare the export with JAX before the folder appears.

  Raises:
    UsageError: the folder is not empty, an option is not valid, the
      network cannot be exported that way, or the export and JAX disagree.
  """
  _check(format, memory)
  net = _in_float32(net)
  chosen = _chosen(net, format, subnets)
  routes = bool(
      format == 'onnx' and policies and subnets is None and net.policies
      and net.gates and net.calibrated == 'none'
  )
  written = new_folder(folder, index=runtime_models.INDEX)
  with written as partial, _precision(format):
    more = _write_models(net, chosen, partial, format, memory, routes)
    for name, module in _MODULES.items():
      shutil.copyfile(str(module.__file__), os.path.join(partial, name))
    table = net.subnets or {
        'madds': cost.cost_table(net.net).madds_by_subnet()
    }
    subnet_table.write(partial, table, chosen)
    _write_example(net, chosen, partial)
    values = {
        **_about(net),
        'kind': format,
        'policies': net.policies if routes else [],
        'memory': memory if format == 'onnx' else None,
        **more,
        'verified': None,
        'sha256': digests(partial),
    }
    path = os.path.join(partial, runtime_models.INDEX)
    write_json(path, values)
    if verify:
      write_json(path, values | {'verified': _verify(net, chosen, partial)})


def _about(net: Supernet) -> dict[str, Any]:
  """Returns what a runtime must know about any network."""
  return {
      'format': runtime_models.FORMAT,
      'version': runtime_models.VERSION,
      'name': net.about.name,
      'image_shape': net.net.image_shape,
      'shorter_side': net.about.shorter_side,
      'class_names': net.about.class_names,
      'network': dataclasses.asdict(net.net),
      'versions': versions.installed(_PACKAGES),
  }


def _check(format: str, memory: str) -> None:
  for what, value, choices in (
      ('format', format, FORMATS), ('memory', memory, MEMORIES)
  ):
    if value not in choices:
      raise UsageError(
          f'Unknown {what} {value!r}; expected one of {", ".join(choices)}.'
      )
  needed = () if format == 'stablehlo' else ('onnx', 'onnxruntime')
  for package in needed:
    if importlib.util.find_spec(package) is None:
      raise missing_package(package, 'export')


def _in_float32(net: Supernet) -> Supernet:
  return dataclasses.replace(
      net,
      net=dataclasses.replace(net.net, dtype='float32', axis_name=None),
      # This back end compiles only the branches that run, each a few times.
      backend='stages',
      fast_compile=True,
  )


def _precision(format: str) -> contextlib.AbstractContextManager[Any]:
  """Sets the precision of JAX's products to that of the written models.

  Accelerators round the operands of products by default, to TF32 or bfloat16. A
  program of JAX then does so in other hands as well; other runtimes do not.
  """
  if format == 'stablehlo':
    return contextlib.nullcontext()
  return jax.default_matmul_precision('float32')


def _chosen(
    net: Supernet, format: str, subnets: Sequence[str | Subnet] | None
) -> list[Subnet]:
  """Returns the subnets of an export, each once."""
  if subnets is not None:
    names = _listed(subnets)
    if format == 'stablehlo':
      raise UsageError(
          f'{len(names)} subnets with format stablehlo, whose one program is '
          'that of all; expected no subnets, or another format.'
      )
    chosen = [net.parse(name) for name in names]
  elif format == 'static':
    chosen = [LARGEST]
  elif net.calibrated == 'uniform':
    chosen = list(net.net.uniform)
  else:
    chosen = list(all_subnets(net.net.choices))
  if format == 'static' and len(chosen) > 1:
    raise UsageError(
        f'{len(chosen)} subnets, and format static has one; expected one, or '
        "format='onnx'."
    )
  mixed = [str(s) for s in chosen if not s.is_uniform]
  if net.calibrated == 'uniform' and mixed:
    raise UsageError(
        f'The batch statistics of {some(mixed)} were not calibrated, only '
        'those of subnets that run all stages alike; expected these alone, or '
        "a network that was loaded with calibration='none' or 'subnet'."
    )
  if net.calibrated == 'subnet' and len(chosen) > 1:
    raise UsageError(
        'Every subnet of this network has batch statistics of its own, and '
        f'{len(chosen):,} are to share one export; expected one subnet '
        '(format stablehlo takes none), or a network that was loaded with '
        "calibration='none' or 'uniform'."
    )
  return chosen


def _listed(subnets: Any) -> list[str]:
  """Returns the names of the subnets that a user gave, each once."""
  try:
    names = list(dict.fromkeys(map(str, subnets)))
  except TypeError:
    names = []
  if isinstance(subnets, str) or not names:
    raise UsageError(
        f'subnets = {subnets!r}; expected a list of at least one subnet, or '
        'None for all.'
    )
  return names


def _statistics(
    net: Supernet, chosen: Sequence[Subnet]
) -> Callable[[StageChoice], dict[str, Any]]:
  """Returns a function from a choice to its batch statistics, of all stages."""

  @functools.cache
  def of(choice: StageChoice) -> dict[str, Any]:
    variables = net.variables
    if net.calibrated != 'none':
      # The statistics of the one subnet with this choice: see `_chosen`.
      (subnet,) = chosen if net.calibrated == 'subnet' else (
          net.net.uniform[choice.index],
      )
      found = calibration.of_subnet(net.statistics, subnet, net.calibrated)
      variables = trees.merge(variables, found)
    return trees.flat(variables.get('batch_stats', {}))

  return of


def _write_models(
    net: Supernet,
    chosen: Sequence[Subnet],
    folder: str,
    format: str,
    memory: str,
    routes: bool,
) -> dict[str, Any]:
  """Writes the models; returns what else a runtime must know about them."""
  statistics = _statistics(net, chosen)
  if format == 'stablehlo':
    own = {}
    if net.calibrated != 'none':
      own = {str(s.stages[0]): statistics(s.stages[0]) for s in chosen}
    return stablehlo.write(net.net, net.variables, own, folder)
  # Imported late, because format stablehlo works without ONNX.
  from adaptanet_jax.export import onnx_files

  onnx_files.write(
      net, statistics, chosen, folder, kind=format, memory=memory,
      routes=routes,
  )
  return {}


def _images(net: Supernet) -> np.ndarray:
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (_NUM_IMAGES, *net.net.image_shape), np.uint8)


def _write_example(
    net: Supernet, chosen: Sequence[Subnet], folder: str
) -> None:
  images = _images(net)
  steps = np.linspace(0, len(chosen) - 1, min(_NUM_EXAMPLES, len(chosen)))
  examples = [chosen[int(n)] for n in steps]
  np.savez(
      os.path.join(folder, 'example.npz'),
      images=images,
      subnets=[str(subnet) for subnet in examples],
      logits=np.stack([np.asarray(net(images, s)) for s in examples]),
  )


def tried(chosen: Sequence[Subnet]) -> list[Subnet]:
  """Returns subnets that cover every choice of each stage, and random ones."""
  order = [chosen[n] for n in np.random.default_rng(0).permutation(len(chosen))]
  needed = {part for subnet in chosen for part in enumerate(subnet.stages)}
  found: list[Subnet] = []
  rest: list[Subnet] = []
  for subnet in order:
    news = needed & set(enumerate(subnet.stages))
    (found if news else rest).append(subnet)
    needed -= news
  return found + rest[:_NUM_RANDOM]


def _verify(
    net: Supernet, chosen: Sequence[Subnet], folder: str
) -> dict[str, Any]:
  """Compares an export with JAX; raises UsageError if they differ."""
  exported = runtime.load(folder)
  images = _images(net)
  subnets = tried(chosen)
  worst = 0.0
  # Compiling takes most of an export's time. Only a terminal shows the bars.
  bar = functools.partial(
      tqdm.tqdm, desc='tried against JAX', unit_scale=True, disable=None
  )
  for subnet in bar(subnets, unit='subnet'):
    expected = np.asarray(net(images, subnet))
    found = exported(images, str(subnet))
    apart = runtime.difference(found, expected)
    worst = max(worst, apart)
    if not apart <= _TOLERANCE:
      raise UsageError(
          f'The logits of {subnet} in the export differ from those of JAX by '
          f'{apart:.1e} of the largest; expected at most {_TOLERANCE:.0e}. '
          'Nothing was written; is this version of the runtime at fault?'
      )
  for policy in bar(exported.policies, unit='policy'):
    _, routed = exported.route(images, policy)
    _, expected_subnets = net.route(images, policy)
    if routed != [str(subnet) for subnet in expected_subnets]:
      raise UsageError(
          f'The export routes images by {policy} to {some(routed)}, and JAX '
          f'to {some([str(s) for s in expected_subnets])}; expected the same. '
          'Nothing was written.'
      )
  return {
      'subnets': len(subnets),
      'images': len(images),
      'largest_difference': worst,
  }
