# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.evaluation.budget, with synthetic tables."""

from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np

from adaptanet_jax.evaluation import budget, policies

# Costs of a stage's choices, and their contributions to a right answer.
COSTS = np.array([100, 75, 50, 25, 40, 30, 20, 10])
_WORTH = np.array([0.6, 0.51, 0.36, 0.18, 0.3, 0.21, 0.06, -0.12])
STAGE_MADDS = np.tile(COSTS, (4, 1))
GATE_MADDS = np.array([5, 5, 5])
_CHEAPEST = 40


def _table(num_examples, seed, *, informed, worth=_WORTH):
  """Draws which answers are right, and `informed` confidences of hardness."""
  rng = np.random.default_rng(seed)
  hardness = rng.normal(size=num_examples)
  strength = sum(np.ix_(*[worth] * 4))[..., None]
  noise = rng.normal(size=(8, 8, 8, 8, num_examples)) / 2.0
  confidences = [
      -informed * hardness + 0.3 * rng.normal(size=(8,) * n + (num_examples,))
      for n in (1, 2, 3)
  ]
  return strength - hardness + noise > 0.0, confidences


def make_observed(num_examples, seed=1, **table):
  return policies.Observed.create(
      *_table(num_examples, seed, **table),
      STAGE_MADDS,
      GATE_MADDS,
      # Nothing is to be learnt from them.
      np.random.default_rng(seed).random((8, num_examples)),
      num_bins=8,
  )


def _other(observed, num_examples, seed=2, **table):
  """Returns other examples than a policy was made from, in its bins."""
  correct, confidences = _table(num_examples, seed, **table)
  return policies.Observed(
      correct, tuple(confidences), observed.edges, STAGE_MADDS, GATE_MADDS,
      np.zeros((8, num_examples)),
  )


def _uniform(observed, scope, limit):
  return budget.kinds(scope, 8, 1)['uniform'].make(observed, limit)


def _mean(observed, mixture):
  return [values.mean() for values in policies.outcome(observed, mixture)]


class BudgetTest(parameterized.TestCase):

  @parameterized.product(scope=('width', 'joint'), limit=(150.0, 250.0))
  def test_where_gates_know_nothing_it_is_as_good_as_uniform_subnets_mixed(
      self, scope, limit
  ):
    observed = make_observed(400, informed=0.0)
    found = budget.budget(observed, scope, limit)
    other = _other(observed, 3000, informed=0.0)
    actual, _ = _mean(other, found.mixture)
    expected, _ = _mean(other, _uniform(observed, scope, limit))
    # Within two standard errors, if they differ in a tenth of the examples.
    self.assertGreater(actual, expected - 2.0 * np.sqrt(0.1 / 3000))

  @parameterized.parameters(('width', 200.0), ('joint', 150.0))
  def test_where_gates_know_it_is_better(self, scope, limit):
    observed = make_observed(600, informed=1.0)
    found = budget.budget(observed, scope, limit)
    self.assertStartsWith(found.kind, 'gate')
    self.assertGreater(found.gain, found.gain_error)
    other = _other(observed, 3000, informed=1.0)
    actual, madds = _mean(other, found.mixture)
    expected, _ = _mean(other, _uniform(observed, scope, limit))
    self.assertGreater(actual, expected + 0.02)
    # Other examples do not fill the bins equally.
    self.assertLess(madds, 1.05 * limit)

  @parameterized.parameters(
      ('joint', 120.0), ('width', 200.0), ('depth', 100.0)
  )
  def test_where_first_answers_know_their_doubts_it_looks_twice(
      self, scope, limit
  ):
    def clear(num_examples, seed):
      # Half of the examples are easy for all subnets, and their margins higher.
      correct, confidences = _table(
          num_examples, seed, informed=0.0, worth=_WORTH - 0.4
      )
      easy = np.arange(num_examples) % 2 == 0
      rng = np.random.default_rng(seed)
      margins = np.clip(
          0.4 + 0.3 * easy + 0.1 * rng.normal(size=(8, num_examples)), 0.0, 1.0
      )
      return correct | easy, tuple(confidences), margins

    correct, confidences, margins = clear(1200, 1)
    observed = policies.Observed.create(
        correct, confidences, STAGE_MADDS, GATE_MADDS, margins, num_bins=8
    )
    found = budget.budget(observed, scope, limit)
    self.assertIn('second look', found.kind)
    self.assertGreater(found.gain, found.gain_error)
    self.assertLessEqual(_mean(observed, found.mixture)[1], limit)
    correct, confidences, margins = clear(3000, 2)
    other = policies.Observed(
        correct, confidences, observed.edges, STAGE_MADDS, GATE_MADDS, margins
    )
    actual, madds = _mean(other, found.mixture)
    expected, _ = _mean(other, _uniform(observed, scope, limit))
    self.assertGreater(actual, expected + 0.02)
    self.assertLess(madds, 1.05 * limit)

  def test_a_fixed_subnet_that_is_far_better_than_uniform_ones_is_found(self):
    correct, confidences = _table(400, 1, informed=0.0, worth=_WORTH - 0.6)
    # This subnet is right for all examples, and within the limit.
    correct[3, 0, 3, 0] = True
    observed = policies.Observed.create(
        correct, confidences, STAGE_MADDS, GATE_MADDS,
        np.zeros((8, correct.shape[-1])), num_bins=8,
    )
    found = budget.budget(observed, 'width', 260.0)
    self.assertEqual(found.kind, 'fixed')
    self.assertGreater(_mean(observed, found.mixture)[0], 0.9)

  def test_a_policy_that_reads_no_gate_is_named_by_its_subnets(self):
    correct, confidences = _table(400, 1, informed=0.0, worth=_WORTH - 0.6)
    correct[3, 0, 3, 0] = True
    observed = policies.Observed.create(
        correct, confidences, STAGE_MADDS, GATE_MADDS,
        np.zeros((8, correct.shape[-1])), num_bins=8,
    )
    every = budget.kinds('width', 8, 400)
    # The kind of a tree whose leaves all agree gives such rules.
    same = {'uniform': every['uniform'], 'gate 1, 2 bins': every['fixed']}
    for limit, expected in ((260.0, 'fixed'), (100.0, 'uniform')):
      with mock.patch.object(budget, 'kinds', return_value=same):
        found = budget.budget(observed, 'width', limit)
      self.assertEqual(found.kind, expected)

  @parameterized.parameters(150.0, 250.0, 1000.0)
  def test_of_equally_accurate_subnets_it_takes_the_cheapest(self, limit):
    correct = np.zeros((8, 8, 8, 8, 60), bool)
    correct[..., :45] = True
    confidences = [np.zeros((8,) * n + (60,)) for n in (1, 2, 3)]
    observed = policies.Observed.create(
        correct, confidences, STAGE_MADDS, GATE_MADDS,
        np.zeros((8, correct.shape[-1])), num_bins=8,
    )
    found = budget.budget(observed, 'width', limit)
    self.assertEqual(_mean(observed, found.mixture), [0.75, 100.0])

  def test_a_right_answer_is_worth_any_madds_within_the_limit(self):
    # Of many examples, x1.0 is right on a single one more, for 8,000 times
    # the MAdds.
    correct = np.zeros((8, 8, 8, 8, 20_000), bool)
    correct[0, 0, 0, 0, 7] = True
    observed = policies.Observed(
        correct,
        (np.zeros((8, 20_000)),),
        (np.zeros((8, 7)),),
        np.tile([80_000, 30, 20, 10, 40, 30, 20, 10], (4, 1)),
        GATE_MADDS,
        np.zeros((8, 20_000)),
    )
    mixture = _uniform(observed, 'width', 4e5)
    self.assertEqual(_mean(observed, mixture), [1 / 20_000, 320_000.0])

  @parameterized.product(
      scope=tuple(policies.SCOPES), limit=(45.0, 120.0, 300.0, 1000.0)
  )
  def test_it_keeps_to_its_limit_and_its_scope(self, scope, limit):
    observed = make_observed(120, informed=1.0)
    found = budget.budget(observed, scope, limit)
    indices = set(policies.scope_indices(scope).tolist())
    cheapest = 4 * min(COSTS[index] for index in indices)
    if cheapest > limit:
      self.assertIsNone(found)
      return
    _, madds = _mean(observed, found.mixture)
    self.assertLessEqual(madds, limit * (1.0 + 1e-9))
    for rule in (found.mixture.first, found.mixture.second):
      subnets, _ = policies.play(observed, rule)
      self.assertContainsSubset(set(subnets.ravel().tolist()), indices)

  @parameterized.parameters(
      # Four of a hundred examples more are right: the standard error of that is
      # 0.02. Two more in a hundred: 0.014.
      (4, 'fixed', 'fixed'),
      (2, 'fixed', 'fixed'),
      (5, 'gate 1, 2 bins', 'gate 1, 2 bins'),
      (4, 'gate 1, 2 bins', 'gate 1, 2 bins'),
      (3, 'gate 1, 2 bins', 'uniform'),
      (0, 'fixed', 'uniform'),
      (-4, 'fixed', 'uniform'),
  )
  def test_what_a_gain_has_to_exceed(self, gained, name, expected):
    observed = make_observed(100, informed=0.0)
    every = budget.kinds('width', 8, 400)
    kinds = {'uniform': every['uniform'], name: every[name]}
    gains = np.zeros(100)
    gains[: abs(gained)] = np.sign(gained)
    by_kind = {every['uniform']: np.zeros(100), every[name]: gains}
    with (
        mock.patch.object(budget, 'kinds', return_value=kinds),
        mock.patch.object(
            budget, 'cross_validated', lambda kind, *_: by_kind[kind]
        ),
        mock.patch.object(budget, '_made_of', return_value=None),
    ):
      found = budget.budget(observed, 'width', 200.0)
    self.assertEqual(found.kind, expected)
    if expected == name:
      self.assertAlmostEqual(found.gain, gained / 100)
      self.assertAlmostEqual(found.gain_error, gains.std(ddof=1) / 10)

  def test_a_fold_is_charged_for_what_it_takes_beyond_the_others(self):
    # The policy mixes a subnet of 40 MAdds, right on a fifth of the examples
    # that it was made from, with one of 400, right on all of them.
    def make(observed, limit):
      return policies.Mixture(
          *(policies.Rule.fixed((n,) * 4, 8) for n in (7, 0)), share=0.5
      )

    correct = np.zeros((8,) * 4 + (100,), bool)
    correct[0, 0, 0, 0] = True
    correct[7, 7, 7, 7, ::5] = True
    observed = policies.Observed.create(
        correct,
        [np.zeros((8,) * n + (100,)) for n in (1, 2, 3)],
        STAGE_MADDS,
        GATE_MADDS,
        np.zeros((8, 100)),
        num_bins=8,
    )
    policy = make(observed, 0.0)
    # From the first rule alone to both: 0.2 to 0.6 for 40 to 220 MAdds.
    price, taken = budget._price(policy, observed)
    self.assertAlmostEqual(price, (0.6 - 0.2) / (220 - 40))
    self.assertEqual(taken, 220.0)
    single = policies.Mixture.of(policy.first)
    self.assertEqual(budget._price(single, observed), (0.0, 40.0))
    kind = budget.Kind(make)
    plain = budget.cross_validated(kind, observed, 0.0)
    right, _ = policies.outcome(observed, policy)
    np.testing.assert_allclose(plain, right)
    # Some examples take 30 MAdds more, those of the others stay as they are.
    outcome = policies.outcome

    def dearer(other, mixture):
      right, madds = outcome(other, mixture)
      return right, madds + 30.0 * (len(other) < 50)

    with mock.patch.object(budget, 'outcome', dearer):
      charged = budget.cross_validated(kind, observed, 0.0)
    # The price is that of the other folds, where hardly less is right.
    np.testing.assert_allclose(plain - charged, 30 * price, rtol=0.1)

  @parameterized.parameters(1, 2, 3)
  def test_hardly_any_examples_are_no_error(self, count):
    with np.errstate(all='raise'):
      found = budget.budget(make_observed(count, informed=1.0), 'joint', 120.0)
    self.assertEqual(found.gain > 0.0, found.kind != 'uniform')

  def test_too_few_examples_read_no_gate(self):
    names = list(budget.kinds('joint', 8, 99))
    ungated = ['uniform', 'second look', 'any second look', 'fixed']
    self.assertEqual(names, ungated)
    names = list(budget.kinds('joint', 8, 400))
    self.assertEqual(
        names,
        [
            *ungated,
            *(f'gate {g}, {b} bins' for g in (1, 2, 3) for b in (2, 4)),
            'gates 1-3, 2 bins',
        ],
    )


class ExpectedTest(parameterized.TestCase):

  def test_it_is_nearer_the_truth_than_what_was_measured(self):
    observed = make_observed(100, informed=0.0)
    truth = _table(4000, 5, informed=0.0)[0].mean(-1)
    truth = truth - truth.mean()
    measured = observed.correct.mean(-1)
    expected = budget.expected_top1(observed.correct)
    self.assertAlmostEqual(expected.mean(), measured.mean())
    errors = [
        np.square(values - values.mean() - truth).mean()
        for values in (expected, measured)
    ]
    self.assertLess(errors[0], 0.7 * errors[1])

  def test_what_halves_agree_on_stays(self):
    correct = np.zeros((2, 2, 2, 2, 10), bool)
    correct[0] = True
    correct[1, 0] = True
    actual = budget.expected_top1(correct)
    np.testing.assert_allclose(actual, correct.mean(-1), atol=1e-12)

  @parameterized.parameters(
      # The halves have mean squares 2 and 1, and mean products 1, 0 and -1.
      ([2.0, 0.0], [1.0, 1.0], 2 * (1 / 1.5) / (1 + 1 / 1.5)),
      ([2.0, 0.0], [0.0, 2**0.5], 0.0),
      ([2.0, 0.0], [-1.0, 1.0], 0.0),
      ([1.0, -1.0], [1.0, -1.0], 1.0),
      ([0.0, 0.0], [0.0, 0.0], 0.0),
  )
  def test_reliability_of_all_examples_by_hand(self, first, second, expected):
    actual = budget._reliability(np.array(first), np.array(second))
    self.assertAlmostEqual(actual, expected)

  @parameterized.parameters(0, 1)
  def test_hardly_any_examples_are_no_error(self, count):
    correct = np.ones((2, 2, 2, 2, count + 1), bool)
    np.testing.assert_array_equal(budget.expected_top1(correct), 1.0)


if __name__ == '__main__':
  absltest.main()
