# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What is known of a network, and what it says of a picture."""

import dataclasses
from typing import Any

from adaptanet_jax.models.subnet import Subnet


@dataclasses.dataclass(frozen=True)
class About:
  """What is known of a network besides how it runs.

  Attributes:
    name: of its configuration.
    class_names: of the classes, by label.
    shorter_side: what a picture's shorter side is scaled to before the centre
      is cut, in pixels; 0: the side of the images.
    dtype_is_auto: whether the type of activations is that which suits the
      device.
    trained: on what, with what and where, as results.json has it.
    accuracies: `top1` and `madds` of some subnets, on the test split.
  """

  name: str
  class_names: tuple[str, ...]
  shorter_side: int
  dtype_is_auto: bool
  trained: dict[str, Any]
  accuracies: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Answer:
  """What a network says of a picture.

  Attributes:
    label: name of the class.
    confidence: the network's probability of it, 0 to 1.
    subnet: that said so.
  """

  label: str
  confidence: float
  subnet: Subnet
