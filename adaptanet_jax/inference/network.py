# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A trained supernet or baseline as a function of images.

There are two back ends. 'switch' is one program for all subnets. 'stages' has
one program for each choice of each stage, compiled when it is first used, with
its own copy of the weights; on a CPU it starts and runs faster (see
`models.stages`). 'auto' is 'stages' on a CPU and 'switch' otherwise.
"""

from collections.abc import Sequence
import dataclasses
import functools
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import trees
from adaptanet_jax.errors import UsageError
from adaptanet_jax.evaluation import (
  calibration as calibration_lib,
  policies as policies_lib,
  subnet_table,
)
from adaptanet_jax.evaluation.policies import Mixture
from adaptanet_jax.evaluation.subnet_table import SubnetTable
from adaptanet_jax.inference import pictures as pictures_lib
from adaptanet_jax.inference.about import About, Answer
from adaptanet_jax.models import jitted, routing, stages
from adaptanet_jax.models.gates import GateSet, margin
from adaptanet_jax.models.parts import Variables
from adaptanet_jax.models.resnet import ResNet
from adaptanet_jax.models.routing import Policy, Used
from adaptanet_jax.models.subnet import LARGEST, NUM_STAGES, Subnet

BACKENDS = ('auto', 'switch', 'stages')
_margin, _draw = jax.jit(margin), jax.jit(routing.draw)


@dataclasses.dataclass(eq=False, repr=False)
class Supernet:
  """All subnets of a run as one function; `load` returns one.

  Attributes:
    net: static half of the network.
    gates: static half of its Var Gates; None for a baseline and before the
      gates are trained.
    variables: collections of both, on the device.
    about: description of the network.
    subnets: the table of all subnets, for `within`; `{}` if they were not
      measured.
    policy_table: contents of `policies.json`, for `route`; `{}` if there are
      none.
    calibrated: which batch statistics it runs with, as for `load`.
    statistics: batch statistics of every subnet, unless that is 'none'.
    backend: one of `BACKENDS`.
    fast_compile: for `route` and the back end 'stages', see `compiler.options`.

  Raises:
    UsageError: there is no such back end.
  """

  net: ResNet
  gates: GateSet | None
  variables: Variables
  _: dataclasses.KW_ONLY
  about: About
  subnets: SubnetTable = dataclasses.field(default_factory=dict)
  policy_table: dict[str, Any] = dataclasses.field(default_factory=dict)
  calibrated: str = 'none'
  statistics: calibration_lib.Statistics = ()
  backend: str = BACKENDS[0]
  fast_compile: bool = False

  def __post_init__(self) -> None:
    """Folds the variables and puts them on the device."""
    if self.backend not in BACKENDS:
      raise UsageError(
          f'Unknown backend {self.backend!r}; expected one of '
          f'{", ".join(BACKENDS)}.'
      )
    self.variables = jax.device_put(self.net.fold(self.variables))
    self.net = self.net.folded
    if self.backend == 'auto':
      self.backend = 'stages' if jax.default_backend() == 'cpu' else 'switch'
    self._stages = None
    if self.backend == 'stages':
      self._stages = stages.Stages(
          self.net, self.variables, fast_compile=self.fast_compile
      )

  def __repr__(self) -> str:
    return (
        f'<{self.about.name}: {self.net.num_subnets:,} subnets, '
        f'uint8{list(self.net.image_shape)} to '
        f'{len(self.class_names)} classes>'
    )

  def __call__(
      self, images: np.ndarray | jax.Array, subnet: str | Subnet = LARGEST
  ) -> jax.Array:
    """Runs one subnet.

    With the back end 'switch', changing the subnet compiles nothing; with
    'stages', each choice of a stage is compiled when it is first used.

    Args:
      images: `uint8[B, H, W, C]`, of the shape that the network was trained on.
      subnet: such as `1.0-0.5d-0.25-1.0`: the width of each stage, d for delta.

    Returns:
      Logits `(B, num_classes)`.

    Raises:
      UsageError: the images or the subnet do not fit the network, or its
        BatchNorm was not calibrated for the subnet.
    """
    parsed = self.parse(subnet)
    images = self.check(images)
    found: Variables | None = None
    if self.calibrated != 'none':
      found = calibration_lib.of_subnet(
          self.statistics, parsed, self.calibrated
      )
    if self._stages:
      return self._stages(images, parsed, found)
    variables = trees.merge(self.variables, found) if found else self.variables
    return jitted.switched(self.net)(variables, images, parsed.encode())

  def finish(
      self, anchor: np.ndarray | jax.Array, number: int, subnet: str | Subnet
  ) -> jax.Array:
    """Runs the stages after an anchor: the second half of a split network.

    Args:
      anchor: `float[B, H, W, C]`, the output of stage `number`.
      number: number of the anchor, 1 to 3.
      subnet: as for a call; its first `number` choices are ignored.

    Returns:
      Logits `(B, num_classes)`.

    Raises:
      UsageError: the anchor does not fit, or the network has no anchors, runs
        with the back end 'switch' or with calibrated batch statistics.
    """
    if not self.net.anchors:
      raise UsageError(
          'A network without anchors cannot be split; expected an AdaptaNet.'
      )
    if not self._stages or self.calibrated != 'none':
      raise UsageError(
          'Only stages without calibrated statistics run on their own; '
          "expected load(..., backend='stages', calibration='none')."
      )
    if number not in range(1, NUM_STAGES):
      raise UsageError(f'There is no anchor {number}; expected 1, 2 or 3.')
    expected = self.anchor_shapes[int(number) - 1]
    anchor = pictures_lib.as_array(anchor)
    fits = anchor.shape[1:] == expected and len(anchor)
    if not (fits and jnp.issubdtype(anchor.dtype, jnp.floating)):
      raise UsageError(
          f'Anchor {number} is {anchor.dtype}{list(anchor.shape)}; expected '
          f'float[B, {", ".join(map(str, expected))}], B at least 1.'
      )
    x = jnp.asarray(anchor, self.net.dtype)
    for n, choice in list(enumerate(self.parse(subnet).stages, 1))[number:]:
      x = self._stages.run_stage(x, n, choice)
    return self._stages.run_head(x)

  @property
  def class_names(self) -> tuple[str, ...]:
    """Names of the classes, by label."""
    return self.about.class_names

  @property
  def anchor_shapes(self) -> tuple[tuple[int, int, int], ...]:
    """`(H, W, C)` of the four anchors."""
    return self.net.anchor_shapes

  @property
  def can_finish(self) -> bool:
    """Whether `finish` can be called."""
    return bool(
        self._stages and self.calibrated == 'none' and self.net.anchors
    )

  def within(self, madds: float) -> Subnet:
    """Returns the most accurate subnet within a budget of MAdds.

    Accuracies are estimated on the examples that policies are fitted to; see
    `budget.expected_top1`.

    Args:
      madds: the budget, in multiply-accumulates for one image.

    Raises:
      UsageError: no subnet is that cheap, or nothing was measured on held-out
        examples.
    """
    return subnet_table.best_within(self.subnets, madds)

  def classify(
      self,
      pictures: pictures_lib.Picture | Sequence[pictures_lib.Picture],
      subnet: str | Subnet | None = None,
      *,
      policy: str | None = None,
  ) -> list[Answer]:
    """Classifies pictures, scaled and cropped as in evaluation.

    Args:
      pictures: one or several paths of files, PIL images or `uint8[H, W, C]`
        arrays, of any size.
      subnet: as for a call; None: the policy's, or the largest.
      policy: as for `route`; the policy then chooses each picture's subnet.

    Returns:
      An answer for each picture, in order.

    Raises:
      UsageError: a picture cannot be read, both a subnet and a policy are
        given, or as a call or `route` does.
    """
    images = pictures_lib.to_batch(
        pictures, self.net.image_shape, self.about.shorter_side
    )
    return self.answer(images, subnet, policy=policy) if len(images) else []

  def answer(
      self,
      images: np.ndarray | jax.Array,
      subnet: str | Subnet | None = None,
      *,
      policy: str | None = None,
  ) -> list[Answer]:
    """Classifies images that already have the network's size.

    Args:
      images: as for a call.
      subnet: as for `classify`.
      policy: as for `classify`.

    Returns:
      An answer for each image, in order.

    Raises:
      UsageError: both a subnet and a policy are given, or as a call or `route`
        does.
    """
    if subnet is not None and policy is not None:
      raise UsageError(
          f'Both subnet {subnet} and policy {policy!r} are given; expected one '
          'of them.'
      )
    if policy is None:
      subnet = LARGEST if subnet is None else subnet
      logits = self(images, subnet)
      subnets = [self.parse(subnet)] * len(images)
    else:
      logits, subnets = self.route(images, policy)
    shares = np.asarray(jax.nn.softmax(logits))
    return [
        Answer(self.class_names[row.argmax()], float(row.max()), own)
        for row, own in zip(shares, subnets)
    ]

  def save(
      self,
      folder: str,
      examples: tuple[np.ndarray, np.ndarray] | None = None,
  ) -> None:
    """Writes a bundle, which `adaptanet_jax.load` reads; see `bundle.save`.

    Args:
      folder: folder to write; must not exist yet, or be empty.
      examples: images and labels to include, which `adaptanet_jax.examples`
        returns for the bundle; None: none.

    Raises:
      UsageError: the folder is not empty, or the examples do not fit.
    """
    from adaptanet_jax.inference import bundle  # It imports this module.

    bundle.save(self, folder, examples)

  def export(
      self,
      folder: str,
      *,
      format: str = 'onnx',
      memory: str = 'fast',
      subnets: Sequence[str | Subnet] | None = None,
      policies: bool = True,
      verify: bool = True,
  ) -> None:
    """Writes the network for other runtimes; see `export.folder.export`."""
    from adaptanet_jax.export import folder as export_lib

    export_lib.export(
        self, folder, format=format, memory=memory, subnets=subnets,
        policies=policies, verify=verify,
    )

  def route(
      self,
      images: np.ndarray | jax.Array,
      policy: str = 'joint/budget',
      *,
      share: float | None = None,
  ) -> tuple[jax.Array, list[Subnet]]:
    """Lets a policy pick a subnet for each image.

    For a policy that reads gates it compiles one program for each batch shape
    and each set of choices that the policy may take, with either back end.
    Others run each of their two subnets on the images that it is for. A part of
    a batch is padded to a power of two, and each size is compiled when it first
    occurs.

    Args:
      images: as for a call.
      policy: scope and name of one of `policies`.
      share: share of the images that follow the policy's first rule alone,
        which for `budget` is the cheaper one; with a second look, the share on
        the examples that the policy was made from. Default: the policy's own.

    Returns:
      Logits `(B, num_classes)`, and the subnet that they are from, for each
      image.

    Raises:
      UsageError: the images do not fit, there is no such policy, or the network
        has a BatchNorm and was not loaded with `calibration='none'`.
    """
    if self.calibrated != 'none':
      raise UsageError(
          'Routing runs each image under another subnet, with the batch '
          "statistics of training; expected load(..., calibration='none')."
      )
    if policy not in self.policies:
      raise UsageError(
          f'Unknown policy {policy!r}; expected one of '
          f'{", ".join(self.policies)}.'
          if self.policies
          else 'The run has no policies; expected an AdaptaNet, no baseline, '
          'whose phase policies is done.'
      )
    mixture = self.mixtures[policy]
    if share is not None:
      if not isinstance(share, numbers.Real) or not 0.0 <= share <= 1.0:
        raise UsageError(f'share = {share!r}; expected a number from 0 to 1.')
      mixture = dataclasses.replace(mixture, share=float(share))
    if not mixture.reads_gate:
      first, second = (Subnet.decode(r.subnet) for r, _ in mixture.rules)
      checked = np.asarray(self.check_shape(images))
      return self._run_two(checked, mixture, first, second)
    chosen, used = self._routed[policy]
    chosen = dataclasses.replace(chosen, share=jnp.float32(mixture.share))
    run = jitted.routed(
        self.net, self.gates, used, fast_compile=self.fast_compile
    )
    logits, subnets, _ = run(self.variables, self.check(images), chosen)
    return logits, [Subnet.decode(row) for row in np.asarray(subnets)]

  def _run_two(
      self, images: np.ndarray, mixture: Mixture, first: Subnet, second: Subnet
  ) -> tuple[jax.Array, list[Subnet]]:
    """Runs each image under one of two subnets, or one after the other."""
    if mixture.look:
      logits = np.array(self(images, first))
      follows = np.asarray(_margin(logits)) < mixture.margin
    else:
      logits = np.empty((len(images), len(self.class_names)), np.float32)
      follows = np.asarray(_draw(images)) >= mixture.share
      self._run_some(images, np.flatnonzero(~follows), first, logits)
    self._run_some(images, np.flatnonzero(follows), second, logits)
    return jnp.asarray(logits), [second if own else first for own in follows]

  def _run_some(
      self,
      images: np.ndarray,
      places: np.ndarray,
      subnet: Subnet,
      logits: np.ndarray,
  ) -> None:
    """Runs the images at some places, and writes their logits."""
    count = len(places)
    if count:
      # Few shapes, because each is compiled.
      size = min(len(images), 1 << (count - 1).bit_length())
      padded = np.resize(places, size)
      logits[places] = self(images[padded], subnet)[:count]

  @property
  def policies(self) -> list[str]:
    """Scopes and names of the policies that `route` knows."""
    rules = self.policy_table.get('rules', {})
    return [f'{scope}/{name}' for scope in rules for name in rules[scope]]

  @functools.cached_property
  def mixtures(self) -> dict[str, Mixture]:
    """The policies by scope and name, see `evaluation.policies`."""
    return {
        name: policies_lib.from_json(self.policy_table, *name.split('/'))
        for name in self.policies
    }

  @functools.cached_property
  def _routed(self) -> dict[str, tuple[Policy, Used]]:
    edges = self.policy_table['edges']
    found = {
        name: policies_lib.to_policy(mixture, edges)
        for name, mixture in self.mixtures.items()
    }
    return {name: (policy, policy.used) for name, policy in found.items()}

  def parse(self, subnet: str | Subnet) -> Subnet:
    """Parses a subnet; raises UsageError if the network does not have it."""
    parsed = Subnet.parse(str(subnet))
    if not set(parsed.stages) <= set(self.net.choices):
      raise UsageError(
          f'Subnet {subnet} has a delta stage, and the run has trained none; '
          f'expected choices among {", ".join(map(str, self.net.choices))}.'
      )
    return parsed

  def check(self, images: np.ndarray | jax.Array) -> jax.Array:
    """Returns images as a JAX array; raises UsageError if they do not fit."""
    return jnp.asarray(self.check_shape(images))

  def check_shape(
      self, images: np.ndarray | jax.Array
  ) -> np.ndarray | jax.Array:
    """Returns images as an array, where they are; raises as `check` does."""
    expected = self.net.image_shape
    images = pictures_lib.as_array(images)
    fits = images.shape[1:] == expected and len(images)
    if images.dtype != jnp.uint8 or not fits:
      raise UsageError(
          f'Images are {images.dtype}{list(images.shape)}; expected uint8[B, '
          f'{", ".join(map(str, expected))}], B at least 1.'
      )
    return images
