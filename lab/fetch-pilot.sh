#!/bin/sh
# Fetches the unmodified Pilot programs the laboratory runs: a test dependency, never part of this repository.
set -eu
cd "$(dirname "$0")/.."
venv=${1:-target/pilot-venv}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv" ||
    { echo "cannot make a virtual environment: apt-get install python3-venv" >&2; exit 1; }
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check pilotprotocol==1.18.0
echo "pilotprotocol 1.18.0 is in $venv/bin"
