# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Measures what the device can do, as a reference for the other figures.

  python -m benchmarks.machine

`product`: a matrix product of 2,048 by 2,048 (8,192 on an accelerator), in the
type that networks run in. `copy`: adds one to 256 MB of float32 in place, which
reads and writes them. No network of plain convolutions runs faster than its
operations at the first rate, and no data beyond the caches are read faster than
at the second.
"""

from absl import app
import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax import compiler
from adaptanet_jax.platforms import auto_dtype
from benchmarks import harness

_COPIED = 64_000_000


def main(argv):
  """Prints one table."""
  del argv
  side = 2048 if jax.default_backend() == 'cpu' else 8192
  values = np.random.default_rng(0).standard_normal((side, side), np.float32)
  a = jnp.asarray(values, auto_dtype())
  product = compiler.jit(jnp.dot)
  add = jax.jit(lambda x: x + 1.0, donate_argnums=0)
  flat = [jnp.zeros(_COPIED, jnp.float32)]

  def copy():
    flat[0] = add(flat[0])
    return flat[0]

  times = harness.time_in_turns({'product': lambda: product(a, a),
                                 'copy': copy})
  report = harness.Report(
      'machine',
      f'product in {auto_dtype()}; best of the rounds is the floor',
      ['what', 'ms', 'rate', 'best', 'unit'],
  )
  for name, work, unit in (
      ('product', side**3 / 1e9, 'GMAdds/s'),
      ('copy', 2 * flat[0].nbytes / 1e9, 'GB/s'),
  ):
    seconds = times[name]
    report.add(
        name,
        [
            1e3 * float(np.median(seconds)),
            work / float(np.median(seconds)),
            work / float(seconds.min()),
            unit,
        ],
    )
  report.done()


if __name__ == '__main__':
  app.run(main)
