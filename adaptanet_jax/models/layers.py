# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The layers of a ResNet with bottleneck blocks that slim between anchors.

Which channels slim (Sec. IV-A leaves it open): the stream of a stage keeps its
full 4 * planes channels. A block reads and writes its first rho * 4 * planes;
the last block of a stage, the ANCHOR block, writes all of them. The first block
reads the whole previous anchor, and its shortcut writes all channels. Blocks
have rho * planes inner channels. The stem slims with stage 1, the head never.
With this reading conv and dense MAdds at 224 px are within 3.1% of the paper's.

Without anchors (USNet, DSNet) the stream slims as well: every block, with its
shortcut, reads and writes only the first rho * 4 * planes channels. The other
channels of a stage's output are zero, so it has one shape at any width, and a
layer that reads all of it computes the same as from the active channels alone.

B = batch, H = height, W = width, C = channels. `rho` is static everywhere.
"""

import dataclasses
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from adaptanet_jax.models import slimmable
from adaptanet_jax.models.subnet import WIDTHS, WidthMask

EXPANSION = 4

# Kernel size and stride of the convolution, and whether a 3x3 stride-2
# max-pool follows it.
STEMS = {
    'imagenet': (7, 2, True),
    'cifar': (3, 1, False),
    'cifar_half': (3, 2, False),
}


@dataclasses.dataclass(frozen=True)
class NormKind:
  """A kind of normalisation.

  Attributes:
    family: 'group', 'layer' or 'batch'.
    groups: number of groups; None: groups of a size that no width cuts.
    own_affine: whether each width has its own scale and offset.
    own_statistics: whether each width has its own batch statistics.
    folded: for a norm whose convolutions standardise their kernels, the norm
      that computes the same once `ResNet.fold` has standardised them.
  """

  family: str
  groups: int | None = None
  own_affine: bool = False
  own_statistics: bool = False
  folded: str | None = None


NORMS = {
    'gn': NormKind('group'),
    'gn_ws': NormKind('group', folded='gn'),
    # The usual 32 groups, for a teacher at full width.
    'gn32': NormKind('group', groups=32),
    'ln': NormKind('layer'),
    'bn': NormKind('batch'),
    # As in USNet and DSNet.
    'bn_private': NormKind('batch', own_statistics=True),
    # As in slimmable networks.
    'bn_switchable': NormKind('batch', own_affine=True, own_statistics=True),
}
# Their running statistics come from the widths that were trained.
BATCH_NORMS = tuple(n for n, kind in NORMS.items() if kind.family == 'batch')

# By number of colour channels; for 3, ImageNet's, which suit natural images.
MEANS = {1: (0.5,), 3: (0.485, 0.456, 0.406)}
STDS = {1: (0.5,), 3: (0.229, 0.224, 0.225)}


def normalize(images: jax.Array) -> jax.Array:
  """Maps pixels to about zero mean and unit variance.

  Every function that takes images into a network calls this itself.

  Args:
    images: `uint8[B, H, W, C]`; any other type counts as normalised already.

  Returns:
    `float32[B, H, W, C]`; `images` itself if normalised already.
  """
  if images.dtype != jnp.uint8:
    return images
  colours = images.shape[-1]
  mean = jnp.array(MEANS[colours]).reshape(1, 1, 1, colours)
  std = jnp.array(STDS[colours]).reshape(1, 1, 1, colours)
  return (images.astype(jnp.float32) / 255.0 - mean) / std


def parameter(
    module: nn.Module, name: str, init: Any, shape: tuple[int, ...]
) -> jax.Array:
  """Returns a parameter of a layer, as `module.param` does.

  `module.param` checks the shape of an existing parameter by tracing its
  initializer, which takes longer than the rest of the trace of a stage.

  Args:
    module: the layer.
    name: name of the parameter.
    init: its initializer.
    shape: its shape.

  Raises:
    ValueError: the parameter exists with another shape.
  """
  if not module.has_variable('params', name):
    return module.param(name, init, shape)
  value: jax.Array = module.get_variable('params', name)
  if value.shape != shape:
    raise ValueError(
        f'Parameter {"/".join((*module.path, name))} is of shape '
        f'{value.shape}; expected {shape}.'
    )
  return value


class Norm(nn.Module):
  """Normalisation at a static width.

  Attributes:
    kind: one of `NORMS`.
    axis_name: mapped axis over which batch statistics are averaged.
  """

  kind: str
  axis_name: str | None = None

  @nn.compact
  def __call__(
      self, x: jax.Array, mask: WidthMask, *, rho: float, train: bool
  ) -> jax.Array:
    kind = NORMS[self.kind]

    def shape_and_row(own: bool) -> tuple[tuple[int, ...], Any]:
      if own:
        return (len(WIDTHS), mask.total), WIDTHS.index(rho)
      return (mask.total,), ...

    shape, row = shape_and_row(kind.own_affine)
    scale = parameter(self, 'scale', nn.initializers.ones, shape)[row]
    bias = parameter(self, 'bias', nn.initializers.zeros, shape)[row]
    if kind.family == 'group':
      return slimmable.group_norm(x, scale, bias, mask, groups=kind.groups)
    if kind.family == 'layer':
      return slimmable.layer_norm(x, scale, bias, mask)
    shape, row = shape_and_row(kind.own_statistics)
    mean = self.variable('batch_stats', 'mean', jnp.zeros, shape)
    var = self.variable('batch_stats', 'var', jnp.ones, shape)
    x, new_mean, new_var = slimmable.batch_norm(
        x,
        scale,
        bias,
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
    kernel = parameter(
        self,
        'kernel',
        nn.initializers.he_normal(),
        (self.size, self.size, in_mask.total, out_mask.total),
    )
    if NORMS[self.norm].folded:
      kernel = slimmable.standardize(kernel)
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
    project: whether a 1x1 shortcut maps the input to the stream.
    anchor: whether the block writes the whole stream, at any width.
    slim_stream: whether the stream has only rho * 4 * planes channels.
    axis_name: mapped axis over which batch statistics are averaged.
  """

  norm: str
  planes: int
  strides: int
  project: bool
  anchor: bool
  slim_stream: bool = False
  axis_name: str | None = None

  @nn.compact
  def __call__(
      self,
      x: jax.Array,
      in_mask: WidthMask,
      kept: jax.Array | None = None,
      *,
      rho: float,
      train: bool,
  ) -> tuple[jax.Array, jax.Array | None]:
    """Runs the block at width `rho`.

    Channels that the block does not write bypass it as a separate array.
    Joining and splitting the stream at every block would copy it each time,
    forward and backward.

    Args:
      x: `(B, H, W, C)` the channels of the stream that the block reads, or the
        input of the stage if `project`.
      in_mask: mask of these C channels.
      kept: the other channels of the stream; None if there are none.
      rho: width of the inner channels, and of the output unless `anchor`.
      train: whether to use batch statistics and update the running ones.

    Returns:
      The channels of the stream that the block writes,
      `(B, H / strides, W / strides, D)`; and the rest of the 4 * planes
      channels, None if there are none.
    """
    inner = WidthMask.at(rho, self.planes)
    total = EXPANSION * self.planes
    out_mask = WidthMask.at(1.0 if self.anchor else rho, total)

    def conv_norm(name, size, y, in_mask, out_mask, strides=1):
      layer = ConvNorm(self.norm, size, strides, self.axis_name, name=name)
      return layer(y, in_mask, out_mask, rho=rho, train=train)

    y = nn.relu(conv_norm('conv1', 1, x, in_mask, inner))
    y = nn.relu(conv_norm('conv2', 3, y, inner, inner, self.strides))
    y = conv_norm('conv3', 1, y, inner, out_mask)
    if self.project:
      stream = out_mask if self.slim_stream else WidthMask.full(total)
      x = conv_norm('shortcut', 1, x, in_mask, stream, self.strides)
      if out_mask.active < stream.active:
        # The shortcut's output has not passed a ReLU yet.
        kept = nn.relu(x[..., out_mask.active :])
        x = x[..., : out_mask.active]
    elif self.anchor and kept is not None:
      x, kept = jnp.concatenate([x, kept], axis=-1), None
    elif self.anchor:
      # Channels that a delta substitute does not write are zero.
      x = pad_channels(x, total)
    return nn.relu(x + y), kept


class Stage(nn.Module):
  """A run of bottlenecks whose output has one shape at any width.

  Attributes:
    norm: one of `NORMS`.
    depth: number of blocks.
    planes: inner channels of a block at full width.
    strides: stride of the first block.
    anchor: whether it ends in an anchor (Sec. III-B); otherwise its output is
      slimmed, and the channels that it does not write are zero.
    axis_name: mapped axis over which batch statistics are averaged.
  """

  norm: str
  depth: int
  planes: int
  strides: int
  anchor: bool = True
  axis_name: str | None = None

  @nn.compact
  def __call__(
      self, x: jax.Array, in_mask: WidthMask, *, rho: float, train: bool
  ) -> jax.Array:
    """Runs the stage at width `rho`.

    Args:
      x: `(B, H, W, C)` previous stage's output, or the slimmed stem's.
      in_mask: mask of these C channels.
      rho: width of the stage.
      train: whether to use batch statistics and update the running ones.

    Returns:
      `(B, H / strides, W / strides, 4 * planes)`, at any width.
    """
    kept = None
    for n in range(self.depth):
      block = Bottleneck(
          self.norm,
          self.planes,
          strides=self.strides if n == 0 else 1,
          project=n == 0,
          anchor=self.anchor and n == self.depth - 1,
          slim_stream=not self.anchor,
          axis_name=self.axis_name,
          name=f'block{n + 1}',
      )
      x, kept = block(x, in_mask, kept, rho=rho, train=train)
      in_mask = WidthMask.at(rho, EXPANSION * self.planes)
    return pad_channels(x, EXPANSION * self.planes)


def pad_channels(x: jax.Array, total: int) -> jax.Array:
  """Appends channels of zeros to `(B, H, W, C)` until there are `total`."""
  return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, total - x.shape[-1])))


class Head(nn.Module):
  """Global average pooling and the classifier.

  Attributes:
    channels: input channels at full width.
    num_classes: number of outputs, at any width.
  """

  channels: int
  num_classes: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns logits `(B, num_classes)` of `(B, H, W, C)` leading channels."""
    # In float32: bfloat16 logits would tie among many classes.
    x = x.astype(jnp.float32).mean((1, 2))
    in_mask = WidthMask(x.shape[-1], self.channels)
    out_mask = WidthMask.full(self.num_classes)
    kernel = parameter(
        self,
        'kernel',
        nn.initializers.lecun_normal(),
        (in_mask.total, out_mask.total),
    )
    bias = parameter(self, 'bias', nn.initializers.zeros, (out_mask.total,))
    return slimmable.dense(x, kernel, bias, in_mask, out_mask)
