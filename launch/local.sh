#!/usr/bin/env bash
# Installs everything the first time, then runs on this machine's devices:
#   launch/local.sh --config=configs/digits.py --workdir=DIR [--config.KEY=VALUE]
# EXTRA=cuda or EXTRA=tpu installs what an accelerator needs.
set -euo pipefail
here="$PWD"
cd "$(dirname "$0")/.."
source launch/environment.sh "${EXTRA:-}"
# Without an accelerator, two devices use two cores better than one device does (a
# lock-in step on digits takes 0.33 s, with one device 0.44; AMD EPYC).
export JAX_NUM_CPU_DEVICES="${JAX_NUM_CPU_DEVICES:-2}"
run_from "$here" adaptanet_jax.main "$@"
