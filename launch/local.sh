#!/usr/bin/env bash
# Sets all up the first time, then runs on this machine's devices:
#   launch/local.sh --config=configs/digits.py --workdir=DIR [--config.KEY=VALUE]
# EXTRA=cuda or EXTRA=tpu installs what an accelerator needs.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh "${EXTRA:-}"
exec python -m adaptanet_jax.main "$@"
