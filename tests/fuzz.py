# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Generates damaged files for tests of code that reads files.

Each test tries a hundred; the variable ADAPTANET_FUZZ sets another number:

  ADAPTANET_FUZZ=20000 python -m pytest tests -k Fuzz
"""

from collections.abc import Sequence
import os
from typing import Any

import hypothesis
from hypothesis import strategies as st

_NUM_EXAMPLES = int(os.environ.get('ADAPTANET_FUZZ', '100'))


def given(*strategies: st.SearchStrategy) -> Any:
  """Returns a decorator that calls a test with reproducible draws."""
  settings = hypothesis.settings(
      max_examples=_NUM_EXAMPLES,
      deadline=None,
      database=None,
      derandomize=True,
      # Hypothesis would complain about files that are normal here.
      suppress_health_check=list(hypothesis.HealthCheck),
  )
  return lambda test: settings(hypothesis.given(*strategies)(test))


@st.composite
def damaged(draw: st.DrawFn, files: Sequence[bytes]) -> bytes:
  """Draws one of the files and changes, inserts or removes bytes in it."""
  data = bytearray(draw(st.sampled_from(list(files))))
  for _ in range(draw(st.integers(1, 6))):
    place = draw(st.integers(0, max(0, len(data) - 1)))
    kind = draw(st.sampled_from(('byte', 'number', 'cut', 'repeat', 'end')))
    if kind == 'byte':
      data[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
    elif kind == 'number':  # As a damaged size or offset.
      edge = st.sampled_from((0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1))
      order = draw(st.sampled_from(('little', 'big')))
      data[place : place + 4] = draw(edge).to_bytes(4, order)
    elif kind == 'cut':
      del data[place : place + draw(st.integers(1, 64))]
    elif kind == 'repeat':
      piece = data[place : place + draw(st.integers(1, 64))]
      data[place:place] = piece
    else:
      del data[place:]
  return bytes(data)
