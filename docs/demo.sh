#!/bin/sh
# The main job on simulated GPUs: `make demo`. Everything lives in a directory that is removed again.
set -eu

directory=$(mktemp -d "${TMPDIR:-/tmp}/superezio-demo.XXXXXX")
export SUPEREZIO_SOCKET="$directory/control.sock"
export SUPEREZIO_SIMULATED_DIR="$directory/simulated"
daemon= model=

finish() {
  [ -z "$model" ] || kill "$model" 2>/dev/null || true
  [ -z "$daemon" ] || { kill "$daemon" && wait "$daemon"; } 2>/dev/null || true
  rm -rf "$directory"
}
trap finish EXIT
trap 'exit 130' INT TERM

say() { printf '\n== %s\n' "$*"; }
show() { printf '$ %s\n' "$*"; "$@"; }

# Waits until a line of superezioctl's JSON says what is expected; the daemon needs its samples.
await() {
  tries=0
  until superezioctl --json gpu show "$1" 2>/dev/null | grep -q "$2"; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { echo "demo: GPU $1 never showed $2" >&2; exit 1; }
    sleep 0.2
  done
}

say "the daemon starts, on an RTX 3060 and an RTX 2060 that are simulated"
supereziod --gpu-driver simulated --state-dir "$directory/state" 2>"$directory/log" &
daemon=$!
superezioctl wait --timeout 20s
show superezioctl gpu list

say "a program that needs 8 GiB is put on the GPU that has them"
superezioctl run --vram 8GiB --name llm -- python -m supereziod.gpu.standin --vram 7GiB --load 90 &
model=$!
await 0 '"leases": *1'
await 0 '"vram_used_bytes": *7[0-9]\{9\}'
show superezioctl status

say "a second one would not fit: every GPU says why"
show superezioctl run --vram 8GiB -- true || echo "(exit code $?)"

say "GPU 1 overheats: it admits nothing until it has cooled"
python -m supereziod.gpu.control --directory "$SUPEREZIO_SIMULATED_DIR" 1 temperature_c=95
await 1 '"level": *"critical"'
show superezioctl run --vram 5GiB -- true || echo "(exit code $?)"
show superezioctl health || true

say "the program ends, and its lease with it"
{ kill "$model" && wait "$model"; } 2>/dev/null || true
model=
await 0 '"leases": *0'
show superezioctl lease list

say "the daemon stops"
kill "$daemon" && wait "$daemon"
daemon=
echo "done"
