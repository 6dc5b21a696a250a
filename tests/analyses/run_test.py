# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of analyses that are interrupted and resumed."""

import contextlib
import dataclasses
import os
import tempfile
import types
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np

from adaptanet_jax import analyses, preemption
from adaptanet_jax.evaluation import results, subnet_table
from adaptanet_jax.training import phases
from adaptanet_jax.workdir import Paths, read_json, write_json
from configs import digits

_LOCK_IN, _GATES = (
    phase
    for phase in phases.build_phases(digits.get_config('smoke'))
    if phase.name in ('lock_in', 'gates')
)


class RunTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.workdir = self.enter_context(tempfile.TemporaryDirectory())
    self.folder = Paths(self.workdir).unfinished('evaluation')
    config = digits.get_config('smoke')
    config.phases = 'evaluation'
    student = types.SimpleNamespace(norm='gn', dtype='float32')
    self.work = types.SimpleNamespace(
        config=config,
        workdir=self.workdir,
        nets=types.SimpleNamespace(student=student),
        variables={'student': {'kernel': np.ones(3, np.float32)}},
        results=results.Results(self.workdir),
        phases=('teacher',),
        stamp=lambda: None,
    )
    # The files from before that each call of the measurement found.
    self.found = []
    self._run(cut_off=True)
    self.assertEqual(self.found, [[]])

  def _run(self, *, cut_off=False):
    def measure(work):
      del work
      names = sorted(set(os.listdir(self.folder)) - {'made.json'})
      self.found.append(names)
      with open(os.path.join(self.folder, f'batch{len(names)}'), 'w'):
        pass
      if cut_off:
        raise preemption.Preempted

    fake = analyses.Analysis(
        measure,
        lambda *_: {},
        ('teacher',),
        ('supernet',),
        lambda work: ('policies.bins',),
    )
    with mock.patch.dict(analyses.ANALYSES, {'evaluation': fake}):
      if not cut_off:
        return analyses.run(self.work)
      with self.assertRaisesRegex(
          preemption.Preempted, "Phase 'evaluation' is unfinished"
      ):
        analyses.run(self.work)

  def test_what_was_found_is_there_and_its_time_counts(self):
    unfinished = read_json(os.path.join(self.folder, 'made.json'))
    unfinished['seconds'] = 1000.0
    write_json(os.path.join(self.folder, 'made.json'), unfinished)
    self._run(cut_off=True)
    self.assertTrue(self._run())
    self.assertEqual(self.found[1:], [['batch0'], ['batch0', 'batch1']])
    self.assertGreaterEqual(
        self.work.results.values['seconds']['evaluation'], 1000.0
    )
    # It is done, so its unfinished files are gone.
    self.assertFalse(os.path.exists(self.folder))
    self.assertFalse(self._run())

  @parameterized.named_parameters(
      ('weights', lambda s: s.variables['student']['kernel'].fill(2.0)),
      ('type', lambda s: setattr(s.nets.student, 'dtype', 'bfloat16')),
      ('batches', lambda s: setattr(s.config.evaluation, 'batch_size', 1)),
      ('settings', lambda s: setattr(s.config.policies, 'bins', 3)),
  )
  def test_what_differs_starts_from_nothing(self, change):
    change(self.work)
    self._run()
    self.assertEqual(self.found[1:], [[]])

  def test_others_keep_what_they_have_found(self):
    self._run()
    found = self.work.results
    made = found.values['made'] | {'policies': {}, 'latency': {}}
    found.update(policies={'joint': {}}, latency=[{}], made=made)
    self.work.config.policies.bins = 3
    self.assertTrue(self._run())
    self.assertContainsSubset({'policies', 'latency'}, found.values)
    self.assertEqual(set(found.values['made']), set(made))
    # Latencies do not depend on weights.
    analyses.discard(self.work, _LOCK_IN)
    self.assertIn('latency', found.values)
    self.assertNotIn('policies', found.values)
    self.assertEqual(found.values['made'], {'latency': {}})

  @parameterized.parameters(
      ('evaluation', 'gn', ['subnets.csv']),
      ('evaluation', 'bn', ['statistics.npz', 'subnets.csv']),
      ('policies', 'gn', ['policies.json']),
  )
  def test_it_is_done_again_if_a_file_of_it_is_gone(self, name, norm, files):
    self.work.nets.student.norm = norm
    self.work.config.phases = name
    paths = [os.path.join(self.workdir, file) for file in files]

    def measure(work):
      self.assertIs(work, self.work)
      for path in paths:
        if path == Paths(self.workdir).subnets:
          subnet_table.write(self.workdir, {'top1': np.ones((4,) * 4)})
        else:
          write_json(path, {})

    measured = dataclasses.replace(analyses.ANALYSES[name], measure=measure)
    with mock.patch.dict(analyses.ANALYSES, {name: measured}):
      self.assertTrue(analyses.run(self.work))
      for path in paths:
        self.assertFalse(analyses.run(self.work))
        os.remove(path)
        self.assertTrue(analyses.run(self.work))

  def test_what_is_marked_as_done_is_there_whenever_it_is_killed(self):
    written = []
    self.enter_context(
        mock.patch.object(
            results, 'write_json', lambda _, values: written.append({**values})
        )
    )
    measured = dataclasses.replace(
        analyses.ANALYSES['evaluation'],
        measure=lambda work: work.results.update(supernet={}),
        files=lambda work: [],
    )
    self.work.phases = ('teacher', 'gates')
    with mock.patch.dict(analyses.ANALYSES, {'evaluation': measured}):
      for bins in (3, 4):  # With other settings, it is measured again.
        self.work.config.policies.bins = bins
        self.assertTrue(analyses.run(self.work))
      analyses.discard(self.work, _LOCK_IN)
    done = [v for v in written if 'evaluation' in v.get('made', {})]
    self.assertNotEmpty(done)
    for values in done:
      self.assertIn('supernet', values)
      self.assertIn('evaluation', values['seconds'])
    self.assertNotIn('supernet', written[-1])

  def test_training_discards_it_and_the_report(self):
    report = Paths(self.workdir).report
    with open(report, 'w', encoding='utf-8'):
      pass
    figure = os.path.join(Paths(self.workdir).figures, 'madds.svg')
    os.makedirs(os.path.dirname(figure))
    with open(figure, 'w', encoding='utf-8'):
      pass
    analyses.discard(self.work, _LOCK_IN)
    for path in (self.folder, report, figure):
      self.assertFalse(os.path.exists(path), path)

  def test_gates_leave_what_was_measured_of_subnets(self):
    self._run()
    found, table = self.work.results, Paths(self.workdir).subnets
    subnet_table.write(self.workdir, {'madds': np.ones((4,) * 4, int)})
    found.update(supernet={}, subnets={}, gates={}, gate_value={})
    analyses.discard(self.work, _GATES)
    self.assertContainsSubset({'supernet', 'subnets'}, found.values)
    self.assertNoCommonElements({'gates', 'gate_value'}, found.values)
    self.assertTrue(os.path.exists(table))
    # The evaluation reads gates, so it has to run again.
    self.assertTrue(self._run())

  def test_policies_are_measured_again_once_there_is_a_table(self):
    runs = []
    measured = dataclasses.replace(
        analyses.ANALYSES['policies'],
        measure=runs.append,
        files=lambda work: [],
    )
    with mock.patch.dict(analyses.ANALYSES, {'policies': measured}):
      self.work.config.phases = 'policies'
      self.assertTrue(analyses.run(self.work))
      self.assertFalse(analyses.run(self.work))
      table = {'madds': np.ones((4,) * 4, int)}
      subnet_table.write(self.workdir, table)
      self.assertTrue(analyses.run(self.work))
      column = np.full((4,) * 4, 0.5)
      for name in ('calibration_top1', 'expected_top1'):
        self.assertFalse(analyses._is_done(self.work, 'policies'))
        subnet_table.add_column(self.workdir, name, column)
      self.assertFalse(analyses.run(self.work))
    self.assertLen(runs, 2)

  @contextlib.contextmanager
  def _measured_once(self, name):
    """Runs an analysis once, with a measurement that finds nothing."""
    measured = dataclasses.replace(
        analyses.ANALYSES[name],
        measure=lambda work: None,
        files=lambda work: [],
    )
    with mock.patch.dict(analyses.ANALYSES, {name: measured}):
      self.work.config.phases = name
      self.assertTrue(analyses.run(self.work))
      self.assertFalse(analyses.run(self.work))
      yield

  @parameterized.parameters(
      ('policies', {'policies.budget': 0.25}, ['expected_top1']),
      ('latency', {'latency.runs': 7}, ['latency_ms']),
  )
  def test_a_column_never_outlives_the_results_that_it_belongs_to(
      self, name, changes, columns
  ):
    makes = analyses.ANALYSES[name].makes
    table = {'madds': np.ones((4,) * 4, int)}
    table |= {column: np.full((4,) * 4, 0.5) for column in columns}
    with self._measured_once(name):
      self.work.results.update(**{section: {} for section in makes})
      subnet_table.write(self.workdir, table)
      self.work.config.update_from_flattened_dict(changes)
      left = []
      discard = self.work.results.discard

      def killed(*names):
        discard(*names)
        if {*names} & {*makes}:
          left.append(list(subnet_table.read(self.workdir)))
          raise KeyboardInterrupt

      with mock.patch.object(self.work.results, 'discard', killed):
        with self.assertRaises(KeyboardInterrupt):
          analyses.run(self.work)
      self.assertEqual(left, [['madds']])
      # Nor do its seconds.
      self.assertNotIn(name, self.work.results.values['seconds'])

  @parameterized.named_parameters(
      ('bins without gates', 'gn', (), 'policies.bins', 3, False),
      ('bins', 'gn', ('gates',), 'policies.bins', 3, True),
      ('examples', 'gn', ('gates',), 'policies.examples', 'training', True),
      ('share', 'gn', ('gates',), 'policies.training_share', 0.5, False),
      ('passes', 'gn', (), 'evaluation.random_passes', 3, True),
      ('batches', 'gn', (), 'evaluation.batch_size', 8, False),
      ('batches of BatchNorm', 'bn', (), 'evaluation.batch_size', 8, True),
      ('calibration', 'bn', (), 'evaluation.calibration_examples', 9, True),
      ('calibration of none', 'gn', (), 'evaluation.calibration', 'none',
       False),
  )
  def test_an_evaluation_is_done_again_for_what_it_depends_on(
      self, norm, trained, key, value, again
  ):
    self.work.nets.student.norm = norm
    self.work.phases = ('teacher', *trained)
    with self._measured_once('evaluation'):
      self.work.config.update_from_flattened_dict({key: value})
      self.assertEqual(analyses.run(self.work), again)

  def test_the_share_counts_where_policies_are_made_from_it(self):
    self.work.phases = ('teacher', 'gates')
    self.work.config.policies.examples = 'training'
    with self._measured_once('evaluation'):
      self.work.config.policies.training_share = 0.5
      self.assertTrue(analyses.run(self.work))

  def test_latencies_of_the_best_subnets_are_those_of_the_accuracies(self):
    self.work.config.phases = 'latency'
    with self._measured_once('latency'):
      table = {'madds': np.ones((4,) * 4, int), 'top1': np.full((4,) * 4, 0.5)}
      for top1 in (0.5, 0.75):
        table['top1'][0] = top1
        subnet_table.write(self.workdir, table)
        self.assertTrue(analyses.run(self.work))
        self.assertFalse(analyses.run(self.work))

  @parameterized.parameters('evaluation', 'policies', 'latency')
  def test_it_is_the_type_that_ran_that_counts(self, name):
    with self._measured_once(name):
      self.work.config.compute_dtype = 'float32'
      self.assertFalse(analyses.run(self.work))
      self.work.nets.student.dtype = 'bfloat16'
      self.assertTrue(analyses.run(self.work))

  def test_what_training_leaves_is_not_compiled_again(self):
    self.work.programs = mock.Mock()
    self.enter_context(
        mock.patch.object(
            analyses.workspace, 'variable_shapes', lambda *_: ({}, {})
        )
    )
    self.work.gates = None
    with self._measured_once('latency'):
      for name in ('latency', 'policies'):
        measured = dataclasses.replace(
            analyses.ANALYSES[name], programs=lambda *_, n=name: {'': n}
        )
        self.enter_context(
            mock.patch.dict(analyses.ANALYSES, {name: measured})
        )
      self.work.config.phases = 'policies,latency'
      analyses.compile_ahead(self.work, _LOCK_IN)
      self.work.programs.ahead.assert_called_once_with('policies')
      self.work.config.latency.runs += 1
      analyses.compile_ahead(self.work, _LOCK_IN)
      self.work.programs.ahead.assert_called_with('latency')

  @parameterized.parameters('policies', 'latency')
  def test_times_are_of_their_programs(self, name):
    # The tests' XLA_FLAGS would override the options that a run chooses.
    self.enter_context(mock.patch.dict(os.environ, XLA_FLAGS=''))
    with self._measured_once(name):
      self.work.config.fast_compile = not self.work.config.fast_compile
      self.assertTrue(analyses.run(self.work))

  def test_what_an_older_version_did_not_write_down_counts_as_the_same(self):
    with self._measured_once('latency'):
      made = self.work.results.values['made']
      del made['latency']['compute_dtype']
      self.assertFalse(analyses.run(self.work))
      made['latency']['latency.runs'] += 1
      self.assertTrue(analyses.run(self.work))


if __name__ == '__main__':
  absltest.main()
