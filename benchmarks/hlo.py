# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads the text of a compiled program: what runs, how often, at what cost.

XLA's compiler for TPUs notes the cycles that it expects for almost every
operation. Their sum over a program, weighted by the passes of its loops and by
how often each branch of its conditionals is taken, is its estimate of a step.
It leaves out work that overlaps other operations (asynchronous copies), and has
no estimate for collectives.
"""

from collections.abc import Callable, Sequence
import dataclasses
import math
import re

from adaptanet_jax.models.switch import KEPT

_INSTRUCTION = re.compile(r'^  (?:ROOT )?%([^ ]+) = ')
_COMPUTATION = re.compile(r'^(ENTRY )?%([^ ]+) \(')
_NAMES = re.compile(r'%([^\s,(){}]+)')
_ARRAY = re.compile(r'\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\]')
_WINDOW = re.compile(r'window={([^}]*)}')
_LABELS = re.compile(r'dim_labels=(\w+)_(\w+)->(\w+)')
_STAGE = re.compile(r'\bstage(\d)\b')
COLLECTIVES = (
    'all-reduce',
    'all-gather',
    'reduce-scatter',
    'collective-permute',
    'all-to-all',
)
_BYTES = {'pred': 1, 's8': 1, 'u8': 1, 'bf16': 2, 'f16': 2, 's64': 8, 'u64': 8}
# Opcodes that move values and compute nothing.
_MOVES = frozenset((
    'bitcast', 'broadcast', 'concatenate', 'constant', 'convert', 'copy',
    'dynamic-slice', 'dynamic-update-slice', 'get-tuple-element', 'iota', 'pad',
    'parameter', 'reshape', 'reverse', 'slice', 'transpose', 'tuple',
))
# kept: writing and reading what a switch saves for its gradient.
# elementwise: anything else in a stage. rest: losses, optimizer, augmentation.
KINDS = (
    'convolution', 'norm', 'elementwise', 'kept', 'copy', 'collective', 'rest'
)


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a program.

  Attributes:
    name: its name, unique in the program.
    shape: text of the result's shape.
    opcode: such as 'fusion'.
    operands: names of its operands.
    rest: text of its attributes.
  """

  name: str
  shape: str
  opcode: str
  operands: tuple[str, ...]
  rest: str

  @property
  def op_name(self) -> str:
    """Path of JAX's scopes for the operation that it comes from."""
    return _after(self.rest, 'op_name="', '"')

  @property
  def cycles(self) -> int:
    """Cycles that the compiler expects; 0 if it has no estimate."""
    return int(_after(self.rest, '"estimated_cycles":"', '"') or 0)

  def called(self, attribute: str) -> tuple[str, ...]:
    """Returns the computations that an attribute names."""
    found = re.search(rf'\b{attribute}=({{[^}}]*}}|%[^\s,]+)', self.rest)
    return tuple(_NAMES.findall(found.group(1))) if found else ()


def _after(text: str, start: str, end: str) -> str:
  _, found, rest = text.partition(start)
  return rest.partition(end)[0] if found else ''


def arrays_of(shape: str) -> list[tuple[str, tuple[int, ...]]]:
  """Returns types and sizes of the arrays in a shape, which may be a tuple."""
  return [
      (dtype, tuple(int(n) for n in sizes.split(',') if n))
      for dtype, sizes in _ARRAY.findall(re.sub(r'{[^}]*}', '', shape))
  ]


def bytes_of(shape: str) -> int:
  """Returns the bytes of the arrays in a shape, without padding."""
  return sum(
      _BYTES.get(dtype, 4) * math.prod(sizes)
      for dtype, sizes in arrays_of(shape)
  )


@dataclasses.dataclass
class Tally:
  """The cost of one run of a part of a program.

  Attributes:
    cycles: estimated cycles by kind of operation, see `KINDS`.
    flops: floating-point operations of its convolutions and matrix products,
      without products with padding.
    collectives: bytes and calls by opcode.
  """

  cycles: dict[str, float] = dataclasses.field(default_factory=dict)
  flops: float = 0.0
  collectives: dict[str, dict[str, float]] = dataclasses.field(
      default_factory=dict
  )

  @property
  def all_cycles(self) -> float:
    """Estimated cycles of all kinds together."""
    return sum(self.cycles.values())

  def add(self, other: 'Tally', times: float = 1.0) -> None:
    """Adds the cost of another part that runs `times` times."""
    _add(self.cycles, other.cycles, times)
    self.flops += times * other.flops
    for opcode, values in other.collectives.items():
      _add(self.collectives.setdefault(opcode, {}), values, times)


def _add(
    own: dict[str, float], other: dict[str, float], times: float
) -> None:
  for key, value in other.items():
    own[key] = own.get(key, 0.0) + times * value


@dataclasses.dataclass
class Switch:
  """A conditional whose branches are the choices of a stage.

  Attributes:
    stage: number of the stage, 1 to 4.
    backward: whether it belongs to the gradient.
    branches: cost of each branch.
  """

  stage: int
  backward: bool
  branches: list[Tally]


# Maps a stage, 1 to 4, to how often each of its branches is taken.
Shares = Callable[[int], Sequence[float]]


class Program:
  """A compiled program.

  Attributes:
    switches: switches of its stages, in the order of traversal.
    total: cost of one run.
  """

  def __init__(self, text: str, shares: Shares) -> None:
    """Reads a program.

    Args:
      text: text of the optimised module.
      shares: how often each branch of a stage's switch is taken.

    Raises:
      ValueError: there is no entry computation in the text.
    """
    self._computations, self._entry = _parse(text)
    if not self._entry:
      raise ValueError(
          f'Expected the text of an HLO module, got {text[:80]!r}.'
      )
    self._shapes = {
        each.name: each.shape
        for lines in self._computations.values()
        for each in lines
    }
    self._shares = shares
    self.switches: list[Switch] = []
    self.total = self._tally(self._entry)

  def _tally(self, computation: str) -> Tally:
    tally = Tally()
    for each in self._computations[computation]:
      if each.opcode == 'while':
        times = self._trips(each)
        tally.add(self._tally(each.called('body')[0]), times)
      elif each.opcode == 'conditional':
        self._add_conditional(tally, each)
      elif each.opcode == 'call':
        tally.add(self._tally(each.called('to_apply')[0]))
      else:
        tally.add(self._own(each))
    return tally

  def _own(self, each: Instruction) -> Tally:
    """Returns the cost of an instruction without control flow."""
    tally = Tally()
    opcode = each.opcode.removesuffix('-start')
    if opcode in COLLECTIVES:
      tally.collectives[opcode] = {
          'calls': 1.0, 'bytes': float(bytes_of(each.shape))
      }
    inner = self._inside(each)
    tally.flops = sum(self._flops(i) for i in inner)
    if each.cycles:
      tally.cycles[_kind(each, {i.opcode for i in inner})] = each.cycles
    return tally

  def _inside(self, each: Instruction) -> list[Instruction]:
    """Returns the instructions of a fusion; otherwise only the instruction."""
    if each.opcode != 'fusion':
      return [each]
    (computation,) = each.called('calls')
    lines = self._computations[computation]
    return [inner for line in lines for inner in self._inside(line)]

  def _trips(self, loop: Instruction) -> int:
    """Returns the number of passes of a loop; all loops count from 0."""
    known = re.search(r'"known_trip_count":{"n":"(\d+)"', loop.rest)
    if known:
      return int(known.group(1))
    (condition,) = loop.called('condition')
    limits = [
        int(limit)
        for line in self._computations[condition]
        for each in self._inside(line)
        if each.opcode == 'constant' and each.shape.startswith('s32[]')
        for limit in re.findall(r'^(\d+)\)', each.rest)
    ]
    if len(limits) != 1:
      raise ValueError(
          f'Expected one limit in the condition {condition} of a loop, got '
          f'{limits}.'
      )
    return limits[0]

  def _add_conditional(self, tally: Tally, each: Instruction) -> None:
    names = each.called('branch_computations') or (
        *each.called('true_computation'), *each.called('false_computation')
    )
    branches = [self._tally(name) for name in names]
    shares: Sequence[float] = [1 / len(branches)] * len(branches)
    paths = [
        line.op_name for name in names for line in self._computations[name]
    ]
    found = [match for match in map(_STAGE.search, paths) if match]
    if found and len(branches) > 2:
      stage = int(found[0].group(1))
      shares = self._shares(stage)
      backward = any('transpose(' in path for path in paths)
      self.switches.append(Switch(stage, backward, branches))
    for branch, share in zip(branches, shares, strict=True):
      tally.add(branch, share)

  def _flops(self, each: Instruction) -> float:
    is_cudnn = 'custom_call_target="__cudnn$conv' in each.rest
    if each.opcode == 'convolution' or is_cudnn:
      return _convolution_flops(each, self._shapes)
    if each.opcode == 'dot':
      return _product_flops(each, self._shapes)
    return 0.0


def _parse(text: str) -> tuple[dict[str, list[Instruction]], str]:
  computations: dict[str, list[Instruction]] = {}
  entry = ''
  lines: list[Instruction] = []
  for line in text.splitlines():
    if start := _INSTRUCTION.match(line):
      lines.append(_instruction(start.group(1), line[start.end() :]))
    elif start := _COMPUTATION.match(line):
      lines = computations.setdefault(start.group(2), [])
      if start.group(1):
        entry = start.group(2)
  return computations, entry


def _instruction(name: str, text: str) -> Instruction:
  end = _closing(text) + 1 if text[0] == '(' else text.index(' ')
  shape, text = text[:end], text[end:].lstrip()
  opcode, _, text = text.partition('(')
  end = _closing(f'({text}') - 1
  operands = tuple(_NAMES.findall(text[:end]))
  # The value of a constant is in the place of operands.
  rest = text if opcode == 'constant' else text[end + 1 :]
  return Instruction(name, shape, opcode, operands, rest)


def _closing(text: str) -> int:
  """Returns the position that closes the bracket at the start of a text."""
  depth = 0
  for place, letter in enumerate(text):
    depth += (letter == '(') - (letter == ')')
    if not depth:
      return place
  raise ValueError(f'Expected a closing bracket in {text[:80]!r}.')


def _kind(each: Instruction, opcodes: set[str]) -> str:
  if each.opcode.removesuffix('-start') in COLLECTIVES:
    return 'collective'
  if opcodes & {'convolution', 'dot'}:
    return 'convolution'
  if f'/{KEPT}/' in each.op_name:
    return 'kept'
  if opcodes <= _MOVES:
    return 'copy'
  if re.search(r'\bnorm\b|group_norm', each.op_name):
    return 'norm'
  return 'elementwise' if _STAGE.search(each.op_name) else 'rest'


def _product_flops(each: Instruction, shapes: dict[str, str]) -> float:
  (_, out), = arrays_of(each.shape)
  (_, left), = arrays_of(shapes[each.operands[0]])
  contracted = _after(each.rest, 'lhs_contracting_dims={', '}').split(',')
  inner = math.prod(left[int(axis)] for axis in contracted)
  return 2.0 * math.prod(out) * inner


def _convolution_flops(each: Instruction, shapes: dict[str, str]) -> float:
  """Counts as XLA does: without products with padding or a dilation's zeros."""
  labels = _LABELS.search(each.rest)
  assert labels, each
  x, kernel, out = _roles(each, shapes)
  window = _WINDOW.search(each.rest)
  fields = dict(
      field.split('=') for field in window.group(1).split()
  ) if window else {}
  total = 2.0 * kernel[labels.group(2).index('i')]
  for letter in 'bf':
    total *= out[labels.group(3).index(letter)]
  for axis, letter in enumerate(
      sorted(c for c in labels.group(1) if c.isdigit())
  ):
    side, size, positions = (
        sizes[names.index(letter)]
        for names, sizes in zip(labels.groups(), (x, kernel, out))
    )
    own = {key: value.split('x')[axis] for key, value in fields.items()}
    total *= _valid_pairs(side, size, positions, own)
  return total


def _roles(
    each: Instruction, shapes: dict[str, str]
) -> tuple[tuple[int, ...], ...]:
  """Returns the sizes of a convolution's input, kernel and output.

  A gradient by cuDNN has the attributes of its forward convolution; its result
  stands for the forward input or kernel.
  """
  (_, result), *_ = arrays_of(each.shape)
  (_, first), (_, second) = (arrays_of(shapes[o])[0] for o in each.operands[:2])
  if '"__cudnn$convBackwardInput"' in each.rest:
    return result, second, first
  if '"__cudnn$convBackwardFilter"' in each.rest:
    return first, result, second
  return first, second, result


def _valid_pairs(
    side: int, size: int, out: int, window: dict[str, str]
) -> int:
  """Counts pairs of output and tap that read an input element, on one axis."""
  stride = int(window.get('stride', 1))
  spread = int(window.get('lhs_dilate', 1))
  apart = int(window.get('rhs_dilate', 1))
  before = int(window.get('pad', '0_0').split('_')[0])
  return sum(
      0 <= place <= (side - 1) * spread and place % spread == 0
      for position in range(out)
      for tap in range(size)
      for place in (position * stride + tap * apart - before,)
  )
