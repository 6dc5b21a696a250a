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
# Runs one process for each GPU, so give their number twice:
#   sbatch --nodes=2 --gpus-per-node=4 --ntasks-per-node=4 launch/slurm.sh \
#       --config=configs/cifar100.py --workdir=DIR
# from the repository's root. All nodes have to share this folder and DIR. JAX
# asks SLURM which processes take part. Two minutes before its time is up, or when
# it is preempted, the job saves and goes back into the queue. With DRY_RUN=1, and
# bash instead of sbatch, it only prints what it would run.
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}"
if (($# == 0)); then
  echo 'No flags were given; expected --config and --workdir.' >&2
  exit 2
fi
# GPUs per node are given as 4, as a100:4, or as a100, which is one.
gpus="${SLURM_GPUS_PER_NODE:-1}" tasks="${SLURM_NTASKS_PER_NODE:-1}"
gpus="${gpus##*:}"
[[ "$gpus" =~ ^[0-9]+$ ]] || gpus=1
if [[ "$gpus" != "$tasks" ]]; then
  echo "GPUs per node: $gpus, tasks per node: $tasks; expected a task for each" \
    "GPU: --gpus-per-node=$gpus --ntasks-per-node=$gpus." >&2
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
# JAX's newest releases need a newer Python than python3 often is. If none is
# found and there is no .venv yet, python3 is tried.
PYTHON="${PYTHON:-$(launch/newest_python.sh 2>/dev/null || true)}"
export PYTHON
# Install once here, before all nodes would do so at the same time.
bash -ec 'source launch/environment.sh cuda'
status=0
"${run[@]}" || status="$?"
# 75: the processes were asked to stop, and have saved.
if ((status == 75)); then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
