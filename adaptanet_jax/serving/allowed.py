# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which entries of the menu may answer a request."""

from typing import Any

from adaptanet_jax.models.subnet import full_name
from adaptanet_jax.serving.controller import Profile
from adaptanet_jax.serving.refusals import RequestError, short


def allowed_entries(
    weights: str, profile: Profile, parameters: dict[str, Any], start: int
) -> tuple[int, ...]:
  """Returns the positions of the entries that may answer.

  Args:
    weights: those that are served, see `Engine`.
    profile: the menu.
    parameters: parameters of the request, see `protocol.PARAMETERS`.
    start: see `Engine.run`.

  Raises:
    RequestError: no entry meets the parameters, or they exclude each other; the
      weights are others, or an anchor does not tell which ones made it.
  """
  entries = profile.entries
  found = [n for n, e in enumerate(entries) if not e.policy]
  if start and 'weights' not in parameters:
    # The stages after an anchor would silently answer for another network.
    raise RequestError(
        400, 'An anchor needs the parameter weights, which names those that '
        'made it; expected what GET /v2/models/NAME told as weights when the '
        'network was put on the device.'
    )
  if parameters.get('weights', weights) != weights:
    raise RequestError(
        409, f'The weights are {short(parameters["weights"])}; expected '
        f'{weights!r}, those that are served.'
    )
  if start and 'min_accuracy' in parameters:
    raise RequestError(
        400, 'The accuracy of an answer to an anchor depends on what the '
        'device ran; expected no min_accuracy with it.'
    )
  if 'policy' in parameters:
    if start or 'subnet' in parameters:
      raise RequestError(
          400, 'A policy chooses subnets of images; expected no subnet and '
          'no anchor with it.'
      )
    found = _of_policy(profile, parameters['policy'], found)
  if 'subnet' in parameters:
    name = parameters['subnet']
    names = ', '.join(entries[n].name for n in found)
    found = [n for n in found if entries[n].name == full_name(name)]
    if not found:
      raise RequestError(
          400, f'{short(name)} is not on the menu; expected one of {names}.'
      )
  if 'min_accuracy' in parameters:
    least = parameters['min_accuracy']
    best = max(entries[n].accuracy for n in found)
    found = [n for n in found if entries[n].accuracy >= least]
    if not found:
      raise RequestError(
          400,
          f'No subnet that may answer has an accuracy of {least}; the best one '
          f'has {best:.4f}.',
      )
  return tuple(found)


def _of_policy(profile: Profile, policy: str, fixed: list[int]) -> list[int]:
  """Returns the rungs of a policy, and the subnets cheaper than all rungs."""
  entries = profile.entries
  rungs = [n for n, e in enumerate(entries) if e.policy == policy]
  if not rungs:
    names = {e.policy for e in entries if e.policy}
    expected = ' or '.join(sorted(names))
    raise RequestError(
        400,
        f'{short(policy)} is not a policy of this server; expected '
        f'{expected or "none: it was started without --policy"}.',
    )
  least = min(entries[n].madds for n in rungs)
  return sorted([n for n in fixed if entries[n].madds < least] + rungs)
