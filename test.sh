#!/usr/bin/env bash
# Sets all up the first time, then runs lint, types and tests.
set -euo pipefail
cd "$(dirname "$0")"
source launch/environment.sh test
ruff check .
shellcheck .ci/run ./*.sh benchmarks/*.sh launch/*.sh
mypy
exec pytest -n "${TEST_WORKERS:-2}" --dist loadfile --no-loadscope-reorder "$@"
