# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A network of four stages that each run at any width, or shallower.

A stage chosen as a delta runs its delta substitute in place of all its blocks
but the last, the anchor block (Sec. IV-A); see `delta` and `layers`.

B = batch, H = height, W = width, C = channels.
"""

from collections.abc import Collection
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from adaptanet_jax import trees
from adaptanet_jax.models import delta as delta_lib, slimmable
from adaptanet_jax.models.architectures import ARCHITECTURES, Architecture
from adaptanet_jax.models.layers import (
  EXPANSION,
  NORMS,
  STEMS,
  Bottleneck,
  Head,
  Stage,
  Stem,
  normalize,
)
from adaptanet_jax.models.parts import (
  Variables,
  apply_part,
  collections_first,
)
from adaptanet_jax.models.subnet import (
  CHOICES,
  EVERY_UNIFORM,
  LARGEST,
  NUM_STAGES,
  WIDTH_CHOICES,
  StageChoice,
  Subnet,
  WidthMask,
)

# The parts of every collection: the network's own layers, and its deltas.
BACKBONE = 'backbone'
DELTA = 'delta'


@dataclasses.dataclass(frozen=True)
class ResNet:
  """A network that runs stage by stage at any widths and depths.

  Hashable and free of arrays: the static half of a network. Each collection of
  its variables is `{'backbone': {'stem', 'stage1', ..., 'stage4', 'head'},
  'delta': {'stage1', ..., 'stage4'}}`; a teacher is the same thing without
  substitutes, run at full width.

  Attributes:
    architecture: name in `architectures.ARCHITECTURES`.
    stem: name in `STEMS`.
    norm: one of `NORMS`.
    num_classes: outputs of the classifier.
    image_shape: `(H, W, C)` of the images.
    dtype: type of activations; parameters and norms are float32.
    axis_name: mapped axis over which batch statistics are averaged.
    delta: kind of its delta substitutes, name in `delta.KINDS`; None: it has
      none.
    anchors: whether stages end in anchors; otherwise the stages' outputs slim
      as well (USNet, DSNet).
  """

  architecture: str
  stem: str
  norm: str
  num_classes: int
  image_shape: tuple[int, int, int]
  dtype: str = 'float32'
  axis_name: str | None = None
  delta: str | None = None
  anchors: bool = True

  def __post_init__(self) -> None:
    for field, name, choices in (
        ('architecture', self.architecture, ARCHITECTURES),
        ('stem', self.stem, STEMS),
        ('norm', self.norm, NORMS),
        ('delta', self.delta or 'conv3x3', delta_lib.KINDS),
    ):
      if name not in choices:
        raise ValueError(
            f'Unknown {field} {name!r}; expected one of {sorted(choices)}.'
        )
    if self.delta and not self.anchors:
      raise ValueError(
          f'Delta substitutes {self.delta!r} write to anchors; expected a '
          'network with anchors, or without substitutes.'
      )

  @property
  def dimensions(self) -> Architecture:
    """The row of `ARCHITECTURES`."""
    return ARCHITECTURES[self.architecture]

  @property
  def choices(self) -> tuple[StageChoice, ...]:
    """The ways to run a stage, in the order of `StageChoice.index`."""
    return CHOICES if self.delta else WIDTH_CHOICES

  @property
  def uniform(self) -> tuple[Subnet, ...]:
    """The subnets that run all stages alike, in the order of `choices`."""
    return EVERY_UNIFORM[: len(self.choices)]

  @property
  def num_subnets(self) -> int:
    """Number of the combinations of `choices`."""
    return len(self.choices) ** NUM_STAGES

  def _channels(self, number: int) -> int:
    """Returns the channels of a stage's output; for stage 0, of the images."""
    if number == 0:
      return self.image_shape[-1]
    return EXPANSION * self.dimensions.planes[number - 1]

  def _head(self) -> Head:
    return Head(self._channels(NUM_STAGES), self.num_classes)

  def _stem(self) -> Stem:
    return Stem(
        self.stem, self.dimensions.stem_channels, self.norm, self.axis_name
    )

  def _stage(self, number: int) -> Stage:
    return Stage(
        self.norm,
        self.dimensions.depths[number - 1],
        self.dimensions.planes[number - 1],
        strides=_strides(number),
        anchor=self.anchors,
        axis_name=self.axis_name,
    )

  def _substitute(self, number: int) -> delta_lib.DeltaSubstitute:
    if not self.delta:
      raise ValueError(
          f'Stage {number} has no delta substitute; expected a choice among '
          f'{", ".join(map(str, self.choices))}.'
      )
    return delta_lib.DeltaSubstitute(
        self.delta,
        self.norm,
        self.dimensions.planes[number - 1],
        strides=_strides(number),
        axis_name=self.axis_name,
    )

  @property
  def without_delta(self) -> 'ResNet':
    """The same network without delta substitutes."""
    return dataclasses.replace(self, delta=None)

  @property
  def folded(self) -> 'ResNet':
    """The network that runs on the variables that `fold` returns."""
    return dataclasses.replace(self, norm=NORMS[self.norm].folded or self.norm)

  def fold(self, variables: Variables) -> Variables:
    """Standardises the kernels once for all subnets, if the norm needs it.

    Otherwise the layers standardise them at every run of every branch.

    Args:
      variables: collections of the network, or of a part of it.

    Returns:
      Collections of the same shapes; `folded` computes the same from them.
    """
    if not NORMS[self.norm].folded:
      return variables
    return _fold(variables)

  @property
  def anchor_shapes(self) -> tuple[tuple[int, int, int], ...]:
    """`(H, W, C)` of the four anchors."""
    return _anchor_shapes(self)

  def init(self, rng: jax.Array) -> Variables:
    """Draws the variables of the backbone."""
    rngs = dict(zip(('stem', *map(stage_name, stage_numbers()), 'head'),
                    jax.random.split(rng, NUM_STAGES + 2)))
    full: dict[str, Any] = {'rho': 1.0, 'train': False}
    x: Any = jnp.zeros((1, *self.image_shape), jnp.float32)
    parts: dict[str, Any] = {}
    x, parts['stem'] = self._stem().init_with_output(rngs['stem'], x, **full)
    for n in stage_numbers():
      name = stage_name(n)
      x, parts[name] = self._stage(n).init_with_output(
          rngs[name], x, WidthMask.full(x.shape[-1]), **full
      )
    parts['head'] = self._head().init(rngs['head'], x)
    return collections_first(BACKBONE, parts)

  def init_delta(self, rng: jax.Array) -> Variables:
    """Draws the variables of the delta substitutes, to be merged with `init`'s.
    """
    parts = {}
    for n, key in zip(stage_numbers(), jax.random.split(rng, NUM_STAGES)):
      channels = (
          self.dimensions.stem_channels if n == 1 else self._channels(n - 1)
      )
      parts[stage_name(n)] = self._substitute(n).init(
          key,
          jnp.zeros((1, 4, 4, channels)),
          WidthMask.full(channels),
          rho=1.0,
          train=False,
      )
    return collections_first(DELTA, parts)

  def shapes(self) -> Variables:
    """Returns the shapes of its variables, including its delta substitutes."""
    return _shapes(self)

  def run_stage(
      self,
      variables: Variables,
      x: jax.Array,
      number: int,
      choice: StageChoice,
      *,
      moving: Collection[str] = (),
  ) -> tuple[jax.Array, Variables]:
    """Runs one stage; stage 1 takes images and runs the stem as well.

    Args:
      variables: collections of the network, or of at least this stage.
      x: `(B, H, W, C)` images for stage 1, see `layers.normalize`; otherwise
        the previous stage's output: all of it, or its `active` channels.
      number: 1 to 4.
      choice: how the stage runs.
      moving: which of the parts `BACKBONE` and `DELTA` use batch statistics and
        update the running ones.

    Returns:
      The stage's output and the new batch statistics of `moving`, `{}` if there
      are none.

    Raises:
      ValueError: the choice is a delta substitute, which the network lacks.
    """
    run: dict[str, Any] = {'rho': choice.rho, 'moving': moving}
    name = stage_name(number)
    stem_stats: Variables = {}
    # The scope names the stage in profiles and compiled programs.
    with jax.named_scope(name):
      if number == 1:
        x = normalize(x)
      x = x.astype(self.dtype)
      in_mask = WidthMask(x.shape[-1], self._channels(number - 1))
      if number == 1:
        path = (BACKBONE, 'stem')
        x, stem_stats = apply_part(self._stem(), variables, path, x, **run)
        in_mask = WidthMask.at(choice.rho, self.dimensions.stem_channels)
      if choice.delta:
        substitute = self._substitute(number)
        x, stats = apply_part(
            substitute, variables, (DELTA, name), x, in_mask, **run
        )
        x, anchor_stats = self._run_anchor_block(variables, x, number, **run)
        stats = trees.merge(stats, anchor_stats)
      else:
        stage = self._stage(number)
        x, stats = apply_part(
            stage, variables, (BACKBONE, name), x, in_mask, **run
        )
    return x, trees.merge(stem_stats, stats)

  def _run_anchor_block(
      self, variables: Variables, x: jax.Array, number: int, **run: Any
  ) -> tuple[jax.Array, Variables]:
    """Runs a stage's last block on the channels that a substitute wrote."""
    planes = self.dimensions.planes[number - 1]
    in_mask = WidthMask(x.shape[-1], EXPANSION * planes)
    block = Bottleneck(
        self.norm,
        planes,
        strides=1,
        project=False,
        anchor=True,
        axis_name=self.axis_name,
    )
    name = f'block{self.dimensions.depths[number - 1]}'
    path = (BACKBONE, stage_name(number), name)
    (x, _), stats = apply_part(block, variables, path, x, in_mask, **run)
    return x, stats

  def active(
      self, x: jax.Array, number: int, choice: StageChoice
  ) -> jax.Array:
    """Cuts a stage's output, `(B, H, W, C)`, to the channels that it wrote."""
    if self.anchors:
      return x
    return x[..., : WidthMask.at(choice.rho, self._channels(number)).active]

  def run_head(self, variables: Variables, x: jax.Array) -> jax.Array:
    """Returns the float32 logits `(B, num_classes)` of stage 4's output."""
    params = {'params': variables['params'][BACKBONE]['head']}
    logits: Any = self._head().apply(params, x)
    return logits

  def forward(
      self, variables: Variables, images: jax.Array, subnet: Subnet = LARGEST
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Runs one subnet that is fixed at trace time.

    Args:
      variables: collections of the network.
      images: `(B, H, W, C)`, see `layers.normalize`.
      subnet: the sub-network to run.

    Returns:
      Logits `(B, num_classes)`, and the stages' outputs by name, `anchor1` to
      `anchor4`, each `(B, H, W, C)`.
    """
    features = {}
    x = images
    for n, choice in zip(stage_numbers(), subnet.stages):
      x, _ = self.run_stage(variables, x, n, choice)
      features[anchor_name(n)] = x
      x = self.active(x, n, choice)
    return self.run_head(variables, x), features


@jax.jit
def _fold(variables: Variables) -> Variables:
  return jax.tree_util.tree_map_with_path(_standardized, variables)


def _standardized(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
  """Standardises a leaf if it is the kernel of a `ConvNorm`."""
  _, part, *_, layer, name = (key.key for key in path)
  if part in (BACKBONE, DELTA) and layer != 'head' and name == 'kernel':
    return slimmable.standardize(leaf)
  return leaf


@functools.cache  # Every phase of a run asks for them.
def _shapes(net: ResNet) -> Variables:
  key = jax.random.key(0)
  shapes = jax.eval_shape(net.init, key)
  if net.delta:
    shapes = trees.merge(shapes, jax.eval_shape(net.init_delta, key))
  # If the trace of a mapped program is the first to ask, JAX adds that
  # program's layout, with which no other program could be compiled.
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), shapes)


@functools.cache
def _anchor_shapes(net: ResNet) -> tuple[tuple[int, int, int], ...]:
  images = jax.ShapeDtypeStruct((1, *net.image_shape), jnp.float32)

  def features(variables, images):
    return net.forward(variables, images, LARGEST)[1]

  anchors = jax.eval_shape(features, net.shapes(), images)
  return tuple(anchors[anchor_name(n)].shape[1:] for n in stage_numbers())


def _strides(number: int) -> int:
  return 1 if number == 1 else 2


def stage_numbers() -> range:
  """Returns 1 to 4, as the paper counts stages and anchors."""
  return range(1, NUM_STAGES + 1)


def stage_name(number: int) -> str:
  """Returns the key of a stage in a parameter tree."""
  return f'stage{number}'


def anchor_name(number: int) -> str:
  """Returns the key of a stage's output among the features."""
  return f'anchor{number}'
