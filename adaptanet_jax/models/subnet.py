# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Names of sub-networks: how wide and how deep each stage runs (Sec. III-A).

A supernet has four stages. Each runs at one of four widths `rho`, with its own
blocks or with its delta substitute, independently of the others. Everything
here is frozen and hashable, so it can be a static argument of a traced
function.
"""

from collections.abc import Sequence
import dataclasses
import itertools

import numpy as np

from adaptanet_jax.errors import UsageError

WIDTHS = (1.0, 0.75, 0.5, 0.25)
NUM_STAGES = 4


@dataclasses.dataclass(frozen=True)
class WidthMask:
  """The leading `active` of `total` channels.

  Attributes:
    active: number of channels that are computed.
    total: number of channels at full width.
  """

  active: int
  total: int

  def __post_init__(self) -> None:
    if not 0 < self.active <= self.total:
      raise ValueError(
          f'A width mask needs 0 < active <= total, got {self.active} of '
          f'{self.total}.'
      )

  @classmethod
  def full(cls, total: int) -> 'WidthMask':
    """Returns the mask that keeps every channel."""
    return cls(total, total)

  @classmethod
  def at(cls, rho: float, total: int) -> 'WidthMask':
    """Returns the mask of width `rho`; raises if that is not a whole number."""
    active = rho * total
    if active != int(active):
      raise ValueError(
          f'Width {rho} of {total} channels is {active}, not a whole number of '
          'channels; expected a multiple of 4 channels.'
      )
    return cls(int(active), total)


@dataclasses.dataclass(frozen=True)
class StageChoice:
  """How one stage runs.

  Attributes:
    rho: its width, one of `WIDTHS`.
    delta: whether its delta substitute stands in for its non-anchor blocks.
  """

  rho: float = 1.0
  delta: bool = False

  def __post_init__(self) -> None:
    if self.rho not in WIDTHS:
      raise UsageError(f'Unknown width {self.rho!r}; expected one of {WIDTHS}.')
    # The number 1 is the same width, and gets the same name.
    object.__setattr__(self, 'rho', float(self.rho))

  def __str__(self) -> str:
    return f'{self.rho}{"d" * self.delta}'

  @property
  def index(self) -> int:
    """Position among the branches of the stage's switch."""
    return WIDTHS.index(self.rho) + len(WIDTHS) * self.delta


# In the order of the switch: the four widths, then the four delta widths.
CHOICES = tuple(
    StageChoice(rho, delta) for delta in (False, True) for rho in WIDTHS
)
WIDTH_CHOICES, DELTA_CHOICES = CHOICES[: len(WIDTHS)], CHOICES[len(WIDTHS) :]


@dataclasses.dataclass(frozen=True)
class Subnet:
  """One sub-network: a choice for each of the four stages."""

  stages: tuple[StageChoice, ...]

  def __post_init__(self) -> None:
    known = [stage for stage in self.stages if isinstance(stage, StageChoice)]
    if not len(self.stages) == len(known) == NUM_STAGES:
      raise UsageError(
          f'The stages of a subnet are {self.stages!r}; expected {NUM_STAGES} '
          'objects of StageChoice.'
      )

  def __str__(self) -> str:
    return '-'.join(str(stage) for stage in self.stages)

  def __repr__(self) -> str:
    return f"Subnet.parse('{self}')"

  @classmethod
  def uniform(cls, rho: float, *, delta: bool = False) -> 'Subnet':
    """Returns the subnet with the same choice at every stage."""
    return cls((StageChoice(rho, delta),) * NUM_STAGES)

  @classmethod
  def parse(cls, text: str) -> 'Subnet':
    """Parses `1.0-0.5d-0.25-1.0`, or `x0.5d` for that choice in all stages.

    Raises:
      UsageError: it is no subnet; the message lists the choices.
    """
    by_name = {str(choice): choice for choice in CHOICES}
    names = full_name(text).split('-') if isinstance(text, str) else []
    if len(names) != NUM_STAGES or not set(names) <= set(by_name):
      raise UsageError(
          f'Unknown subnet {text!r}; expected {NUM_STAGES} of '
          f'{", ".join(by_name)} joined by "-", such as "1.0-0.5d-0.25-1.0", '
          'or one for all stages, such as "x0.5d".'
      )
    return cls(tuple(by_name[name] for name in names))

  @classmethod
  def decode(cls, indices: Sequence[int] | np.ndarray) -> 'Subnet':
    """Returns the subnet of four branch indices; inverse of `encode`."""
    by_index = dict(enumerate(CHOICES))
    if len(indices) != NUM_STAGES or not {*indices} <= by_index.keys():
      raise UsageError(
          f'Unknown branch indices {[*indices]}; expected {NUM_STAGES}, each '
          f'from 0 to {len(CHOICES) - 1}.'
      )
    return cls(tuple(by_index[int(index)] for index in indices))

  @property
  def is_uniform(self) -> bool:
    """Whether all stages run alike."""
    return len(set(self.stages)) == 1

  def encode(self) -> np.ndarray:
    """Returns the branch indices of the four switches, `int32[4]`."""
    return np.array([stage.index for stage in self.stages], np.int32)


def full_name(name: str) -> str:
  """Writes `x0.5` out as `0.5-0.5-0.5-0.5`; other names stay as they are."""
  return '-'.join([name[1:]] * NUM_STAGES) if name.startswith('x') else name


LARGEST = Subnet.uniform(1.0)
UNIFORM = tuple(Subnet.uniform(rho) for rho in WIDTHS)
UNIFORM_DELTA = tuple(Subnet.uniform(rho, delta=True) for rho in WIDTHS)
EVERY_UNIFORM = UNIFORM + UNIFORM_DELTA
# The four stage-wise permutations of Table II.
MIXED = tuple(
    Subnet.parse(name)
    for name in (
        '0.25-1.0-1.0-0.25',
        '1.0-0.25-0.25-1.0',
        '0.25-1.0-0.25-1.0',
        '1.0-0.25-1.0-0.25',
    )
)


def all_subnets(
    choices: Sequence[StageChoice] = CHOICES,
) -> tuple[Subnet, ...]:
  """Returns every subnet of these choices; the last stage varies fastest."""
  return tuple(
      Subnet(stages)
      for stages in itertools.product(choices, repeat=NUM_STAGES)
  )
