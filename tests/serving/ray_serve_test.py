# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of launch/ray_serve.py: options given to Ray, and the replicas."""

import contextlib
import importlib.util
import sys
from unittest import mock

from absl.testing import absltest, parameterized

from adaptanet_jax.errors import UsageError
from adaptanet_jax.serving import app, profile, start
from adaptanet_jax.serving.refusals import Limits
from tests.serving import fakes
from tests.testing import ROOT


class RayServeTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    # Ray is not installed for tests.
    self.ray = mock.MagicMock()
    self.ray.serve.ingress = lambda: lambda replica: replica
    self.enter_context(mock.patch.dict(
        sys.modules, {'ray': self.ray, 'ray.serve': self.ray.serve}
    ))
    spec = importlib.util.spec_from_file_location(
        'ray_serve', ROOT / 'launch' / 'ray_serve.py'
    )
    self.module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(self.module)

  def _args(self, *flags):
    return self.module.parser().parse_args(['--model=x', *flags])

  @parameterized.parameters(
      # 400 requests a second, each taking 50 of at most 100 ms.
      (('--rate=400', '--slo_ms=100'), 20.0),
      (('--rate=1',), 1.0),
  )
  def test_replicas_are_started_as_the_rate_and_the_deadline_have_it(
      self, flags, expected
  ):
    args = self._args('--max_replicas=3', '--cpus=1.5', *flags)
    self.module.application(args, 'a-token')
    (replica,), options = self.ray.serve.deployment.call_args
    self.assertEqual(
        options['autoscaling_config'],
        {
            'min_replicas': 1,
            'max_replicas': 3,
            'target_ongoing_requests': expected,
        },
    )
    # Its threads are as many as its CPUs.
    self.assertEqual(
        options['ray_actor_options'],
        {
            'num_cpus': 1.5,
            'num_gpus': 0.0,
            'runtime_env': {'env_vars': {'NPROC': '2'}},
        },
    )
    self.assertIs(replica, self.module.Replica)
    bound = self.ray.serve.deployment.return_value.bind
    bound.assert_called_once_with(args, 'a-token')

  @parameterized.parameters(
      (('--min_replicas=5',), '--min_replicas=5; expected .* from 0 to 4'),
      (('--rate=nan',), '--rate=nan; expected'),
      (('--ongoing=0',), '--ongoing=0; expected'),
      (('--slo_ms=0',), '--slo_ms=0.0; expected'),
      (('--token_file=x',), '--token_file; expected --require_token with it'),
      # 257 requests a second, each taking 500 of at most 1,000 ms.
      (('--rate=257', '--slo_ms=1000'), '--ongoing=128; expected at least 129'),
  )
  def test_flags_that_do_not_fit(self, flags, message):
    with self.assertRaisesRegex(UsageError, message):
      self.module.check(self._args(*flags))

  @parameterized.parameters(
      # What there is of replicas, second by second, and whether it goes on.
      ('HEALTH_CHECK_FAILED', [{'RUNNING': 1, 'STARTING': 1}], True),
      ('HEALTH_CHECK_FAILED', [{}, {'STARTING': 2}, {'RUNNING': 1}], True),
      ('REPLICA_STARTUP_FAILED', [{'STARTING': 1}, {'RUNNING': 1}], True),
      ('REPLICA_STARTUP_FAILED', [{'STARTING': 1}, {'STOPPING': 1}, {}], False),
  )
  def test_it_ends_only_if_none_can_be_started(self, trigger, states, goes_on):
    self.ray.serve.run.side_effect = RuntimeError('Deploying failed')
    self.ray.serve.status.side_effect = [
        mock.Mock(applications={'adaptanet': mock.Mock(deployments={
            'Replica': mock.Mock(
                status_trigger=trigger,
                replica_states=found,
                message='Traceback:\n  line\nE: no model x\n',
            )
        })})
        for found in states
    ]
    expected = contextlib.nullcontext() if goes_on else self.assertRaisesRegex(
        UsageError, '^No replica could be started: E: no model x$'
    )
    with mock.patch.object(self.module.time, 'sleep') as slept, expected:
      self.module.deploy('app')
    self.assertLen(slept.mock_calls, len(states) - 1)
    self.ray.serve.run.assert_called_once_with('app', name='adaptanet')

  def test_what_ray_does_not_know_is_its_own_error(self):
    self.ray.serve.run.side_effect = RuntimeError('no such application')
    self.ray.serve.status.return_value.applications = {}
    with self.assertRaisesRegex(RuntimeError, 'no such application'):
      self.module.deploy('app')

  def test_a_replica_is_the_application_with_all_flags(self):
    args = self._args(
        '--slo_ms=70', '--queue_limit=3', '--menu=a,b', '--policy=p',
        '--max_batch=8', '--cache_dir=/cache', '--require_token',
        '--max_pixels=99',
    )
    loaded = fakes.FakeEngine()
    with (
        mock.patch.object(start, 'load_engine', return_value=loaded) as load,
        mock.patch.object(
            profile, 'create', return_value=fakes.profile()
        ) as create,
        mock.patch.object(profile, 'prepare', side_effect=str) as prepare,
        mock.patch.object(app, 'create_app') as create_app,
    ):
      replica = self.module.Replica(args, fakes.TOKEN)
      self.assertIs(
          replica.__serve_build_asgi_app__(), create_app.return_value
      )
    prepare.assert_called_once_with('/cache')
    load.assert_called_once_with('x')
    create.assert_called_once_with(
        loaded,
        start.profile.Asked(
            '/cache', sizes=(1, 2, 4, 8), names=('a', 'b'), policy='p'
        ),
    )
    (service,), options = create_app.call_args
    self.assertEqual((service.name, service.seconds), ('model', 0.07))
    self.assertIs(service.engine, loaded)
    self.assertEqual(
        options,
        {
            'loader': None,
            'token': fakes.TOKEN,
            'token_for_all': True,
            'limits': Limits(pixels=99),
        },
    )
    replica.check_health()
    with mock.patch.object(service.batcher, '_thread') as thread:
      thread.is_alive.return_value = False
      with self.assertRaisesRegex(RuntimeError, 'Batches fail'):
        replica.check_health()
    service.batcher.health.failures = 3
    with self.assertRaisesRegex(RuntimeError, 'Batches fail'):
      replica.check_health()


if __name__ == '__main__':
  absltest.main()
