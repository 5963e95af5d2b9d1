#!/bin/sh
# Runs every fuzz target for SECONDS (default 10), starting from the committed seeds; fails on any finding.
# Needs cargo-fuzz (cargo install cargo-fuzz). RUSTC_BOOTSTRAP lets the stable compiler take the sanitizer's flags.
set -eu
seconds=${1:-10}
cd "$(dirname "$0")"
export RUSTC_BOOTSTRAP=1

log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo fuzz build --fuzz-dir . >"$log" 2>&1 || { cat "$log" >&2; exit 1; }

failed=0
for target in $(cargo fuzz list --fuzz-dir .); do
    mkdir -p "corpus/$target"
    if cargo fuzz run --fuzz-dir . "$target" "corpus/$target" "seeds/$target" -- \
        -max_total_time="$seconds" -max_len=4096 -timeout=5 -rss_limit_mb=1024 >"$log" 2>&1; then
        echo "fuzz $target: no finding, $(sed -n 's/^Done \([0-9]* runs in [0-9]* second(s)\)$/\1/p' "$log")"
    else
        echo "fuzz $target: FINDING"
        tail -n 40 "$log" >&2
        failed=1
    fi
done
exit "$failed"
