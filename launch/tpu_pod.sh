#!/usr/bin/env bash
# A run on a Cloud TPU slice, from creating to deleting it. Each step can be
# repeated:
#   launch/tpu_pod.sh create     makes the slice, unless it exists
#   launch/tpu_pod.sh install    copies this commit to every host, and sets it up
#   launch/tpu_pod.sh run --config=configs/cifar100.py --workdir=DIR [...]
#                                starts the job on every host, unless it runs;
#                                a stopped job resumes where it stopped
#   launch/tpu_pod.sh logs       follows the log of the first host
#   launch/tpu_pod.sh stop       makes the job save and exit
#   launch/tpu_pod.sh delete     deletes the slice
# Set by the environment:
#   TPU_NAME  name of the slice                          (adaptanet)
#   ZONE      where it is                                (needed)
#   TYPE      accelerator type, such as v5litepod-8      (needed by create)
#   VERSION   software of its hosts                      (v2-alpha-tpuv5-lite)
#   SPOT      not empty: cheaper, but can be preempted   ()
#   SHARE     HOST:/PATH of an NFS share, mounted at /mnt/adaptanet on every host;
#             with several hosts the workdir has to be on a share      ()
#   DRY_RUN   not empty: only prints the commands        ()
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  echo "$1 Expected one of create, install, run, logs, stop, delete; see the" \
    "top of $0." >&2
  exit 2
}

# Runs a command, or prints it quoted for a shell.
do_it() {
  if [[ -n "${DRY_RUN:-}" ]]; then
    printf '%q ' "$@" | sed 's/ $/\n/'
  else
    "$@"
  fi
}

tpu() {
  local verb="$1"
  shift
  do_it gcloud compute tpus tpu-vm "$verb" "$name" --zone="$ZONE" "$@"
}

on() {
  tpu ssh --worker="$1" --command="$2"
}

# Whether the slice is there, and sets `state`. Ends the script if gcloud cannot
# tell: a slice that is taken for deleted would still have to be paid for.
exists() {
  [[ -z "${DRY_RUN:-}" ]] || return 1
  local messages problem code=0
  messages="$(mktemp)"
  state="$(gcloud compute tpus tpu-vm describe "$name" --zone="$ZONE" \
    --format='value(state)' 2>"$messages")" || code="$?"
  problem="$(<"$messages")"
  rm "$messages"
  ((code)) || return 0
  [[ "$problem" != *NOT_FOUND* ]] || return 1
  echo "$problem" >&2
  exit 1
}

(($#)) || usage 'No step was given.'
step="$1"
shift
name="${TPU_NAME:-adaptanet}"
if [[ -z "${ZONE:-}" ]]; then
  echo 'ZONE is not set; expected the zone of the slice, such as us-west4-a.' >&2
  exit 2
fi

case "$step" in
  create)
    if [[ -z "${TYPE:-}" ]]; then
      echo 'TYPE is not set; expected an accelerator type such as' \
        'v5litepod-8.' >&2
      exit 2
    fi
    if exists; then
      echo "$name is there already: $state." >&2
      if [[ "$state" == PREEMPTED || "$state" == TERMINATED ]]; then
        echo 'It does not come back. After delete, create and install, run resumes' \
          'a job whose workdir is on a share.' >&2
        exit 1
      fi
    else
      tpu create --accelerator-type="$TYPE" \
        --version="${VERSION:-v2-alpha-tpuv5-lite}" ${SPOT:+--spot}
    fi
    ;;
  install)
    folder="$(mktemp -d)"
    trap 'rm -r "$folder"' EXIT
    archive="$folder/adaptanet_jax.tar.gz"
    do_it git archive --format=tar.gz --output="$archive" HEAD
    do_it gcloud compute tpus tpu-vm scp "$archive" "$name:adaptanet_jax.tar.gz" \
      --zone="$ZONE" --worker=all
    # The images of some slices only have Python 3.10. JAX's newest releases need
    # 3.12, which not every release of Ubuntu has. A new host first updates itself
    # for some minutes, and apt-get does not wait for that unless told to.
    # shellcheck disable=SC2016  # The host expands it.
    on all 'set -e
mkdir -p adaptanet_jax && tar -xzf adaptanet_jax.tar.gz -C adaptanet_jax
cd adaptanet_jax
if ! launch/newest_python.sh 2>/dev/null; then
  for n in {1..60}; do sudo apt-get -qq update && break; sleep 10; done
  get="sudo apt-get -qq -o DPkg::Lock::Timeout=600 install -y"
  $get python3.12 python3.12-venv || $get python3.11 python3.11-venv
fi
PYTHON="$(launch/newest_python.sh)"
export PYTHON
source launch/environment.sh tpu'
    if [[ -n "${SHARE:-}" ]]; then
      on all "set -e
if ! mountpoint -q /mnt/adaptanet; then
  sudo apt-get -qq -o DPkg::Lock::Timeout=600 install -y nfs-common
  sudo mkdir -p /mnt/adaptanet
  sudo mount -t nfs -o lookupcache=positive $SHARE /mnt/adaptanet
  sudo chmod a+rwx /mnt/adaptanet
fi"
    fi
    ;;
  run)
    (($#)) || usage 'run got no flags, such as --config and --workdir.'
    printf -v flags '%q ' "$@"
    # A running job holds the lock. The log of a resumed job continues.
    on all "cd adaptanet_jax && if flock -n job.lock true; then
EXTRA=tpu setsid nohup flock -n job.lock bash -c \
'echo \$\$ > job.pid; exec launch/local.sh \"\$@\"' - $flags>> job.log 2>&1 < /dev/null &
else echo 'It runs already.'; fi"
    ;;
  logs)
    on 0 'tail -n 50 -F adaptanet_jax/job.log'
    ;;
  stop)
    on all "cd adaptanet_jax && if flock -n job.lock true; then
echo 'It does not run.'
else kill -TERM \$(cat job.pid) && flock job.lock true; fi"
    ;;
  delete)
    if [[ -n "${DRY_RUN:-}" ]] || exists; then
      tpu delete --quiet
    else
      echo "$name is not there." >&2
    fi
    ;;
  *)
    usage "Unknown step '$step'."
    ;;
esac
