#!/bin/bash
# What one heavy sender does to a thousand light ones: their loss and latency without it and beside it.
#
#   benches/fairness.sh [PILOT-RELAY [LOADGEN [SECONDS]]]
#
# One shard on CPU 0; both generators on CPU 1, the light one first among them. The light senders send five packets a
# second each from addresses of their own; the heavy one all that a core can send, from the second second on. No directory,
# and loopback, which is exempt otherwise, pays like any other source.
set -eu
relay=${1:-target/release/pilot-relay}
loadgen=${2:-target/release/loadgen}
seconds=${3:-8}
port=19001 http=13000
scratch=$(mktemp -d)
urgent="nice -n -10"
[ "$(id -u)" = 0 ] || urgent=""

finish() {
    [ -z "${relay_pid:-}" ] || kill "$relay_pid" 2>/dev/null || true
    wait || true
    rm -rf "$scratch"
}
trap finish EXIT

$urgent taskset -c 0 "$relay" --registry off --beacon 127.0.0.1:$port --stun off --http 127.0.0.1:$http \
    --exempt 192.0.2.1 --data-dir "$scratch" --shards 1 >"$scratch/relay.log" 2>&1 &
relay_pid=$!
for _ in $(seq 100); do
    curl -sf "http://127.0.0.1:$http/healthz" >/dev/null && break
    read -rt 0.1 <> <(:) || true
done

light() {
    $urgent taskset -c 1 "$loadgen" --no-directory --relay 127.0.0.1:$port --peers 1000 --rate 5000 --seconds "$seconds" \
        --workers 1 --burst 1 --max-loss 100 --json 2>/dev/null >"$scratch/$1.json" || true
}
counter() { curl -s "http://127.0.0.1:$http/metrics" | awk -v name="$1" 'index($1, name) == 1 { sum += $2 } END { print sum + 0 }'; }

light alone
light beside &
light_pid=$!
(
    read -rt 2 <> <(:) || true
    taskset -c 1 "$loadgen" attack --kind heavy --relay 127.0.0.1:$port --node 900001 --dest 900001 --source 127.200.0.1 \
        --seconds "$((seconds - 2))" >"$scratch/heavy"
) &
heavy_pid=$!
wait $light_pid $heavy_pid
cat "$scratch/heavy"
python3 - "$scratch/alone.json" "$scratch/beside.json" <<'PYTHON'
import json, sys
alone, beside = (json.load(open(name)) for name in sys.argv[1:])
def row(name, report):
    latency = report["latency_us"]
    print(f"{name:12} loss {report['loss_percent']:.3f} %  p50 {latency['p50']:.0f} us  p99 {latency['p99']:.0f} us")
row("alone", alone)
row("beside heavy", beside)
print(f"p99 factor   {beside['latency_us']['p99'] / alone['latency_us']['p99']:.2f}")
PYTHON
echo "relay: forwarded $(counter pilot_relay_datagrams_forwarded_total), over a budget" \
    "$(counter 'pilot_relay_datagrams_dropped_total{shard="0",reason="sender_budget"')," \
    "filtered $(counter pilot_relay_filter_drops_total), lost for a full buffer $(counter pilot_relay_kernel_drops_total)"
