# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The part of the report that sets several runs side by side."""

from collections.abc import Sequence

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
  theirs = paper.TABLE_II[paper.columns_for(data)]
  titles = [column.title for column in columns]

  def row(label: str, *keys: str) -> list[str]:
    return [label, *(markup.over_seeds(c.values(*keys)) for c in columns)]

  rows = [
      row(label, group, name, 'top1')
      + [f'{theirs[column.network][name]:.2f}' for column in columns]
      for label, group, name in markup.subnet_rows(columns[0].sections[0])
  ]
  rows.append(
      row('runtime-random', 'random', 'mean')
      + [
          '{:.1f} ± {:.1f}'.format(*theirs['random'][column.network])
          for column in columns
      ]
  )
  blank = [''] * len(columns)
  rows.append(row('  its std over passes', 'random', 'std') + blank)
  rows += [row(label, 'exact', key) + blank for label, key in markup.EXACT_ROWS]
  by_madds = [
      [
          f'{madds / 1e6:,.3f}',  # Some networks differ by little.
          *(markup.over_seeds(c.uniform_mixture(madds)) for c in columns),
          *(markup.over_seeds(c.best_subnet(madds)) for c in columns),
      ]
      for madds in comparison.budgets(columns)
  ]
  costs = [
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
  claimed = [
      [
          claim.text,
          f'{claim.ours:.2f}',
          f'{claim.theirs:.2f}',
          'yes' if claim.holds else 'no',
      ]
      for claim in comparison.claims(columns)
  ]
  if passed_over := sorted({path for c in columns for path in c.passed_over}):
    notes.append(
        markup.note(
            'Left out, as another run is the same network with the same seed: '
            f'{", ".join(passed_over)}.'
        )
    )
  return markup.section(
      'Table II, all networks',
      markup.table(
          ['subnet, by stage', *titles, *(f'paper, {t}' for t in titles)],
          rows,
          num_paper=len(columns),
      ),
      markup.note(
          'Percent. Where a network was trained with several seeds: mean ± '
          'standard deviation over seeds.'
      ),
      *notes,
      '<h3>At equal MAdds</h3>',
      markup.table(
          [
              'M MAdds',
              *(f'{title}, mixture' for title in titles),
              *(f'{title}, best' for title in titles),
          ],
          by_madds,
      ),
      markup.note(
          'Mixture: uniform widths mixed at random among images, so that they '
          'cost this much on average. Best: the most accurate subnet within '
          'the MAdds, chosen on the test split, an upper bound; of deltas, '
          'any of the 4,096 subnets.'
      ),
      '<h3>Training</h3>',
      markup.table(
          [
              'network',
              'seeds',
              'gradient steps',
              'images',
              'seconds',
              'batch statistics',
          ],
          costs,
      ),
      markup.note(
          'Of ours, the steps of its teacher are counted in. Seconds include '
          'what is measured after each epoch.'
      ),
      '<h3>Claims of the paper</h3>' if claimed else '',
      markup.table(['claim', 'ours', 'theirs', 'holds here'], claimed)
      + markup.note('Comparable: at most two points under.')
      if claimed
      else '',
  )
