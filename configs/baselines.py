# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""USNet and DSNet, the networks that the paper compares AdaptaNet with.

  launch/local.sh --config=configs/baselines.py:usnet,digits \
      --workdir=/tmp/usnet

The argument is the network (usnet, usnet_random, dsnet, dsnet_random), a comma
and a configuration of AdaptaNet (digits, pictures, cifar100 or imagenet, or a
variant of one, such as cifar100:small or digits:smoke). The baseline takes the
data and network of that configuration; DSNet also takes its norm. It starts
from random weights and makes as many passes over the data as the teacher,
cascade, lock-in and joint lock-in together, and as many gradient steps if these
share one batch size, as in digits, pictures, cifar100:small and
cifar100:medium.
Settings on the command line are applied later and change only one side: if you
change --config.teacher.epochs, change --config.baseline.epochs accordingly.
"""

import ml_collections

from configs import cifar100, common, digits, imagenet, pictures

_CONFIGS = {
    'digits': digits,
    'pictures': pictures,
    'cifar100': cifar100,
    'imagenet': imagenet,
}
_NETWORKS = ('usnet', 'usnet_random', 'dsnet', 'dsnet_random')


def get_config(arg: str = 'usnet,digits') -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` is a network, a comma and a base."""
  network, _, base = arg.partition(',')
  name, _, variant = base.partition(':')
  if network not in _NETWORKS or name not in _CONFIGS:
    raise ValueError(
        f'configs/baselines.py has no variant {arg!r}; expected '
        '--config=configs/baselines.py:NETWORK,BASE with one of '
        f'{", ".join(_NETWORKS)} and one of {", ".join(_CONFIGS)}, such as '
        'usnet,digits or dsnet,cifar100:small.'
    )
  c = _CONFIGS[name].get_config(variant)
  c.name = f'baselines:{arg}'
  c.baseline.network = network
  c.baseline.batch_size = c.teacher.batch_size
  c.baseline.epochs = (
      c.teacher.epochs
      + sum(c.cascade.epochs)
      + c.lock_in.epochs
      + c.joint.epochs
  )
  if network.startswith('usnet'):
    # The paper's USNet has BatchNorm, whose statistics all widths share in
    # training (Sec. V-A) and which is calibrated afterwards (Sec. V-B).
    c.model.norm = 'bn'
  else:
    c.baseline.schedule = 'cosine'
    c.baseline.warmup_epochs = c.teacher.warmup_epochs
    c.baseline.label_smoothing = 0.1
  if network == 'usnet_random' and c.baseline.optimizer == 'adam':
    # With SGD it gains three points on digits, while the others lose or gain
    # little (docs/results-notes.md).
    common.train_baseline_with_sgd(c)
  return c
