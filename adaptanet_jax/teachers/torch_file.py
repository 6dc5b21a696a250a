# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads tensors from PyTorch's files, without PyTorch, and from safetensors.

`torch.save` pickles a tree of dicts of tensors; training scripts often add
their options and counters to it. Reading runs no code from the pickle: tensors
become arrays, dicts and plain values stay as they are, and anything else that a
file names becomes an `Other`.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
import functools
import io
import os
import pickle
import pickletools
import struct
import sys
from typing import Any
import zipfile

import ml_dtypes
import numpy as np

# NumPy's types by the names of PyTorch's storages and types.
_TYPES = {
    'Float': ('float32', np.dtype('f4')),
    'Double': ('float64', np.dtype('f8')),
    'Half': ('float16', np.dtype('f2')),
    'BFloat16': ('bfloat16', np.dtype(ml_dtypes.bfloat16)),
    'Long': ('int64', np.dtype('i8')),
    'Int': ('int32', np.dtype('i4')),
    'Short': ('int16', np.dtype('i2')),
    'Char': ('int8', np.dtype('i1')),
    'Byte': ('uint8', np.dtype('u1')),
    'Bool': ('bool', np.dtype('?')),
}
_STORAGES = {f'{key}Storage': dtype for key, (_, dtype) in _TYPES.items()}
_DTYPES = dict(_TYPES.values())
# The same by the names of safetensors.
_SAFETENSORS = {
    **{f'F{n}': _DTYPES[f'float{n}'] for n in (16, 32, 64)},
    **{f'I{n}': _DTYPES[f'int{n}'] for n in (8, 16, 32, 64)},
    **{'BF16': _DTYPES['bfloat16'], 'U8': _DTYPES['uint8']},
    'BOOL': _DTYPES['bool'],
}
# Stands for an untyped storage, whose tensors give the type.
_ANY = np.dtype('V1')
# The first two pickles of a file from before PyTorch 1.6.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_PUTS = ('PUT', 'BINPUT', 'LONG_BINPUT')


class Other:
  """Stands for anything but tensors, dicts and plain values; only has a name.
  """

  def __new__(cls, *unused_args: Any, **unused_options: Any) -> 'Other':
    return super().__new__(cls)

  def __init__(self, *unused_args: Any, **unused_options: Any) -> None:
    pass

  def __setstate__(self, unused_state: Any) -> None:
    pass

  def __setitem__(self, unused_key: Any, unused_value: Any) -> None:
    pass

  def append(self, unused_value: Any) -> None:
    """Ignores an item of a pickled list."""

  def extend(self, unused_values: Any) -> None:
    """Ignores items of a pickled list."""

  def add(self, unused_value: Any) -> None:
    """Ignores an item of a pickled set."""

  def update(self, *unused_values: Any) -> None:
    """Ignores items of a pickled set."""


def read(path: str) -> Any:
  """Reads a file.

  Args:
    path: path of a safetensors file, or of a file that `torch.save` wrote.

  Returns:
    The saved object, usually dicts, with arrays in place of tensors.

  Raises:
    ValueError: the file is of neither kind, or is damaged. Libraries may raise
      other exceptions for a damaged file.
  """
  with open(path, 'rb') as file:
    data = file.read()
  if data.startswith(b'PK\x03\x04'):
    return _read_zip(data)
  if data.startswith(b'\x80'):
    return _read_pickles(data)
  if data[8:9] == b'{':
    return _read_safetensors(data)
  raise ValueError(f'it starts with {data[:16]!r}' if data else 'it is empty')


def _read_safetensors(data: bytes) -> dict[str, Any]:
  # `safetensors.numpy.load` has no bfloat16, in which many weights are stored.
  from safetensors import deserialize

  return {
      name: np.frombuffer(entry['data'], dtype).reshape(entry['shape'])
      if (dtype := _SAFETENSORS.get(entry['dtype']))
      else Other()
      for name, entry in deserialize(data)
  }


def _read_zip(data: bytes) -> Any:
  with zipfile.ZipFile(io.BytesIO(data)) as archive:
    names = [n for n in archive.namelist() if n.endswith('/data.pkl')]
    if len(names) != 1:
      raise ValueError('it is a zip file without one data.pkl')
    folder = os.path.dirname(names[0])

    @functools.cache
    def entry(name: str) -> bytes:
      # PyTorch compresses no entry, and unpacking one might fill the memory.
      if archive.getinfo(f'{folder}/{name}').compress_type:
        raise ValueError(f'{name} in it is compressed')
      return archive.read(f'{folder}/{name}')

    has_order = f'{folder}/byteorder' in archive.namelist()
    swapped = has_order and entry('byteorder').decode() != sys.byteorder

    def load_storage(dtype: np.dtype, key: str, count: int) -> np.ndarray:
      raw = entry(f'data/{key}')
      if dtype is _ANY:
        return np.frombuffer(raw, np.uint8)
      if swapped:
        dtype = dtype.newbyteorder()
      return np.frombuffer(raw, dtype, count)

    return _Unpickler(io.BytesIO(entry('data.pkl')), load_storage).load()


def _read_pickles(data: bytes) -> Any:
  """Reads a file from before PyTorch 1.6: pickles, then the storages."""
  storages: dict[str, np.ndarray] = {}

  def load_storage(dtype: np.dtype, key: str, count: int) -> np.ndarray:
    # The contents follow the pickles; until then the storage has zeros.
    if not 0 <= count * dtype.itemsize <= len(data):
      raise ValueError(f'storage {key} of {count} numbers is not in it')
    return storages.setdefault(key, np.zeros(count, dtype))

  file = io.BytesIO(data)

  def load() -> Any:
    return _Unpickler(file, load_storage).load()

  if load() != _MAGIC or load() != _PROTOCOL:
    raise ValueError('it is a pickle, but not one of PyTorch')
  load()  # Describes the machine that wrote it.
  found = load()
  for key in load():
    if key not in storages:
      raise ValueError(f'storage {key} is of an unknown kind')
    storage = storages[key]
    (count,) = struct.unpack('<q', file.read(8))
    raw = file.read(storage.nbytes)
    if count != len(storage) or len(raw) != storage.nbytes:
      raise ValueError(f'storage {key} is cut off')
    storage[:] = np.frombuffer(raw, storage.dtype)
  return found


class _Unpickler(pickle.Unpickler):
  """Turns tensors into arrays, and runs no code from the pickle."""

  def __init__(
      self, file: io.BytesIO, load_storage: Callable[..., np.ndarray]
  ) -> None:
    start = file.tell()
    rest = len(file.getbuffer()) - start
    for opcode, argument, _ in pickletools.genops(file):
      # `load` allocates as many entries, and a few bytes can ask for billions.
      if opcode.name in _PUTS and int(argument or 0) > rest:
        raise ValueError('its pickle is damaged')
    file.seek(start)
    super().__init__(file, encoding='latin1')
    self._load_storage = load_storage

  def find_class(self, module: str, name: str) -> Any:
    """Returns a replacement for a class or a function that a pickle names."""
    known = _KNOWN.get(f'{module}.{name}')
    if known is not None:
      return known
    if module == 'torch' and name in _STORAGES:
      return _STORAGES[name]
    if module == 'torch' and name in _DTYPES:
      return _DTYPES[name]
    return type(name, (Other,), {'__module__': module})

  def persistent_load(self, saved_id: Any) -> Any:
    """Returns the storage that an id stands for."""
    kind, dtype, *rest = saved_id
    if kind == 'module':  # A class with its source code, before 1.6.
      return dtype
    if kind != 'storage' or not isinstance(dtype, np.dtype):
      return Other()
    key, _, count, *_ = rest
    return self._load_storage(dtype, str(key), int(count))


def _tensor(
    storage: Any,
    offset: int,
    size: Sequence[int],
    stride: Sequence[int],
    *unused_rest: Any,
) -> Any:
  if not isinstance(storage, np.ndarray):
    return Other()
  size, stride = [int(n) for n in size], [int(n) for n in stride]
  last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
  lowest = min((offset, *size, *stride))
  if lowest < 0 or (all(size) and last >= len(storage)):
    raise ValueError(f'a tensor of {size} lies beyond its storage')
  steps = [step * storage.itemsize for step in stride]
  return np.lib.stride_tricks.as_strided(
      storage[offset:], size, steps, writeable=False
  )


def _tensor_of_type(
    storage: Any,
    offset: int,
    size: Sequence[int],
    stride: Sequence[int],
    unused_grad: Any,
    unused_hooks: Any,
    dtype: Any,
    *unused_rest: Any,
) -> Any:
  if not (isinstance(storage, np.ndarray) and isinstance(dtype, np.dtype)):
    return Other()
  return _tensor(storage.view(dtype), offset, size, stride)


def _first(value: Any, *unused_rest: Any) -> Any:
  return value


def _subclass(function: Any, unused_type: Any, arguments: Any, *_: Any) -> Any:
  return function(*arguments) if function in _TENSORS else Other()


_TENSORS = (_tensor, _tensor_of_type)
_KNOWN: Mapping[str, Any] = {
    'collections.OrderedDict': OrderedDict,
    'torch.Size': tuple,
    'torch._utils._rebuild_tensor': _tensor,
    'torch._utils._rebuild_tensor_v2': _tensor,
    'torch._utils._rebuild_tensor_v3': _tensor_of_type,
    'torch._utils._rebuild_parameter': _first,
    'torch._utils._rebuild_parameter_with_state': _first,
    'torch._tensor._rebuild_from_type_v2': _subclass,
    'torch.storage.UntypedStorage': _ANY,
}
