# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.serving.jax_engine, profile and policies."""

import concurrent.futures
import dataclasses
import functools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from unittest import mock
import urllib.request

from absl.testing import absltest, parameterized
import jax
import numpy as np
from PIL import Image
import tritonclient.http as triton

import adaptanet_jax
from adaptanet_jax import serve as serve_lib
from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation import policies as policies_lib
from adaptanet_jax.inference.load import load
from adaptanet_jax.models.subnet import UNIFORM
from adaptanet_jax.serving import (
  allowed,
  controller,
  flags,
  items,
  policies,
  profile as profile_lib,
)
from adaptanet_jax.serving.jax_engine import JaxEngine
from adaptanet_jax.serving.service import Service
from tests import testing
from tests.inference import bundle_test
from tests.serving import fakes

_SIZES = (1, 4, 16)
_MENU = (
    '0.25d-0.25d-0.25d-0.25d', '0.25-0.25-0.25-0.25', '1.0-1.0-1.0-1.0'
)


class EngineTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.root = pathlib.Path(tempfile.mkdtemp())
    cls.addClassCleanup(shutil.rmtree, cls.root)
    cls.net = bundle_test.supernet()
    cls.net.save(str(cls.root / 'bundle'))
    cls.engine = JaxEngine(
        adaptanet_jax.load(str(cls.root / 'bundle'))
    )
    cls.profile = cls._create(names=_MENU)

  @classmethod
  def _create(cls, begun=lambda: 0, **asked):
    asked = profile_lib.Asked(
        **{'folder': str(cls.root), 'sizes': _SIZES} | asked
    )
    return profile_lib.create(cls.engine, asked, begun=begun)

  @parameterized.product(name=_MENU, count=(1, 3, 16))
  def test_padding_changes_nothing(self, name, count):
    images = bundle_test.images(count)
    batch = items.Batch(
        self.engine,
        self.profile,
        controller.Margin(),
        controller.Decision(0, _MENU.index(name), count),
        [items.Item(x, 0, 0.0, {}, (), mock.Mock()) for x in images],
    )
    with mock.patch.object(self.engine, 'run', wraps=self.engine.run) as run:
      answers = batch.run()
    (padded, *_), _ = run.call_args
    self.assertLen(padded, {1: 1, 3: 4, 16: 16}[count])
    self.assertEqual([answer.subnet for answer in answers], [name] * count)
    np.testing.assert_allclose(
        np.stack([answer.logits for answer in answers]),
        self.engine.net(images, name),
        atol=1e-4,
    )

  @parameterized.parameters('together', 'alone')
  def test_a_menu_that_gives_no_numbers_is_neither_served_nor_kept(self, where):
    folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    run = self.engine.run

    def broken(images, name, start=0):
      logits, subnets = run(images, name, start)
      if images.any() and (len(images) > 1) == (where == 'together'):
        logits = np.full_like(logits, np.nan)
      return logits, subnets

    for _ in range(2):
      with mock.patch.object(self.engine, 'run', broken):
        with self.assertRaisesRegex(UsageError, 'gives numbers that are not'):
          self._create(folder=str(folder), names=_MENU[:1])
      self.assertEmpty([*folder.glob('*.json')])
    # Measured before, it is checked again.
    self._create(folder=str(folder), names=_MENU[:1])
    with mock.patch.object(self.engine, 'run', broken):
      with self.assertRaisesRegex(UsageError, 'gives numbers that are not'):
        self._create(folder=str(folder), names=_MENU[:1])

  def test_weights_identify_a_network(self):
    again = JaxEngine(adaptanet_jax.load(str(self.root / 'bundle')))
    self.assertEqual(again.weights, self.engine.weights)
    self.assertEqual(again.described, self.engine.described)
    variables = jax.tree.map(np.array, again.net.variables)
    jax.tree.leaves(variables)[0][...] += 1e-3
    with mock.patch.object(again.net, 'variables', variables):
      other = JaxEngine(again.net)
      self.assertNotEqual(other.weights, self.engine.weights)

  def test_what_was_measured_is_kept(self):
    self.assertEqual([e.name for e in self.profile.entries], list(_MENU))
    self.assertEqual(self.profile.seconds.shape, (3, 3))
    self.assertTrue((np.diff(self.profile.seconds) >= 0.0).all())
    again = self._create(names=_MENU)
    np.testing.assert_array_equal(again.seconds, self.profile.seconds)
    # A damaged profile is measured again.
    (path,) = self.root.glob('profile-*.json')
    kept = path.read_text()
    path.write_text('{"entries": []}')
    with self.assertLogs('absl', 'WARNING') as logs:
      again = self._create(names=_MENU)
    self.assertRegex(logs.output[0], f'{path.name} is damaged')
    self.assertEqual(again.seconds.shape, (3, 3))
    path.write_text(kept)

  def test_a_menu_may_have_short_names(self):
    folder = self.enter_context(tempfile.TemporaryDirectory())
    with mock.patch.object(profile_lib, '_measure', return_value=np.ones(3)):
      profile = self._create(folder=folder, names=['x0.25d'])
    self.assertEqual([entry.name for entry in profile.entries], [_MENU[0]])
    # So may a request.
    asked = {'subnet': 'x0.25d'}
    self.assertEqual(allowed.allowed_entries('', profile, asked, 0), (0,))

  @parameterized.parameters((0, True), (3, True), (4, False))
  def test_what_was_measured_beside_many_batches_is_not_kept(self, ran, kept):
    folder = self.enter_context(tempfile.TemporaryDirectory())
    # One entry at three sizes, ten times each: a tenth of that may run beside.
    counts = iter([5, 5 + ran])
    with mock.patch.object(profile_lib, '_measure', return_value=np.ones(3)):
      self._create(
          folder=folder, names=_MENU[:1], begun=lambda: next(counts)
      )
    self.assertLen([*pathlib.Path(folder).glob('*.json')], int(kept))

  def test_batches_that_run_while_a_menu_is_chosen_count(self):
    folder = self.enter_context(tempfile.TemporaryDirectory())
    ran = []

    def choose_menu(*_):
      ran.extend(range(100))
      return self.profile.entries

    with (
        mock.patch.object(profile_lib, '_measure', return_value=np.ones(9)),
        mock.patch.object(profile_lib, 'choose_menu', choose_menu),
        self.assertLogs('absl', 'WARNING') as logs,
    ):
      self._create(folder=folder, names=(), begun=lambda: len(ran))
    self.assertIn('100 batches ran while the menu was measured', logs.output[0])
    self.assertEmpty([*pathlib.Path(folder).glob('*.json')])

  @parameterized.parameters(('uniform', 8), ('subnet', 0), ('none', 0))
  def test_statistics_decide_what_can_run(self, calibrated, count):
    with mock.patch.object(self.net, 'calibrated', calibrated):
      runnable = JaxEngine(self.net).runnable
    self.assertLen(set(runnable), count)
    for name in runnable:
      self.assertLen(set(self.net.parse(name).stages), 1)

  def test_a_menu_has_only_what_can_run(self):
    # With statistics of the uniform subnets alone, no other one can.
    names = [f'{n}-{n}-{n}-{n}' for n in (1.0, 0.75, 0.5, 0.25)]
    with (
        mock.patch.object(
            self.engine, 'runnable', (*names, '1.0d-1.0d-1.0d-1.0d')
        ),
        mock.patch.object(self.engine, 'run', side_effect=AssertionError),
    ):
      entries = profile_lib.choose_menu(self.engine)
      with self.assertRaisesRegex(UsageError, 'Subnet 1.0-1.0-1.0-0.5 has no'):
        self._create(folder='', names=['1.0-1.0-1.0-0.5'])
    self.assertSameElements(
        [entry.name for entry in entries], [*names, '1.0d-1.0d-1.0d-1.0d']
    )

  def test_who_starts_together_measures_once(self):
    folder = self.enter_context(tempfile.TemporaryDirectory())
    measured = []

    def measure(runs):
      measured.append(len(runs))
      time.sleep(0.3)
      return np.ones(len(runs))

    create = functools.partial(self._create, folder=folder, names=_MENU[:1])
    with (
        mock.patch.object(profile_lib, '_measure', measure),
        concurrent.futures.ThreadPoolExecutor(2) as pool,
    ):
      found = [run.result() for run in [pool.submit(create) for _ in range(2)]]
    self.assertEqual(measured, [3])
    np.testing.assert_array_equal(found[0].seconds, found[1].seconds)

  def test_who_waited_for_one_that_failed_measures(self):
    folder = self.enter_context(tempfile.TemporaryDirectory())
    measured = []

    def measure(runs):
      measured.append(len(runs))
      time.sleep(0.3)
      if len(measured) == 1:
        raise RuntimeError('out of memory')
      return np.ones(len(runs))

    create = functools.partial(self._create, folder=folder, names=_MENU[:1])
    with (
        mock.patch.object(profile_lib, '_measure', measure),
        concurrent.futures.ThreadPoolExecutor(3) as pool,
    ):
      runs = [pool.submit(create) for _ in range(3)]
      concurrent.futures.wait(runs)
    self.assertEqual(measured, [3, 3])
    self.assertLen([run for run in runs if run.exception()], 1)
    self.assertLen([*pathlib.Path(folder).glob('*.json')], 1)

  def test_a_folder_that_cannot_be_written(self):
    file = self.enter_context(tempfile.NamedTemporaryFile())
    with mock.patch.object(profile_lib, '_measure', return_value=np.ones(3)):
      with self.assertLogs('absl', 'WARNING') as logs:
        profile = self._create(folder=f'{file.name}/x', names=_MENU[:1])
    self.assertEqual(profile.entries[0].name, _MENU[0])
    self.assertIn('cannot be locked (Not a directory)', logs.output[0])
    self.assertRegex(logs.output[1], 'cannot be written .*measures again')

  @parameterized.parameters(
      ({'names': ['x']}, "'x' is not a subnet"),
      ({'policy': 'x'}, "Unknown policy 'x'; expected one of .*joint/budget"),
  )
  def test_a_wrong_name_is_reported_before_anything_runs(self, asked, message):
    with (
        mock.patch.object(self.engine, 'run', side_effect=AssertionError),
        self.assertRaisesRegex(UsageError, message),
    ):
      self._create(**asked)

  def test_two_hundred_pictures_at_once_each_get_the_subnet_s_answer(self):
    images = bundle_test.images(200)
    service = Service('fake', self.engine, self.profile, seconds=20.0)
    running = self.enter_context(
        fakes.Running(self.engine, service=service)
    )
    # A third may take any subnet; a third is pinned to each of two.
    pins = [{}, {'subnet': _MENU[1]}, {'subnet': _MENU[2]}]

    def ask(n):
      return running.infer(images[n : n + 1], pins[n % 3])

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
      answers = list(pool.map(ask, range(200)))
    names = set()
    for n, (status, values) in enumerate(answers):
      self.assertEqual(status, 200, values)
      outputs = fakes.outputs(values)
      names.add(outputs['subnet'][0])
      np.testing.assert_allclose(
          outputs['logits'],
          self.net(images[n : n + 1], outputs['subnet'][0])[0],
          atol=1e-4,
      )
    self.assertLen(names, 3)


  def test_a_policy_chooses_for_each_and_its_rungs_are_on_the_menu(self):
    engine = JaxEngine(adaptanet_jax.load(str(self.root / 'bundle')))
    accuracies = engine.net.subnets['expected_top1']
    # Both rules of the policy are the same.
    (only,) = policies.rungs(engine, 'joint/budget', accuracies)
    self.assertEqual(only.name, 'joint/budget@1.00')
    mixture = engine.policies['joint/budget']
    others = policies_lib.Rule.fixed((0, 0, 0, 0), 2)
    engine.policies['joint/budget'] = dataclasses.replace(
        mixture, second=others
    )
    rungs = policies.rungs(engine, 'joint/budget', accuracies)
    self.assertEqual(
        [rung.name for rung in rungs],
        [f'joint/budget@{share}' for share in ('0.00', '0.50', '1.00')],
    )
    # Stage 1 has choice 2, stage 2 0 or 7, stage 3 4 or 1, stage 4 2; each
    # of two choices counts half.
    madds = engine.net.subnets['madds']
    expected = madds[np.ix_([2], [0, 7], [4, 1], [2])].mean()
    self.assertEqual(rungs[-1].madds, round(expected))
    self.assertEqual(rungs[0].madds, madds[0, 0, 0, 0])
    self.assertEqual(rungs[1].madds, round((expected + rungs[0].madds) / 2))
    images = bundle_test.images(3)
    logits, names = engine.run(images, rungs[1].name)
    routed, subnets = self.net.route(images, 'joint/budget')
    np.testing.assert_allclose(logits, routed, atol=1e-4)
    self.assertEqual(names, [*map(str, subnets)])

  def test_rungs_of_a_second_look(self):
    engine = JaxEngine(adaptanet_jax.load(str(self.root / 'bundle')))
    # Eight tenths of the gain come from the first half of the images.
    top1 = np.interp(np.arange(101), [0, 50, 100], [0.6, 0.76, 0.8])
    look = policies_lib.SecondLook(np.linspace(0.0, 1.0, 101), top1)
    mixture = policies_lib.Mixture(
        *(policies_lib.Rule.fixed((choice,) * 4, 2) for choice in (7, 0)),
        share=0.9,
        look=look,
    )
    engine.policies['joint/budget'] = mixture
    accuracies = np.zeros((8,) * 4)
    accuracies[7, 7, 7, 7], accuracies[0, 0, 0, 0] = 0.5, 0.6
    rungs = policies.rungs(engine, 'joint/budget', accuracies)
    self.assertEqual(
        [rung.name for rung in rungs],
        [f'joint/budget@{n}' for n in ('0.50', '0.90', '1.00')],
    )
    np.testing.assert_allclose(
        [rung.accuracy for rung in rungs], [0.58, 0.516, 0.5]
    )
    first, second = (int(engine.subnets['madds'][(n,) * 4]) for n in (7, 0))
    np.testing.assert_allclose(
        [rung.madds for rung in rungs],
        [first + second / 2, first + second / 10, first],
        atol=0.5,
    )
    # Half of the looks may be better than all, but not than both subnets.
    peak = np.interp(np.arange(101), [0, 50, 100], [0.6, 0.9, 0.8])
    engine.policies['joint/budget'] = dataclasses.replace(
        mixture, look=dataclasses.replace(look, top1=peak)
    )
    rungs = policies.rungs(engine, 'joint/budget', accuracies)
    self.assertEqual(rungs[0].name, 'joint/budget@0.50')
    self.assertEqual(rungs[0].accuracy, 0.6)
    # More looks are left out where they gain nothing.
    engine.policies['joint/budget'] = dataclasses.replace(
        mixture, look=dataclasses.replace(look, top1=np.minimum(top1, 0.63))
    )
    rungs = policies.rungs(engine, 'joint/budget', accuracies)
    self.assertEqual(
        [rung.name for rung in rungs],
        ['joint/budget@0.90', 'joint/budget@1.00'],
    )

  def test_rungs_take_the_time_of_what_each_rule_runs(self):
    engine = mock.Mock(
        policies={'a/drawn': mock.Mock(look=None), 'a/look': mock.Mock()},
        image_shape=(1, 1, 1),
    )
    names = ('a/drawn@0.25', 'a/drawn@1.00', 'a/look@0.75', 'a/look@0.00')
    entries = [controller.Entry(name, 0.5, 1) for name in (*names, _MENU[0])]
    # With sizes 1 and 4: all by the first rule of a/drawn, and by the second;
    # the same of a/look, whose second look comes after the first; a subnet.
    timed = np.array([4.0, 5.0, 8.0, 16.0, 3.0, 6.0, 5.0, 9.0, 1.0, 2.0])
    with mock.patch.object(profile_lib, '_measure', return_value=timed) as own:
      seconds = profile_lib._time(engine, entries, (1, 4))
    self.assertLen(own.call_args.args[0], 10)
    np.testing.assert_allclose(1e3 * seconds, [
        # Of four images three follow the second rule, padded to four, and one
        # the first; a single one may follow either.
        [8.0, 4.0 + 16.0],
        [4.0, 5.0],
        # One of four is looked at again.
        [5.0, 6.0 + (5.0 - 3.0)],
        [5.0, 9.0],
        [1.0, 2.0],
    ])

  @parameterized.parameters(1, 2, 3)
  def test_what_a_device_began_is_finished(self, number):
    images = bundle_test.images(3)
    net, subnet = self.engine.net, '0.25-0.25-0.25-0.25'
    x = images
    for n in range(1, number + 1):
      x = net._stages.run_stage(x, n, net.parse(subnet).stages[n - 1])
    expected, _ = self.engine.run(images, subnet)
    anchor = np.asarray(x, np.float32)
    found, _ = self.engine.run(anchor, subnet, number)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    # The same over HTTP, in float16.
    service = Service('fake', self.engine, self.profile, seconds=20.0)
    running = self.enter_context(
        fakes.Running(self.engine, service=service)
    )
    client = triton.InferenceServerClient(f'127.0.0.1:{running.port}')
    self.addCleanup(client.close)
    tensor = triton.InferInput(f'anchor_{number}', anchor.shape, 'FP16')
    tensor.set_data_from_numpy(anchor.astype(np.float16))
    asked = {'subnet': subnet, 'weights': self.engine.weights}
    self.assertEqual(
        client.get_model_metadata('fake')['weights'], asked['weights']
    )
    found = client.infer('fake', [tensor], parameters=asked)
    np.testing.assert_allclose(
        found.as_numpy('logits'), expected, atol=0.02 * np.abs(expected).max()
    )
    # It names the stages that ran here, and claims no accuracy.
    ran = '-'.join(['0.25'] * (4 - number))
    self.assertEqual(found.as_numpy('subnet').tolist(), [ran.encode()] * 3)
    self.assertEqual(found.get_response()['parameters'], {'subnet': ran})
    self.assertIsNone(found.as_numpy('accuracy'))
    for changed, message in (
        ({'min_accuracy': 0.1}, 'expected no min_accuracy'),
        ({'weights': 'others'}, "are 'others'; expected '[0-9a-f]{16}'"),
    ):
      with self.assertRaisesRegex(Exception, message):
        client.infer('fake', [tensor], parameters=asked | changed)
    with self.assertRaisesRegex(Exception, 'needs the parameter weights'):
      client.infer('fake', [tensor], parameters={'subnet': subnet})
    scaled = np.round(anchor / anchor.max() * 255.0).astype(np.uint8)
    tensor = triton.InferInput(f'anchor_{number}', anchor.shape, 'UINT8')
    tensor.set_data_from_numpy(scaled)
    with self.assertRaisesRegex(Exception, 'The scale of an anchor is None'):
      client.infer('fake', [tensor], parameters=asked)
    tensor._parameters['scale'] = float(anchor.max()) / 255.0
    found = client.infer('fake', [tensor], parameters=asked)
    np.testing.assert_allclose(
        found.as_numpy('logits'), expected, atol=0.1 * np.abs(expected).max()
    )


class MenuTest(parameterized.TestCase):

  def test_it_is_a_front_of_few_with_the_uniform_widths(self):
    engine = JaxEngine(bundle_test.supernet())
    rng = np.random.default_rng(0)
    times = rng.random((8,) * 4)
    self.enter_context(
        mock.patch.object(
            profile_lib, 'estimate', return_value=times
        )
    )
    menu = profile_lib.choose_menu(engine)
    names = [entry.name for entry in menu]
    self.assertLessEqual(len(menu), profile_lib.MOST_ENTRIES)
    self.assertContainsSubset([str(subnet) for subnet in UNIFORM], names)
    accuracies = engine.subnets['expected_top1']
    for entry in menu:
      code = tuple(profile_lib.Subnet.parse(entry.name).encode())
      self.assertEqual(entry.accuracy, accuracies[code])
      if entry.name not in [str(subnet) for subnet in UNIFORM]:
        # No subnet is as fast and more accurate.
        self.assertFalse(
            ((times <= times[code]) & (accuracies > accuracies[code])).any()
        )

  def test_estimates_add_up(self):
    engine = JaxEngine(bundle_test.supernet())
    milliseconds = np.arange(29.0) + 100.0
    self.enter_context(
        mock.patch.object(
            profile_lib, '_measure', return_value=milliseconds
        )
    )
    found = profile_lib.estimate(engine)
    # The largest takes 100 ms; then seven changes of each stage are timed.
    self.assertAlmostEqual(found[0, 0, 0, 0], 0.1)
    self.assertAlmostEqual(found[3, 0, 0, 2], 0.1 + 0.003 + 0.023)


_INTERRUPTED = """
import gc, os, signal
from adaptanet_jax import serve
serve._end_at_signals()
gc.callbacks.append(lambda *_: os.kill(os.getpid(), signal.SIGINT))
gc.collect()
"""


class ServeTest(parameterized.TestCase):

  def _run(self, *flags):
    command = [sys.executable, '-m', 'adaptanet_jax.serve', *flags]
    process = subprocess.Popen(
        command,
        cwd=testing.ROOT,
        env=testing.environment() | {'XLA_FLAGS': testing.xla_flags()},
        text=True,
        stderr=subprocess.PIPE,
    )
    self.addCleanup(process.stderr.close)
    self.addCleanup(process.wait)
    self.addCleanup(process.kill)
    return process

  def test_the_command_and_again_after_it_was_killed(self):
    root = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    bundle_test.supernet().save(str(root / 'bundle'))
    net = load(str(root / 'bundle'), backend='stages')
    image = bundle_test.images(1)
    port, measured = 0, set()
    for how in ('kill', 'terminate'):
      process = self._run(
          f'--model={root / "bundle"}', f'--cache_dir={root}', f'--port={port}',
          '--max_batch=1', f'--menu={_MENU[1]}', '--drain_seconds=0',
          '--slo_ms=20000',
      )
      lines = []
      while not lines or not lines[-1].startswith('Serving'):
        line = process.stderr.readline()
        self.assertTrue(line, lines)
        lines.append(line)
      self.assertIn(_MENU[1], ''.join(lines))
      address = lines[-1].split(' at ')[1].split(',')[0]
      with urllib.request.urlopen(
          f'{address}/v2/models/a-test/infer', fakes.body(image).encode()
      ) as answer:
        outputs = fakes.outputs(json.load(answer))
      self.assertEqual(outputs['subnet'], [_MENU[1]])
      np.testing.assert_allclose(
          outputs['logits'], net(image, _MENU[1])[0], atol=1e-4
      )
      # It takes the same port, and the profile of the first time.
      port = address.rpartition(':')[2]
      (profile,) = root.glob('profile-*.json')
      measured.add(profile.stat().st_mtime_ns)
      getattr(process, how)()
      status = process.wait(20)
    self.assertEqual(status, 0)
    self.assertLen(measured, 1)

  def test_a_machine_that_is_new_answers_before_all_is_measured(self):
    root = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    bundle_test.supernet().save(str(root / 'bundle'))
    process = self._run(
        f'--model={root / "bundle"}', f'--cache_dir={root}', '--port=0',
        '--max_batch=1', '--drain_seconds=0', '--slo_ms=20000',
    )
    menus = [[]]
    while len(menus) < 3:
      line = process.stderr.readline()
      self.assertTrue(line, menus)
      menus[-1].append(line.split()[0])
      if line.startswith('Serving'):
        address = line.split(' at ')[1].split(',')[0]
        menus.append([])
    # After a sentence each: a heading, subnets and the address.
    self.assertEqual(menus[0][2:-1], [str(UNIFORM[-1]), str(UNIFORM[0])])
    self.assertContainsSubset(map(str, UNIFORM), menus[1])
    with urllib.request.urlopen(f'{address}/v2/models/a-test') as answer:
      served = json.load(answer)['menu']
    self.assertGreater(len(served), len(UNIFORM))
    process.terminate()
    self.assertEqual(process.wait(20), 0)
    self.assertRegex(process.stderr.read(), 'adaptanet_jax.serve: Stopped.\n$')

  @parameterized.parameters(
      ((), "There is no model '/nowhere'; expected"),
      (('--slo_ms=0',), '--slo_ms=0.0; expected a number from 1'),
      (('--require_token',), 'expected --token_file with it'),
      (('--token_file=/nowhere',), '/nowhere: No such file'),
      (('--ssl_keyfile=x',), 'Expected both of --ssl_certfile and'),
      (
          (f'--ssl_keyfile={__file__}', f'--ssl_certfile={__file__}'),
          'expected a certificate and its key, not encrypted, as PEM',
      ),
      ((f'--token_file={sys.executable}',), 'holds no token; expected'),
      (('--name=a/b',), "--name='a/b'; expected up to 100 letters"),
  )
  def test_what_does_not_do_is_one_line(self, given, message):
    process = self._run('--model=/nowhere', '--port=0', *given)
    error = process.stderr.read()
    self.assertEqual(process.wait(60), 1)
    self.assertRegex(error, f'^adaptanet_jax.serve: .*{message}')
    self.assertLen(error.splitlines(), 1)

  def test_a_signal_while_it_loads(self):
    folder = self.enter_context(tempfile.TemporaryDirectory())
    pipe = os.path.join(folder, 'pipe')
    os.mkfifo(pipe)
    process = self._run('--model=/nowhere', f'--token_file={pipe}')
    with open(pipe, 'wb'):  # Once the process reads it.
      process.terminate()
      self.assertEqual(process.wait(60), 0)

  def test_an_interrupt_is_not_lost_while_garbage_is_collected(self):
    done = subprocess.run(
        [sys.executable, '-c', _INTERRUPTED],
        cwd=testing.ROOT, capture_output=True, text=True, check=False,
    )
    self.assertEqual(done.returncode, 128 + signal.SIGINT)
    self.assertEqual(done.stderr, 'adaptanet_jax.serve: Interrupted.\n')

  @parameterized.parameters('a..b', 70 * 'a')
  def test_what_is_no_address(self, host):
    with self.assertRaisesRegex(UsageError, f'listen at {host}:0 .not a'):
      serve_lib._bind(host, 0)

  def test_pictures_that_pillow_refuses_are_not_promised(self):
    args = serve_lib._parser().parse_args(['--model=x', '--max_pixels=0'])
    with self.assertRaises(UsageError) as caught:
      flags.check_service(args)
    most = int(re.search(r'to (\d+)', str(caught.exception))[1])
    # Pillow warns at a limit, and refuses twice as many.
    self.assertLessEqual(most, 2 * Image.MAX_IMAGE_PIXELS)

  def test_a_port_of_another_that_still_loads(self):
    with serve_lib._bind('127.0.0.1', 0) as other:
      with self.assertRaisesRegex(UsageError, 'Address already in use'):
        serve_lib._bind('127.0.0.1', other.getsockname()[1])

  def test_a_port_that_is_taken(self):
    with socket.create_server(('127.0.0.1', 0)) as other:
      port = other.getsockname()[1]
      process = self._run('--model=/nowhere', f'--port={port}')
      self.assertRegex(
          process.stderr.read(), f'Cannot listen at 127.0.0.1:{port} .Address'
      )
      self.assertEqual(process.wait(60), 1)


if __name__ == '__main__':
  absltest.main()
