#!/usr/bin/env bash
# The paper's complete CIFAR-100 run: teacher, cascade, lock-in, deltas, gates,
# Tables I to III and Fig. 4, on one GPU, in slices that each resume the one
# before, so that a machine that is lent for minutes at a time will do:
#   EXTRA=cuda benchmarks/reproduce_cifar100.sh WORKDIR --config.data.dir=DIR
# A rehearsal on two CPU cores:
#   CONFIG=configs/cifar100.py:small benchmarks/reproduce_cifar100.sh WORKDIR ...
#
# SLICE   seconds of a slice, start and saving included (540)
# SLICES  slices to run now (as many as it takes); the same command resumes
# CONFIG  what to run (configs/cifar100.py)
# LAUNCH  command that starts a run (launch/local.sh), such as 'python -m
#         adaptanet_jax.main' where everything is installed
#
# WORKDIR holds everything, JAX's compiled programs included: copy it to the next
# machine. WORKDIR/slices.csv has the seconds of every slice and how it ended.
# Ends with 0 once all is done, with 75 if slices are left to run, also when it is
# asked to stop (SIGTERM, or Ctrl-C): the slice then saves and ends at once.
set -euo pipefail
if (($# < 1)) || [[ "$1" == -* ]]; then
  echo "Expected WORKDIR and flags, got '$*'. See the top of $0." >&2
  exit 2
fi
workdir="$(realpath -m "$1")"
shift
slice="${SLICE:-540}" slices="${SLICES:-0}"
# Seconds to save after being asked to stop; then the run is killed.
grace=30
if ! [[ "$slice" =~ ^[0-9]+$ && "$slices" =~ ^[0-9]+$ ]] || ((slice <= grace)); then
  echo "Expected SLICE of more than $grace seconds and SLICES of 0 or more," \
    "got '$slice' and '$slices'." >&2
  exit 2
fi
launch=("$(dirname "$0")/../launch/local.sh")  # A path may have spaces.
[[ -z "${LAUNCH:-}" ]] || read -ra launch <<< "$LAUNCH"
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$workdir/xla}"
mkdir -p "$workdir"
log="$workdir/slices.csv"
[[ -e "$log" ]] || echo 'seconds,exit_code,phase,step' > "$log"

# shellcheck source=benchmarks/stoppable.sh
source "$(dirname "$0")/stoppable.sh"

# A checksum of what a slice leaves for the next one to resume from.
state() {
  {
    cat "$workdir/metrics.jsonl" "$workdir/results.json"
    ls -R "$JAX_COMPILATION_CACHE_DIR" "$workdir"/unfinished_*
  } 2>/dev/null | cksum || true
}

# Phase and step of the newest line of the metrics, as `cascade2,300`.
reached() {
  tail -n 1 "$workdir/metrics.jsonl" 2>/dev/null |
    sed -nE 's/.*"phase": "(\w+)", "step": ([0-9]+).*/\1,\2/p' || true
}

for ((done = 0; !slices || done < slices; done++)); do
  before="$(state)" started="$SECONDS" code=0
  stoppable timeout --preserve-status --signal=TERM --kill-after="$grace" "$((slice - grace))" \
    "${launch[@]}" --config="${CONFIG:-configs/cifar100.py}" \
    --workdir="$workdir" "$@" || code="$?"
  at="$(reached)"
  echo "$((SECONDS - started)),$code,${at:-,}" >> "$log"
  # 75: asked to stop, and saved. 137 and 143: cut off before it could.
  case "$code" in
    0) exit 0 ;;
    75 | 137 | 143) ;;
    *) exit "$code" ;;
  esac
  ((!asked)) || break
  if [[ "$(state)" == "$before" ]]; then
    echo "A slice of $slice seconds got nothing done that the next could go on" \
      "from; expected a larger SLICE." >&2
    exit 1
  fi
done
exit 75
