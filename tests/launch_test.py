# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the scripts in launch/."""

import pathlib
import shutil
import subprocess
import tempfile

from absl.testing import absltest, parameterized

from tests.testing import ROOT


class Table2Test(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enter_context(tempfile.TemporaryDirectory())
    )
    shutil.copy(ROOT / 'launch' / 'table2.sh', self.folder)
    local = self.folder / 'local.sh'
    local.write_text('#!/usr/bin/env bash\necho "$@"\n')
    local.chmod(0o755)

  def _run(self, *arguments):
    return subprocess.run(
        [str(self.folder / 'table2.sh'), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )

  @parameterized.parameters(
      ('digits', 'configs/digits.py'),
      ('cifar100:small', 'configs/cifar100.py:small'),
  )
  def test_it_runs_all_networks_for_each_seed_and_then_the_report(
      self, base, ours
  ):
    done = self._run(base, '/t', '3 5', '--config.data.dir=/d')
    self.assertEqual(done.returncode, 0, done.stderr)
    *runs, report, path = done.stdout.splitlines()
    expected = []
    for seed in (3, 5):
      end = f'--config.seed={seed} --config.data.dir=/d'
      expected.append(f'--config={ours} --workdir=/t/ours-{seed} {end}')
      expected += [
          f'--config=configs/baselines.py:{network},{base} '
          f'--workdir=/t/{network}-{seed} {end}'
          for network in ('usnet', 'usnet_random', 'dsnet', 'dsnet_random')
      ]
    self.assertEqual(runs, expected)
    self.assertEqual(
        report,
        f'{expected[0]} --config.phases=report --config.compare=/t/*',
    )
    self.assertEqual(path, '/t/ours-3/report.html')

  def test_a_run_that_fails_ends_it(self):
    (self.folder / 'local.sh').write_text('#!/usr/bin/env bash\nexit 3\n')
    done = self._run('digits', '/t', '0')
    self.assertEqual(done.returncode, 3)
    self.assertEqual(done.stdout, '')

  def test_too_few_arguments_are_refused(self):
    done = self._run('digits', '/t')
    self.assertEqual(done.returncode, 2)
    self.assertIn('Expected BASE, FOLDER and seeds', done.stderr)


if __name__ == '__main__':
  absltest.main()
