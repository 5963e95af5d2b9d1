#!/usr/bin/env bash
# The full figures: every NAT pair, 20 kill rounds and restarts, a minute of each fuzz target and three of each engine, Miri,
# the address sanitizer, licences and advisories, the packages in a fresh Debian from those of an older commit, the same build
# twice, the container, long load, a directory of 100 000, the whole comparison. Takes some hours on two cores; for the numbers
# in release notes, not for every change.
set -euo pipefail
cd "$(dirname "$0")"
export LONG=1 PILOT_PROFILE=release FUZZ_SECONDS=${FUZZ_SECONDS:-60} FUZZ_ENGINES=1 PILOT_LAB_FULL=1 \
    PILOT_OLD_COMMIT=${PILOT_OLD_COMMIT:-auto} LOADGEN_SECONDS=${LOADGEN_SECONDS:-60} DIRECTORY_FULL=1 COMPARE_FULL=1
exec ./test.sh "$@"
