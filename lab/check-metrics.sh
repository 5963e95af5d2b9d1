#!/usr/bin/env bash
# Holds what programs expose against the conventions of Prometheus: fails on any line that `promtool check metrics` says.
#
#   lab/check-metrics.sh http://127.0.0.1:3000/metrics saved.txt …
set -euo pipefail
[ $# -gt 0 ] || { echo "usage: check-metrics.sh URL-or-FILE…" >&2; exit 2; }
command -v promtool >/dev/null || { echo "check-metrics.sh: no promtool; ./test.sh tools installs it" >&2; exit 2; }

failed=0
for source in "$@"; do
    case $source in
        http://*) text=$(curl --fail --silent --show-error --max-time 10 "$source") ;;
        *) text=$(<"$source") ;;
    esac
    families=$(grep -c '^# TYPE ' <<<"$text" || true)
    complaints=$(promtool check metrics 2>&1 <<<"$text") || true
    if [ "$families" -eq 0 ]; then
        echo "$source: no metrics" >&2
        failed=1
    elif [ -n "$complaints" ]; then
        echo "$source:" >&2
        echo "$complaints" >&2
        failed=1
    else
        echo "$source: $families families, no complaints"
    fi
done
exit $failed
