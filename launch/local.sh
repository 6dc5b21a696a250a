#!/usr/bin/env bash
# Sets all up the first time, then runs on this machine's devices:
#   launch/local.sh --config=configs/digits.py --workdir=DIR [--config.KEY=VALUE]
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh ''  # Else it would read this script's flags.
exec python -m adaptanet_jax.main "$@"
