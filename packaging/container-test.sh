#!/usr/bin/env bash
# The appliance's image in a container with seccomp.json, as its own user and without a network but loopback: it serves, its
# health check holds, it is confined as it says, and it ends when told. As root, with podman; no registry is asked.
#
#   packaging/container-test.sh [--profile PROFILE]
#
# PILOT_DEBIAN_ROOT names a Debian made by debootstrap, which stands for debian:bookworm-slim; without it one is made in
# target/debian-root (network). The image is that of Containerfile but for its first stage, the build, whose program is
# taken from the target folder. Ends with 77 where it cannot be run. PILOT_PROGRAMS names another folder with pilot-relay and loadgen.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=release
[ "${1:-}" != --profile ] || profile=${2:?--profile needs a name}
skipped() {
    printf 'container-test.sh: nothing was run: %s\n' "$1" >&2
    exit 77
}
[ "$(id -u)" -eq 0 ] || skipped "only root runs it"
command -v podman >/dev/null || skipped "podman is missing (Debian: apt-get install --no-install-recommends podman crun)"
folder=$profile
[ "$profile" != dev ] || folder=debug
programs=${PILOT_PROGRAMS:-${CARGO_TARGET_DIR:-$PWD/target}/$folder}
for program in pilot-relay loadgen; do
    [ -x "$programs/$program" ] || { echo "container-test.sh: $programs/$program is missing; run: ./test.sh build" >&2; exit 1; }
done
base=${PILOT_DEBIAN_ROOT:-$PWD/target/debian-root}
if [ ! -x "$base/usr/bin/bash" ]; then
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,procps,iproute2,init-system-helpers bookworm "$base" >&2
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/pilot-container.XXXXXX")
# Images and containers of its own, away from the host's.
options=(--root "$work/storage" --runroot "$work/run" --cgroup-manager cgroupfs)
# crun does not know control groups of both versions side by side.
if [ -d /sys/fs/cgroup/unified ]; then
    command -v runc >/dev/null || skipped "the host has control groups of both versions, for which runc is missing (Debian: apt-get install runc)"
    options+=(--runtime runc)
fi
# Checks are asked for here, and not by timers of a service manager.
export DISABLE_HC_SYSTEMD=true
engine() { podman "${options[@]}" "$@"; }
finish() {
    status=$?
    if [ $status -ne 0 ]; then engine logs relay >&2 || true; fi
    engine rm -f -t 0 relay >/dev/null 2>&1 || true
    engine rmi -f -a >/dev/null 2>&1 || true
    umount "$work/storage/overlay" 2>/dev/null || true
    rm -rf "$work"
    exit $status
}
trap finish EXIT
ok() { echo "  ok    $*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }
until_so() {
    local deadline=$((SECONDS + 60)) what=$1
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || fail "not within a minute: $what"
        read -rt 0.1 <> <(:) || true
    done
}

tar -C "$base" --one-file-system -c . | engine import -q - localhost/debian:bookworm-slim >/dev/null
mkdir "$work/context"
strip -o "$work/context/pilot-relay" "$programs/pilot-relay"
# The second stage as it stands, with the program from here and not from the first.
awk '/^FROM /{stage++} stage == 2' packaging/Containerfile |
    sed -e 's|^FROM debian:|FROM localhost/debian:|' -e 's|^COPY --from=build /src/target/release/pilot-relay |COPY pilot-relay |' \
        >"$work/context/Containerfile"
if grep -q -- --from= "$work/context/Containerfile"; then fail "the second stage takes more from the first than this test knows"; fi
# Without a network, and also where crun does not like the host's control groups.
unshare --net -- podman "${options[@]}" build -q --format docker --pull=never --isolation chroot -f "$work/context/Containerfile" -t localhost/pilot-relay \
    "$work/context" >/dev/null
ok "the image is built: $(engine image inspect --format '{{.Size}}' localhost/pilot-relay) bytes with Debian's root, user $(engine image inspect --format '{{.User}}' localhost/pilot-relay)"

limits=()
for limit in nofile:n:1048576:1 nproc:u:4096:1 memlock:l:67108864:1024; do
    IFS=: read -r name flag wanted unit <<<"$limit"
    most=$(ulimit -H -"$flag")
    [ "$most" = unlimited ] || [ $((most * unit)) -ge "$wanted" ] || wanted=$((most * unit))
    limits+=(--ulimit "$name=$wanted")
done

# As the Containerfile says, with the limits as far as this host lets them be set, but for the network, and what of podman a test has no use for.
engine run -d --name relay --network none --log-driver k8s-file \
    --security-opt "seccomp=$PWD/packaging/seccomp.json" "${limits[@]}" \
    -v pilot-relay:/var/lib/pilot-relay localhost/pilot-relay >/dev/null
pid=$(engine inspect --format '{{.State.Pid}}' relay)
until_so "its health check holds" engine healthcheck run relay
ok "its health check holds"
[ "$(ps -o user:32= -p "$pid" | tr -d ' ')" != root ] || fail "it runs as root"
grep -q '^Seccomp:[[:space:]]*2$' "/proc/$pid/status" || fail "no filter of system calls is in force"
filters=$(sed -n 's/^Seccomp_filters:[[:space:]]*//p' "/proc/$pid/status")
# One of the container and two of its own: those that end the process, and those that are answered with ENOSYS.
[ "$filters" -ge 3 ] || fail "$filters filters of system calls are in force, of 3: the container's and two of its own"
ok "user $(stat -c %u "/proc/$pid") of the container, $filters filters of system calls"
grep -q '^CapEff:[[:space:]]*0*$' "/proc/$pid/status" || fail "it has capabilities: $(grep ^CapEff "/proc/$pid/status")"
ok "no capabilities"
engine logs relay >"$work/log" 2>&1
grep -Eq ' (WARN|ERROR) ' "$work/log" && { cat "$work/log" >&2; fail "it complains"; }
ok "it complains of nothing, of its confinement neither, in $(grep -c '' "$work/log") lines"

inside() { nsenter --target "$pid" --net -- "$@"; }
inside "$programs/loadgen" --peers 8 --relay 127.0.0.1:9001 --registry 127.0.0.1:9000 --rate 200 --seconds 1 --max-loss 0 >"$work/load" ||
    { cat "$work/load" >&2; fail "loadgen"; }
ok "registers, answers discovery and relays for eight peers, none of it lost"
# The check can fail: a container whose relay stands still is not healthy.
kill -STOP "$pid"
if timeout 20 podman "${options[@]}" healthcheck run relay >/dev/null 2>&1; then
    kill -CONT "$pid"
    fail "a relay that stands still is called healthy"
fi
kill -CONT "$pid"
ok "a relay that stands still is not healthy"

began=$(date +%s%N)
engine kill -s TERM relay >/dev/null
engine wait relay >"$work/status"
took_ms=$((($(date +%s%N) - began) / 1000000))
[ "$(cat "$work/status")" = 0 ] || fail "it ended with status $(cat "$work/status")"
# When engines kill what was told to end.
[ $took_ms -lt 10000 ] || fail "it took $took_ms ms to end"
ok "SIGTERM ends it, status 0, in $took_ms ms"
engine start relay >/dev/null
until_so "it is healthy again" engine healthcheck run relay
ok "it starts again on what it has stored"
engine kill -s TERM relay >/dev/null
engine wait relay >/dev/null

# Without the profile io_uring is not to be had, and the program says so.
engine run --rm --network none "${limits[@]}" localhost/pilot-relay >"$work/refused" 2>&1 && fail "it serves without the profile: the profile is of no use"
grep -qi 'io_uring' "$work/refused" || { cat "$work/refused" >&2; fail "without the profile it does not say what is missing"; }
ok "without the profile: $(grep -i io_uring "$work/refused" | tail -n 1)"
echo "container: all steps passed in $SECONDS s"
