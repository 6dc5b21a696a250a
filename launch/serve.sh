#!/usr/bin/env bash
# Installs everything the first time, then serves a model over HTTP
# (docs/serving.md):
#   launch/serve.sh --model=digits --port=8000
# EXTRA=cuda or EXTRA=tpu installs what an accelerator needs.
set -euo pipefail
here="$PWD"
cd "$(dirname "$0")/.."
root="$PWD"
source launch/environment.sh "serve${EXTRA:+,$EXTRA}"
# Paths of flags are relative to the caller's folder, which is no place to import
# from (-P).
cd "$here"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec python -P -m adaptanet_jax.serve "$@"
