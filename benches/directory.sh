#!/usr/bin/env bash
# What a directory takes: registrations, publications, questions, idle connections, restarts. Bounded without arguments (2000
# nodes, a few seconds, every answer right); DIRECTORY_FULL=1 makes it 100 000 nodes, the highest rates, 15 000 connections.
#
# DIRECTORY_BIN and LOADGEN_BIN name the programs, DIRECTORY_PORT the first of two ports on 127.0.0.1, DIRECTORY_JSON a file for
# loadgen's report.
set -euo pipefail
cd "$(dirname "$0")/.."
directory=${DIRECTORY_BIN:-target/release/pilot-directory}
loadgen=${LOADGEN_BIN:-target/release/loadgen}
port=${DIRECTORY_PORT:-19010}
if [ -n "${DIRECTORY_FULL:-}" ]; then
    nodes=${DIRECTORY_NODES:-100000} connections=15000 tls_connections=15000 rounds=5 bytes_max=8192
    load=(--groups 20 --find-max --max-p99 250 --trial 2 --seconds 5 --rate 2000)
else
    nodes=${DIRECTORY_NODES:-2000} connections=4000 tls_connections=500 rounds=1 bytes_max=10240
    load=(--groups 2 --rate 300 --seconds 0.5)
fi

data=$(mktemp -d)
pid=
# Whatever was started ends with this script, however it ends.
trap '[ -z "$pid" ] || stop || true; rm -rf "$data"' EXIT

# start PORT DIR FLAGS…
start() {
    "$directory" --listen "[::]:$1" --data-dir "$2" "${@:3}" >"$data/log" 2>&1 &
    pid=$!
    # Until it answers; fails after a minute.
    timeout 60 bash -c "until : 2>/dev/null </dev/tcp/127.0.0.1/$1; do :; done" || { cat "$data/log" >&2; exit 1; }
}

stop() {
    local ending=$pid
    pid=
    kill "$ending" 2>/dev/null || true
    wait "$ending" || { echo "the directory, told to end, ended with $?:" >&2; cat "$data/log" >&2; return 1; }
}

# The directory has to have its port back.
start "$port" "$data/full"
if [ -n "${DIRECTORY_JSON:-}" ]; then
    "$loadgen" directory --registry "127.0.0.1:$port" --nodes "$nodes" "${load[@]}" --json >"$DIRECTORY_JSON"
else
    "$loadgen" directory --registry "127.0.0.1:$port" --nodes "$nodes" "${load[@]}" 2>"$data/progress" ||
        { cat "$data/progress" >&2; exit 1; }
fi
stop
du -sk "$data/full" | awk '{ printf "data folder       %.1f MiB\n", $1 / 1024 }'
benches/directory-restart.py "$directory" "$data/full" "$port" "$rounds"

# Idle connections: a new directory each time, so that nothing it held before is counted or reused. The full run's bound is the design's; of
# few connections each bears more of what all share.
start "$((port + 1))" "$data/plain"
"$loadgen" idle --registry "127.0.0.1:$((port + 1))" --count "$connections" --max-bytes "$bytes_max" 2>/dev/null
stop
start "$((port + 1))" "$data/tls" --tls-self-signed
"$loadgen" idle --registry "127.0.0.1:$((port + 1))" --count "$tls_connections" --tls 2>/dev/null
stop
