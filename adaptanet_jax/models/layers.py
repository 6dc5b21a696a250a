# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The layers of a ResNet with bottleneck blocks that slim between anchors.

Which channels slim (Sec. IV-A leaves it open): the stream of a stage keeps its
full 4 * planes channels. A block reads and writes its first rho * 4 * planes;
the last block of a stage, the ANCHOR block, writes all of them. The first block
reads the whole previous anchor, and its shortcut is full to full. Inner
channels are rho * planes. The stem slims with stage 1, the head never. With
this reading conv and dense MAdds at 224 px are within 3.1% of the paper's.

Without anchors (USNet, DSNet) the stream slims as well: every block reads and
writes its first rho * 4 * planes channels, shortcuts and all. What a stage does
not write is zero, so a stage border has one shape at any width, and whatever
reads all of it computes what it would from the active channels alone.

B = batch, H = height, W = width, C = channels. `rho` is static everywhere.
"""

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

# By name: whether affine parameters, and whether statistics, are kept for each
# width apart; None where a norm has no statistics.
NORMS: dict[str, tuple[bool, bool | None]] = {
    'gn': (False, None),
    'gn_ws': (False, None),  # With standardised kernels.
    'gn32': (False, None),  # 32 groups, as usual: of a teacher, at full width.
    'ln': (False, None),
    'bn': (False, False),
    'bn_private': (False, True),  # Of USNet and DSNet, as published.
    'bn_switchable': (True, True),  # Of slimmable networks.
}
# Groups of a GroupNorm; None: of a size that no width cuts.
GROUPS = {'gn': None, 'gn_ws': None, 'gn32': 32}
# Norms whose kernels are standardised, and what each is once they have been.
STANDARDIZED = {'gn_ws': 'gn'}
# Norms whose statistics are of the widths that a network was trained at.
BATCH_NORMS = tuple(name for name, (_, own) in NORMS.items() if own is not None)


# By number of colours; ImageNet's, which suit natural images.
MEANS = {1: (0.5,), 3: (0.485, 0.456, 0.406)}
STDS = {1: (0.5,), 3: (0.229, 0.224, 0.225)}


def normalize(images: jax.Array) -> jax.Array:
  """Maps pixels to about zero mean and unit variance.

  Every way into a network does so, so that none can forget it.

  Args:
    images: `uint8[B, H, W, C]`, or of any other type what has been normalised.

  Returns:
    `float32[B, H, W, C]`; `images` itself if they have been normalised.
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

  That one checks the shape of what it is given by tracing how it would be
  drawn, which takes more time than all else in the trace of a stage.

  Args:
    module: the layer.
    name: of the parameter.
    init: draws it.
    shape: of it.

  Raises:
    ValueError: the parameter is there, and of another shape.
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
    own_affine, own_stats = NORMS[self.kind]

    def shape_and_row(own: bool | None) -> tuple[tuple[int, ...], Any]:
      shape = (len(WIDTHS),) * bool(own) + (mask.total,)
      return shape, WIDTHS.index(rho) if own else ...

    shape, row = shape_and_row(own_affine)
    scale = parameter(self, 'scale', nn.initializers.ones, shape)[row]
    bias = parameter(self, 'bias', nn.initializers.zeros, shape)[row]
    if self.kind in GROUPS:
      return slimmable.group_norm(
          x, scale, bias, mask, groups=GROUPS[self.kind]
      )
    if self.kind == 'ln':
      return slimmable.layer_norm(x, scale, bias, mask)
    shape, row = shape_and_row(own_stats)
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
    if self.norm in STANDARDIZED:
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
    slim_stream: whether the stream has rho * 4 * planes channels only.
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

    What a block does not write goes past it, apart from what it does: put
    together and parted again at every block, the stream would be copied each
    time, forward and backward.

    Args:
      x: `(B, H, W, C)` the channels of the stream that the block reads, or the
        input of the stage if `project`.
      in_mask: C of all of them.
      kept: the other channels of the stream; None where there are none.
      rho: width of the inner channels, and of the output unless `anchor`.
      train: whether batch statistics are used and moved.

    Returns:
      What it writes of the stream, `(B, H / strides, W / strides, D)`; and the
      rest of its 4 * planes channels, None where there is none.
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
        # It has not met a ReLU yet.
        kept = nn.relu(x[..., out_mask.active :])
        x = x[..., : out_mask.active]
    elif self.anchor and kept is not None:
      x, kept = jnp.concatenate([x, kept], axis=-1), None
    elif self.anchor:
      # A substitute has no shortcut: what it does not write is zero.
      x = pad_channels(x, total)
    return nn.relu(x + y), kept


class Stage(nn.Module):
  """A run of bottlenecks whose output has one shape at any width.

  Attributes:
    norm: one of `NORMS`.
    depth: number of blocks.
    planes: inner channels of a block at full width.
    strides: stride of the first block.
    anchor: whether it ends in an anchor (Sec. III-B); else its output is
      slimmed, and zero where it was not written.
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
      in_mask: C of the previous channels.
      rho: width of the stage.
      train: whether batch statistics are used and moved.

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
    channels: of its input, at full width.
    num_classes: outputs, at any width.
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
