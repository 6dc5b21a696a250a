#!/usr/bin/env bash
# CIFAR-100 with the medium net: ours, USNet, DSNet, USNet*, DSNet*, one after the
# other, on a machine that is there for some hours at a time. Does the next part
# that is not done yet, and goes on until all are done or it is asked to stop:
#   nice -n 19 benchmarks/cifar100_medium.sh --config.data.dir=DIR [--config.KEY=VALUE]
#
# RUNS    folder of the workdirs (runs/cifar100_medium); one outside of the
#         checkout outlives it
# SEED    seed of all runs (0)
# BASE    what to run (cifar100:medium)
#
# SIGTERM has the part that runs save, and ends with 75; the same command goes on.
# RUNS/slices.csv says when each part was worked on, for how long, and how it
# ended. What a finished group of phases has trained is kept in
# results/cifar100_medium/checkpoints, and taken from there where RUNS has nothing;
# once a network is evaluated, its results take that place.
# Latencies are left to a machine that is idle: --config.phases=latency,report.
set -euo pipefail
cd "$(dirname "$0")/.."
base="${BASE:-cifar100:medium}" seed="${SEED:-0}"
name="${base/:/_}"
runs="$(realpath -m "${RUNS:-runs/$name}")"
results="results/$name"
log="$runs/slices.csv"
# On a machine with other work one of two CPU devices may be left waiting for the
# other longer than the 40 seconds after which XLA ends the process.
export XLA_FLAGS="${XLA_FLAGS:-} --xla_cpu_collective_call_terminate_timeout_seconds=86400"
child=''
trap '[[ -z "$child" ]] || kill -TERM "$child"' TERM INT
mkdir -p "$runs"
[[ -e "$log" ]] || echo 'started,run,phases,seconds,exit_code' > "$log"

# Runs some phases in a workdir; returns as they do.
part() {
  local run="$1" config="$2" phases="$3" started="$SECONDS" at code=0
  shift 3
  if grep -qE ",$run,${phases//,/\+},[0-9]+,0$" "$log"; then
    return 0
  fi
  at="$(date -u +%Y-%m-%dT%H:%M)"
  launch/local.sh --config="$config" --workdir="$runs/$run" \
    --config.seed="$seed" --config.phases="$phases" "$@" &
  child="$!"
  wait "$child" || code="$?"
  # A signal ends the first wait before the child has saved.
  if kill -0 "$child" 2>/dev/null; then
    code=0
    wait "$child" || code="$?"
  fi
  child=''
  echo "$at,$run,${phases//,/+},$((SECONDS - started)),$code" >> "$log"
  return "$code"
}

# Keeps what has been trained, without the optimizers' states.
keep() {
  local from="$runs/$1" to="$results/checkpoints/$1"
  mkdir -p "$to"
  rm -rf "$to/checkpoints"
  cp -r "$from/checkpoints" "$from/config.json" "$from/results.json" \
    "$from/metrics.jsonl" "$to"
  find "$to" -type d -name opt_state -prune -exec rm -rf {} +
}

# Puts the results of a network where its checkpoints were kept.
publish() {
  mkdir -p "$results/$1"
  for file in config.json results.json metrics.jsonl subnets.csv policies.json; do
    [[ ! -e "$runs/$1/$file" ]] || cp "$runs/$1/$file" "$results/$1"
  done
  rm -rf "$results/checkpoints/$1"
}

for network in ours usnet dsnet usnet_random dsnet_random; do
  run="$network-$seed"
  [[ ! -e "$results/$run/results.json" ]] || continue
  if [[ ! -e "$runs/$run" && -e "$results/checkpoints/$run" ]]; then
    cp -r "$results/checkpoints/$run" "$runs"
  fi
  config="configs/baselines.py:$network,$base" groups=(baseline)
  last='evaluation,report'
  if [[ "$network" == ours ]]; then
    config="configs/${base/:/.py:}" groups=(teacher cascade lock_in delta gates)
    last='evaluation,policies,report'
  fi
  for phases in "${groups[@]}"; do
    part "$run" "$config" "$phases" "$@"
    keep "$run"
  done
  part "$run" "$config" "$last" "$@"
  publish "$run"
done
