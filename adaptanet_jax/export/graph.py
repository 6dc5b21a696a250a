# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Builds ONNX graphs: nodes, branches, and weights that are stored once.

A branch reads a leading part of a weight. Where that part is sliced decides how
fast a network runs and how much memory it takes (ONNX Runtime 1.32, resnet50,
docs/export.md): 'fast' slices in the branch, from weights that are stored flat,
and ONNX Runtime keeps a copy for each branch in the layout of its kernels;
'small' slices in the main graph, once for all branches.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import hashlib
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

# Versions of 2022, which all runtimes know; the first with all operators here.
_OPSET, _IR_VERSION = 18, 8
# Name of the first axis of images and of all that is computed from them.
BATCH = 'batch'


@dataclasses.dataclass(frozen=True)
class Tensor:
  """An input or output of a graph: its name, NumPy type and shape."""

  name: str
  dtype: Any
  shape: tuple[int | str, ...]

  def proto(self) -> Any:
    """Returns its description in ONNX."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
    return helper.make_tensor_value_info(self.name, kind, self.shape)


class Store:
  """Weights and constants of a model, each stored once for all its readers."""

  def __init__(
      self, memory: str, extents: Mapping[str, tuple[int, ...]] | None = None
  ) -> None:
    """Creates an empty store.

    Args:
      memory: 'fast' or 'small'.
      extents: extents of the largest part of each weight that a node reads, by
        name, as a first pass recorded them; None: weights are kept whole.
    """
    self.memory, self.extents = memory, extents or {}
    self.read: dict[str, tuple[int, ...]] = {}
    self.arrays: dict[str, np.ndarray] = {}
    self.top = Graph(self)  # Its nodes run before all others.
    self.cuts: dict[tuple[str, tuple[int, ...]], str] = {}
    self._count = 0

  def fresh(self, kind: str) -> str:
    """Returns a name that no other value of the model has."""
    self._count += 1
    return f'{kind}_{self._count}'

  def initializers(self) -> list[TensorProto]:
    """Returns all weights and constants as ONNX tensors."""
    return [
        numpy_helper.from_array(array, name)
        for name, array in self.arrays.items()
    ]


class Graph:
  """Nodes of a model, or of one of its branches."""

  def __init__(self, store: Store, *, is_branch: bool = False) -> None:
    self.store, self._is_branch = store, is_branch
    self.nodes: list[NodeProto] = []

  def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
    """Adds a node and returns its one output."""
    return self.add_all(kind, 1, *inputs, **attributes)[0]

  def add_all(
      self, kind: str, count: int, *inputs: str, **attributes: Any
  ) -> list[str]:
    """Adds a node and returns its `count` outputs."""
    names = [self.store.fresh(kind) for _ in range(count)]
    self.nodes.append(
        helper.make_node(kind, inputs, names, name=names[0], **attributes)
    )
    return names

  def constant(self, array: Any, dtype: Any = np.float32) -> str:
    """Stores a constant; returns its name, which depends on its contents."""
    array = np.asarray(array, dtype)
    contents = f'{array.dtype}{array.shape}'.encode() + array.tobytes()
    name = f'constant_{hashlib.sha256(contents).hexdigest()[:16]}'
    self.store.arrays[name] = array
    return name

  def integers(self, *values: int) -> str:
    """Returns a constant `int64[n]`."""
    return self.constant(values, np.int64)

  def weight(
      self, name: str, array: np.ndarray, part: tuple[int, ...] = ()
  ) -> str:
    """Reads the leading part of a weight.

    Args:
      name: name of the weight.
      array: the whole weight.
      part: extents of the part, one for each axis; default: the whole.
    """
    store, part = self.store, part or array.shape
    store.read[name] = tuple(map(max, store.read.get(name, part), part))
    whole = store.extents.get(name, array.shape)
    array = array[tuple(map(slice, whole))]
    if self._is_branch and store.memory == 'fast':
      # ONNX Runtime would not change the layout of a weight that a branch reads
      # directly from the outer graph.
      store.arrays[name] = array.reshape(-1)
      own = self.add('Reshape', name, self.integers(*whole))
      return own if part == whole else self._cut(own, part, whole)
    store.arrays[name] = array
    if part == whole:
      return name
    if (name, part) not in store.cuts:
      store.cuts[name, part] = store.top._cut(name, part, whole)
    return store.cuts[name, part]

  def _cut(self, x: str, part: tuple[int, ...], whole: tuple[int, ...]) -> str:
    axes = [n for n in range(len(part)) if part[n] < whole[n]]
    return self.slice(x, axes, [0] * len(axes), [part[n] for n in axes])

  def slice(
      self, x: str, axes: Sequence[int], starts: Sequence[int],
      stops: Sequence[int],
  ) -> str:
    """Slices some axes of a value."""
    bounds = (self.integers(*each) for each in (starts, stops, axes))
    return self.add('Slice', x, *bounds)

  def name(self, x: str, name: str) -> None:
    """Gives a value the name of an output of the model."""
    self.nodes.append(helper.make_node('Identity', [x], [name], name=name))

  def choose(
      self,
      condition: str,
      then: Callable[['Graph'], str],
      other: Callable[['Graph'], str],
      output: Tensor,
  ) -> str:
    """Runs one of two branches.

    Args:
      condition: `bool` of one element.
      then: adds the first branch to a graph, and returns its output.
      other: adds the second branch, as `then` does.
      output: type and shape of the output of either branch.

    Returns:
      The output of the branch that ran.
    """
    branches = []
    for label, describe in (('then', then), ('else', other)):
      branch = Graph(self.store, is_branch=True)
      given = describe(branch)
      # A branch cannot put out a value of the outer graph directly.
      if not any(given in node.output for node in branch.nodes):
        given = branch.add('Identity', given)
      result = dataclasses.replace(output, name=given)
      branches.append(
          helper.make_graph(
              branch.nodes, self.store.fresh(label), [], [result.proto()]
          )
      )
    return self.add(
        'If', condition, then_branch=branches[0], else_branch=branches[1]
    )

  def switch(
      self,
      index: str,
      branches: Mapping[int, Callable[['Graph'], str]],
      output: Tensor,
  ) -> str:
    """Runs one of several branches, found by binary search.

    Args:
      index: `int64` of one element, one of the numbers of `branches`.
      branches: functions as for `choose`, by number.
      output: as for `choose`.

    Returns:
      The output of the branch that ran.
    """
    numbers = sorted(branches)
    if len(numbers) == 1:
      return branches[numbers[0]](self)
    middle = numbers[len(numbers) // 2]

    def half(lower: bool) -> Callable[['Graph'], str]:
      own = {n: branches[n] for n in numbers if (n < middle) == lower}
      return lambda graph: graph.switch(index, own, output)

    below = self.add('Less', index, self.constant(middle, np.int64))
    return self.choose(below, half(True), half(False), output)


def build(
    describe: Callable[[Graph], None],
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    *,
    memory: str = 'small',
) -> ModelProto:
  """Builds a model, which holds only the parts of weights that are read.

  Args:
    describe: adds the nodes to a graph. It runs twice, the first time to record
      which parts are read.
    inputs: inputs of the model, by the names that the nodes use.
    outputs: outputs of the model, likewise.
    memory: 'fast' or 'small', which build the same without branches.

  Returns:
    The model.
  """
  first = Store(memory)
  describe(Graph(first))
  store = Store(memory, first.read)
  graph = Graph(store)
  describe(graph)
  return helper.make_model(
      helper.make_graph(
          store.top.nodes + graph.nodes,
          'adaptanet',
          [tensor.proto() for tensor in inputs],
          [tensor.proto() for tensor in outputs],
          store.initializers(),
      ),
      ir_version=_IR_VERSION,
      opset_imports=[helper.make_opsetid('', _OPSET)],
      producer_name='adaptanet_jax',
  )
