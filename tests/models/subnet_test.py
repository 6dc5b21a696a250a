# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.models.subnet."""

import dataclasses
import itertools

from absl.testing import absltest, parameterized
import numpy as np

from adaptanet_jax.errors import UsageError
from adaptanet_jax.models.subnet import (
  CHOICES,
  LARGEST,
  MIXED,
  NUM_STAGES,
  UNIFORM,
  UNIFORM_DELTA,
  WIDTH_CHOICES,
  StageChoice,
  Subnet,
  WidthMask,
  all_subnets,
)


class WidthMaskTest(parameterized.TestCase):

  @parameterized.parameters((0, 4), (-1, 4), (5, 4), (1, 0))
  def test_raises_unless_active_is_between_one_and_total(self, active, total):
    with self.assertRaisesRegex(
        ValueError, f'0 < active <= total, got {active} of {total}'
    ):
      WidthMask(active, total)

  @parameterized.parameters(
      # 0.75 * 24 = 18, and so on.
      (1.0, 24, 24), (0.75, 24, 18), (0.5, 24, 12), (0.25, 24, 6), (0.25, 4, 1)
  )
  def test_at_keeps_the_leading_share(self, rho, total, active):
    self.assertEqual(WidthMask.at(rho, total), WidthMask(active, total))

  @parameterized.parameters((0.25, 6, '1.5'), (0.75, 2, '1.5'), (0.5, 3, '1.5'))
  def test_at_raises_for_part_of_a_channel(self, rho, total, active):
    with self.assertRaisesRegex(
        ValueError,
        rf'Width {rho} of {total} channels is {active}, not a whole number of '
        r'channels; expected a multiple of 4',
    ):
      WidthMask.at(rho, total)

  def test_at_zero_width_raises(self):
    with self.assertRaisesRegex(ValueError, 'got 0 of 8'):
      WidthMask.at(0.0, 8)

  def test_full_keeps_every_channel(self):
    self.assertEqual(WidthMask.full(7), WidthMask(7, 7))

  def test_equal_masks_are_one_key(self):
    self.assertLen({WidthMask(2, 4), WidthMask.at(0.5, 4), WidthMask(2, 8)}, 2)

  def test_is_frozen(self):
    with self.assertRaises(dataclasses.FrozenInstanceError):
      WidthMask(1, 4).active = 2


class StageChoiceTest(parameterized.TestCase):

  def test_choices_are_the_widths_and_then_the_delta_widths(self):
    self.assertEqual(
        [str(choice) for choice in CHOICES],
        ['1.0', '0.75', '0.5', '0.25', '1.0d', '0.75d', '0.5d', '0.25d'],
    )

  def test_index_is_the_place_among_the_choices(self):
    self.assertEqual([choice.index for choice in CHOICES], list(range(8)))

  @parameterized.parameters(0.3, 0.0, 2.0, -0.25)
  def test_unknown_width_raises_with_the_choices(self, rho):
    with self.assertRaisesRegex(
        UsageError, rf'Unknown width {rho}; .* \(1\.0, 0\.75, 0\.5, 0\.25\)'
    ):
      StageChoice(rho)

  @parameterized.parameters(1, np.float32(0.25))
  def test_any_number_that_is_a_width_has_its_name(self, rho):
    subnet = Subnet.uniform(rho)
    self.assertEqual(Subnet.parse(str(subnet)), subnet)
    self.assertIsInstance(subnet.stages[0].rho, float)


class SubnetTest(parameterized.TestCase):

  def test_all_4096_survive_printing_and_encoding(self):
    names, codes = set(), set()
    for indices in itertools.product(range(8), repeat=NUM_STAGES):
      subnet = Subnet.decode(indices)
      self.assertEqual(Subnet.parse(str(subnet)), subnet)
      code = subnet.encode()
      self.assertEqual(tuple(code), indices)
      self.assertEqual(Subnet.decode(code), subnet)
      names.add(str(subnet))
      codes.add(tuple(code))
    self.assertLen(names, 4096)
    self.assertLen(codes, 4096)

  def test_parse_reads_widths_and_deltas(self):
    self.assertEqual(
        Subnet.parse('1.0-0.5d-0.25-0.75d').stages,
        (
            StageChoice(1.0),
            StageChoice(0.5, delta=True),
            StageChoice(0.25),
            StageChoice(0.75, delta=True),
        ),
    )

  @parameterized.parameters((1.0, False), (0.75, True), (0.25, False))
  def test_one_choice_for_all_stages_has_a_short_name(self, rho, delta):
    subnet = Subnet.uniform(rho, delta=delta)
    self.assertEqual(Subnet.parse(f'x{rho}{"d" * delta}'), subnet)
    self.assertEqual(str(subnet), '-'.join([f'{rho}{"d" * delta}'] * 4))

  def test_encode_gives_the_branches_of_the_switches(self):
    # Widths have indices 0 to 3, from wide to narrow, and deltas 4 to 7.
    code = Subnet.parse('1.0-0.5d-0.25-0.75d').encode()
    self.assertEqual(code.dtype, np.int32)
    np.testing.assert_array_equal(code, [0, 6, 3, 5])

  @parameterized.parameters(
      '',
      '1.0',
      '1.0-1.0-1.0',
      '1.0-1.0-1.0-1.0-1.0',
      '1.0-1.0-1.0-0.3',
      '1.0-1.0-1.0-1',
      '1.0-1.0-1.0-0.5D',
      '1.0-1.0-1.0-0.5dd',
      '1.0 -1.0-1.0-1.0',
      '1.0--1.0-1.0',
      'x',
      'x0.3',
      'xx0.5',
      'x1.0-1.0-1.0-1.0',
  )
  def test_a_bad_name_raises_naming_it_and_the_choices(self, text):
    with self.assertRaisesRegex(
        UsageError,
        rf"Unknown subnet '{text}'; expected 4 of 1\.0, 0\.75, 0\.5, 0\.25, "
        r'1\.0d, 0\.75d, 0\.5d, 0\.25d joined by "-"',
    ):
      Subnet.parse(text)

  @parameterized.parameters(0, 3, 5)
  def test_a_wrong_number_of_stages_raises(self, count):
    with self.assertRaisesRegex(UsageError, 'of a subnet are .*expected 4'):
      Subnet((StageChoice(),) * count)

  @parameterized.parameters(
      [(0, 0, 8, 0)], [(-1, 0, 0, 0)], [(0, 0, 0.5, 0)], [(0, 0, 0)]
  )
  def test_decode_of_an_unknown_branch_raises(self, indices):
    with self.assertRaisesRegex(UsageError, 'branch indices .*from 0 to 7'):
      Subnet.decode(indices)

  def test_equal_subnets_are_one_key(self):
    subnets = {Subnet.uniform(0.5), Subnet.parse('0.5-0.5-0.5-0.5'), LARGEST}
    self.assertLen(subnets, 2)

  def test_uniform_delta_is_a_delta_at_every_stage(self):
    subnet = Subnet.uniform(0.25, delta=True)
    self.assertEqual(str(subnet), '0.25d-0.25d-0.25d-0.25d')

  def test_largest_is_branch_0_everywhere(self):
    np.testing.assert_array_equal(LARGEST.encode(), [0, 0, 0, 0])

  def test_uniform_has_one_subnet_a_width(self):
    self.assertEqual(
        [str(subnet) for subnet in UNIFORM],
        [
            '1.0-1.0-1.0-1.0',
            '0.75-0.75-0.75-0.75',
            '0.5-0.5-0.5-0.5',
            '0.25-0.25-0.25-0.25',
        ],
    )

  def test_mixed_are_the_four_of_table_2(self):
    self.assertEqual(
        [str(subnet) for subnet in MIXED],
        [
            '0.25-1.0-1.0-0.25',
            '1.0-0.25-0.25-1.0',
            '0.25-1.0-0.25-1.0',
            '1.0-0.25-1.0-0.25',
        ],
    )

  def test_all_subnets_are_in_the_order_of_their_codes(self):
    for choices, count in ((WIDTH_CHOICES, 4), (CHOICES, 8)):
      subnets = all_subnets(choices)
      codes = [tuple(subnet.encode()) for subnet in subnets]
      self.assertEqual(codes, list(itertools.product(range(count), repeat=4)))
      self.assertEqual({*itertools.chain(*(s.stages for s in subnets))},
                       {*choices})
    self.assertLen(all_subnets(), 4096)

  def test_uniform_deltas_are_the_uniform_widths_as_deltas(self):
    names = [str(subnet) for subnet in UNIFORM_DELTA]
    self.assertEqual(names[0], '1.0d-1.0d-1.0d-1.0d')
    codes = [subnet.encode() - 4 for subnet in UNIFORM_DELTA]
    np.testing.assert_array_equal(codes, [s.encode() for s in UNIFORM])


if __name__ == '__main__':
  absltest.main()
