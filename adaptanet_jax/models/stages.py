# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The second back end: programs of stages, composed by the host.

Anchors fix the shapes between stages, so any program of one stage fits any
program of the next: 4 * 8 programs and a head give the same 4,096 subnets as
the one switched program. (Without anchors, a stage also needs a program for
each width of the stage before it.) A program has no switch, and its kernels are
stored cut to its width and in the type that it computes in, because with a
batch of one cutting them takes longer than using them. This costs memory, for
all choices together as much again as the network's weights, and a dispatch for
each stage. A choice is compiled when it is first used.
"""

from concurrent import futures
import functools
from typing import Any

import jax
from jax.extend import core
import jax.numpy as jnp

from adaptanet_jax import compiler, trees
from adaptanet_jax.models import supernet
from adaptanet_jax.models.parts import Variables
from adaptanet_jax.models.resnet import BACKBONE, ResNet, stage_numbers
from adaptanet_jax.models.subnet import NUM_STAGES, StageChoice, Subnet


class Stages:
  """All subnets of a network, as programs of their stages."""

  def __init__(
      self, net: ResNet, variables: Variables, *, fast_compile: bool = False
  ) -> None:
    """Prepares the stages, without compiling any.

    Args:
      net: the network.
      variables: its collections.
      fast_compile: see `compiler.options`.
    """
    self._net, self._variables = net, variables
    self._fast_compile = fast_compile
    self._params = {
        n: supernet.stage_variables(net, variables, n)['params']
        for n in stage_numbers()
    }
    self._stats = {
        n: _stats_of(net, variables, n) for n in stage_numbers()
    }
    self._weights: dict[Any, list[jax.Array]] = {}
    self._programs: dict[Any, Any] = {}
    # Shapes of their outputs; and what subnets have all of their programs.
    self._outputs: dict[Any, jax.ShapeDtypeStruct] = {}
    self._ready: set[Any] = set()
    self._head = compiler.jit(net.run_head, fast_compile=fast_compile)
    head = variables['params'][BACKBONE]['head']
    self._head_variables = {'params': {BACKBONE: {'head': head}}}

  def __reduce__(self) -> tuple[Any, ...]:
    """Leaves programs out of a copy, because they belong to a process."""
    create = functools.partial(Stages, fast_compile=self._fast_compile)
    return create, (self._net, self._variables)

  def __call__(
      self, images: jax.Array, subnet: Subnet, stats: Variables | None = None
  ) -> jax.Array:
    """Runs one subnet.

    Args:
      images: `(B, H, W, C)` images.
      subnet: the sub-network to run.
      stats: a collection `{'batch_stats': ...}` in place of the network's.

    Returns:
      Logits `(B, num_classes)`.
    """
    ready = subnet, images.shape, images.dtype
    if ready not in self._ready and not trees.is_traced(images):
      self._compile_all(images, subnet, stats)
      self._ready.add(ready)
    x = images
    for n, choice in zip(stage_numbers(), subnet.stages):
      x = self.run_stage(x, n, choice, stats)
    return self.run_head(x)

  def _compile_all(
      self, images: jax.Array, subnet: Subnet, stats: Variables | None
  ) -> None:
    """Compiles the stages that a subnet lacks, in threads.

    They take nearly all of the time until a first answer, and XLA compiles a
    small program with one thread.
    """
    x: Any = jax.ShapeDtypeStruct(images.shape, images.dtype)
    with futures.ThreadPoolExecutor(NUM_STAGES) as pool:
      runs = []
      for n, choice in zip(stage_numbers(), subnet.stages):
        key = _key(x, n, choice)
        if key not in self._programs:
          self._trace(x, n, choice, stats)
          zeros = jnp.zeros(x.shape, x.dtype)
          runs.append(pool.submit(self.run_stage, zeros, n, choice, stats))
        x = self._outputs[key]
      for run in runs:
        run.result()

  def run_stage(
      self,
      x: jax.Array,
      number: int,
      choice: StageChoice,
      stats: Variables | None = None,
  ) -> jax.Array:
    """Runs one stage.

    Args:
      x: `(B, H, W, C)` images for stage 1, otherwise the previous stage's
        output.
      number: 1 to 4.
      choice: how the stage runs.
      stats: see `__call__`.

    Returns:
      The channels of the stage's output that the stage has written.
    """
    key = _key(x, number, choice)
    if key not in self._programs:
      self._trace(x, number, choice, stats)
    own = self._stats_of(number, stats)
    return self._programs[key](self._weights[key[:-1]], own, x)

  def run_head(self, x: jax.Array) -> jax.Array:
    """Runs the classifier.

    Args:
      x: the channels of stage 4's output that the stage has written.

    Returns:
      Logits `(B, num_classes)`.
    """
    return self._head(self._head_variables, x)

  def _trace(
      self,
      x: Any,
      number: int,
      choice: StageChoice,
      stats: Variables | None,
  ) -> None:
    """Traces a choice of a stage, and makes its weights an argument."""
    net, params = self._net, self._params[number]
    key = _key(x, number, choice)
    kind = key[:-1]

    def run(stats: Variables, x: jax.Array) -> jax.Array:
      x, _ = net.run_stage(stats | {'params': params}, x, number, choice)
      return net.active(x, number, choice)

    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
        (self._stats_of(number, stats), x),
    )
    # Otherwise, when called while a program is traced, this would keep that
    # program's tracers as the weights, and no other program could use them.
    with jax.ensure_compile_time_eval():
      traced = jax.make_jaxpr(run)(*shapes)
      if kind not in self._weights:
        self._weights[kind] = [jnp.asarray(leaf) for leaf in traced.consts]
    shared = self._weights[kind]
    shapes = [leaf.shape for leaf in traced.consts]
    assert shapes == [leaf.shape for leaf in shared]
    # Since JAX 0.12 a jaxpr holds its constants, and `run_with` keeps them. It
    # gets the shared ones, so no batch size keeps its own copy of the weights.
    jaxpr = core.ClosedJaxpr(traced.jaxpr, shared).jaxpr

    def run_with(
        weights: list[jax.Array], stats: Variables, x: jax.Array
    ) -> jax.Array:
      closed = core.ClosedJaxpr(jaxpr, weights)
      (y,) = core.jaxpr_as_fun(closed)(*jax.tree.leaves((stats, x)))
      return y

    (output,) = traced.out_avals
    self._outputs[key] = jax.ShapeDtypeStruct(output.shape, output.dtype)
    self._programs[key] = compiler.jit(
        run_with, fast_compile=self._fast_compile
    )

  def _stats_of(self, number: int, stats: Variables | None) -> Variables:
    if stats:
      return _stats_of(self._net, stats, number)
    return self._stats[number]


def _key(x: Any, number: int, choice: StageChoice) -> tuple[Any, ...]:
  """Returns a program's key.

  Without its last entry, the shape of the input, it is that of its weights.
  """
  return number, choice, x.shape[-1], x.dtype, x.shape


def _stats_of(net: ResNet, variables: Variables, number: int) -> Variables:
  stats = {'batch_stats': variables.get('batch_stats', {})}
  return supernet.stage_variables(net, stats, number)
