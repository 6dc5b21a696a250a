#!/usr/bin/env bash
# Prints where the newest Python is that this runs on, or the first of those
# named; fails if there is none:
#   launch/newest_python.sh [VERSION ...]
set -euo pipefail
(($#)) || set -- 3.14 3.13 3.12 3.11
# Debian's has no ensurepip before python3-venv is installed.
code='import ensurepip, sys, venv
print(sys.executable)
sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1])'
for version in "$@"; do
  # Of several that pyenv has, its python3.X runs the one that this names.
  if python="$(PYENV_VERSION="$version" "python$version" -c "$code" \
    "$version" 2>/dev/null)"; then
    echo "$python"
    exit
  fi
done
echo "Found no Python $*, or none with ensurepip." >&2
exit 1
