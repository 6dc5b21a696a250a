# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of adaptanet_jax.serving.start."""

import os
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized

from adaptanet_jax import serve
from adaptanet_jax.serving import start
from tests.serving import fakes

_WHOLE = {
    'folder': '/cache', 'sizes': (1, 2, 4, 8, 16, 32), 'names': (),
    'policy': None,
}
_FEW = _WHOLE | {
    'sizes': (1, 32),
    'names': ('0.25-0.25-0.25-0.25', '1.0-1.0-1.0-1.0'),
}


class StartTest(parameterized.TestCase):

  def _create(self, *flags, is_kept=True):
    """Returns a server of these flags, and the menus that were created."""
    engine, menus = fakes.FakeEngine(), []
    engine.name = 'cifar100:medium'

    def create(own, asked):
      self.assertIs(own, engine)
      menus.append(asked)
      return fakes.profile()

    args = serve._parser().parse_args(
        ['--model=/models/x', '--cache_dir=/cache', *flags]
    )
    with (
        mock.patch.object(start, 'load_engine', return_value=engine),
        mock.patch.object(start.profile, 'prepare', str),
        mock.patch.object(start.profile, 'is_kept', return_value=is_kept),
        mock.patch.object(start.profile, 'create', create),
    ):
      return start.create_server(args, None, mock.Mock()), menus

  @parameterized.parameters(
      ((), 'cifar100-medium'), (('--name=mine',), 'mine')
  )
  def test_a_model_has_the_name_that_it_is_given(self, flags, expected):
    server, _ = self._create(*flags)
    self.assertEqual(server._service.name, expected)

  def test_an_included_model_keeps_its_name(self):
    self.addCleanup(os.chdir, os.getcwd())
    os.chdir(self.enter_context(tempfile.TemporaryDirectory()))
    os.mkdir('cifar100')  # `load` takes it for no model either.
    for model, expected in (
        ('cifar100', 'cifar100'),
        ('~', 'cifar100-medium'),
        ('.', 'cifar100-medium'),
    ):
      self.assertEqual(start.model_name(model, 'cifar100:medium'), expected)

  @parameterized.parameters(
      ((), True, _WHOLE),
      ((), False, _FEW),
      (('--max_batch=1',), False, _FEW | {'sizes': (1,)}),
      # What is asked for by name is measured before anything is answered.
      (('--menu=a,b',), False, _WHOLE | {'names': ('a', 'b')}),
      (('--policy=joint/budget',), False, _WHOLE | {'policy': 'joint/budget'}),
  )
  def test_a_menu_that_is_new_here_begins_with_two_subnets(
      self, flags, is_kept, expected
  ):
    _, menus = self._create(*flags, is_kept=is_kept)
    self.assertEqual(menus, [start.profile.Asked(**expected)])

  def test_the_rest_of_a_new_menu_is_all_that_was_asked_for(self):
    asked, engine = start.profile.Asked('/cache'), fakes.FakeEngine()
    with (
        mock.patch.object(start.profile, 'is_kept', return_value=False),
        mock.patch.object(start.profile, 'create') as create,
    ):
      _, rest = start._first(engine, asked)
      begun = mock.Mock()
      self.assertEqual(rest(begun), (engine, create.return_value))
    create.assert_called_with(engine, asked, begun=begun)


if __name__ == '__main__':
  absltest.main()
