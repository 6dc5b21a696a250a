#!/usr/bin/env bash
# Installs everything the first time, then serves a model over HTTP
# (docs/serving.md):
#   launch/serve.sh --model=digits --port=8000
# EXTRA=cuda or EXTRA=tpu installs what an accelerator needs.
set -euo pipefail
here="$PWD"
cd "$(dirname "$0")/.."
source launch/environment.sh "serve${EXTRA:+,$EXTRA}"
run_from "$here" adaptanet_jax.serve "$@"
