#!/usr/bin/env bash
# Prints the path of the first of the given versions of Python that is there, by
# default of those that are tested, then of others; fails if there is none:
#   launch/newest_python.sh [VERSION ...]
set -euo pipefail
(($#)) || set -- 3.13 3.11 3.12 3.14
# Debian's Python has no ensurepip until python3-venv is installed.
code='import ensurepip, sys, venv
print(sys.executable)
sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1])'
for version in "$@"; do
  # If pyenv has several versions, this variable selects the one to run.
  if python="$(PYENV_VERSION="$version" "python$version" -c "$code" \
    "$version" 2>/dev/null)"; then
    echo "$python"
    exit
  fi
done
echo "Found no Python $*, or none with ensurepip." >&2
exit 1
