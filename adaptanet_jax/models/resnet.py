# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""ResNet with bottleneck blocks whose stages slim between fixed anchors.

Which channels slim (Sec. IV-A leaves it open): the stream of a stage keeps its
full 4 * planes channels. A block reads and writes its first rho * 4 * planes;
the last block of a stage, the ANCHOR block, writes all of them. The first block
reads the whole previous anchor, and its shortcut is full to full. Inner
channels are rho * planes. The stem slims with stage 1, the head never. With
this reading conv and dense MAdds at 224 px are within 3.1 % of the paper's.

B = batch, H = height, W = width, C = channels. `rho` is static everywhere.
"""

import dataclasses
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from adaptanet_jax import trees
from adaptanet_jax.models import slimmable
from adaptanet_jax.models.subnet import (
  LARGEST,
  NUM_STAGES,
  WIDTHS,
  StageChoice,
  Subnet,
  WidthMask,
)

EXPANSION = 4
# The part of every collection that the network's own layers live in.
BACKBONE = 'backbone'

# {'params': tree} and, where the norm keeps statistics, {'batch_stats': tree}.
Variables = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Architecture:
  """Shape of a network: one row of `ARCHITECTURES`.

  Attributes:
    depths: blocks of each stage.
    planes: inner channels of the blocks of each stage, at full width.
    stem_channels: channels of the stem, at full width.
  """

  depths: tuple[int, ...]
  planes: tuple[int, ...]
  stem_channels: int


def _architecture(depths: tuple[int, ...], planes: int) -> Architecture:
  return Architecture(
      depths, tuple(planes * 2**n for n in range(NUM_STAGES)), planes
  )


# Name = 3 * blocks + 2 layers, and the planes of stage 1 where not 64.
ARCHITECTURES = {
    'resnet50': _architecture((3, 4, 6, 3), 64),
    'resnet26': _architecture((2, 2, 2, 2), 64),
    'resnet26x32': _architecture((2, 2, 2, 2), 32),
    'resnet26x16': _architecture((2, 2, 2, 2), 16),
    'resnet26x8': _architecture((2, 2, 2, 2), 8),
}

# Kernel size and stride of the convolution, and whether a 3x3 stride-2
# max-pool follows it.
STEMS = {
    'imagenet': (7, 2, True),
    'cifar': (3, 1, False),
    'cifar_half': (3, 2, False),
}

NORMS = ('gn', 'ln', 'bn', 'bn_switchable')


class Norm(nn.Module):
  """Normalisation at a static width.

  Attributes:
    kind: one of `NORMS`. 'bn' shares statistics and affine parameters among
      widths; 'bn_switchable' keeps a set for each width (slimmable networks).
    axis_name: mapped axis over which batch statistics are averaged.
  """

  kind: str
  axis_name: str | None = None

  @nn.compact
  def __call__(
      self, x: jax.Array, mask: WidthMask, *, rho: float, train: bool
  ) -> jax.Array:
    switchable = self.kind == 'bn_switchable'
    shape = (len(WIDTHS),) * switchable + (mask.total,)
    row = WIDTHS.index(rho) if switchable else ...
    scale = self.param('scale', nn.initializers.ones, shape)
    bias = self.param('bias', nn.initializers.zeros, shape)
    if self.kind == 'gn':
      return slimmable.group_norm(x, scale, bias, mask)
    if self.kind == 'ln':
      return slimmable.layer_norm(x, scale, bias, mask)
    mean = self.variable('batch_stats', 'mean', jnp.zeros, shape)
    var = self.variable('batch_stats', 'var', jnp.ones, shape)
    x, new_mean, new_var = slimmable.batch_norm(
        x,
        scale[row],
        bias[row],
        mean.value[row],
        var.value[row],
        mask,
        train=train,
        axis_name=self.axis_name,
    )
    if train and not self.is_initializing():
      mean.value = mean.value.at[row].set(new_mean)
      var.value = var.value.at[row].set(new_var)
    return x


class ConvNorm(nn.Module):
  """A slimmable convolution and its normalisation."""

  norm: str
  size: int
  strides: int = 1
  axis_name: str | None = None

  @nn.compact
  def __call__(
      self,
      x: jax.Array,
      in_mask: WidthMask,
      out_mask: WidthMask,
      *,
      rho: float,
      train: bool,
  ) -> jax.Array:
    kernel = self.param(
        'kernel',
        nn.initializers.he_normal(),
        (self.size, self.size, in_mask.total, out_mask.total),
    )
    x = slimmable.conv(x, kernel, in_mask, out_mask, strides=self.strides)
    norm = Norm(self.norm, self.axis_name, name='norm')
    return norm(x, out_mask, rho=rho, train=train)


class Stem(nn.Module):
  """The convolution before stage 1; slims with it."""

  kind: str
  channels: int
  norm: str
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: jax.Array, *, rho: float, train: bool) -> jax.Array:
    size, strides, pool = STEMS[self.kind]
    conv = ConvNorm(self.norm, size, strides, self.axis_name, name='conv')
    out_mask = WidthMask.at(rho, self.channels)
    in_mask = WidthMask.full(x.shape[-1])
    x = nn.relu(conv(x, in_mask, out_mask, rho=rho, train=train))
    if pool:
      x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
    return x


class Bottleneck(nn.Module):
  """1x1, 3x3 (with the stride), 1x1, and a shortcut where shapes change.

  Attributes:
    norm: one of `NORMS`.
    planes: inner channels at full width.
    strides: stride of the 3x3 convolution and of the shortcut.
    project: whether a 1x1 shortcut maps the whole input to the whole stream.
    anchor: whether the block writes the whole stream, at any width.
    axis_name: mapped axis over which batch statistics are averaged.
  """

  norm: str
  planes: int
  strides: int
  project: bool
  anchor: bool
  axis_name: str | None = None

  @nn.compact
  def __call__(
      self, x: jax.Array, in_mask: WidthMask, *, rho: float, train: bool
  ) -> jax.Array:
    """Runs the block at width `rho`.

    Args:
      x: `(B, H, W, 4 * planes)` whole stream; `(B, H, W, C)` input of the
        stage if `project`.
      in_mask: the channels of `x` that the block reads.
      rho: width of the inner channels, and of the output unless `anchor`.
      train: whether batch statistics are used and moved.

    Returns:
      `(B, H / strides, W / strides, 4 * planes)` whole stream.
    """
    inner = WidthMask.at(rho, self.planes)
    total = EXPANSION * self.planes
    out_mask = WidthMask.at(1.0 if self.anchor else rho, total)

    def conv_norm(name, size, y, in_mask, out_mask, strides=1):
      layer = ConvNorm(self.norm, size, strides, self.axis_name, name=name)
      return layer(y, in_mask, out_mask, rho=rho, train=train)

    y = x[..., : in_mask.active]
    y = nn.relu(conv_norm('conv1', 1, y, in_mask, inner))
    y = nn.relu(conv_norm('conv2', 3, y, inner, inner, self.strides))
    y = conv_norm('conv3', 1, y, inner, out_mask)
    if self.project:
      full = WidthMask.full(total)
      x = conv_norm('shortcut', 1, x, in_mask, full, self.strides)
    written = nn.relu(x[..., : out_mask.active] + y)
    kept = x[..., out_mask.active :]
    if self.project:  # The rest of a fresh shortcut has not met a ReLU yet.
      kept = nn.relu(kept)
    return jnp.concatenate([written, kept], axis=-1)


class Stage(nn.Module):
  """A run of bottlenecks that ends in an anchor of fixed shape (Sec. III-B)."""

  norm: str
  depth: int
  planes: int
  strides: int
  axis_name: str | None = None

  @nn.compact
  def __call__(
      self, x: jax.Array, in_mask: WidthMask, *, rho: float, train: bool
  ) -> jax.Array:
    """Runs the stage at width `rho`.

    Args:
      x: `(B, H, W, C)` previous anchor, or the slimmed stem's output.
      in_mask: C of the previous channels; full for an anchor.
      rho: width of the stage.
      train: whether batch statistics are used and moved.

    Returns:
      `(B, H / strides, W / strides, 4 * planes)` anchor, at any width.
    """
    for n in range(self.depth):
      block = Bottleneck(
          self.norm,
          self.planes,
          strides=self.strides if n == 0 else 1,
          project=n == 0,
          anchor=n == self.depth - 1,
          axis_name=self.axis_name,
          name=f'block{n + 1}',
      )
      x = block(x, in_mask, rho=rho, train=train)
      in_mask = WidthMask.at(rho, EXPANSION * self.planes)
    return x


class Head(nn.Module):
  """Global average pooling and the classifier; never slims."""

  num_classes: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    # In float32: bfloat16 logits would tie among many classes.
    x = x.astype(jnp.float32).mean((1, 2))
    in_mask = WidthMask.full(x.shape[-1])
    out_mask = WidthMask.full(self.num_classes)
    kernel = self.param(
        'kernel',
        nn.initializers.lecun_normal(),
        (in_mask.total, out_mask.total),
    )
    bias = self.param('bias', nn.initializers.zeros, (out_mask.total,))
    return slimmable.dense(x, kernel, bias, in_mask, out_mask)


@dataclasses.dataclass(frozen=True)
class ResNet:
  """A network that runs stage by stage at any widths.

  Hashable and free of arrays: the static half of a network. Each collection of
  its variables is `{'backbone': {'stem', 'stage1', ..., 'stage4', 'head'}}`; a
  teacher is the same thing run at full width.

  Attributes:
    architecture: name in `ARCHITECTURES`.
    stem: name in `STEMS`.
    norm: one of `NORMS`.
    num_classes: outputs of the classifier.
    image_shape: `(H, W, C)` of the images.
    dtype: type of activations; parameters and norms are float32.
    axis_name: mapped axis over which batch statistics are averaged.
  """

  architecture: str
  stem: str
  norm: str
  num_classes: int
  image_shape: tuple[int, int, int]
  dtype: str = 'float32'
  axis_name: str | None = None

  def __post_init__(self) -> None:
    for field, name, choices in (
        ('architecture', self.architecture, ARCHITECTURES),
        ('stem', self.stem, STEMS),
        ('norm', self.norm, NORMS),
    ):
      if name not in choices:
        raise ValueError(
            f'Unknown {field} {name!r}; expected one of {sorted(choices)}.'
        )

  @property
  def shape(self) -> Architecture:
    """The row of `ARCHITECTURES`."""
    return ARCHITECTURES[self.architecture]

  def _stem(self) -> Stem:
    return Stem(
        self.stem, self.shape.stem_channels, self.norm, self.axis_name
    )

  def _stage(self, number: int) -> Stage:
    return Stage(
        self.norm,
        self.shape.depths[number - 1],
        self.shape.planes[number - 1],
        strides=1 if number == 1 else 2,
        axis_name=self.axis_name,
    )

  def anchor_shapes(self) -> tuple[tuple[int, int, int], ...]:
    """Returns `(H, W, C)` of the four anchors."""
    variables = jax.eval_shape(self.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((1, *self.image_shape), jnp.float32)

    def features(variables, images):
      return self.forward(variables, images, LARGEST)[1]

    anchors = jax.eval_shape(features, variables, images)
    return tuple(anchors[anchor_name(n)].shape[1:] for n in stage_numbers())

  def init(self, rng: jax.Array) -> Variables:
    """Draws the variables of the full-width network."""
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
    parts['head'] = Head(self.num_classes).init(rngs['head'], x)
    return _collections_first(parts)

  def run_stage(
      self,
      variables: Variables,
      x: jax.Array,
      number: int,
      choice: StageChoice,
      *,
      train: bool = False,
  ) -> tuple[jax.Array, Variables]:
    """Runs one stage; stage 1 takes images and runs the stem as well.

    Args:
      variables: collections of the network, or of at least this stage.
      x: `(B, H, W, C)` normalised images for stage 1, else the anchor before.
      number: 1 to 4.
      choice: how the stage runs.
      train: whether batch statistics are used and moved.

    Returns:
      The stage's anchor and the new batch statistics, `{}` if there are none.

    Raises:
      ValueError: the choice is a delta substitute, which the network lacks.
    """
    if choice.delta:
      raise ValueError(
          f'Stage {number} has no delta substitute to run as {str(choice)!r}; '
          f'expected a width in {WIDTHS}.'
      )
    x = x.astype(self.dtype)
    run: dict[str, Any] = {'rho': choice.rho, 'train': train}
    in_mask = WidthMask.full(x.shape[-1])
    stem_stats: Variables = {}
    if number == 1:
      x, stem_stats = _apply(self._stem(), variables, 'stem', x, **run)
      in_mask = WidthMask.at(choice.rho, self.shape.stem_channels)
    x, stats = _apply(
        self._stage(number), variables, stage_name(number), x, in_mask, **run
    )
    return x, trees.merge(stem_stats, stats)

  def run_head(self, variables: Variables, anchor: jax.Array) -> jax.Array:
    """Returns the float32 logits `(B, num_classes)` of the last anchor."""
    params = {'params': variables['params'][BACKBONE]['head']}
    logits: Any = Head(self.num_classes).apply(params, anchor)
    return logits

  def forward(
      self, variables: Variables, images: jax.Array, subnet: Subnet = LARGEST
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Runs one subnet, chosen at trace time: the static form.

    Args:
      variables: collections of the network.
      images: `(B, H, W, C)` normalised images.
      subnet: the sub-network to run.

    Returns:
      Logits `(B, num_classes)`, and the anchors by name, `anchor1` to
      `anchor4`, each `(B, H, W, C)`.
    """
    features = {}
    x = images
    for n, choice in zip(stage_numbers(), subnet.stages):
      x, _ = self.run_stage(variables, x, n, choice)
      features[anchor_name(n)] = x
    return self.run_head(variables, x), features


def stage_numbers() -> range:
  """Returns 1 to 4, as the paper counts stages and anchors."""
  return range(1, NUM_STAGES + 1)


def stage_name(number: int) -> str:
  """Returns the key of a stage in a parameter tree."""
  return f'stage{number}'


def anchor_name(number: int) -> str:
  """Returns the key of a stage's output among the features."""
  return f'anchor{number}'


def _collections_first(parts: dict[str, Variables]) -> Variables:
  """Turns {part: {collection: tree}} into {collection: {part: tree}}."""
  collections = {name for part in parts.values() for name in part}
  return {
      collection: {
          BACKBONE: {
              name: part[collection]
              for name, part in parts.items()
              if collection in part
          }
      }
      for collection in sorted(collections)
  }


def _apply(
    module: nn.Module, variables: Variables, name: str, *args: Any, train: bool,
    **kwargs: Any,
) -> tuple[jax.Array, Variables]:
  own = {
      collection: tree[BACKBONE][name]
      for collection, tree in variables.items()
      if name in tree[BACKBONE]
  }
  x: Any
  if not train or 'batch_stats' not in own:
    x = module.apply(own, *args, train=train, **kwargs)
    return x, {}
  x, new = module.apply(
      own, *args, train=train, mutable=['batch_stats'], **kwargs
  )
  return x, {BACKBONE: {name: new['batch_stats']}}
