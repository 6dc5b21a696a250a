# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""How the report writes its parts: tables, numbers, notes."""

from collections.abc import Iterable, Sequence
import html
from typing import Any

import numpy as np

from adaptanet_jax.evaluation.results import TableRow, figure

Row = dict[str, Any]


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], num_paper: int = 0
) -> str:
  """Returns a table; its last `num_paper` columns are the paper's."""
  first_paper = len(head) - num_paper

  def cells(tag: str, values: Sequence[str]) -> str:
    return ''.join(
        f'<{tag}{" class=paper" * (n >= first_paper)}>{html.escape(v)}</{tag}>'
        for n, v in enumerate(values)
    )

  body = ''.join(f'<tr>{cells("td", row)}</tr>\n' for row in rows)
  return (
      f'<div class="wide"><table><thead><tr>{cells("th", head)}</tr></thead>\n'
      f'<tbody>\n{body}</tbody></table></div>'
  )


def section(title: str, *parts: str) -> str:
  """Returns parts under a heading."""
  return f'<h2>{html.escape(title)}</h2>\n' + '\n'.join(parts)


def note(text: str) -> str:
  """Returns what is said beside a table."""
  return f'<p class="quiet">{html.escape(text)}</p>'


def percent(share: float | None) -> str:
  """Returns a share in percent; nothing for None."""
  return '' if share is None else f'{100 * share:.2f}'


def millions(madds: float | None) -> str:
  """Returns MAdds in millions; nothing for None."""
  return '' if madds is None else f'{madds / 1e6:,.1f}'


def plus_minus(mean: float, std: float) -> str:
  """Returns a mean and a standard deviation, both shares, in percent."""
  return f'{percent(mean)} ± {percent(std)}'


def accuracy(section: Row, row: TableRow) -> str:
  """Returns the accuracy of a row of Table II, in percent."""
  top1 = figure(section, row.top1)
  if row.std:
    return plus_minus(top1, figure(section, row.std))
  return percent(top1)


def over_seeds(values: np.ndarray | None) -> str:
  """Returns the mean, and the standard deviation if there are several."""
  if values is None:
    return ''
  if len(values) == 1:
    return percent(values[0])
  return plus_minus(values.mean(), values.std(ddof=1))
