#!/usr/bin/env bash
# Runs every fuzz target, or those named, from the committed seeds; fails on any finding, and says how much was run.
#
#   fuzz/run.sh [SECONDS [TARGET…]]     10 seconds each unless told; the engines, which have more to hide, get three times that
#
# Without a name, the engines take part where FUZZ_ENGINES is set: to build them takes minutes. The same histories run without
# coverage in `cargo test --test model`. FUZZ_SANITIZER=address guards what dependencies do in unsafe code, at a third of the speed. Needs cargo-fuzz (cargo
# install cargo-fuzz). RUSTC_BOOTSTRAP lets the stable compiler take the fuzzer's flags. What is found lies in artifacts/;
# it becomes a seed, or a file in relay/tests/model/findings, once it is fixed.
set -euo pipefail
cd "$(dirname "$0")"
export RUSTC_BOOTSTRAP=1
seconds=${1:-10}
shift || true
flags=(--fuzz-dir . --sanitizer "${FUZZ_SANITIZER:-none}")
[ -z "${CARGO_TARGET_DIR:-}" ] || flags+=(--target-dir "$CARGO_TARGET_DIR/fuzz")

log=$(mktemp)
trap 'rm -f "$log"' EXIT
targets=("$@")
[ -z "${FUZZ_ENGINES:-}" ] && [ ${#targets[@]} -eq 0 ] || flags+=(--features engines)
if [ ${#targets[@]} -eq 0 ]; then
    cargo fuzz build "${flags[@]}" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
    mapfile -t targets < <(cargo fuzz list --fuzz-dir .)
    if [ -z "${FUZZ_ENGINES:-}" ]; then
        mapfile -t targets < <(printf '%s\n' "${targets[@]}" | grep -v -e '_engine$' -e '^directory_framing$')
        echo "fuzz: the engines are left to FUZZ_ENGINES=1 and ./long-run.sh"
    fi
    [ ${#targets[@]} -gt 0 ] || { echo "fuzz/run.sh: no targets found" >&2; exit 1; }
fi

failed=0
for target in "${targets[@]}"; do
    mkdir -p "corpus/$target"
    time=$seconds options=()
    case $target in *_engine | directory_framing) time=$((seconds * 3)) ;; esac
    [ ! -e "dictionaries/$target" ] || options+=("-dict=dictionaries/$target")
    if cargo fuzz run "${flags[@]}" "$target" "corpus/$target" "seeds/$target" -- \
        -max_total_time="$time" -max_len=4096 -timeout=20 -rss_limit_mb=2048 "${options[@]}" >"$log" 2>&1; then
        echo "fuzz $target: no finding, $(sed -n 's/^Done \([0-9]* runs in [0-9]* second(s)\)$/\1/p' "$log")"
    else
        echo "fuzz $target: FINDING"
        tail -n 60 "$log" >&2
        failed=1
    fi
done
exit "$failed"
