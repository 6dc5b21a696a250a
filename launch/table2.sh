#!/usr/bin/env bash
# Trains AdaptaNet and the four baselines with the same data, network and number
# of passes over the data (see configs/baselines.py), once for each seed, and
# compares them in one report:
#   launch/table2.sh BASE FOLDER 'SEED ...' [--config.KEY=VALUE ...]
#   launch/table2.sh digits /tmp/table2 '0 1 2'
# BASE is a configuration, such as digits, cifar100:medium or imagenet. The same
# command resumes where it stopped. The report is FOLDER/ours-SEED/report.html of
# the first seed.
set -euo pipefail
if (( $# < 3 )) || [[ ! "$3" =~ [0-9] ]]; then
  echo "Expected BASE, FOLDER and seeds, such as: $0 digits /tmp/table2 '0 1 2'" >&2
  exit 2
fi
base="$1" folder="$(realpath -m "$2")"
read -ra seeds <<< "$3"
shift 3
run="$(dirname "$0")/local.sh"
ours="configs/${base/:/.py:}"
[[ "$base" == *:* ]] || ours="configs/$base.py"
for seed in "${seeds[@]}"; do
  "$run" --config="$ours" --workdir="$folder/ours-$seed" \
    --config.seed="$seed" "$@"
  for network in usnet usnet_random dsnet dsnet_random; do
    "$run" --config="configs/baselines.py:$network,$base" \
      --workdir="$folder/$network-$seed" --config.seed="$seed" "$@"
  done
done
first="${seeds[0]}"
"$run" --config="$ours" --workdir="$folder/ours-$first" \
  --config.seed="$first" "$@" --config.phases=report \
  --config.compare="$folder/*"
echo "$folder/ours-$first/report.html"
