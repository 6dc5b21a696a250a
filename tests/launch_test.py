# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the scripts in launch/."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from unittest import mock

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

  @parameterized.parameters(((),), (('',),), ((' ',),))
  def test_too_few_arguments_are_refused(self, seeds):
    done = self._run('digits', '/t', *seeds)
    self.assertEqual(done.returncode, 2)
    self.assertIn('Expected BASE, FOLDER and seeds', done.stderr)


# A program that ends a slice of `cascade2` at the step that a file names.
_SLICE = """#!/usr/bin/env bash
echo "$@"
read -r step code < "$(dirname "$0")/next"
echo "$((step + 5)) $code" > "$(dirname "$0")/next"
echo "{\\"phase\\": \\"cascade2\\", \\"step\\": $step, \\"loss\\": 1.0}" \\
  > "${2#--workdir=}/metrics.jsonl"
((step < 15)) || exit 0
exit "$code"
"""


class SlicesTest(parameterized.TestCase):
  """Tests of benchmarks/reproduce_cifar100.sh with a stand-in program."""

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enter_context(tempfile.TemporaryDirectory())
    )
    for name in ('benchmarks', 'launch'):
      (self.folder / name).mkdir()
    for name in ('reproduce_cifar100.sh', 'stoppable.sh'):
      shutil.copy(ROOT / 'benchmarks' / name, self.folder / 'benchmarks')

  def _run(self, program, **environment):
    local = self.folder / 'launch' / 'local.sh'
    local.write_text(program)
    local.chmod(0o755)
    script = self.folder / 'benchmarks' / 'reproduce_cifar100.sh'
    return subprocess.run(
        [str(script), str(self.folder / 'run'), '--config.seed=3'],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ
        | {'JAX_COMPILATION_CACHE_DIR': str(self.folder / 'xla')}
        | environment,
    )

  def _slices(self):
    head, *rows = (self.folder / 'run' / 'slices.csv').read_text().splitlines()
    self.assertEqual(head, 'seconds,exit_code,phase,step')
    return [row.split(',')[1:] for row in rows]

  def test_slices_follow_each_other_until_all_is_done(self):
    (self.folder / 'launch' / 'next').write_text('5 75')
    done = self._run(_SLICE)
    self.assertEqual(done.returncode, 0, done.stderr)
    command = (
        f'--config=configs/cifar100.py --workdir={self.folder}/run '
        '--config.seed=3'
    )
    self.assertEqual(done.stdout.splitlines(), [command] * 3)
    self.assertEqual(
        self._slices(),
        [['75', 'cascade2', '5'], ['75', 'cascade2', '10'],
         ['0', 'cascade2', '15']],
    )

  def test_so_many_slices_now_and_the_rest_later(self):
    (self.folder / 'launch' / 'next').write_text('5 75')
    self.assertEqual(self._run(_SLICE, SLICES='1').returncode, 75)
    self.assertLen(self._slices(), 1)
    self.assertEqual(self._run(_SLICE, SLICES='2').returncode, 0)
    self.assertLen(self._slices(), 3)

  def test_a_failure_ends_it_at_once(self):
    (self.folder / 'launch' / 'next').write_text('5 3')
    self.assertEqual(self._run(_SLICE).returncode, 3)
    self.assertLen(self._slices(), 1)

  def test_a_batch_of_an_evaluation_is_something_done(self):
    done = self._run(
        '#!/usr/bin/env bash\n'
        'folder="${2#--workdir=}/unfinished_evaluation/evaluation"\n'
        '[[ ! -e "$folder/batch2.npz" ]] || exit 0\n'
        '[[ ! -e "$folder/batch1.npz" ]] || touch "$folder/batch2.npz"\n'
        'mkdir -p "$folder"\n'
        'touch "$folder/batch1.npz"\n'
        'exit 75\n'
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertEqual(self._slices(), [['75', '', '']] * 2 + [['0', '', '']])

  @parameterized.parameters('TERM', 'INT')
  def test_asked_to_stop_it_waits_for_the_slice_to_save(self, kind):
    done = self._run(
        '#!/usr/bin/env bash\n'
        "trap 'sleep 0.3; exit 75' TERM\n"
        f'kill -{kind} "$(ps -o ppid= -p "$PPID")"\n'
        'for ((n = 0; n < 300; n++)); do sleep 0.1; done\n'
    )
    self.assertEqual(done.returncode, 75, done.stderr)
    self.assertEqual(self._slices(), [['75', '', '']])

  def test_a_slice_that_gets_nothing_done_ends_it(self):
    done = self._run('#!/usr/bin/env bash\nexit 75\n')
    self.assertEqual(done.returncode, 1)
    self.assertIn('expected a larger SLICE', done.stderr)

  def test_a_slice_has_its_time_but_for_what_saving_may_take(self):
    done = self._run('#!/usr/bin/env bash\nexec sleep 60\n', SLICE='31')
    self.assertEqual(done.returncode, 1)
    # 128 plus the number of SIGTERM, which this program does not handle.
    self.assertEqual(self._slices(), [['143', '', '']])

  @parameterized.parameters(
      ({'SLICE': '30'}, 'more than 30 seconds'),
      ({'SLICES': 'all'}, "got '540' and 'all'"),
  )
  def test_wrong_settings_are_refused(self, environment, text):
    done = self._run(_SLICE, **environment)
    self.assertEqual(done.returncode, 2)
    self.assertIn(text, done.stderr)
    self.assertFalse((self.folder / 'run').exists())


def _write_python(folder, name, *, version, has_ensurepip=True):
  """Writes a stand-in for Python that claims a version and a path."""
  path = folder / name
  path.write_text(
      '#!/usr/bin/env bash\n'
      f'{"" if has_ensurepip else "exit 1"}\n'
      f'echo "{path}"\n'
      f'[[ "$3" == {version} && "$PYENV_VERSION" == {version} ]]\n'
  )
  path.chmod(0o755)


# A program that trains one more phase at each call, unless that is trained, and
# stops once if told to, if told so before its first checkpoint.
_PART = """#!/usr/bin/env bash
set -eu
workdir="${2#--workdir=}" phases="${4#--config.phases=}"
echo "$(basename "$workdir") $1 $phases ${*:5}"
if [[ "$phases" == "$(cat "$(dirname "$0")/stop" 2>/dev/null)" ]]; then
  rm "$(dirname "$0")/stop"
  mkdir -p "$workdir/checkpoints/$phases/8.tmp"
  [[ -e "$(dirname "$0")/early" ]] ||
    mkdir -p "$workdir/checkpoints/$phases/4"/{variables,opt_state}
  code=75
elif [[ -e "$workdir/checkpoints/$phases/16" ]]; then
  exit 0
else
  mkdir -p "$workdir/checkpoints/$phases"/{8,16}/{variables,opt_state}
  touch "$workdir/checkpoints/$phases/16/variables/weights"
  touch "$workdir/checkpoints/$phases/8/variables/weights"
fi
for name in config.json results.json subnets.csv; do
  echo "$phases" >> "$workdir/$name"
done
echo '{"phase": "'"$phases"'", "step": 4}' >> "$workdir/metrics.jsonl"
echo '  "dir": "/here/data", "stem": "cifar"' >> "$workdir/config.json"
echo '  "reuse": "/here/other",' >> "$workdir/config.json"
exit "${code:-0}"
"""


class Cifar100MediumTest(parameterized.TestCase):
  """Tests of benchmarks/cifar100_medium.sh with a stand-in program."""

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enter_context(tempfile.TemporaryDirectory())
    )
    for name in ('benchmarks', 'launch'):
      (self.folder / name).mkdir()
    for name in ('cifar100_medium.sh', 'stoppable.sh'):
      shutil.copy(ROOT / 'benchmarks' / name, self.folder / 'benchmarks')
    local = self.folder / 'launch' / 'local.sh'
    local.write_text(_PART)
    local.chmod(0o755)
    self.results = self.folder / 'results' / 'cifar100_medium'

  def _run(self):
    return subprocess.run(
        [str(self.folder / 'benchmarks' / 'cifar100_medium.sh'), '--more'],
        capture_output=True, text=True, check=False,
    )

  def test_the_whole_list_runs_in_order(self):
    done = self._run()
    self.assertEqual(done.returncode, 0, done.stderr)
    ours = '--config=configs/cifar100.py:medium'
    anchors = (
        '--config.lock_in.optimizer=adam --config.lock_in.learning_rate=0.001 '
    ) + ' '.join(
        f'--config.{section}.soft_weight=0.0'
        for section in ('lock_in', 'delta.lock_in', 'joint')
    )
    paper = (
        '--config.delta.kind=conv3x3 --config.delta.lock_in.epochs=20.0 '
        f'--config.joint.epochs=0.0 {anchors}'
    )
    runs = self.folder / 'runs' / 'cifar100_medium'
    from_paper, from_ours = (
        f'--config.reuse={runs / name}' for name in ('paper-0', 'ours-0')
    )
    short = (
        '--config.delta.cascade.epochs=0.5,0.5,0.5,0.5 '
        '--config.delta.lock_in.epochs=3.0 --config.joint.epochs=0.0'
    )
    measured = ('evaluation,policies,report',)
    expected = [
        f'paper-0 {ours} {phases} {paper} --more'
        for phases in (
            'teacher', 'cascade', 'lock_in', 'delta', 'gates', *measured
        )
    ] + [
        f'ours-0 {ours} {phases} {from_paper} --more'
        for phases in ('lock_in', 'delta', 'joint', 'gates', *measured)
    ] + [
        f'no_joint-0 {ours} evaluation,report {from_ours} '
        '--config.joint.epochs=0.0 --more'
    ] + [
        f'anchors-0 {ours} {phases} {from_paper} {anchors} --more'
        for phases in ('delta', 'joint', 'gates', *measured)
    ]

    def baseline(name):
      config = f'--config=configs/baselines.py:{name},cifar100:medium'
      return [
          f'{name}-0 {config} {phases} --more'
          for phases in ('baseline', 'evaluation,report')
      ]

    def variant(name, groups, settings):
      return [
          f'{name}-0 {ours} {phases} {short} {settings} --more'
          for phases in (*groups, 'evaluation,report')
      ]

    expected += baseline('usnet') + baseline('dsnet')
    expected += variant(
        'sorted',
        ['cascade', 'lock_in', 'delta'],
        f'{from_paper} --config.delta.kind=conv3x3 '
        '--config.model.sort_channels=True',
    )
    expected += baseline('usnet_random') + baseline('dsnet_random')
    for kind in ('conv3x3', 'stream', 'separable', 'bottleneck'):
      expected += variant(
          kind, ['delta'], f'{from_ours} --config.delta.kind={kind}'
      )
    expected += variant(
        'plain_gn',
        ['teacher', 'cascade', 'lock_in', 'delta'],
        '--config.delta.kind=conv3x3 --config.model.norm=gn '
        '--config.teacher.norm=gn',
    )
    self.assertEqual(done.stdout.splitlines(), expected)
    # Checkpoints are removed once there are results.
    found = sorted(path.name for path in self.results.iterdir())
    self.assertEqual(
        found,
        sorted(
            f'{name}-0'
            for name in (
                'paper', 'ours', 'no_joint', 'anchors', 'usnet', 'dsnet',
                'usnet_random', 'dsnet_random', 'conv3x3', 'stream',
                'separable', 'bottleneck', 'sorted', 'plain_gn',
            )
        ),
    )
    self.assertTrue((self.results / 'paper-0' / 'subnets.csv').exists())
    self.assertEqual(self._run().stdout, '')

  def test_it_stops_when_asked_and_goes_on_there(self):
    (self.folder / 'launch' / 'stop').write_text('lock_in')
    first = self._run()
    self.assertEqual(first.returncode, 75)
    self.assertLen(first.stdout.splitlines(), 3)
    kept = self.results / 'checkpoints' / 'paper-0' / 'checkpoints'
    # Of each phase the last checkpoint, and the optimizer's state only of that
    # which goes on.
    self.assertCountEqual(
        [str(path.relative_to(kept)) for path in kept.rglob('*')],
        [
            'teacher', 'teacher/16', 'teacher/16/variables',
            'teacher/16/variables/weights',
            'cascade', 'cascade/16', 'cascade/16/variables',
            'cascade/16/variables/weights',
            'lock_in', 'lock_in/4', 'lock_in/4/variables',
            'lock_in/4/opt_state',
        ],
    )
    # Nor is where the data are on this machine.
    config = (kept.parent / 'config.json').read_text()
    self.assertIn('"dir": "", "stem": "cifar"', config)
    self.assertNotIn('/here', config)
    last = self._run()
    self.assertEqual(last.returncode, 0, last.stderr)
    self.assertIn(' lock_in ', last.stdout.splitlines()[0])

  def test_only_some_networks(self):
    with mock.patch.dict(os.environ, ONLY='dsnet paper usnet_random'):
      done = self._run()
      self.assertEqual(done.returncode, 0, done.stderr)
      runs = [line.split()[0] for line in done.stdout.splitlines()]
      self.assertEqual(
          list(dict.fromkeys(runs)), ['paper-0', 'dsnet-0', 'usnet_random-0']
      )
    # What the others start from stays.
    kept = self.results / 'checkpoints'
    self.assertEqual([path.name for path in kept.iterdir()], ['paper-0'])
    self.assertStartsWith(self._run().stdout, 'ours-0 ')

  def test_a_network_that_is_not_in_the_list_is_refused(self):
    with mock.patch.dict(os.environ, ONLY='usnett'):
      done = self._run()
    self.assertEqual((done.returncode, done.stdout), (2, ''))
    self.assertRegex(done.stderr, "ONLY='usnett'; expected .* paper ours .*gn")

  def test_what_other_seeds_have_kept_stays(self):
    other = self.results / 'checkpoints' / 'paper-1'
    other.mkdir(parents=True)
    self.assertEqual(self._run().returncode, 0)
    self.assertEqual(
        [path.name for path in other.parent.iterdir()], ['paper-1']
    )

  def test_parts_that_are_done_are_not_run_again(self):
    (self.folder / 'launch' / 'stop').write_text('joint')
    self._run()
    (self.results / 'paper-0' / 'results.json').unlink()
    self.assertStartsWith(self._run().stdout, 'ours-0 ')

  def test_it_stops_when_asked_between_two_parts(self):
    copy = self.folder / 'bin' / 'cp'
    copy.parent.mkdir()
    copy.write_text(
        '#!/usr/bin/env bash\nkill -TERM "$PPID"\n'
        f'exec {shutil.which("cp")} "$@"\n'
    )
    copy.chmod(0o755)
    path = f'{copy.parent}:{os.environ["PATH"]}'
    with mock.patch.dict(os.environ, PATH=path):
      done = self._run()
    self.assertEqual(done.returncode, 75, done.stderr)
    self.assertLen(done.stdout.splitlines(), 1)
    self.assertIn(' cascade ', self._run().stdout.splitlines()[0])

  def test_asked_twice_it_waits_until_the_part_has_saved(self):
    (self.folder / 'launch' / 'local.sh').write_text(
        "#!/usr/bin/env bash\ntrap '' TERM\n"
        'for n in 1 2; do kill -TERM "$PPID"; sleep 0.3; done\nexit 75\n'
    )
    self.assertEqual(self._run().returncode, 75)
    log = self.folder / 'runs' / 'cifar100_medium' / 'slices.csv'
    self.assertRegex(log.read_text(), r'paper-0,teacher,\d+,75\n$')

  def test_another_machine_starts_from_what_was_kept(self):
    (self.folder / 'launch' / 'stop').write_text('lock_in')
    self._run()
    shutil.rmtree(self.folder / 'runs')
    # The script asks for the teacher again, and the program finds it trained.
    # Asked to stop before its own first checkpoint, it loses nothing.
    (self.folder / 'launch' / 'stop').write_text('lock_in')
    (self.folder / 'launch' / 'early').touch()
    done = self._run()
    self.assertEqual(done.returncode, 75)
    self.assertLen(done.stdout.splitlines(), 3)
    workdir = self.folder / 'runs' / 'cifar100_medium' / 'paper-0'
    for place in (workdir, self.results / 'checkpoints' / 'paper-0'):
      self.assertTrue((place / 'checkpoints' / 'cascade' / '16').exists())
      self.assertTrue(
          (place / 'checkpoints' / 'lock_in' / '4' / 'opt_state').exists()
      )
      self.assertIn('cascade', (place / 'metrics.jsonl').read_text())

  def test_before_its_first_checkpoint_a_phase_has_nothing_to_keep(self):
    (self.folder / 'launch' / 'stop').write_text('cascade')
    (self.folder / 'launch' / 'early').touch()
    self.assertEqual(self._run().returncode, 75)
    kept = self.results / 'checkpoints' / 'paper-0' / 'checkpoints'
    self.assertEqual([path.name for path in kept.iterdir()], ['teacher'])

  def test_on_another_machine_a_network_knows_what_it_has_reused(self):
    (self.folder / 'launch' / 'stop').write_text('gates')
    self._run()  # Of the paper's way.
    (self.folder / 'launch' / 'stop').write_text('joint')
    self._run()
    runs = self.folder / 'runs'
    shutil.rmtree(runs)
    (self.folder / 'launch' / 'stop').write_text('joint')
    self.assertEqual(self._run().returncode, 75)
    config = (runs / 'cifar100_medium' / 'ours-0' / 'config.json').read_text()
    backbone = runs / 'cifar100_medium' / 'paper-0'
    self.assertIn(f'"reuse": "{backbone}"', config)


class NewestPythonTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enter_context(tempfile.TemporaryDirectory())
    )
    for name in ('bash', 'env'):
      (self.folder / name).symlink_to(shutil.which(name))

  def _run(self, *versions):
    return subprocess.run(
        [str(ROOT / 'launch' / 'newest_python.sh'), *versions],
        env={'PATH': str(self.folder)},
        capture_output=True,
        text=True,
        check=False,
    )

  def test_it_is_one_that_can_make_an_environment_and_is_tested(self):
    for version in ('3.11', '3.12', '3.13'):
      _write_python(
          self.folder,
          f'python{version}',
          version=version,
          has_ensurepip=version != '3.13',
      )
    done = self._run()
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertEqual(done.stdout, f'{self.folder}/python3.11\n')
    done = self._run('3.12', '3.11')
    self.assertEqual(done.stdout, f'{self.folder}/python3.12\n')

  def test_a_name_that_is_another_version_does_not_count(self):
    _write_python(self.folder, 'python3.14', version='3.11')
    done = self._run()
    self.assertEqual((done.returncode, done.stdout), (1, ''))
    self.assertIn('no Python 3.13 3.11 3.12 3.14', done.stderr)

  def test_it_is_a_python_that_runs(self):
    version = f'3.{sys.version_info.minor}'
    (self.folder / f'python{version}').symlink_to(sys.executable)
    done = self._run(version)
    self.assertEqual(done.stdout, f'{self.folder}/python{version}\n')


class EnvironmentTest(absltest.TestCase):
  """Tests of launch/environment.sh with a stand-in for Python."""

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    for name in ('launch/environment.sh', 'setup.cfg'):
      (self.root / name).parent.mkdir(exist_ok=True)
      shutil.copy(ROOT / name, self.root / name)
    # Makes an environment of itself; installing takes a while.
    self._write('python', """#!/usr/bin/env bash
        echo "$*" >> calls
        case "$*" in
          *"-m venv"*)
            mkdir -p "${@: -1}/bin"
            cp python activate "${@: -1}/bin"
            touch "${@: -1}/has_pip" ;;
          *"pip --version") [[ -e .venv/has_pip ]] ;;
          *"ensurepip") [[ -e .venv/bundles_pip ]] && touch .venv/has_pip ;;
          *"pip install"*) sleep .3; exit "${FAILS:-0}" ;;
        esac""")
    self._write('activate', 'VIRTUAL_ENV="$PWD/.venv"\n')

  def _write(self, name, text):
    (self.root / name).write_text(text)
    (self.root / name).chmod(0o755)

  def _start(self, **environment):
    return subprocess.Popen(
        ['bash', '-c', 'set -euo pipefail; source launch/environment.sh test'],
        cwd=self.root,
        env=os.environ
        | {'PYTHON': './python', 'ADAPTANET_VENV': ''}
        | environment,
        stderr=subprocess.PIPE,
        text=True,
    )

  def _installed(self):
    calls = (self.root / 'calls').read_text().splitlines()
    return sum('pip install' in call for call in calls)

  def test_of_two_first_starts_one_installs(self):
    starts = [self._start(), self._start()]
    texts = [start.communicate(timeout=30)[1] for start in starts]
    self.assertEqual([start.returncode for start in starts], [0, 0], texts)
    self.assertEqual(self._installed(), 1)
    self.assertCountEqual(
        texts,
        [
            'Installing into .venv ...\n',
            'Another start may be installing into .venv; waiting for it ...\n',
        ],
    )

  def test_an_environment_without_pip_is_not_lost(self):
    (self.root / '.venv' / 'bin').mkdir(parents=True)
    for name in ('python', 'activate'):
      shutil.copy(self.root / name, self.root / '.venv' / 'bin' / name)
    start = self._start()
    _, text = start.communicate(timeout=30)
    self.assertEqual(start.returncode, 1, text)
    self.assertIn('.venv has no pip; expected an environment with it', text)
    # With the standard library's own copy it has one.
    (self.root / '.venv' / 'bundles_pip').touch()
    start = self._start()
    _, text = start.communicate(timeout=30)
    self.assertEqual(start.returncode, 0, text)
    self.assertEqual(self._installed(), 1)
    self.assertNotIn('-m venv', (self.root / 'calls').read_text())

  def test_one_whose_making_ended_early_is_made_anew(self):
    # As on Debian without python3-venv, which cannot put pip into it.
    (self.root / '.venv' / 'bin').mkdir(parents=True)
    shutil.copy(self.root / 'python', self.root / '.venv' / 'bin' / 'python')
    start = self._start()
    _, text = start.communicate(timeout=30)
    self.assertEqual(start.returncode, 0, text)
    self.assertIn('-m venv --clear', (self.root / 'calls').read_text())

  def test_one_that_does_not_run_is_made_anew(self):
    (self.root / '.venv' / 'bin').mkdir(parents=True)
    self._write('.venv/bin/python', '#!/nowhere/python\n')
    start = self._start()
    _, text = start.communicate(timeout=30)
    self.assertEqual(start.returncode, 0, text)
    self.assertIn('-m venv --clear', (self.root / 'calls').read_text())

  def test_what_failed_is_installed_the_next_time_and_then_no_more(self):
    codes = []
    for fails in ('3', '0', '0'):
      start = self._start(FAILS=fails)
      start.communicate(timeout=30)
      codes.append(start.returncode)
    self.assertEqual(codes, [1, 0, 0])
    self.assertEqual(self._installed(), 2)
    calls = (self.root / 'calls').read_text()
    self.assertEqual(calls.count('-m venv --clear'), 1)
    # Other requirements are installed into the same environment.
    with (self.root / 'setup.cfg').open('a') as file:
      file.write('\n')
    self._start().communicate(timeout=30)
    self.assertEqual(self._installed(), 3)


class LocalProcessesTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    (self.root / 'launch').mkdir()
    for name in ('local.sh', 'local_processes.sh'):
      shutil.copy(ROOT / 'launch' / name, self.root / 'launch')
    # In place of an installation: a python that records its arguments.
    environment = (ROOT / 'launch' / 'environment.sh').read_text()
    (self.root / 'launch' / 'environment.sh').write_text(
        'export PATH="$PWD/bin:$PATH"\n'
        + environment[environment.index('run_from() {') :]
    )
    (self.root / 'bin').mkdir()
    python = self.root / 'bin' / 'python'
    python.write_text(
        '#!/usr/bin/env bash\n'
        '[[ "$1" == -c ]] && { echo 4321; exit; }\n'
        'for last; do :; done\n'
        'trap \'exit 75\' TERM\n'
        'echo "$JAX_PLATFORMS $*" > "out-${last#*=}"\n'
        'while [[ -e wait ]]; do sleep .05; done\n'
        '[[ "$last" != --process_id=1 ]] || exit "${CODE:-0}"\n'
    )
    python.chmod(0o755)

  def _start(self, *arguments, **environment):
    return subprocess.Popen(
        [str(self.root / 'launch' / 'local_processes.sh'), *arguments],
        cwd=self.root,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

  @parameterized.parameters('0', '3')
  def test_each_process_knows_its_place_and_the_first_failure_counts(
      self, code
  ):
    process = self._start('3', '--config=c', '--workdir=a b', CODE=code)
    self.assertEqual(process.communicate(timeout=60)[1], '')
    self.assertEqual(process.returncode, int(code))
    for number in range(3):
      told = (self.root / f'out-{number}').read_text().strip()
      self.assertEqual(
          told,
          'cpu -P -m adaptanet_jax.main --config=c --workdir=a b '
          f'--coordinator=localhost:4321 --num_processes=3 '
          f'--process_id={number}',
      )

  def test_it_runs_in_the_folder_that_it_was_called_from(self):
    elsewhere = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    done = subprocess.run(
        [str(self.root / 'launch' / 'local.sh'), '--config=c', '--workdir=w'],
        cwd=elsewhere, capture_output=True, text=True, check=False,
        env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    )
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    self.assertEqual(
        (elsewhere / 'out-w').read_text(),
        'cpu -P -m adaptanet_jax.main --config=c --workdir=w\n',
    )

  def test_a_notice_reaches_all_and_their_answer_comes_back(self):
    (self.root / 'wait').touch()
    process = self._start('2', '--config=c')
    end = time.monotonic() + 60.0
    while len(list(self.root.glob('out-*'))) < 2:
      self.assertLess(time.monotonic(), end)
      time.sleep(0.05)
    process.terminate()
    process.communicate(timeout=60)
    self.assertEqual(process.returncode, 75)

  @parameterized.parameters((), ('2',), ('none', '--config=c'), ('0', 'x'))
  def test_wrong_arguments_are_refused(self, *arguments):
    process = self._start(*arguments)
    self.assertIn(
        'Expected the number of processes', process.communicate()[1]
    )
    self.assertEqual(process.returncode, 2)


class TpuPodTest(parameterized.TestCase):

  def _run(self, *arguments, **environment):
    given = {'DRY_RUN': '1', 'ZONE': 'us-west4-a', **environment}
    return subprocess.run(
        [str(ROOT / 'launch' / 'tpu_pod.sh'), *arguments],
        env=os.environ | given,
        capture_output=True,
        text=True,
        check=False,
    )

  def _commands(self, *arguments, **environment):
    """Returns the words of each command that the script would run."""
    done = self._run(*arguments, **environment)
    self.assertEqual(done.returncode, 0, done.stderr)
    # `printf %q` writes newlines as $'...', which only bash reads back.
    read_back = 'while IFS= read -r line; do eval "words=($line)"; '
    read_back += 'printf "%s\\0" "${words[@]}" ""; done'
    words = subprocess.run(
        ['bash', '-c', read_back],
        input=done.stdout,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split('\0')
    commands, found = [[]], words[:-1]
    for word in found:
      if word:
        commands[-1].append(word)
      else:
        commands.append([])
    return commands[:-1]

  def test_create_asks_for_the_slice(self):
    (command,) = self._commands(
        'create', TYPE='v5litepod-8', TPU_NAME='mine', SPOT='1'
    )
    self.assertEqual(
        command,
        [
            *'gcloud compute tpus tpu-vm create mine'.split(),
            '--zone=us-west4-a',
            '--accelerator-type=v5litepod-8',
            '--version=v2-alpha-tpuv5-lite',
            '--spot',
        ],
    )

  def test_install_goes_to_every_host(self):
    archive, copy, install, mount = self._commands(
        'install', SHARE='10.0.0.2:/share'
    )
    self.assertEqual(archive[:2], ['git', 'archive'])
    for command in (copy, install, mount):
      self.assertIn('--worker=all', command)
    self.assertIn('source launch/environment.sh tpu', install[-1])
    self.assertIn('PYTHON="$(launch/newest_python.sh)"', install[-1])
    self.assertIn(
        'mount -t nfs -o lookupcache=positive 10.0.0.2:/share /mnt/adaptanet',
        mount[-1],
    )
    self.assertLen(self._commands('install'), 3)

  def test_a_new_host_that_updates_itself_is_waited_for(self):
    *_, install, mount = self._commands('install', SHARE='10.0.0.2:/share')
    folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    # At first, another apt-get is at work.
    for name, code in (
        ('sudo', 'exec "$@"'),
        ('sleep', 'echo "sleep $1" >> told'),
        ('apt-get', 'echo "$@" >> told; (($(wc -l < told) > 2))'),
    ):
      (folder / name).write_text(f'#!/usr/bin/env bash\n{code}\n')
      (folder / name).chmod(0o755)
    code = install[-1]
    subprocess.run(
        ['bash', '-ec', code[code.index('if !') : code.index('PYTHON=')]],
        cwd=folder,
        env=os.environ | {'PATH': f'{folder}:{os.environ["PATH"]}'},
        capture_output=True,
        check=True,
    )
    waits = '-qq -o DPkg::Lock::Timeout=600 install -y'
    self.assertEqual(
        (folder / 'told').read_text().splitlines(),
        ['-qq update', 'sleep 10', '-qq update',
         f'{waits} python3.12 python3.12-venv'],
    )
    self.assertIn(waits, mount[-1])

  def test_a_job_that_runs_is_not_started_twice(self):
    """Runs here the commands that a host would be told to run."""
    home = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    launch = home / 'adaptanet_jax' / 'launch'
    launch.mkdir(parents=True)
    local = launch / 'local.sh'
    local.write_text(
        '#!/usr/bin/env bash\n'
        'trap \'echo saved; exit 75\' TERM\n'
        'printf "%s|" "$EXTRA" "$@"; echo\n'
        'while :; do sleep .05; done\n'
    )
    local.chmod(0o755)
    flags = ('--config=c', '--config.cascade.epochs=(1., 2.)')

    def on_host(*arguments):
      (command,) = self._commands(*arguments)
      self.assertEqual(command[-2], '--worker=all')
      told = command[-1].removeprefix('--command=')
      return subprocess.run(
          ['bash', '-c', told],
          cwd=home,
          capture_output=True,
          text=True,
          timeout=60,
          check=True,
      ).stdout

    self.assertEqual(on_host('stop'), 'It does not run.\n')
    self.assertEqual(on_host('run', *flags), '')
    log = home / 'adaptanet_jax' / 'job.log'
    end = time.monotonic() + 60.0
    while not log.exists() or '|' not in log.read_text():
      self.assertLess(time.monotonic(), end)
      time.sleep(0.05)
    self.assertEqual(on_host('run', *flags), 'It runs already.\n')
    self.assertEqual(on_host('stop'), '')
    self.assertEqual(
        log.read_text(), f'tpu|{flags[0]}|{flags[1]}|\nsaved\n'
    )

  @parameterized.parameters(
      ('logs', ['ssh', 'adaptanet', '--zone=us-west4-a', '--worker=0']),
      ('delete', ['delete', 'adaptanet', '--zone=us-west4-a', '--quiet']),
  )
  def test_the_rest(self, step, words):
    (command,) = self._commands(step)
    self.assertEqual(command[4:8], words)

  @parameterized.parameters(
      ('create', 'echo READY', 0, 'adaptanet is there already: READY.'),
      ('create', 'echo "WARNING: old" >&2; echo READY', 0,
       'adaptanet is there already: READY.'),
      ('create', 'echo PREEMPTED', 1,
       'adaptanet is there already: PREEMPTED.\nIt does not come back. After '
       'delete, create and install, run resumes a job whose workdir is on a '
       'share.'),
      ('delete', 'echo "ERROR: NOT_FOUND: Resource" >&2; exit 1', 0,
       'adaptanet is not there.'),
      # It may be there, and cost something.
      ('create', 'echo "ERROR: no login" >&2; exit 1', 1, 'ERROR: no login'),
      ('delete', 'echo "ERROR: no login" >&2; exit 1', 1, 'ERROR: no login'),
  )
  def test_a_slice_is_not_taken_for_absent(self, step, answer, code, told):
    folder = self.enter_context(tempfile.TemporaryDirectory())
    gcloud = pathlib.Path(folder) / 'gcloud'
    gcloud.write_text(
        '#!/usr/bin/env bash\n'
        f'[[ "$4" != describe ]] || {{ {answer}; exit; }}\n'
        'echo "$4"\n'
    )
    gcloud.chmod(0o755)
    done = self._run(
        step, DRY_RUN='', TYPE='v5litepod-8',
        PATH=f'{folder}:{os.environ["PATH"]}',
    )
    self.assertEqual(
        (done.returncode, done.stdout, done.stderr), (code, '', f'{told}\n')
    )

  @parameterized.parameters(
      ((), {}, 'No step was given'),
      (('jump',), {}, "Unknown step 'jump'"),
      (('run',), {}, 'run got no flags'),
      (('create',), {}, 'TYPE is not set'),
      (('logs',), {'ZONE': ''}, 'ZONE is not set'),
  )
  def test_what_is_missing_is_named(self, arguments, environment, text):
    done = self._run(*arguments, **environment)
    self.assertEqual((done.returncode, done.stdout), (2, ''))
    self.assertIn(text, done.stderr)


class SlurmTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    (self.root / 'launch').mkdir()
    (self.root / 'bin').mkdir()
    (self.root / 'launch' / 'environment.sh').write_text(
        'echo "set up $1 $PYTHON"\n'
    )
    newest = self.root / 'launch' / 'newest_python.sh'
    newest.write_text(
        '#!/usr/bin/env bash\n[[ "$NEWEST" ]] && echo "$NEWEST"\n'
    )
    newest.chmod(0o755)
    for name in ('srun', 'scontrol'):
      path = self.root / 'bin' / name
      path.write_text(
          f'#!/usr/bin/env bash\necho {name} "$EXTRA" "$@"\n'
          + 'exit "$CODE"\n' * (name == 'srun')
      )
      path.chmod(0o755)

  def _run(self, *arguments, **environment):
    path = f'{self.root}/bin:{os.environ["PATH"]}'
    given = {
        'PATH': path,
        'SLURM_SUBMIT_DIR': str(self.root),
        'SLURM_JOB_ID': '7',
        'SLURM_CPUS_PER_TASK': '3',
        'CODE': '0',
        'NEWEST': 'python3.12',
        'PYTHON': '',
    }
    return subprocess.run(
        ['bash', str(ROOT / 'launch' / 'slurm.sh'), *arguments],
        env=os.environ | given | environment,
        capture_output=True,
        text=True,
        check=False,
    )

  def test_it_sets_up_once_and_starts_a_process_for_each_gpu(self):
    done = self._run('--config=c', '--workdir=d')
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertEqual(
        done.stdout.splitlines(),
        [
            'set up cuda python3.12',
            'srun cuda --cpus-per-task=3 --kill-on-bad-exit=0 launch/local.sh '
            '--config=c --workdir=d',
        ],
    )

  @parameterized.parameters(
      ({'PYTHON': 'mine'}, 'mine'), ({'NEWEST': ''}, '')
  )
  def test_another_python(self, environment, expected):
    done = self._run('--config=c', **environment)
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertStartsWith(done.stdout, f'set up cuda {expected}\n')

  def test_a_job_that_saved_goes_back_into_the_queue(self):
    done = self._run('--config=c', CODE='75')
    self.assertEqual(done.returncode, 75)
    self.assertEndsWith(done.stdout, 'scontrol cuda requeue 7\n')
    done = self._run('--config=c', CODE='1')
    self.assertEqual(done.returncode, 1)
    self.assertNotIn('scontrol', done.stdout)

  def test_a_dry_run_only_prints(self):
    done = self._run('--config=c', DRY_RUN='1')
    self.assertEqual(done.returncode, 0)
    self.assertEndsWith(done.stdout, 'launch/local.sh --config=c\n')
    self.assertNotIn('set up cuda', done.stdout)

  def test_no_flags_are_refused(self):
    done = self._run()
    self.assertEqual(done.returncode, 2)
    self.assertIn('expected --config and --workdir', done.stderr)

  @parameterized.parameters('4', 'a100:4')
  def test_gpus_without_a_process_are_refused(self, gpus):
    counts = {'SLURM_GPUS_PER_NODE': gpus, 'SLURM_NTASKS_PER_NODE': '1'}
    done = self._run('--config=c', **counts)
    self.assertEqual(done.returncode, 2)
    self.assertIn('--ntasks-per-node=4', done.stderr)
    self.assertEqual(done.stdout, '')

  @parameterized.parameters(('4', '4'), ('a100:4', '4'), ('a100', '1'))
  def test_a_process_for_each_gpu_is_not_refused(self, gpus, tasks):
    counts = {'SLURM_GPUS_PER_NODE': gpus, 'SLURM_NTASKS_PER_NODE': tasks}
    done = self._run('--config=c', **counts)
    self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == '__main__':
  absltest.main()
