#!/usr/bin/env bash
# CIFAR-100 with the medium net: the paper's way, ours, ours before its joint lock-in,
# ours with the error of the anchors alone, USNet, DSNet, ours with sorted channels,
# USNet*, DSNet*, then deltas of each kind on ours' backbone, and the paper's norm, one
# after the other, on a machine that is available for some hours at a time. Works
# through the parts that are not done yet, until all are done or it is asked to stop:
#   nice -n 19 benchmarks/cifar100_medium.sh --config.data.dir=DIR [--config.KEY=VALUE]
#
# RUNS    folder of the workdirs (runs/cifar100_medium); one outside of the
#         checkout outlives it
# SEED    seed of all runs (0)
# BASE    what to run (cifar100:medium)
# ONLY    names of the networks to run, separated by spaces (all). Two that do not
#         start from each other can run at a time, each on one device of its own
#         (JAX_NUM_CPU_DEVICES=1), which takes less time than one after the other
#
# On SIGTERM the running part saves and the script ends with 75; the same command
# resumes. RUNS/slices.csv says when each part ran, for how long, and how it ended.
# What has been trained by the end of a group of phases, or by the time the script is
# asked to stop, is kept in results/cifar100_medium/checkpoints, and copied from there
# if RUNS has nothing; once a network is evaluated, only its results are kept.
# Checkpoints of `paper` and `ours` stay until all is done, because other networks
# start from them.
# Measure latencies later, on an idle machine: --config.phases=latency,report.
set -euo pipefail
shopt -s nullglob
cd "$(dirname "$0")/.."
base="${BASE:-cifar100:medium}" seed="${SEED:-0}"
name="${base/:/_}"
runs="$(realpath -m "${RUNS:-runs/$name}")"
results="results/$name"
log="$runs/slices.csv"
# On a machine with other work, one of two CPU devices may wait for the other for
# longer than the 40 seconds after which XLA ends the process.
export XLA_FLAGS="${XLA_FLAGS:-} --xla_cpu_collective_call_terminate_timeout_seconds=86400"
# shellcheck source=benchmarks/stoppable.sh
source benchmarks/stoppable.sh
known=''  # Names of the networks in the list.
mkdir -p "$runs"
[[ -e "$log" ]] || echo 'started,run,phases,seconds,exit_code' > "$log"

# Runs some phases in a workdir, unless they are done, then `keep` or `publish`, its
# first argument; returns their exit status.
part() {
  local then="$1" run="$2" config="$3" phases="$4" started="$SECONDS" at code=0
  shift 4
  if grep -qE ",$run,${phases//,/[+]},[0-9]+,0$" "$log"; then
    return 0
  fi
  ((!asked)) || exit 75  # Between two parts.
  at="$(date -u +%Y-%m-%dT%H:%M)"
  stoppable launch/local.sh --config="$config" --workdir="$runs/$run" \
    --config.seed="$seed" --config.phases="$phases" "$@" || code="$?"
  ((code)) || "$then" "$run"
  echo "$at,$run,${phases//,/+},$((SECONDS - started)),$code" >> "$log"
  if [[ "$code,$then" == 75,keep && -e "$runs/$run/metrics.jsonl" ]]; then
    keep "$run"
  fi
  return "$code"
}

# Keeps the last checkpoint of each phase of a network; the optimizer's state only of
# the phase that trained last, which may not be finished.
keep() {
  # Complete before it gets its name, as the machine may be lost at any moment.
  local to="$results/checkpoints/$1.part" phase step last
  last="$(sed -nE 's/.*"phase": "([^"]*)".*/\1/p' "$runs/$1/metrics.jsonl" |
    tail -n 1)"
  rm -rf "$to"
  publish "$1" "$to"
  for phase in "$runs/$1/checkpoints"/*; do
    # Orbax writes a checkpoint under another name until it is complete.
    step="$(find "$phase" -mindepth 1 -maxdepth 1 -regex '.*/[0-9]+' \
      -printf '%f\n' | sort -n | tail -n 1)"
    [[ -n "$step" ]] || continue
    mkdir -p "$to/checkpoints/$(basename "$phase")"
    cp -r "$phase/$step" "$to/checkpoints/$(basename "$phase")"
  done
  find "$to" -type d -name opt_state \
    ! -path "$to/checkpoints/$last/*" -prune -exec rm -rf {} +
  # It says where the checkpoint was written.
  find "$to" -name commit_success.txt -exec truncate -s 0 {} +
  rm -rf "${to%.part}.old"
  [[ ! -e "${to%.part}" ]] || mv "${to%.part}" "${to%.part}.old"
  mv "$to" "${to%.part}"
  rm -rf "${to%.part}.old"
}

# Keeps the results of a network; its configuration without this machine's paths.
publish() {
  local file to="${2:-$results/$1}"
  mkdir -p "$to"
  for file in config.json metrics.jsonl subnets.csv policies.json; do
    [[ ! -e "$runs/$1/$file" ]] || cp "$runs/$1/$file" "$to"
  done
  sed -i -E 's/("(dir|reuse)": )"[^"]*"/\1""/' "$to/config.json"
  # Last: where the results are, the network is done.
  [[ ! -e "$runs/$1/results.json" ]] || cp "$runs/$1/results.json" "$to"
}

# Trains and measures a network. Arguments: its name, its configuration, the groups
# of phases that train it, the phases that measure it, settings.
network() {
  local name="$1" run="$1-$seed" config="$2" groups="$3" last="$4" phases setting
  shift 4
  known+=" $name"
  [[ " ${ONLY:-$name} " == *" $name "* ]] || return 0
  if [[ ! -e "$runs/$run" && -e "$results/checkpoints/$run" ]]; then
    rm -rf "$runs/$run.part"
    cp -r "$results/checkpoints/$run" "$runs/$run.part"
    # Networks that start from this one need what it has reused itself.
    for setting in "$@"; do
      [[ "$setting" != --config.reuse=* ]] ||
        sed -i -E "s|(\"reuse\": )\"\"|\1\"${setting#*=}\"|" \
          "$runs/$run.part/config.json"
    done
    mv "$runs/$run.part" "$runs/$run"
  fi
  [[ ! -e "$results/$run/results.json" ]] || return 0
  for phases in $groups; do
    part keep "$run" "$config" "$phases" "$@"
  done
  part publish "$run" "$config" "$last" "$@"
  case "$name" in
    paper | ours) ;;
    *) rm -rf "$results/checkpoints/$run" ;;
  esac
}

ours="configs/${base/:/.py:}"
[[ "$base" == *:* ]] || ours="configs/$base.py"
# On CIFAR-100 the paper's losses are the error of the anchors, and it has Adam.
anchors=(--config.lock_in.optimizer=adam --config.lock_in.learning_rate=0.001)
for section in lock_in delta.lock_in joint; do
  anchors+=("--config.$section.soft_weight=0.0")
done
# The paper's substitutes, and no training beyond its own.
paper=(--config.delta.kind=conv3x3 --config.delta.lock_in.epochs=20.0
  --config.joint.epochs=0.0)
network paper "$ours" 'teacher cascade lock_in delta gates' \
  evaluation,policies,report "${paper[@]}" "${anchors[@]}" "$@"
from_paper="--config.reuse=$runs/paper-$seed"
from_ours="--config.reuse=$runs/ours-$seed"
network ours "$ours" 'lock_in delta joint gates' evaluation,policies,report \
  "$from_paper" "$@"
network no_joint "$ours" '' evaluation,report "$from_ours" \
  --config.joint.epochs=0.0 "$@"
network anchors "$ours" 'delta joint gates' evaluation,policies,report \
  "$from_paper" "${anchors[@]}" "$@"
# With a sixth of the paper's steps for the deltas.
short=('--config.delta.cascade.epochs=0.5,0.5,0.5,0.5'
  --config.delta.lock_in.epochs=3.0 --config.joint.epochs=0.0)
variant() {
  local name="$1" groups="$2"
  shift 2
  network "$name" "$ours" "$groups" evaluation,report "${short[@]}" "$@"
}
baseline() {
  local name="$1"
  shift
  network "$name" "configs/baselines.py:$name,$base" baseline evaluation,report "$@"
}

baseline usnet "$@"
baseline dsnet "$@"
variant sorted 'cascade lock_in delta' "$from_paper" --config.delta.kind=conv3x3 \
  --config.model.sort_channels=True "$@"
baseline usnet_random "$@"
baseline dsnet_random "$@"
for kind in conv3x3 stream separable bottleneck; do
  variant "$kind" delta "$from_ours" --config.delta.kind="$kind" "$@"
done
variant plain_gn 'teacher cascade lock_in delta' --config.delta.kind=conv3x3 \
  --config.model.norm=gn --config.teacher.norm=gn "$@"
for name in ${ONLY:-}; do
  if [[ "$known " != *" $name "* ]]; then
    echo "ONLY='$ONLY'; expected some of$known." >&2
    exit 2
  fi
done
[[ -z "${ONLY:-}" ]] || exit 0
rm -rf "$results/checkpoints/"*"-$seed"
rmdir "$results/checkpoints" 2> /dev/null || true  # Other seeds may have some.
