#!/usr/bin/env bash
#SBATCH --job-name=adaptanet
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --output=adaptanet-%j.log
#SBATCH --open-mode=append
# One process for each GPU, so name their number twice:
#   sbatch --nodes=2 --gpus-per-node=4 --ntasks-per-node=4 launch/slurm.sh \
#       --config=configs/cifar100.py --workdir=DIR
# from the repository's root, which all nodes share, as they do DIR. JAX asks
# SLURM who takes part. Two minutes before its time is up, or when it has to make
# way, the job saves and goes back into the queue. With DRY_RUN=1, and bash in
# place of sbatch, it only prints what it would run.
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}"
if (($# == 0)); then
  echo 'No flags were given; expected --config and --workdir.' >&2
  exit 2
fi
run=(srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-8}" --kill-on-bad-exit=0 \
  launch/local.sh "$@")
if [[ -n "${DRY_RUN:-}" ]]; then
  printf 'EXTRA=cuda bash -ec %q\n' 'source launch/environment.sh cuda'
  printf 'EXTRA=cuda'
  printf ' %q' "${run[@]}"
  echo
  exit
fi
export EXTRA=cuda
# JAX's newest releases take a newer Python than python3 often is. Where none is
# found python3 is tried, should there be no .venv yet.
PYTHON="${PYTHON:-$(launch/newest_python.sh 2>/dev/null || true)}"
export PYTHON
# Once, before the nodes would do it side by side.
bash -ec 'source launch/environment.sh cuda'
status=0
"${run[@]}" || status="$?"
# 75: the processes were asked to stop, and have saved.
if ((status == 75)); then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
