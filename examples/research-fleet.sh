#!/usr/bin/env bash
# A research fleet on one machine: a backbone, a coordinator, three specialists. They register what they can do, the
# coordinator finds them by that, the group hears a broadcast, a question goes to the most relevant member, and when that one
# is gone, to the next. Every command is one that a fleet uses; only ports and folders are chosen to be out of the way.
#
#   cargo build --release -p relay -p agent && examples/research-fleet.sh
#
# BIN is the folder of the programs. Exits with 0 when all went as told, and leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=$(realpath "${BIN:-target/release}")
fleet=$(mktemp -d)
hosts=()
relay=

finish() {
    for host in "${hosts[@]}"; do at "$host" daemon stop >/dev/null 2>&1 || true; done
    [ -z "$relay" ] || kill "$relay" || true
    wait || true
    rm -rf "$fleet"
}
trap finish EXIT

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

# Runs a command of the fleet at one of its hosts, and shows it as one would type it there.
at() {
    local host=$1 word
    shift
    printf '%s$ pilotctl' "$host" >&2
    for word in "$@"; do
        case $word in *[!a-zA-Z0-9-]*) printf " '%s'" "$word" >&2 ;; *) printf ' %s' "$word" >&2 ;; esac
    done
    printf '\n' >&2
    HOME="$fleet/$host" PILOT_SOCKET="$fleet/$host/pilot.sock" PILOT_REGISTRY=127.0.0.1:29000 "$bin/pilotctl" "$@"
}

# Fails, and says why, unless the text has all the words in it.
expect() {
    local text=$1 word
    shift
    printf '%s\n' "$text"
    for word in "$@"; do
        grep -qF -- "$word" <<<"$text" || { echo "research-fleet: expected \"$word\" in that" >&2; exit 1; }
    done
}

# Tries a command until it succeeds, for what takes a moment to get round.
eventually() {
    for _ in $(seq 50); do
        "$@" >/dev/null 2>&1 && return
        read -rt 0.2 < <(tail -f /dev/null) || true
    done
    "$@"
}

say 'The backbone: relay, STUN, directory, status page'
"$bin/pilot-relay" --data-dir "$fleet/backbone" --beacon 127.0.0.1:29001 --stun off --registry 127.0.0.1:29000 \
    --http 127.0.0.1:23000 2>"$fleet/backbone.log" &
relay=$!
eventually curl -sf http://127.0.0.1:23000/healthz

start() {
    local host=$1
    shift
    mkdir -p "$fleet/$host"
    hosts+=("$host")
    at "$host" daemon start --hostname "$host" "$@"
}

say 'A coordinator and three specialists, each saying what it can do'
start coordinator
start specialist-papers --capability 'Resolve academic citations' \
    --capability-text 'Finds the DOI, the authors and a summary of any paper from a citation, however incomplete.' --tag papers
start specialist-patents --capability 'Search patents' \
    --capability-text 'Finds patents and the academic citations in them, in five languages.' --tag patents
start specialist-weather --capability 'Weather reports' \
    --capability-text 'Reports past and coming weather anywhere.' --tag weather

say 'A group of their own'
at coordinator group create RESEARCH --rule invite
for specialist in specialist-papers specialist-patents specialist-weather; do
    at coordinator group invite RESEARCH "$specialist"
    eventually at "$specialist" group accept RESEARCH
done
expect "$(at coordinator group members RESEARCH)" specialist-papers specialist-patents specialist-weather

say 'Who can resolve academic citations?'
expect "$(at coordinator query 'resolve academic citations' --group RESEARCH)" specialist-papers
expect "$(at coordinator --json query 'resolve academic citations' --group RESEARCH --limit 1)" specialist-papers

say 'A word to all'
expect "$(at coordinator broadcast RESEARCH --data 'standup in five minutes')" '3 of 3 live members have it'
for specialist in specialist-papers specialist-patents specialist-weather; do
    expect "$(at "$specialist" inbox)" 'standup in five minutes'
done

say 'A question to the most relevant member'
expect "$(at coordinator send-message --group RESEARCH --most-relevant 'academic citations' \
    --data 'Vaswani et al. 2017, which DOI?')" specialist-papers

say 'That one dies; the question goes to the next'
kill -9 "$(at specialist-papers --json daemon status | sed -E 's/.*"pid":([0-9]+).*/\1/')"
expect "$(at coordinator send-message --group RESEARCH --most-relevant 'academic citations' \
    --data 'And whose patents cite it?')" specialist-patents
expect "$(at specialist-patents inbox)" 'whose patents cite it'

say 'What the status page counts'
expect "$(curl -sf http://127.0.0.1:23000/status.json)" '"online"'

say 'All as it should be.'
