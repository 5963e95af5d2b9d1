#!/bin/sh
# Restart, reload, upgrade, kill, a process that hangs, and draining under a real systemd: in a container of
# systemd-nspawn that is booted from a folder with Debian in it, without a network.
#
#   lab/systemd.sh ROOT PILOT_RELAY [UNIT]
#
# ROOT is changed: the program goes to usr/bin, the unit to etc/systemd/system (UNIT, else one written here with what a
# succession needs). Root is needed, and Debian's systemd-container. Exit status 0: all of it went as it must.
#
# With PILOT_LOADGEN_BIN, PILOT_RESTARTS (20) reloads, as many restarts and as many kills are also made under load: PILOT_PEERS
# (1000) peers that relay PILOT_RATE (10000) datagrams a second. A reload may lose none, by their numbers and by the kernel's
# counters. A kill loses what the process had received. A restart and a kill lose what comes beyond
# what the sockets hold, with tuning/90-pilot-relay.sysctl.conf 12 000 datagrams each, while one process ends and the next
# begins: a tenth of a second, longer on a busy host. What it lost is printed; 5 % is too much.
# PILOT_CPUS (0) is where the relay's shards run; the load runs on the last CPU.
set -eu

root=${1:?the folder of a Debian root}
program=${2:?the pilot-relay to run}
unit=${3:-}
name=pilot-relay
loadgen=${PILOT_LOADGEN_BIN:-}
work=$(mktemp -d)
log=$work/console

install -m 755 "$program" "$root/usr/bin/pilot-relay"
if [ -n "$unit" ]; then
    install -m 644 "$unit" "$root/etc/systemd/system/$name.service"
else
    cat > "$root/etc/systemd/system/$name.service" <<'UNIT'
[Unit]
StartLimitIntervalSec=0
[Service]
Type=notify
NotifyAccess=all
ExecStart=/usr/bin/pilot-relay
ExecReload=/usr/bin/pilot-relay upgrade
Environment=PILOT_RELAY_DATA_DIR=/var/lib/pilot-relay
Restart=on-failure
RestartSec=0
RestartPreventExitStatus=2
WatchdogSec=5
FileDescriptorStoreMax=4096
DynamicUser=yes
StateDirectory=pilot-relay
StateDirectoryMode=0700
LimitNOFILE=1048576
CapabilityBoundingSet=
NoNewPrivileges=yes
ProtectSystem=strict
SystemCallFilter=@system-service seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self
SystemCallErrorNumber=EPERM
UNIT
fi

rm -rf "$root/etc/systemd/system/$name.service.d"
if [ -n "$loadgen" ]; then
    install -m 755 "$loadgen" "$root/usr/local/bin/loadgen"
    mkdir -p "$root/etc/systemd/system/$name.service.d"
    # Before the settings file, which the unit of the package names.
    cat > "$root/etc/systemd/system/$name.service.d/load.conf" <<UNIT
[Service]
Environment=PILOT_RELAY_CPUS=${PILOT_CPUS:-0} PILOT_RELAY_EXEMPT=127.0.0.0/8
UNIT
fi

systemd-nspawn -q -D "$root" --register=no --keep-unit -b --private-network --system-call-filter="@io-uring @memlock" \
    > "$log" 2>&1 < /dev/null &
container=$!
leader=
end() {
    [ -z "$leader" ] || inside systemctl poweroff > /dev/null 2>&1 || true
    # It has a quarter of a minute to go by itself.
    tries=60
    while kill -0 "$container" 2> /dev/null && [ "$tries" -gt 0 ]; do tries=$((tries - 1)); sleep 0.25; done
    kill -KILL "$container" 2> /dev/null || true
    rm -rf "$work"
}
trap end EXIT
trap 'exit 1' HUP INT TERM

inside() { nsenter -t "$leader" -a /usr/bin/env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
value() { inside systemctl show -p "$1" --value "$name"; }
fail() {
    echo "FAILED: $*" >&2
    inside journalctl -u "$name" --no-pager -o cat -n 40 >&2 || cat "$log" >&2
    exit 1
}
# until WHAT COMMAND...: waits at most half a minute.
until_so() {
    what=$1
    shift
    tries=120
    until "$@"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || fail "waited in vain for $what"
        sleep 0.25
    done
}
booted() {
    leader=$(pgrep -P "$container" | head -n 1)
    [ -n "$leader" ] && inside systemctl is-active -q basic.target 2> /dev/null
}
serves() { [ "$(value ActiveState)" = active ] && [ "$(value MainPID)" != "$1" ] && [ "$(value MainPID)" != 0 ]; }
is_gone() { [ "$(value ActiveState)" = inactive ]; }

until_so "the container to boot" booted
inside systemctl daemon-reload
inside systemctl restart "$name" || fail "it does not start"

for how in reload restart reload upgrade; do
    before=$(value MainPID)
    case $how in
        upgrade) inside pilot-relay upgrade || fail "upgrade" ;;
        *) inside systemctl "$how" "$name" || fail "$how" ;;
    esac
    serves "$before" || fail "$how: the same process, or none ($(value ActiveState))"
    [ "$(value NRestarts)" = 0 ] || fail "$how: counted as a failure"
    echo "ok: $how, pid $before -> $(value MainPID)"
done

# What the kernel has thrown away because a socket was full, since the container booted.
overflows() { inside cat /proc/net/snmp | awk '/^Udp:/ { if (at) print $at; else for (i = 1; i <= NF; i++) if ($i == "RcvbufErrors") at = i }'; }
# once reload|restart|kill: the unit serves again after it.
once() {
    [ "$1" = kill ] || { inside systemctl "$1" "$name"; return; }
    before=$(value MainPID)
    inside systemctl kill -s KILL "$name"
    until_so "a new process after a kill" serves "$before"
}
# under_load reload|restart|kill PERCENT: so many in a row while datagrams flow, of which no more may be lost.
under_load() {
    how=$1 loss_max=$2 number=0 count=${PILOT_RESTARTS:-20}
    report=$work/report
    full=$(overflows)
    # What the load before has said does not count.
    : > "$report.progress"
    # Each takes up to a second and a half, and a pause of half a one.
    inside taskset -c "$(($(nproc) - 1))" loadgen --relay 127.0.0.1:9001 --registry 127.0.0.1:9000 --peers "${PILOT_PEERS:-1000}" \
        --workers 1 --rate "${PILOT_RATE:-10000}" --seconds $((count * 5 / 2 + 5)) --max-loss "$loss_max" > "$report" 2> "$report.progress" &
    load=$!
    until_so "the load to flow" grep -q relaying "$report.progress"
    while [ "$number" -lt "$count" ]; do
        number=$((number + 1))
        # Not what its limit is for.
        inside systemctl reset-failed "$name" 2> /dev/null || true
        once "$how" || fail "$how number $number under load"
        kill -0 "$load" 2> /dev/null || { cat "$report" "$report.progress" >&2; fail "the load ended before $how number $number"; }
        sleep 0.5
    done
    wait "$load" || { cat "$report" "$report.progress" >&2; fail "$count times $how under load: datagrams were lost"; }
    cat "$report"
    [ "$loss_max" != 0 ] || [ "$(overflows)" = "$full" ] || fail "$how: sockets overflowed, $full -> $(overflows)"
    echo "ok: $count times $how at ${PILOT_RATE:-10000} datagrams a second, $(sed -n 's/^lost *//p' "$report") lost, sockets overflowed by $(($(overflows) - full))"
}
if [ -n "$loadgen" ]; then
    under_load reload 0
    under_load restart 5
    under_load kill 5
    inside systemctl restart "$name" || fail "restart"
fi

once kill
echo "ok: kill, pid $before -> $(value MainPID)"

before=$(value MainPID)
inside sh -c "kill -STOP $before"
until_so "the watchdog to replace a process that hangs" serves "$before"
[ "$(value NRestarts)" = 2 ] || fail "restarts: $(value NRestarts)"
echo "ok: watchdog, pid $before -> $(value MainPID)"
until_so "readiness" sh -c "[ \"\$(nsenter -t $leader -a systemctl show -p NFileDescriptorStore --value $name)\" -gt 3 ]"

inside pilot-relay drain --deadline 1 || fail "drain"
until_so "the end of draining" is_gone
[ "$(value Result)" = success ] || fail "drain: $(value Result)"
inside journalctl -u "$name" --no-pager -o cat | grep -q "took over from the relay before" || fail "nothing was kept"
echo "ok: drain"
