# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Delta substitutes: a small module in place of a stage's run of blocks.

Sec. IV-A: a substitute keeps the central 3x3 of a bottleneck and drops its 1x1
convolutions and its shortcut; the stage's last block, its anchor block, stays.
Here ONE substitute stands for the whole run of blocks before the anchor block.
MAdds at 224 px are then within 1.7% of the paper's; with one 3x3 for each block
they would be 1.8 times too many.

B = batch, H = height, W = width, C = channels. `rho` is static everywhere.
"""

import dataclasses

from flax import linen as nn
import jax

from adaptanet_jax.models import slimmable
from adaptanet_jax.models.layers import EXPANSION, ConvNorm, parameter
from adaptanet_jax.models.subnet import WidthMask


@dataclasses.dataclass(frozen=True)
class Kind:
  """What a substitute reads and writes.

  Attributes:
    first: the layer before its convolution: 'depthwise', 3x3 over all input
      channels with the stride of the stage; 'reduce', 1x1 from all input
      channels to rho * planes; or None: the first rho * planes input channels
      are read as they are. After a depthwise layer the convolution is 1x1,
      otherwise 3x3.
    expansion: number of output channels, divided by rho * planes. That of a
      block is `EXPANSION`, and the anchor block was trained on its channels.
  """

  first: str | None = None
  expansion: int = 1


KINDS = {
    'conv3x3': Kind(),  # The paper's.
    'separable': Kind('depthwise'),
    'bottleneck': Kind('reduce'),
    'stream': Kind('depthwise', EXPANSION),
}


class DeltaSubstitute(nn.Module):
  """One or two convolutions, norms and ReLUs with the stride of a whole stage.

  Attributes:
    kind: name in `KINDS`.
    norm: one of `layers.NORMS`.
    planes: inner channels of the stage's blocks at full width.
    strides: stride of the stage.
    axis_name: mapped axis over which batch statistics are averaged.
  """

  kind: str
  norm: str
  planes: int
  strides: int
  axis_name: str | None = None

  @nn.compact
  def __call__(
      self, x: jax.Array, in_mask: WidthMask, *, rho: float, train: bool
  ) -> jax.Array:
    """Runs the substitute at width `rho`.

    Args:
      x: `(B, H, W, C)` previous anchor, or the slimmed stem's output.
      in_mask: mask of the C input channels; full for an anchor.
      rho: width of the stage.
      train: whether to use batch statistics and update the running ones.

    Returns:
      `(B, H / strides, W / strides, expansion * rho * planes)`.
    """
    kind = KINDS[self.kind]
    inner = WidthMask.at(rho, self.planes)
    out_mask = WidthMask.at(rho, kind.expansion * self.planes)
    size, strides = 3, self.strides
    if kind.first == 'depthwise':
      x = self._depthwise(x, in_mask)
      size, strides = 1, 1
    elif kind.first == 'reduce':
      reduce = ConvNorm(self.norm, 1, 1, self.axis_name, name='reduce')
      x = nn.relu(reduce(x, in_mask, inner, rho=rho, train=train))
      in_mask = inner
    else:
      x = x[..., : inner.active]
      in_mask = inner
    conv = ConvNorm(self.norm, size, strides, self.axis_name, name='conv')
    return nn.relu(conv(x, in_mask, out_mask, rho=rho, train=train))

  def _depthwise(self, x: jax.Array, mask: WidthMask) -> jax.Array:
    # Scaled for a fan-in of 9 taps; he_normal would count the channels too.
    normal = nn.initializers.normal((2.0 / 9.0) ** 0.5)
    kernel = parameter(self, 'depthwise', normal, (3, 3, mask.total))
    return slimmable.depthwise_conv(x, kernel, mask, strides=self.strides)
