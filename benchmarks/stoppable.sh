# shellcheck shell=bash
# Sourced by scripts that are asked to stop with SIGTERM or Ctrl-C, and so is the
# command that they are running: it saves before it ends.
child='' asked=0
trap 'asked=1 noticed=1; [[ -z "$child" ]] || kill -TERM "$child" || true' TERM INT

# Runs a command, waits until it has really ended, and returns its exit status.
# Sets `asked` to 1 if the script was asked to stop.
stoppable() {
  local code
  "$@" &
  child="$!"
  ((!asked)) || kill -TERM "$child"
  # A signal ends a wait before the child has saved.
  noticed=1
  while ((noticed)); do
    noticed=0 code=0
    wait "$child" || code="$?"
  done
  child=''
  return "$code"
}
