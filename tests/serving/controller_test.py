# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.serving.controller."""

import math

from absl.testing import absltest, parameterized
import hypothesis
from hypothesis import strategies
import numpy as np

from adaptanet_jax.serving.controller import (
  Entry,
  Margin,
  Profile,
  choose,
  seconds_needed,
)

_SIZES = (1, 2, 4)
# Times of batches are multiples of 1/8 s, so that sums of them are exact.
_PROFILE = Profile(
    (Entry('wide', 0.9, 40), Entry('narrow', 0.6, 10)),
    _SIZES,
    np.array([[1.0, 1.5, 2.5], [0.25, 0.375, 0.5]]),
)
_EVERY = _PROFILE.every


def _naive(now, deadlines, profile, margin, rows=None):
  """Applies the rule as the documentation words it."""
  rows = range(len(profile.entries)) if rows is None else rows
  fastest = min(margin * profile.seconds[s, 0] for s in rows)
  left = [d for d in deadlines if d - now >= fastest]
  if not left:
    if margin == 1.0 or not deadlines:
      return None
    # Without the margin, only the fastest for that many that is in time.
    most = min(len(deadlines), profile.sizes[-1])
    able = [s for s in rows if profile.seconds[s, 0] <= deadlines[-1] - now]
    if not able:
      return None
    row = min(able, key=lambda s: profile.predicted(s, most))
    return _naive(now, deadlines, profile, 1.0, [row])
  pairs = []
  for s in rows:
    entry = profile.entries[s]
    for b, size in enumerate(profile.sizes):
      seconds = margin * profile.seconds[s, b]
      # Requests that the first batch would answer late are left out.
      able = [d for d in left if d - now >= seconds]
      on_time = sum(
          math.ceil((i + 1) / size) * seconds <= d - now
          for i, d in enumerate(able)
      )
      score = profile.accuracies[s] * on_time
      out = len(deadlines) - len(able)
      end = math.ceil(len(able) / size) * seconds
      pairs.append((score, entry.accuracy, entry.madds, -out, -end, -size, s))
  *_, out, _, size, entry = max(pairs)
  return -out, entry, -size


@strategies.composite
def _problems(draw):
  count = draw(strategies.integers(1, 4))
  numbers = strategies.integers(1, 40)
  entries = tuple(
      Entry(f's{n}', draw(numbers) / 40.0, draw(numbers)) for n in range(count)
  )
  seconds = np.array([
      np.sort([draw(numbers) / 16.0 for _ in _SIZES]) for _ in range(count)
  ])
  deadlines = sorted(
      draw(strategies.lists(strategies.integers(-8, 200), max_size=20))
  )
  return (
      [d / 16.0 for d in deadlines],
      Profile(entries, _SIZES, seconds),
      draw(strategies.sampled_from((1.0, 1.5, 3.0))),
  )


class ChooseTest(parameterized.TestCase):

  @hypothesis.given(_problems())
  @hypothesis.settings(deadline=None, max_examples=300)
  def test_it_is_the_rule_in_words(self, problem):
    deadlines, profile, margin = problem
    # No two entries may have the same accuracy and the same MAdds.
    hypothesis.assume(len(set(profile.entries)) == len({
        (e.accuracy, e.madds) for e in profile.entries
    }))
    decision = choose(0.0, deadlines, profile, margin, profile.every)
    expected = _naive(0.0, deadlines, profile, margin)
    if expected is None:
      self.assertIsNone(decision)
    else:
      self.assertEqual(
          (decision.given_up, decision.entry, decision.size), expected
      )

  @hypothesis.given(_problems(), strategies.integers(0, 1000))
  @hypothesis.settings(deadline=None, max_examples=50)
  def test_only_what_is_left_of_the_time_counts(self, problem, start):
    deadlines, profile, margin = problem
    self.assertEqual(
        choose(0.0, deadlines, profile, margin, profile.every),
        choose(
            float(start), [d + start for d in deadlines], profile, margin,
            profile.every,
        ),
    )

  @parameterized.parameters(
      # One request with time: the best subnet, without padding.
      ([2.0], (0, 0, 1)),
      # One request without the time for wide.
      ([0.5], (0, 1, 1)),
      # Four within 1.5 s: wide answers 2 (score 1.8), narrow all (2.4) with
      # each size, of which the largest is done first.
      ([1.5] * 4, (0, 1, 4)),
      # Four within 3 s: wide answers all in batches of 2 (at 3.0 s) or 4.
      ([3.0] * 4, (0, 0, 4)),
      # A batch of 2 is done as soon as one of 4 that is not full.
      ([1.5] * 2, (0, 0, 2)),
      # The first can no longer be answered.
      ([0.2, 2.0], (1, 0, 1)),
      # Narrow could answer all three, wide the last two; both score 1.8.
      ([0.3, 2.0, 2.0], (1, 0, 2)),
      # Narrow answers two with each size, but gives one up in batches.
      ([0.3, 0.7, 0.7], (0, 1, 1)),
  )
  def test_by_hand(self, deadlines, expected):
    decision = choose(0.0, deadlines, _PROFILE, 1.0, _EVERY)
    self.assertEqual(
        (decision.given_up, decision.entry, decision.size), expected
    )

  @parameterized.parameters((1, 1.0), (2, 1.5), (3, 2.5), (4, 2.5))
  def test_a_batch_takes_the_time_of_the_size_it_is_padded_to(
      self, count, seconds
  ):
    self.assertEqual(_PROFILE.predicted(0, count), seconds)

  def test_only_what_is_allowed_is_chosen(self):
    self.assertEqual(choose(0.0, [2.0], _PROFILE, 1.0, (1,)).entry, 1)
    # A request that only wide may answer is given up if wide is too slow.
    self.assertIsNone(choose(0.0, [0.5], _PROFILE, 1.0, (0,)))

  @parameterized.parameters(
      # Ten times as long, narrow would be done after 2.5 s.
      ([2.0], _EVERY, (0, 1, 1)),
      ([2.0], (0,), (0, 0, 1)),
      # Narrow answers two of them one by one, and all together.
      ([0.6] * 4, _EVERY, (0, 1, 4)),
      ([0.2, 0.3], _EVERY, (1, 1, 1)),
      ([0.2], _EVERY, None),
  )
  def test_a_margin_that_leaves_no_time_is_left_out(
      self, deadlines, allowed, expected
  ):
    decision = choose(0.0, deadlines, _PROFILE, 10.0, allowed)
    self.assertEqual(
        decision and (decision.given_up, decision.entry, decision.size),
        expected,
    )

  def test_without_the_margin_who_is_in_time_runs(self):
    # The second is faster for four, and takes too long even for one.
    profile = Profile(
        (Entry('quick', 0.6, 10), Entry('steady', 0.9, 40)),
        _SIZES,
        np.array([[0.25, 1.0, 2.0], [0.625, 0.75, 1.0]]),
    )
    decision = choose(0.0, [0.375] * 4, profile, 3.0, profile.every)
    self.assertEqual((decision.given_up, decision.entry), (0, 0))

  def test_the_higher_the_load_the_cheaper_the_subnet(self):
    decisions = [
        choose(0.0, [4.0] * count, _PROFILE, 1.0, _EVERY)
        for count in range(1, 40)
    ]
    accuracies = [_PROFILE.accuracies[d.entry] for d in decisions]
    self.assertEqual(accuracies, sorted(accuracies, reverse=True))
    self.assertEqual((decisions[0].size, decisions[-1].size), (1, 4))
    self.assertLess(accuracies[-1], accuracies[0])


class SecondsNeededTest(parameterized.TestCase):

  @parameterized.parameters(
      # One alone takes .25 s; full batches of four, 8 a second.
      (1, _EVERY, 0.5 + 1.5 * 0.25),
      (16, _EVERY, 0.5 + 1.5 * 2.0),
      # Four full batches, and one alone.
      (17, _EVERY, 0.5 + 1.5 * 2.25),
      (800, _EVERY, 0.5 + 1.5 * 100.0),
      # The wide subnet takes 1 s, and full batches 1.6 a second.
      (1, (0,), 0.5 + 1.5 * 1.0),
      (16, (0,), 0.5 + 1.5 * 10.0),
  )
  def test_by_hand(self, ahead, allowed, expected):
    actual = seconds_needed(
        _PROFILE, 1.5, ahead=ahead, begins=0.5, allowed=allowed
    )
    self.assertAlmostEqual(actual, expected)

  @parameterized.product(allowed=((0,), (1,), (0, 1)), count=(1, 3, 5, 7, 39))
  def test_it_is_the_best_of_all_sizes(self, allowed, count):
    found = []
    for entry in allowed:
      for size in _SIZES:
        batches = [size] * (count // size) + [count % size]
        found.append(
            sum(_PROFILE.predicted(entry, n) for n in batches if n)
        )
    self.assertEqual(
        seconds_needed(
            _PROFILE, 1.0, ahead=count, begins=0.0, allowed=allowed
        ),
        min(found),
    )


class MarginTest(parameterized.TestCase):

  def test_it_is_a_percentile_of_the_recent_ratios(self):
    margin = Margin()
    for n in range(1, 101):  # Ratios of 1.01 to 2.0.
      margin.record(1.0 + n / 100.0, 0.0)
    self.assertAlmostEqual(margin.value(0.0), 1.95)
    for _ in range(200):  # They replace all ratios before.
      margin.record(1.2, 0.0)
    self.assertAlmostEqual(margin.value(0.0), 1.2)

  @parameterized.parameters((0.1, 1.0), (1.0, 1.0), (2.5, 2.5), (90.0, 10.0))
  def test_it_stays_within_limits(self, actual, expected):
    margin = Margin()
    self.assertEqual((margin.value(0.0), margin.mean(0.0)), (1.0, 1.0))
    margin.record(actual, 0.0)
    self.assertEqual(
        (margin.value(0.0), margin.mean(0.0)), (expected, expected)
    )

  def test_one_slow_batch_of_many_says_little_of_all(self):
    margin = Margin()
    for ratio in (*[1.0] * 9, 6.0):
      margin.record(ratio, 0.0)
    self.assertEqual((margin.value(0.0), margin.mean(0.0)), (6.0, 1.5))
    self.assertEqual(margin.mean(6.0), 1.0)  # They are forgotten.
    for ratio in (*[1.0] * 99, 600.0):  # A stall.
      margin.record(ratio, 6.0)
    self.assertAlmostEqual(margin.mean(6.0), 1.09)

  def test_what_is_long_ago_is_forgotten(self):
    margin = Margin()
    margin.record(9.0, 0.0)
    margin.record(2.0, 4.0)
    self.assertEqual(
        [margin.value(now) for now in (4.0, 6.0, 10.0)], [9.0, 2.0, 1.0]
    )


if __name__ == '__main__':
  absltest.main()
