# shellcheck shell=bash disable=SC1091
# To be sourced from the repository's root: makes .venv once, installs, activates.
#   source launch/environment.sh EXTRA
# EXTRA is test, serve, prepare, cuda, tpu, or '' for none.
# PYTHON is the interpreter to make .venv with (python3); ADAPTANET_VENV is another
# folder for it.
extra="$1"
venv="${ADAPTANET_VENV:-.venv}"
# The stamp names what was installed, and is written only once all of it was.
stamp="$venv/installed-${extra:-run}"
want="$(cksum setup.cfg)"
is_installed() {
  [[ "$(cat "$stamp" 2>/dev/null)" == "$want" ]]
}
install_package() {
  # Of two first starts at once, one installs and the other waits. Where files
  # cannot be locked, both install.
  if command -v flock >/dev/null && ! flock -n 9; then
    echo "Another start may be installing into $venv; waiting for it ..." >&2
    flock 9 || true
  fi
  ! is_installed || return 0
  echo "Installing into $venv ..." >&2
  # One of another tool, or one whose making was interrupted, may have no pip.
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1 &&
    ! "$venv/bin/python" -m ensurepip >/dev/null 2>&1; then
    # A complete one that works; making one ends with this file.
    if [[ -e "$venv/bin/activate" ]] && "$venv/bin/python" -c '' 2>/dev/null; then
      echo "$venv has no pip; expected an environment with it, or" \
        'ADAPTANET_VENV=... with another folder.' >&2
      exit 1
    fi
    python="${PYTHON:-python3}"
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
      echo "Python >= 3.11 is needed; '$python' is $("$python" --version 2>&1)." \
        'Name another one with PYTHON=...' >&2
      exit 1
    fi
    # --clear, because what is there does not run, or is not complete.
    "$python" -m venv --clear "$venv"
  fi
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --editable ".${extra:+[$extra]}" || exit 1
  echo "$want" > "$stamp"
}
is_installed || install_package 9> .venv.lock
source "$venv/bin/activate"
# Memory in pages of 2 MB: on a CPU every step allocates its memory again, which
# with pages of 4 kB took 11% of a resnet50 step (docs/performance-notes.md).
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}"
# Compiled programs are kept, also those that compile within a second, so that later
# runs start sooner.
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$VIRTUAL_ENV/xla}"
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="${JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS:-0}"

# Replaces the shell by a module of this checkout. Paths in flags are relative to
# the folder given first, the caller's; -P keeps Python from importing from it.
run_from() {
  export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
  cd "$1" || exit
  shift
  exec python -P -m "$@"
}
