# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checks of a configuration, all made before the first compile."""

from collections.abc import Mapping, Sequence
import math
from typing import Any

from flax import traverse_util
import ml_collections
import numpy as np

from adaptanet_jax.data import sources
from adaptanet_jax.data.augment import AUGMENTATIONS
from adaptanet_jax.data.images import ON_HOST
from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation.calibration import CALIBRATIONS
from adaptanet_jax.models import delta
from adaptanet_jax.models.architectures import ARCHITECTURES
from adaptanet_jax.models.gates import CONFIDENCES
from adaptanet_jax.models.layers import BATCH_NORMS, NORMS, STEMS
from adaptanet_jax.models.resnet import stage_numbers
from adaptanet_jax.models.routing import ROUTING_GATES
from adaptanet_jax.models.subnet import NUM_STAGES, WIDTHS
from adaptanet_jax.training.baseline_methods import ENSEMBLES, METHODS
from adaptanet_jax.training.losses import DIVERGENCES
from adaptanet_jax.training.phases import (
  SECTIONS,
  dependencies,
  group_of,
  sections_of,
)

_CASCADES = tuple(name for name in SECTIONS if name.endswith('cascade'))

# What a run can do after training, in order.
_AFTER_TRAINING = ('evaluation', 'policies', 'latency', 'report')
_AFTER_BASELINE = ('evaluation', 'report')

# More are surely a mistake, and step numbers would not fit 32 bits.
_MOST_EPOCHS = 1_000_000

_SOFT_WEIGHTS = {
    f'{name}.soft_weight': 0.0
    for name, section in SECTIONS.items()
    if section.loss == 'anchors'
}
# What a run did that is older than one of these settings.
_ABSENT = {
    'data.damaged': 'refuse',
    'data.held_out': 0.0,
    'data.shorter_side': 0,
    'data.workers': 0,
    'model.sort_channels': False,
    'teacher.weights': '',
    'joint.epochs': 0.0,
    'baseline.network': '',
    'mdsr.soft_epochs': 0.0,
    'policies.confidence': 'variance',
    'policies.examples': 'training',
}

# Settings with a fixed set of values.
ALLOWED: Mapping[str, tuple[Any, ...]] = {
    'compute_dtype': ('auto', 'float32', 'bfloat16'),
    'data.augment': AUGMENTATIONS,
    'data.damaged': ('refuse', 'skip'),
    'model.architecture': tuple(ARCHITECTURES),
    'model.stem': tuple(STEMS),
    # Smaller widths would cut through the groups of gn32.
    'model.norm': tuple(norm for norm in NORMS if norm != 'gn32'),
    # A teacher has one width, so it needs no norm with parts for each width.
    'teacher.norm': tuple(
        norm
        for norm, kind in NORMS.items()
        if not (kind.own_affine or kind.own_statistics)
    ),
    'delta.kind': tuple(delta.KINDS),
    'gates.divergence': DIVERGENCES,
    'policies.confidence': CONFIDENCES,
    'policies.examples': ('held_out', 'training'),
    'policies.start': WIDTHS,
    'baseline.network': ('', *METHODS),
    'evaluation.calibration': CALIBRATIONS,
    'baseline.ensemble': ENSEMBLES,
} | {
    f'{cascade}.input': ('student', 'teacher') for cascade in _CASCADES
} | {
    f'{section}.{key}': choices
    for section in SECTIONS
    for key, choices in {
        'optimizer': ('adam', 'sgd'),
        'schedule': ('constant', 'cosine', 'step'),
    }.items()
}

# Lowest and highest value of settings that are numbers, both inclusive.
RANGES: Mapping[str, tuple[float, float]] = {
    'seed': (0, 2**31 - 1),
    'log_every_steps': (1, float('inf')),
    'data.image_size': (0, float('inf')),
    'data.shorter_side': (0, float('inf')),
    'data.workers': (0, float('inf')),
    'data.train_examples': (0, float('inf')),
    'data.test_examples': (0, float('inf')),
    'data.held_out': (0, 0.9),
    'data.fake_classes': (2, float('inf')),
    'teacher.label_smoothing': (0, 1),
    'baseline.label_smoothing': (0, 1),
    'baseline.average_decay': (0, 1),
    'mdsr.num_random': (1, float('inf')),
    'mdsr.teacher_weight': (0, 1),
    'mdsr.soft_epochs': (0, float('inf')),
    'gates.resolution': (1, float('inf')),
    'evaluation.random_passes': (1, float('inf')),
    'evaluation.calibration_examples': (1, float('inf')),
    # A policy has a choice for each path of bins through three gates: 64 ** 3.
    'policies.bins': (1, 64),
    'policies.training_share': (0, 1),
    'policies.budget': (0, 1),
    'latency.batch_size': (1, float('inf')),
    'latency.runs': (1, float('inf')),
    'checkpoint.every_steps': (1, float('inf')),
    'checkpoint.keep': (1, float('inf')),
} | {
    f'{section}.{key}': (0, float('inf'))
    for section in SECTIONS
    for key in ('learning_rate', 'warmup_epochs', 'momentum', 'weight_decay')
} | {
    f'{section}.batch_size': (1, float('inf'))
    for section in (*SECTIONS, 'evaluation')
} | dict.fromkeys(_SOFT_WEIGHTS, (0, 1))


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the settings by dotted key; tuples become lists, as in JSON."""
  nested = ml_collections.ConfigDict(config).to_dict()
  return {
      key: list(value) if isinstance(value, tuple) else value
      for key, value in traverse_util.flatten_dict(nested, sep='.').items()
  }


def selected_groups(config: ml_collections.ConfigDict) -> tuple[str, ...]:
  """Returns the groups of phases to run, in order.

  Raises:
    UsageError: `config.phases` names an unknown one.
  """
  after = _AFTER_BASELINE if config.baseline.network else _AFTER_TRAINING
  groups = (*dict.fromkeys(map(group_of, sections_of(config))), *after)
  if config.phases == 'all':
    return groups
  names = [name.strip() for name in config.phases.split(',')]
  unknown = [name for name in names if name not in groups]
  if unknown:
    off = unknown[0] == 'joint' and 'lock_in' in groups
    raise UsageError(
        f'Unknown phase {unknown[0]!r} in --config.phases={config.phases}; '
        f'expected "all", or some of {", ".join(groups)}, comma-separated'
        + ('; joint needs config.joint.epochs above 0.' if off else '.')
    )
  return tuple(group for group in groups if group in names)


def check(config: ml_collections.ConfigDict) -> None:
  """Raises UsageError for the first setting that is not valid."""
  values = flatten(config)
  for key in (*ALLOWED, *RANGES):
    if key not in values:
      raise UsageError(
          f'The configuration has no setting {key!r}; expected all of '
          'configs/common.py.'
      )
  for key, value in values.items():
    if value is None:
      raise UsageError(f'config.{key} = None; expected a value.')
  groups = selected_groups(config)
  for key, choices in ALLOWED.items():
    if values[key] not in choices:
      raise UsageError(
          f'config.{key} = {values[key]!r}; expected one of '
          f'{", ".join(str(choice) or "nothing" for choice in choices)}.'
      )
  for key, (low, high) in RANGES.items():
    if not (low <= values[key] <= high and math.isfinite(values[key])):
      span = f'from {low} to {high}'
      if math.isinf(high):
        span = f'of at least {low}'
      raise UsageError(
          f'config.{key} = {values[key]!r}; expected a number {span}.'
      )
  on_host = config.data.augment in ON_HOST
  if on_host and config.data.name in sources.WITHOUT_FILES:
    raise UsageError(
        f'config.data.augment = {config.data.augment} does not suit '
        f'{config.data.name}, which are not files to decode; expected none, '
        'crop or crop_flip.'
    )
  if 0 < config.data.shorter_side < config.data.image_size:
    raise UsageError(
        f'config.data.shorter_side = {config.data.shorter_side}; expected 0 or '
        f'at least config.data.image_size = {config.data.image_size}.'
    )
  if config.mdsr.soft_epochs and not any(map(values.get, _SOFT_WEIGHTS)):
    raise UsageError(
        f'config.mdsr.soft_epochs = {config.mdsr.soft_epochs}, but no phase '
        f'has a soft loss; expected 0, or one of {", ".join(_SOFT_WEIGHTS)} '
        'above 0.'
    )
  _check_gates(config, groups)
  network = config.baseline.network
  if network and METHODS[network].moving_average and config.model.norm == 'bn':
    raise UsageError(
        f'config.model.norm = bn does not suit {network}: its moving average '
        'would teach with one set of batch statistics for all widths; expected '
        'bn_private, bn_switchable, gn, gn_ws or ln.'
    )
  check_reads_anchors(config, [g for g in ('gates', 'policies') if g in groups])
  for section in sections_of(config):
    epochs = values[f'{section}.epochs']
    imported = section == 'teacher' and config.teacher.weights
    if epochs or not imported:  # Imported weights need no training.
      _check_epochs(f'{section}.epochs', epochs)
      _check_warmup(section, values)


def _check_gates(
    config: ml_collections.ConfigDict, groups: tuple[str, ...]
) -> None:
  """Raises UsageError if gates or policies lack what they are made from."""
  anchors = list(config.gates.anchors)
  # Types must match, too: checkpoints and other settings use integers.
  allowed = [n for n in stage_numbers() if n in anchors]
  if not anchors or list(map(repr, anchors)) != list(map(repr, allowed)):
    raise UsageError(
        f'config.gates.anchors = {tuple(anchors)}; expected some of '
        f'{", ".join(map(str, stage_numbers()))}, in order.'
    )
  if 'policies' in groups and not set(ROUTING_GATES) <= set(anchors):
    raise UsageError(
        f'config.gates.anchors = {tuple(anchors)} leaves out a gate that '
        f'policies read; expected {ROUTING_GATES} among them, or '
        '--config.phases without policies.'
    )
  if (
      {'gates', 'policies'} & {*groups}
      and config.policies.examples == 'held_out'
      and not config.data.held_out
  ):
    raise UsageError(
        'config.data.held_out = 0 leaves no images to make policies from; '
        'expected more, --config.policies.examples=training, or '
        '--config.phases without gates and policies.'
    )


def check_reads_anchors(
    config: ml_collections.ConfigDict, reading: Sequence[str]
) -> None:
  """Raises UsageError if gates would read anchors of uncalibrated subnets.

  Args:
    config: the whole configuration.
    reading: names of the selected phases in which gates read anchors.
  """
  if (
      reading
      and config.model.norm in BATCH_NORMS
      and config.evaluation.calibration != 'none'
  ):
    raise UsageError(
        f'Phase {reading[0]!r} runs subnets of a network with '
        f'config.model.norm = {config.model.norm} whose batch statistics were '
        'never calibrated; expected gn, gn_ws or ln, --config.phases without '
        f'{" and ".join(reading)}, or, to take the statistics of training, '
        '--config.evaluation.calibration=none.'
    )


def _check_epochs(key: str, value: Any) -> None:
  numbers = [value]
  if key.removesuffix('.epochs') in _CASCADES:
    numbers = value
    if len(numbers) != NUM_STAGES or not all(map(_is_number, numbers)):
      raise UsageError(
          f'config.{key} = {tuple(numbers)}; expected {NUM_STAGES} numbers, '
          'one for each module.'
      )
  if not all(0 < number <= _MOST_EPOCHS for number in numbers):
    raise UsageError(
        f'config.{key} = {value!r}; expected more than 0, and at most '
        f'{_MOST_EPOCHS:,}.'
    )


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)


def _check_warmup(section: str, values: Mapping[str, Any]) -> None:
  key = f'{section}.warmup_epochs'
  epochs = min(np.atleast_1d(values[f'{section}.epochs']))
  if values[key] and values[key] >= epochs:
    raise UsageError(
        f'config.{key} = {values[key]}; expected less than the {epochs} epochs '
        'of the phase.'
    )


def differing(
    old: Mapping[str, Any], new: Mapping[str, Any], *, up_to: str = ''
) -> dict[str, tuple[Any, Any]]:
  """Returns the settings that influence training and differ.

  Args:
    old: one configuration.
    new: another one.
    up_to: section of the last phase to compare; settings of later phases are
      ignored. Empty: all phases, and the name of the configuration.

  Returns:
    The old and the new value of each setting that differs, by dotted key.
  """
  decisive: tuple[str, ...] = () if up_to else ('name',)
  old, new = completed(old), completed(new)
  for config in (old, new):
    decisive += dependencies(config, up_to)
  old, new = flatten(old), flatten(new)
  return {
      key: (old.get(key), new.get(key))
      for key in sorted(old.keys() | new.keys())
      if key.startswith(decisive) and old.get(key) != new.get(key)
  }


def completed(config: Mapping[str, Any]) -> ml_collections.ConfigDict:
  """Returns a run's configuration with the settings that it is older than.

  What another program wrote as a single value, and a run as a section, is left
  out.
  """
  added = _ABSENT | _SOFT_WEIGHTS
  flat = {
      key: value
      for key, value in flatten(config).items()
      if not any(other.startswith(f'{key}.') for other in added)
  }
  # Before there were weights, epochs alone chose another soft cross-entropy.
  flat = (_ABSENT if flat.get('mdsr.soft_epochs') else added) | flat
  return ml_collections.ConfigDict(traverse_util.unflatten_dict(flat, sep='.'))


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], *, up_to: str = ''
) -> list[str]:
  """Lists `key: old value -> new value`; see `differing`."""
  return [
      f'{key}: {before!r} -> {after!r}'
      for key, (before, after) in differing(old, new, up_to=up_to).items()
  ]
