# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The description of a network, and its answer for a picture."""

import dataclasses
from typing import Any

from adaptanet_jax.models.subnet import Subnet


@dataclasses.dataclass(frozen=True)
class About:
  """Description of a network: what a user should know besides its structure.

  Attributes:
    name: name of its configuration.
    class_names: names of the classes, by label.
    shorter_side: what a picture's shorter side is scaled to before the centre
      is cropped, in pixels; 0: the side of the network's images.
    dtype_is_auto: whether the device decides the type of the activations.
    trained: data, configuration and device of the training, as in results.json.
    accuracies: `top1` on the test split and `madds`, of some subnets by name.
  """

  name: str
  class_names: tuple[str, ...]
  shorter_side: int
  dtype_is_auto: bool
  trained: dict[str, Any]
  accuracies: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Answer:
  """A network's answer for a picture.

  Attributes:
    label: name of the predicted class.
    confidence: the network's probability of that class, 0 to 1.
    subnet: the subnet that the answer is from.
  """

  label: str
  confidence: float
  subnet: Subnet
