# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of configs and of adaptanet_jax.settings."""

import ast
import importlib
import json
import pathlib
import re
import types

from absl.testing import absltest, parameterized

from adaptanet_jax import analyses, settings, workspace
from adaptanet_jax.errors import UsageError
from adaptanet_jax.training import phases
from adaptanet_jax.training.baseline_methods import METHODS
from adaptanet_jax.training.phases import SECTIONS
from configs import common

_ROOT = pathlib.Path(__file__).parent.parent
_SOURCES = sorted((_ROOT / 'adaptanet_jax').rglob('*.py'))
_FILES = sorted(
    path.stem
    for path in (_ROOT / 'configs').glob('*.py')
    if path.stem not in ('__init__', 'common', 'baselines')
)
_DECLARED = settings.flatten(common.get_config())
_GROUPS = (
    *('teacher', 'cascade', 'lock_in', 'delta', 'joint', 'gates'),
    *('evaluation', 'policies', 'latency', 'report'),
)


def _get_config(name, arg=''):
  return importlib.import_module(f'configs.{name}').get_config(arg)


def _variants(name):
  """Returns the variants that a configuration file names in its error."""
  try:
    _get_config(name, 'no_such')
  except ValueError as error:
    return re.findall(r' :(\w+)', str(error))
  return []


_ALL = [(name, arg) for name in _FILES for arg in ('', *_variants(name))]


def _chain(node):
  """Returns `a.b.c` as text, without a start that is no plain name."""
  names = []
  while isinstance(node, ast.Attribute):
    names.append(node.attr)
    node = node.value
  if isinstance(node, ast.Name):
    names.append(node.id)
  return '.'.join(reversed(names))


def _chains(paths):
  """Returns the chains of all attributes that some files read."""
  return {
      _chain(node)
      for path in paths
      for node in ast.walk(ast.parse(path.read_text()))
      if isinstance(node, ast.Attribute)
  }


def _spellings(key):
  """Yields the ends of attribute chains that read a setting."""
  yield f'config.{key}'
  section, _, leaf = key.rpartition('.')
  if section == 'data':
    yield key
  # A phase gets its own section as `settings`.
  if section in SECTIONS:
    yield f'settings.{leaf}'


def _with(key, value):
  """Returns the default configuration with one setting changed, unchecked."""
  config = common.get_config()
  section, _, leaf = key.rpartition('.')
  (config[section] if section else config)[leaf] = value
  return config


class ConfigsTest(parameterized.TestCase):

  @parameterized.parameters(*_DECLARED)
  def test_every_declared_setting_is_read(self, key):
    # A check of a setting does not count as a use.
    users = [path for path in _SOURCES if path.stem != 'settings']
    chains = {'.' + chain for chain in _chains(users)}
    spellings = tuple('.' + spelling for spelling in _spellings(key))
    self.assertTrue(
        any(chain.endswith(spellings) for chain in chains),
        f'Nothing reads {key}, as any of {spellings}.',
    )

  def test_every_setting_that_is_read_is_declared(self):
    # Sections, settings, and methods of configurations and strings.
    known = {'items', 'to_dict', 'phases.split'}
    for key in _DECLARED:
      known |= {key, key.partition('.')[0]}
    chains = [f'.{chain}' for chain in _chains(_SOURCES)]
    read = {
        chain.rpartition('.config.')[2] for chain in chains
        if '.config.' in chain and not chain.startswith('.jax.')
    }
    self.assertIn('data.augment', read)
    self.assertEmpty(read - known)

  def test_no_setting_has_a_default_in_the_package(self):
    self.assertGreater(len(_SOURCES), 20)
    guilty = [
        str(path) for path in _SOURCES if 'config.get(' in path.read_text()
    ]
    self.assertEmpty(guilty)

  def test_every_data_set_has_a_configuration_with_a_smoke_run(self):
    self.assertContainsSubset(['cifar100', 'digits', 'imagenet'], _FILES)
    for name in _FILES:
      self.assertIn('smoke', _variants(name))

  @parameterized.parameters(*_ALL)
  def test_every_variant_passes_the_checks(self, name, arg):
    config = _get_config(name, arg)
    self.assertIsNone(settings.check(config))
    self.assertEqual(config.name.split(':')[0], name)

  @parameterized.parameters(*_ALL)
  def test_every_variant_has_the_settings_of_common_and_no_other(
      self, name, arg
  ):
    values = settings.flatten(_get_config(name, arg))
    self.assertSameElements(values, _DECLARED)
    types = {key: type(value) for key, value in values.items()}
    self.assertEqual(
        types, {key: type(value) for key, value in _DECLARED.items()}
    )

  @parameterized.parameters(*_ALL)
  def test_only_small_variants_shrink_the_papers_schedule(self, name, arg):
    config = _get_config(name, arg)
    smoke = arg == 'smoke'
    self.assertEqual(config.data.fake_if_missing, smoke)
    self.assertEqual(max(config.cascade.epochs) <= 1.0, smoke)

  def test_finetune_does_not_run_without_weights(self):
    # Those of the default are refused if there is no such file.
    self.assertEndsWith(
        _get_config('pictures', 'finetune').teacher.weights, '.pth'
    )

  @parameterized.parameters(*_FILES)
  def test_an_unknown_variant_is_refused_with_the_choices(self, name):
    with self.assertRaisesRegex(
        ValueError, rf"configs/{name}\.py has no variant 'no_such'.*:smoke"
    ):
      _get_config(name, 'no_such')


class BaselinesTest(parameterized.TestCase):

  @parameterized.product(
      network=tuple(METHODS),
      base=('digits', 'pictures', 'cifar100:small', 'imagenet:smoke'),
  )
  def test_it_has_the_data_the_network_and_the_epochs_of_its_base(
      self, network, base
  ):
    name, _, variant = base.partition(':')
    ours = _get_config(name, variant)
    config = _get_config('baselines', f'{network},{base}')
    self.assertIsNone(settings.check(config))
    self.assertSameElements(settings.flatten(config), _DECLARED)
    self.assertEqual(config.baseline.network, network)
    self.assertEqual(
        config.baseline.epochs,
        ours.teacher.epochs
        + sum(ours.cascade.epochs)
        + ours.lock_in.epochs
        + ours.joint.epochs,
    )
    for key in ('data', 'evaluation', 'checkpoint'):
      self.assertEqual(config[key].to_dict(), ours[key].to_dict())
    self.assertEqual(config.model.architecture, ours.model.architecture)
    # USNet has BatchNorm, as in the paper; DSNet has the norm of ours.
    norm = 'bn' if network.startswith('usnet') else ours.model.norm
    self.assertEqual(config.model.norm, norm)

  @parameterized.parameters('', 'usnet', 'usnet,cifar10', 'unet,digits')
  def test_an_unknown_argument_is_refused_with_the_choices(self, arg):
    with self.assertRaisesRegex(
        ValueError,
        rf'baselines\.py has no variant {arg!r}; expected.*usnet, '
        'usnet_random, dsnet, dsnet_random and one of digits, pictures, cifa',
    ):
      _get_config('baselines', arg)

  def test_an_unknown_variant_of_the_base_is_refused(self):
    with self.assertRaisesRegex(ValueError, "no variant 'huge'"):
      _get_config('baselines', 'usnet,cifar100:huge')


class CheckTest(parameterized.TestCase):

  def assert_refused(self, config, key, value):
    with self.assertRaisesRegex(
        UsageError, re.escape(f'config.{key} = {value!r}; expected')
    ) as caught:
      settings.check(config)
    return str(caught.exception)

  def test_the_defaults_pass(self):
    self.assertIsNone(settings.check(common.get_config()))

  @parameterized.parameters('teacher.norm', 'latency.runs')
  def test_a_configuration_that_lacks_a_setting_is_refused(self, key):
    config = common.get_config()
    section, _, name = key.partition('.')
    with config.unlocked():
      del config[section][name]
    with self.assertRaisesRegex(
        UsageError, f"has no setting '{key}'; expected all of configs/common"
    ):
      settings.check(config)

  @parameterized.parameters(*settings.ALLOWED)
  def test_a_value_that_is_no_choice_is_refused_with_the_choices(self, key):
    value = 'no_such' if isinstance(_DECLARED[key], str) else 0.3
    message = self.assert_refused(_with(key, value), key, value)
    for choice in settings.ALLOWED[key]:
      self.assertIn(str(choice) or 'nothing', message)

  @parameterized.parameters(
      *((key, value) for key in settings.ALLOWED
        for value in settings.ALLOWED[key])
  )
  def test_every_choice_passes(self, key, value):
    config = _with(key, value)
    if key == 'model.norm':  # The next test is about gates.
      config.phases = 'teacher,cascade,lock_in,delta,evaluation'
    self.assertIsNone(settings.check(config))

  @parameterized.product(
      network=('dsnet', 'dsnet_random'), norm=('bn', 'bn_private', 'gn')
  )
  def test_a_moving_average_needs_statistics_for_each_width(
      self, network, norm
  ):
    config = _with('baseline.network', network)
    config.model.norm = norm
    if norm == 'bn':
      with self.assertRaisesRegex(
          UsageError, f'bn does not suit {network}: .*bn_private'
      ):
        settings.check(config)
    else:
      self.assertIsNone(settings.check(config))

  @parameterized.product(
      norm=('bn', 'bn_private', 'bn_switchable'), phases=('gates', 'all')
  )
  def test_gates_on_a_batch_norm_need_its_statistics_by_name(
      self, norm, phases
  ):
    config = _with('model.norm', norm)
    config.phases = phases
    with self.assertRaisesRegex(
        UsageError, "Phase 'gates' runs.*never calibrated.*calibration=none"
    ):
      settings.check(config)
    config.evaluation.calibration = 'none'
    self.assertIsNone(settings.check(config))

  @parameterized.parameters(*settings.RANGES)
  def test_a_number_below_its_range_is_refused_with_the_range(self, key):
    low, high = settings.RANGES[key]
    value = type(_DECLARED[key])(low - 1)
    message = self.assert_refused(_with(key, value), key, value)
    expected = f'from {low} to {high}'
    if high == float('inf'):
      expected = f'of at least {low}'
    self.assertIn(f'expected a number {expected}.', message)
    lowest = _with(key, type(_DECLARED[key])(low))
    lowest.policies.examples = 'training'  # It needs no held-out images.
    self.assertIsNone(settings.check(lowest))

  def test_a_policy_of_the_most_bins_takes_a_few_megabytes(self):
    _, most = settings.RANGES['policies.bins']
    # The last of its three tables has an entry for each path of bins.
    self.assertLess(8 * most**3, 2**22)

  def test_policies_need_held_out_examples_unless_told_otherwise(self):
    config = _with('data.held_out', 0.0)
    with self.assertRaisesRegex(
        UsageError, r'data\.held_out = 0 leaves .*policies\.examples=training'
    ):
      settings.check(config)
    config.phases = 'teacher,cascade,lock_in,delta,evaluation'
    self.assertIsNone(settings.check(config))

  @parameterized.parameters(
      *(key for key, (_, high) in settings.RANGES.items() if high < 2**63)
  )
  def test_a_number_above_its_range_is_refused(self, key):
    value = type(_DECLARED[key])(settings.RANGES[key][1] + 1)
    self.assert_refused(_with(key, value), key, value)

  @parameterized.parameters('teacher.learning_rate', 'mdsr.teacher_weight')
  def test_what_is_no_number_is_refused(self, key):
    self.assert_refused(_with(key, float('nan')), key, float('nan'))

  @parameterized.parameters('teacher.epochs', 'lock_in.epochs')
  def test_a_phase_without_epochs_is_refused(self, key):
    self.assert_refused(_with(key, 0.0), key, 0.0)

  def test_a_cascade_module_without_epochs_is_refused(self):
    config = _with('cascade.epochs', (1.0, 0.0, 1.0, 1.0))
    self.assert_refused(config, 'cascade.epochs', [1.0, 0.0, 1.0, 1.0])

  @parameterized.parameters(
      *(((1.0, 1.0, 1.0),), ((1.0,) * 5,), ((),), ((True,) * 4,)),
      *((('a', 1, 1, 1),), ((None,) * 4,), (((1,), 1, 1, 1),)),
  )
  def test_cascade_epochs_that_are_not_four_are_refused(self, epochs):
    with self.assertRaisesRegex(
        UsageError, r'config\.cascade\.epochs = .*; expected'
    ):
      settings.check(_with('cascade.epochs', epochs))

  def test_so_many_epochs_are_a_slip(self):
    self.assert_refused(_with('teacher.epochs', 1e300), 'teacher.epochs', 1e300)

  @parameterized.parameters('teacher.learning_rate', 'mdsr.soft_epochs')
  def test_what_is_not_finite_is_refused(self, key):
    self.assert_refused(_with(key, float('inf')), key, float('inf'))

  @parameterized.parameters(
      ((1.0, 2.0, 3.0),), ((True, 2, 3),), (('1', '2', '3'),), ((3, 2, 1),),
      ((2, 2),), ((),), ((0, 1),), ((None,),),
  )
  def test_anchors_that_are_no_numbers_of_stages_are_refused(self, anchors):
    with self.assertRaisesRegex(
        UsageError, r'config\.gates\.anchors = .*; expected some of 1, 2, 3, 4'
    ):
      settings.check(_with('gates.anchors', anchors))

  @parameterized.parameters(*_DECLARED)
  def test_a_value_of_any_kind_passes_or_is_refused_by_name(self, key):
    numbers = (-1, 0, 2**40, 0.5, -1.5, 1e300, float('nan'), float('inf'))
    others = ('', 'x', True, None, (), ('a', 1, 1, 1), (1.0, 2.0, 3.0), (None,))
    for value in (*numbers, *others):
      try:
        config = _with(key, value)
      except TypeError:  # ml_collections refuses the type.
        continue
      try:
        settings.check(config)
      except UsageError as error:
        self.assertNotIn('\n', str(error))
        self.assertIn('expected', str(error))
      else:
        self.assertNotEmpty(phases.build_phases(config))

  def test_soft_epochs_without_a_weight_are_refused(self):
    config = _with('mdsr.soft_epochs', 1.0)
    with self.assertRaisesRegex(
        UsageError,
        r'mdsr\.soft_epochs = 1\.0, but .*; expected 0, or one of cascade\.sof',
    ):
      settings.check(config)
    config.delta.cascade.soft_weight = 0.5
    self.assertIsNone(settings.check(config))

  def test_every_phase_that_compares_anchors_may_have_a_soft_loss(self):
    config = _with('joint.epochs', 1.0)
    self.assertEqual(
        {
            phase.section
            for phase in phases.build_phases(config)
            if phase.loss == 'anchors'
        },
        {
            key.removesuffix('.soft_weight')
            for key in settings.flatten(config)
            if key.endswith('.soft_weight')
        },
    )

  def test_an_unknown_phase_is_refused(self):
    with self.assertRaisesRegex(UsageError, 'joint needs config.joint.epochs'):
      settings.check(_with('phases', 'joint'))
    with self.assertRaisesRegex(UsageError, "Unknown phase 'lockin'"):
      settings.check(_with('phases', 'teacher,lockin'))


class SelectedGroupsTest(parameterized.TestCase):

  @parameterized.parameters(
      ('all', tuple(group for group in _GROUPS if group != 'joint')),
      ('teacher', ('teacher',)),
      # The order is that in which phases run, not that of the setting.
      ('evaluation, teacher,lock_in', ('teacher', 'lock_in', 'evaluation')),
      ('cascade,cascade', ('cascade',)),
  )
  def test_groups_come_in_order(self, phases, expected):
    self.assertEqual(
        settings.selected_groups(_with('phases', phases)), expected
    )

  def test_a_joint_lock_in_is_there_if_it_has_epochs(self):
    config = _with('joint.epochs', 2.0)
    self.assertEqual(settings.selected_groups(config), _GROUPS)
    names = [phase.name for phase in phases.build_phases(config)]
    self.assertEqual(names[-3:], ['delta_lock_in', 'joint', 'gates'])
    (joint,) = (p for p in phases.build_phases(config) if p.name == 'joint')
    self.assertEqual(joint.trains, ('backbone', 'delta'))
    self.assertEqual(joint.space.vary, 'joint')
    self.assertEqual(joint.space.numbers, range(1, 5))
    config.joint.batch_size = 7
    self.assertContainsSubset(
        ['joint.batch_size: 64 -> 7'],
        settings.differences(
            _with('joint.epochs', 2.0).to_dict(), config.to_dict()
        ),
    )

  def test_a_baseline_has_groups_of_its_own(self):
    config = _with('baseline.network', 'dsnet')
    self.assertEqual(
        settings.selected_groups(config), ('baseline', 'evaluation', 'report')
    )
    config.phases = 'baseline,gates'
    with self.assertRaisesRegex(
        UsageError, "Unknown phase 'gates'.*some of baseline, evaluation, rep"
    ):
      settings.selected_groups(config)

  @parameterized.parameters(
      ('', ''), ('teacher,', ''), ('teacher,gate', 'gate'), ('All', 'All')
  )
  def test_an_unknown_group_is_refused_with_the_choices(self, phases, name):
    with self.assertRaisesRegex(
        UsageError,
        f"Unknown phase '{name}' in --config.phases={phases}; expected "
        '"all", or some of teacher, cascade, lock_in, delta, gates, evaluation',
    ):
      settings.selected_groups(_with('phases', phases))


class DifferingKeysTest(parameterized.TestCase):

  def test_the_same_configuration_differs_in_nothing(self):
    saved = json.loads(json.dumps(common.get_config().to_dict()))
    self.assertEmpty(
        settings.differences(saved, common.get_config().to_dict())
    )

  def test_changed_keys_are_named_with_both_values(self):
    new = common.get_config()
    new.seed = 3
    new.model.norm = 'bn'
    new.cascade.epochs = (1.0, 1.0, 1.0, 1.0)
    self.assertEqual(
        settings.differences(common.get_config().to_dict(), new.to_dict()),
        [
            'cascade.epochs: [3.0, 4.0, 5.0, 6.0] -> [1.0, 1.0, 1.0, 1.0]',
            "model.norm: 'gn' -> 'bn'",
            'seed: 0 -> 3',
        ],
    )

  @parameterized.parameters(*_DECLARED)
  def test_every_setting_has_a_say_in_training_or_in_what_is_measured(
      self, key
  ):
    trained = tuple(
        start
        for config in (
            _with('joint.epochs', 1.0),
            _with('baseline.network', 'usnet'),
        )
        for start in phases.dependencies(config)
    )
    # These settings only say what is done, where and how fast.
    free = (
        *('phases', 'reuse', 'compare', 'name', 'fast_compile'),
        *('compute_dtype', 'log_every_steps', 'tensorboard'),
        # These do not change the data, which results.json describes, unless
        # damaged examples are left out.
        *('data.dir', 'data.workers', 'data.damaged'),
        *('checkpoint.', 'evaluation.batch_size', 'evaluation.every_epoch'),
        'evaluation.calibration',
    )
    student = types.SimpleNamespace(norm='bn')
    work = types.SimpleNamespace(
        config=_with('policies.examples', 'training'),
        nets=types.SimpleNamespace(student=student),
        phases=('gates',),
    )
    measured = tuple(
        start
        for analysis in analyses.ANALYSES.values()
        for start in analysis.settings(work)
    )
    places = [key.startswith(starts) for starts in (trained, measured + free)]
    self.assertEqual(sum(places), 1, places)

  def test_a_key_that_one_side_lacks_differs(self):
    old = common.get_config().to_dict()
    del old['mdsr']['num_random']
    new = common.get_config().to_dict()
    self.assertEqual(
        settings.differences(old, new), ['mdsr.num_random: None -> 3']
    )
    self.assertEqual(
        settings.differences(new, old), ['mdsr.num_random: 3 -> None']
    )

  def test_what_an_older_run_lacks_was_off(self):
    old, new = common.get_config().to_dict(), common.get_config()
    del old['joint'], old['lock_in']['soft_weight']
    self.assertEmpty(settings.differences(old, new))
    new.joint.epochs = 2.0
    new.lock_in.soft_weight = 0.5
    self.assertContainsSubset(
        ['joint.epochs: 0.0 -> 2.0', 'lock_in.soft_weight: 0.0 -> 0.5'],
        settings.differences(old, new),
    )
    self.assertEmpty(settings.differences(old, new, up_to='cascade'))

  @parameterized.parameters(
      {}, {'data': 'x', 'joint': 3, 'lock_in': 4, 'baseline': None}
  )
  def test_what_another_program_wrote_differs(self, **old):
    self.assertIn(
        'seed: None -> 0', settings.differences(old, common.get_config())
    )

  def test_an_older_run_may_have_had_a_soft_loss_by_epochs_alone(self):
    old, new = common.get_config().to_dict(), common.get_config()
    del old['lock_in']['soft_weight']
    old['mdsr']['soft_epochs'] = new.mdsr.soft_epochs = 1.0
    self.assertEqual(
        settings.differences(old, new), ['lock_in.soft_weight: None -> 0.0']
    )

  def test_old_runs_have_all_that_a_network_is_made_from(self):
    old = common.get_config().to_dict()
    for section, keys in {
        'data': ('damaged', 'held_out', 'shorter_side', 'workers'),
        'teacher': ('weights',),
        'model': ('sort_channels',),
        'policies': ('confidence', 'examples', 'training_share'),
    }.items():
      for key in keys:
        del old[section][key]
    del old['joint'], old['mdsr']['soft_epochs']
    config = settings.completed(old)
    names = [phase.name for phase in phases.build_phases(config)]
    self.assertContainsSubset(['delta_lock_in', 'gates'], names)
    self.assertNotIn('joint', names)
    nets, _ = workspace.networks(config, 10, (16, 16, 3))
    self.assertEqual(nets.student.delta, 'conv3x3')
    # What reading the test split again takes.
    self.assertEqual((config.data.damaged, config.data.workers), ('refuse', 0))

  @parameterized.parameters(
      # Settings that only a baseline uses, or only ours, may differ in the
      # other.
      ('usnet', 'cascade.batch_size', 1, True),
      ('usnet', 'model.init_from_teacher', False, True),
      ('usnet', 'baseline.epochs', 1.0, False),
      ('', 'baseline.epochs', 1.0, True),
      ('', 'cascade.batch_size', 1, False),
      ('dsnet', 'model.norm', 'ln', False),
  )
  def test_only_what_is_used_counts(self, network, key, value, may_differ):
    old = _with('baseline.network', network)
    new = _with('baseline.network', network)
    new.update_from_flattened_dict({key: value})
    differing = settings.differences(old.to_dict(), new.to_dict())
    self.assertEqual(not differing, may_differ)

  def test_a_baseline_is_not_another_one_nor_adaptanet(self):
    for one, other in (('usnet', 'dsnet'), ('', 'usnet'), ('usnet', '')):
      self.assertContainsSubset(
          [f'baseline.network: {one!r} -> {other!r}'],
          settings.differences(
              _with('baseline.network', one).to_dict(),
              _with('baseline.network', other).to_dict(),
          ),
      )

  def test_phases_and_the_data_folder_may_change(self):
    new = common.get_config()
    new.phases = 'teacher'
    new.data.dir = '/elsewhere'
    self.assertEmpty(
        settings.differences(common.get_config().to_dict(), new.to_dict())
    )


if __name__ == '__main__':
  absltest.main()
