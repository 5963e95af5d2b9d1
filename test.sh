#!/usr/bin/env bash
# Passes every test, after installing what the tests need on a fresh Debian machine. Run as root, or as a user who may
# use sudo: the laboratory makes network namespaces.
#
#   ./test.sh            everything, bounded (about half an hour on two quiet cores)
#   ./test.sh STAGE…     only these stages, in the order given
#
# LONG adds the stages deny, miri, asan, package, restarts, reproduce, container and compare. FUZZ_SECONDS, FUZZ_ENGINES, PILOT_PROFILE,
# PILOT_LAB_FULL, PILOT_OLD_COMMIT, LOADGEN_SECONDS, DIRECTORY_FULL and COMPARE_FULL widen the bounds; ./long-run.sh sets them all.
set -euo pipefail
cd "$(dirname "$0")"
source lab/stages.sh

stages=("$@")
[ ${#stages[@]} -gt 0 ] || stages=(tools lint unit loom fuzz build lab example load metrics directory
    ${LONG:+deny miri asan package restarts reproduce container compare})
for stage in "${stages[@]}"; do
    declare -F "stage_$stage" >/dev/null || { echo "test.sh: no stage '$stage'; there are: tools lint deny unit loom miri asan fuzz build package restarts reproduce container lab example load metrics directory compare" >&2; exit 2; }
done
for stage in "${stages[@]}"; do
    began=$SECONDS
    printf '\n== %s\n' "$stage"
    "stage_$stage"
    printf '== %s passed in %d s\n' "$stage" $((SECONDS - began))
done
for what in "${not_checked[@]}"; do printf '!! NOT CHECKED: %s\n' "$what" >&2; done
printf '\nAll stages passed in %d s: %s\n' "$SECONDS" "${stages[*]}"
