# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The part of the report that sets several runs side by side."""

from collections.abc import Sequence

from adaptanet_jax.evaluation import results as results_lib
from adaptanet_jax.report import comparison, markup, paper


def section(
    columns: Sequence[comparison.Column], data: str, problems: Sequence[str]
) -> str:
  """Table II in full, and the same networks at equal MAdds.

  Args:
    columns: to compare.
    data: name of the data set.
    problems: why others that were to be compared are not.
  """
  notes = [markup.note(f'Not compared: {problem}') for problem in problems]
  if not columns:
    return '\n'.join(notes)
  if passed_over := sorted({path for c in columns for path in c.passed_over}):
    notes.append(
        markup.note(
            'Left out, as another run is the same network with the same seed: '
            f'{", ".join(passed_over)}.'
        )
    )
  return markup.section(
      'Table II, all networks',
      _accuracies(columns, paper.columns_for(data)),
      *notes,
      '<h3>At equal MAdds</h3>',
      _at_equal_madds(columns),
      '<h3>Training</h3>',
      _training(columns),
      _claims(columns),
  )


def _accuracies(
    columns: Sequence[comparison.Column], paper_column: str
) -> str:
  titles = [column.title for column in columns]
  rows = []
  for row in results_lib.table_rows(columns[0].sections[0]):
    rows.append([
        row.label,
        *(markup.over_seeds(c.values(*row.top1)) for c in columns),
        *(paper.top1(paper_column, c.network, row.top1) for c in columns),
    ])
    if row.std:
      std = [markup.over_seeds(c.values(*row.std)) for c in columns]
      rows.append(['  its std over passes', *std, *[''] * len(columns)])
  head = ['subnet, by stage', *titles, *(f'paper, {t}' for t in titles)]
  return markup.table(head, rows, num_paper=len(columns)) + markup.note(
      'Percent. Where a network was trained with several seeds: mean ± '
      'standard deviation over seeds.'
  )


def _at_equal_madds(columns: Sequence[comparison.Column]) -> str:
  titles = [column.title for column in columns]
  rows = [
      [
          f'{madds / 1e6:,.3f}',  # Some networks differ by little.
          *(markup.over_seeds(c.uniform_mixture(madds)) for c in columns),
          *(markup.over_seeds(c.best_subnet(madds)) for c in columns),
      ]
      for madds in comparison.budgets(columns)
  ]
  head = ['M MAdds', *(f'{title}, mixture' for title in titles)]
  head += [f'{title}, best' for title in titles]
  return markup.table(head, rows) + markup.note(
      'Mixture: uniform widths mixed at random among images, so that they '
      'cost this much on average. Best: the most accurate subnet within the '
      'MAdds, chosen on the test split, an upper bound; of deltas, any of the '
      '4,096 subnets.'
  )


def _training(columns: Sequence[comparison.Column]) -> str:
  rows = [
      [
          column.title,
          str(len(column.sections)),
          *(
              f'{column.values("training", key).mean():,.0f}'
              for key in ('steps', 'images', 'seconds')
          ),
          column.sections[0]['calibration'] or '',
      ]
      for column in columns
  ]
  head = ['network', 'seeds', 'gradient steps', 'images', 'seconds']
  return markup.table([*head, 'batch statistics'], rows) + markup.note(
      'Of ours, the steps of its teacher are counted in. Seconds include what '
      'is measured after each epoch.'
  )


def _claims(columns: Sequence[comparison.Column]) -> str:
  rows = [
      [
          claim.text,
          f'{claim.ours:.2f}',
          f'{claim.theirs:.2f}',
          'yes' if claim.holds else 'no',
      ]
      for claim in comparison.claims(columns)
  ]
  if not rows:
    return ''
  return (
      '<h3>Claims of the paper</h3>\n'
      + markup.table(['claim', 'ours', 'theirs', 'holds here'], rows)
      + markup.note('Comparable: at most two points under.')
  )
