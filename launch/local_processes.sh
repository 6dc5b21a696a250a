#!/usr/bin/env bash
# Runs a job of NUM processes on this machine's CPU, like a pod, which runs one
# process on each host:
#   launch/local_processes.sh NUM --config=configs/digits.py --workdir=DIR [...]
# Each process has JAX_NUM_CPU_DEVICES devices. If one dies, JAX ends the others
# within two minutes.
set -euo pipefail
here="$PWD"
cd "$(dirname "$0")/.."
if (($# < 2)) || ! [[ "$1" =~ ^[1-9][0-9]*$ ]]; then
  echo "Expected the number of processes and flags, got '$*'. See the top of" \
    "$0." >&2
  exit 2
fi
num="$1"
shift
source launch/environment.sh ''
export JAX_PLATFORMS=cpu
port="$(python -c 'import socket
with socket.socket() as s:
  s.bind(("localhost", 0))
  print(s.getsockname()[1])')"
pids=()
for ((id = 0; id < num; id++)); do
  run_from "$here" adaptanet_jax.main "$@" --coordinator="localhost:$port" \
    --num_processes="$num" --process_id="$id" &
  pids+=("$!")
done
# Passes a scheduler's signal to every process. It interrupts `wait` below, which
# therefore starts again.
trap 'noticed=1; kill -TERM "${pids[@]}" 2>/dev/null || true' TERM INT
code=0
for pid in "${pids[@]}"; do
  noticed=1
  while ((noticed)); do
    noticed=0
    status=0
    wait "$pid" || status="$?"
  done
  ((code)) || code="$status"
done
exit "$code"
