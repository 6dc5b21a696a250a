# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Every setting of a run, by default CIFAR-100 on the paper's schedule.

Five defaults are not the paper's: `teacher.batch_size` (64 there),
`data.augment`, `data.held_out`, `policies.examples` and `gates.divergence`.
Each configuration calls `get_config` and changes only what differs.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """Returns the default configuration."""
  c = ml_collections.ConfigDict()
  # Name of the configuration, for results.json.
  c.name = ''
  # Seed of parameters, data order, augmentation and subnets.
  c.seed = 0
  # What to run, comma-separated: teacher, cascade, lock_in, delta, joint,
  # gates, evaluation, policies, latency, report; for a baseline: baseline,
  # evaluation, report; or all.
  c.phases = 'all'
  # A workdir of the same data whose trained phases, at least the first one, are
  # reused as far as its configuration agrees with this one; empty: none.
  c.reuse = ''
  # Workdirs whose networks the report also shows, comma-separated; * matches
  # any name; empty: those of the last command in this workdir; none: no others.
  c.compare = ''
  # Type of activations: float32, bfloat16, or auto: float32 on a CPU, bfloat16
  # otherwise.
  c.compute_dtype = 'auto'
  # Whether programs should compile fast rather than run fast, for few steps;
  # only on a CPU.
  c.fast_compile = False
  # Most steps between two lines of metrics.jsonl, which also gets one at each
  # checkpoint and at the end of each epoch.
  c.log_every_steps = 50
  # Whether to write the same metrics for TensorBoard; needs the extra
  # [tensorboard].
  c.tensorboard = False

  c.data = ml_collections.ConfigDict()
  # digits (included), fake, folder (of pictures), or the name of an
  # image-classification set of TFDS.
  c.data.name = 'cifar100'
  # The folder of pictures, or the folder of TFDS's prepared data sets; empty:
  # ~/tensorflow_datasets.
  c.data.dir = ''
  # Splits to train on and to evaluate on. For a TFDS set: splits, or slices of
  # them such as train[:80%]; for a folder of pictures: the folders in it.
  c.data.train_split = 'train'
  c.data.test_split = 'test'
  # Side that images are scaled and cropped to, in pixels; 0: as they are.
  c.data.image_size = 0
  # What the shorter side is scaled to before the centre is cropped, in pixels;
  # 0: image_size. Training with resized_crop crops random parts instead.
  c.data.shorter_side = 0
  # What happens to examples that cannot be decoded: refuse ends the run with
  # one line; skip checks all of them first and leaves out the damaged ones.
  c.data.damaged = 'refuse'
  # How many examples of each split to use, from its start; 0: all.
  c.data.train_examples = 0
  c.data.test_examples = 0
  # Share of the training split that nothing trains on; policies, and whatever
  # else chooses among subnets, use it. Always the same examples.
  c.data.held_out = 0.05
  # none, crop (after padding by 4 pixels), crop_flip (and mirrored), or
  # resized_crop (a random part of 8 to 100% of the image, and mirrored; only
  # for TFDS sets and folders, whose images are then decoded for every batch).
  c.data.augment = 'crop_flip'
  # Processes that decode such images; 0: threads of the training process.
  c.data.workers = 0
  # Whether a missing set is replaced by a fake one, with a warning.
  c.data.fake_if_missing = False
  # Classes of a fake set.
  c.data.fake_classes = 10

  c.model = ml_collections.ConfigDict()
  # resnet152, resnet101, resnet50, resnet26, resnet26x32, resnet26x16 or
  # resnet26x8.
  c.model.architecture = 'resnet50'
  # cifar (3x3), cifar_half (3x3, stride 2) or imagenet (7x7, stride 2, pool).
  c.model.stem = 'cifar'
  # Normalisation of the supernet: gn, gn_ws (gn with standardised kernels), ln,
  # bn, bn_private (separate statistics for each width) or bn_switchable
  # (separate affine parameters for each width, too).
  c.model.norm = 'gn'
  # Whether the supernet starts from the teacher's parameters.
  c.model.init_from_teacher = True
  # Whether the teacher's channels are sorted by importance before that: narrow
  # widths keep the first ones. The teacher computes the same as before.
  c.model.sort_channels = False

  c.teacher = _optimizer('sgd', learning_rate=0.1, schedule='cosine')
  # Normalisation of the teacher: gn, gn_ws, ln, bn, or gn32 (timm's, with 32
  # groups).
  c.teacher.norm = 'gn'
  # A ResNet of torchvision or timm to start from, .safetensors or .pth; empty:
  # random weights.
  c.teacher.weights = ''
  # Passes over the training split; with weights, 0 keeps them as they are.
  c.teacher.epochs = 200.0
  c.teacher.warmup_epochs = 5.0
  # Images in a batch, over all devices; the paper has 64.
  c.teacher.batch_size = 128
  # Share of the target spread evenly over the classes.
  c.teacher.label_smoothing = 0.1

  c.cascade = _cascade()
  c.lock_in = _lock_in()

  c.delta = ml_collections.ConfigDict()
  # The delta substitutes: conv3x3 (the paper's), separable, bottleneck or
  # stream.
  c.delta.kind = 'conv3x3'
  # A second cascade and lock-in, which train only the substitutes.
  c.delta.cascade = _cascade()
  c.delta.lock_in = _lock_in()

  # Beyond the paper: a last lock-in of backbone and substitutes together, over
  # all 4,096 subnets; with 0 epochs there is none.
  c.joint = _lock_in()
  c.joint.epochs = 0.0

  c.gates = _optimizer('adam', learning_rate=1e-4, schedule='constant')
  c.gates.epochs = 1.0
  c.gates.batch_size = 64
  # Anchors that have a gate. Policies need 1 to 3; the paper's figure shows 4.
  c.gates.anchors = (1, 2, 3, 4)
  # Side that a gate pools its feature map to, in pixels.
  c.gates.resolution = 4
  # Divergence of a gate's loss: forward, KL(target || prediction), or literal,
  # the paper's KL(prediction || target), which teaches the variance nothing.
  c.gates.divergence = 'forward'

  c.baseline = _optimizer('sgd', learning_rate=0.1, schedule='step')
  # What to train instead of AdaptaNet: usnet, usnet_random, dsnet, dsnet_random
  # (the paper's USNet, USNet*, DSNet, DSNet*); empty: AdaptaNet.
  c.baseline.network = ''
  # Passes over the training split, and images in a batch, over all devices.
  c.baseline.epochs = 100.0
  c.baseline.batch_size = 64
  c.baseline.weight_decay = 1e-4
  # Share of the hard labels' target spread evenly over the classes.
  c.baseline.label_smoothing = 0.0
  # Share of the old value in DSNet's moving average; at step n at most
  # (1 + n) / (10 + n), which is the smaller one before step 2,990.
  c.baseline.average_decay = 0.997
  # What teaches DSNet's smallest subnet: ieb, the mean of the moving averages
  # of the others; or ib, that of the largest.
  c.baseline.ensemble = 'ieb'

  c.mdsr = ml_collections.ConfigDict()
  # Random subnets in a step, in addition to the largest and the smallest.
  c.mdsr.num_random = 3
  # v of Eq. 3: the weight of the teacher; the largest subnet has the rest.
  c.mdsr.teacher_weight = 0.5
  # Passes at the end of each phase in which its `soft_weight` counts; 0: all of
  # them (the paper: the last one on ImageNet).
  c.mdsr.soft_epochs = 0.0

  c.evaluation = ml_collections.ConfigDict()
  # Images that go through the network at once, over all devices.
  c.evaluation.batch_size = 256
  # Passes of runtime-random over the test split.
  c.evaluation.random_passes = 10
  # Batch statistics that the subnets of a BatchNorm network are measured with:
  # subnet, each with its own, taken after training; uniform, those of the
  # uniform subnets, stage by stage; none, those of training. With either of the
  # first two, all three are measured, and this one is reported.
  c.evaluation.calibration = 'subnet'
  # Number of training images that these statistics are taken from.
  c.evaluation.calibration_examples = 5120
  # Whether to measure test accuracies after each epoch of the teacher, of all
  # lock-ins and of a baseline; not if the widths share batch statistics (bn),
  # because before these are calibrated, accuracies are near chance.
  c.evaluation.every_epoch = True

  c.policies = ml_collections.ConfigDict()
  # Examples that policies are made from: held_out, those of data.held_out; or,
  # as in the paper, training, a share of what the network was trained on.
  c.policies.examples = 'held_out'
  c.policies.training_share = 0.1
  # Measure of a gate's confidence: variance (the paper's), or the margin or
  # entropy of the classes that it predicts.
  c.policies.confidence = 'variance'
  # Equal-frequency bins of each gate's confidence, at most 64; the table of a
  # policy has an entry for each path of bins through three gates.
  c.policies.bins = 8
  # Width of stage 1, which no gate precedes: 1.0, 0.75, 0.5 or 0.25.
  c.policies.start = 0.5
  # Mean MAdds that policy `budget` may spend, as a share of those of the
  # largest subnet.
  c.policies.budget = 0.35

  c.latency = ml_collections.ConfigDict()
  # Images in a batch, and number of timed runs of each network.
  c.latency.batch_size = 1
  c.latency.runs = 50

  c.checkpoint = ml_collections.ConfigDict()
  # Steps between two checkpoints, and how many to keep for each phase.
  c.checkpoint.every_steps = 500
  c.checkpoint.keep = 2
  # A configuration that sets anything else has a mistyped name.
  return c.lock()


def _optimizer(
    name: str, *, learning_rate: float, schedule: str
) -> ml_collections.ConfigDict:
  c = ml_collections.ConfigDict()
  # adam or sgd (Nesterov).
  c.optimizer = name
  c.learning_rate = learning_rate
  # constant, cosine (to zero) or step (to a tenth at 30, 60 and 90% of all
  # steps), after a linear warm-up.
  c.schedule = schedule
  c.warmup_epochs = 0.0
  # Only sgd reads these two; the decay applies only to kernels.
  c.momentum = 0.9
  c.weight_decay = 5e-4
  return c


def _cascade() -> ml_collections.ConfigDict:
  c = _optimizer('adam', learning_rate=1e-3, schedule='constant')
  # Passes over the training split for M1, M2, M3 and M4.
  c.epochs = (3.0, 4.0, 5.0, 6.0)
  c.batch_size = 64
  # Share of the loss that is a soft cross-entropy to the teacher (the paper:
  # 0.5 on ImageNet, 0 on CIFAR-100); the rest is the error of the anchors.
  c.soft_weight = 0.0
  # Input of module n: the anchor n - 1 of the student or of the teacher.
  c.input = 'student'
  return c


def _lock_in() -> ml_collections.ConfigDict:
  c = _optimizer('adam', learning_rate=1e-4, schedule='constant')
  c.epochs = 7.0
  c.batch_size = 64
  # See _cascade.
  c.soft_weight = 0.0
  return c


def short_schedule(c: ml_collections.ConfigDict) -> None:
  """Adapts training to few steps: higher rates, with decay; other deltas."""
  for part in (c, c.delta):
    part.cascade.schedule = 'cosine'
    part.lock_in.schedule = 'cosine'
    part.lock_in.learning_rate = 1e-3
  c.joint.schedule = 'cosine'
  c.joint.learning_rate = 1e-3
  # On digits, on the same backbone and with a joint lock-in, the 4,096 subnets
  # averaged 96.6%, the lowest 91.2%, and with the paper's kind 95.0 and 85.0%
  # (seed 0, two CPU devices, 2026-11-29).
  c.delta.kind = 'stream'
  # Substitutes have few weights and do not start from a teacher's, so they need
  # a higher rate (docs/results-notes.md).
  c.delta.cascade.learning_rate = 1e-2
  c.delta.lock_in.learning_rate = 1e-2
  c.gates.learning_rate = 1e-3
  c.gates.schedule = 'cosine'
  # With few steps of SGD a baseline may stay at chance: its subnets learn from
  # one that has learnt nothing itself (docs/results-notes.md).
  c.baseline.optimizer = 'adam'
  c.baseline.learning_rate = 1e-3
  c.baseline.schedule = 'cosine'


def train_baseline_with_sgd(c: ml_collections.ConfigDict) -> None:
  """Trains the baseline as the teacher, with SGD and its weight decay."""
  c.baseline.optimizer = 'sgd'
  c.baseline.learning_rate = 0.1
  c.baseline.weight_decay = c.teacher.weight_decay
  c.baseline.warmup_epochs = 1.0


def smoke(c: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """Shrinks a configuration to a few minutes, most of them compiling."""
  c.fast_compile = True
  c.model.architecture = 'resnet26x8'
  c.data.image_size = 16
  c.data.shorter_side = 0
  # Three batches to train on, because each step, compiled fast, takes a while.
  c.data.train_examples = 128
  c.data.test_examples = 32
  # Half a batch: policies run every subnet on these images.
  c.data.held_out = 0.125
  c.data.fake_if_missing = True
  c.model.stem = 'cifar'
  c.teacher.epochs = 4.0
  c.teacher.warmup_epochs = 1.0
  c.teacher.batch_size = 32
  for part in (c, c.delta):
    part.cascade.epochs = (1.0, 1.0, 1.0, 1.0)
    part.lock_in.epochs = 1.0
    part.cascade.batch_size = part.lock_in.batch_size = 32
  c.joint.epochs = 0.0
  c.gates.epochs = 1.0
  c.gates.batch_size = 32
  c.gates.resolution = 4
  c.latency.runs = 5
  c.evaluation.batch_size = 32
  c.evaluation.every_epoch = False
  c.log_every_steps = 2
  return c


def unknown_argument(
    name: str, arg: str, choices: tuple[str, ...]
) -> ValueError:
  """Returns the error for an unknown argument of a configuration."""
  return ValueError(
      f'configs/{name}.py has no variant {arg!r}; expected '
      f'--config=configs/{name}.py, or that followed by one of '
      + ', '.join(f':{choice}' for choice in choices)
  )
