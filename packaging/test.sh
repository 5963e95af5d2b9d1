#!/usr/bin/env bash
# Installs, upgrades, downgrades, removes and purges the packages in a fresh Debian with a real systemd, in a container
# without a network. As root.
#
#   packaging/test.sh [--profile PROFILE] [--from COMMIT | --from auto]
#
# --from upgrades from the packages of an older commit, and downgrades to them. They are built here by that commit's own
# packaging/build.sh (profile ci) and kept in target/older. `auto` is the latest tag before this commit; without tags, twenty
# commits back on the main line. PILOT_OLD_COMMIT says the same. Without either old and new are the same programs under two
# version numbers, which shows what packages and units do and not what an older program makes of it.
#
# PILOT_DEBIAN_ROOT names a Debian made by debootstrap to copy; without it one is made in target/debian-root (network).
# PILOT_PACKAGES names a folder with packages in FOLDER/old and FOLDER/new, to pass the building by.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=release from=${PILOT_OLD_COMMIT:-}
while [ $# -gt 0 ]; do
    case "$1" in
    --profile) profile=${2:?--profile needs a name}; shift 2 ;;
    --from) from=${2:?--from needs a commit, or auto}; shift 2 ;;
    *) echo "packaging/test.sh: unknown argument '$1'; there are --profile, --from" >&2; exit 2 ;;
    esac
done
if [ "$(id -u)" -ne 0 ]; then
    [ -z "${CI:-}" ] || { echo "packaging/test.sh: run this as root" >&2; exit 1; }
    echo "SKIPPED: the packages are tested by root only; this has shown nothing" >&2
    exit 0
fi
for command in systemd-nspawn debootstrap nsenter; do
    command -v "$command" >/dev/null || { echo "packaging/test.sh: $command is missing; run: ./test.sh tools" >&2; exit 1; }
done

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
packages=${PILOT_PACKAGES:-$PWD/target/test-packages}
target=${CARGO_TARGET_DIR:-$PWD/target}

# Root clones what may be another user's.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
has_packages() { git cat-file -e "$1:packaging/build.sh" 2>/dev/null; }
older() {
    local tag
    if tag=$(git describe --tags --abbrev=0 HEAD^ 2>/dev/null) && has_packages "$tag"; then
        echo "$tag"
    elif has_packages HEAD~20; then
        git rev-parse HEAD~20
    else
        # Younger than that: the first commit with packages.
        git log --diff-filter=A --format=%H -- packaging/build.sh | tail -n 1
    fi
}
# The packages of another commit, as that commit makes them.
build_older() { # commit
    local sources=$target/older/sources
    rm -rf "$sources"
    mkdir -p "$target/older"
    git clone -q --no-hardlinks --no-checkout "$PWD" "$sources"
    git -C "$sources" checkout -q "$1"
    PILOT_TOOLS_BIN=$PWD/target/tools/bin${PILOT_TOOLS_BIN:+:$PILOT_TOOLS_BIN} CARGO_TARGET_DIR=$target/older/target \
        "$sources/packaging/build.sh" --profile ci --out "$packages/old" >/dev/null
}
if [ -z "${PILOT_PACKAGES:-}" ]; then
    if [ -n "$from" ]; then
        [ "$from" != auto ] || from=$(older)
        commit=$(git rev-parse -q --verify "$from^{commit}") ||
            { echo "packaging/test.sh: there is no commit '$from' here; a shallow clone gets them with: git fetch --unshallow" >&2; exit 2; }
        has_packages "$commit" || { echo "packaging/test.sh: $from has no packaging/build.sh; name a later commit" >&2; exit 2; }
    fi
    rm -rf "$packages"
    packaging/build.sh --no-build --profile "$profile" --version "$version+next" --out "$packages/new" >/dev/null
    if [ -n "$from" ]; then
        echo "building the packages of $(git log -1 --format='%h (%cs, %s)' "$commit")"
        build_older "$commit"
    else
        packaging/build.sh --no-build --profile "$profile" --out "$packages/old" >/dev/null
    fi
fi
version_of() { find "$packages/$1" -name 'pilot-relay_*.deb' | sed 's/.*pilot-relay_\(.*\)-1_[^_]*$/\1/'; }
old=$(version_of old) new=$(version_of new)
if [ -z "$old" ] || [ -z "$new" ] || [ "$old" = "$new" ]; then
    echo "packaging/test.sh: $packages needs packages of two versions in old and new, and has '$old' and '$new'" >&2
    exit 2
fi
[ "$profile" != dev ] || profile=debug
loadgen=$target/$profile/loadgen

base=${PILOT_DEBIAN_ROOT:-$PWD/target/debian-root}
if [ ! -x "$base/usr/bin/systemctl" ]; then
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,procps,iproute2,init-system-helpers bookworm "$base" >&2
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/pilot-package.XXXXXX")
root=$work/root
nspawn=""
finish() {
    status=$?
    if [ -n "$nspawn" ] && kill -0 "$nspawn" 2>/dev/null; then
        [ $status -eq 0 ] || { inside journalctl --no-pager -n 60 || true; } >&2
        kill -TERM "$nspawn" 2>/dev/null || true
        timeout 20 tail --pid="$nspawn" -f /dev/null || kill -KILL "$nspawn" 2>/dev/null || true
    fi
    rm -rf "$work"
    exit $status
}
trap finish EXIT
cp -a --reflink=auto "$base" "$root"
rm -f "$root/etc/machine-id"
# There is no network to wait for.
ln -sf /dev/null "$root/etc/systemd/system/systemd-networkd-wait-online.service"
install -m 755 "$loadgen" "$root/usr/local/bin/loadgen-under-test"
# On a host others may fail.
printf '[Service]\nType=oneshot\nExecStart=/bin/false\n' >"$root/etc/systemd/system/fails.service"
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../fails.service "$root/etc/systemd/system/multi-user.target.wants/fails.service"

# io_uring is not among what nspawn lets through by itself.
systemd-nspawn -q -D "$root" --register=no --keep-unit --private-network --bind-ro="$packages:/packages" \
    --system-call-filter="io_uring_setup io_uring_enter io_uring_register @memlock" -b </dev/null >"$work/console" 2>&1 &
nspawn=$!

# Asks until it is so, for a minute.
until_so() {
    local deadline=$((SECONDS + 60)) what=$1
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || { echo "FAILED: not within a minute: $what" >&2; return 1; }
        read -rt 0.2 <> <(:) || true
    done
}
leader() { pgrep -P "$nspawn" | head -n 1; }
inside() { nsenter --target "$(leader)" --all --root --wd -- /usr/bin/env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }
booted() {
    local state
    state=$(inside systemctl is-system-running || true)
    case "$state" in running | degraded) ;; *) return 1 ;; esac
}
ok() { echo "  ok    $*"; }
is() { # what, expected, got
    [ "$2" = "$3" ] || { echo "FAILED: $1: expected '$2', got '$3'" >&2; return 1; }
    ok "$1: $3"
}
state() { inside systemctl is-active "$1" || true; }
http() { # path of the admin address
    inside bash -c "exec 3<>/dev/tcp/127.0.0.1/3000 && printf 'GET $1 HTTP/1.0\r\n\r\n' >&3 && cat <&3"
}
healthy() { http /healthz | head -n 1 | grep -q ' 200 '; }
# Registration, discovery and relaying of eight peers, none of it lost.
serves() { # when, address
    until_so "the relay is healthy" healthy
    inside loadgen-under-test --peers 8 --relay "${2:-127.0.0.1}:9001" --registry 127.0.0.1:9000 --rate 200 --seconds 1 --max-loss 0 >/dev/null
    ok "$1: healthy, registers, answers discovery, relays"
}
node() { inside pilotctl --json --socket /run/pilot-agent/pilot.sock info 2>/dev/null | sed -n 's/.*"node_id": *\([0-9]*\).*/\1/p' | head -n 1; }
has_node() { [ -n "$(node)" ] && [ "$(node)" != 0 ]; }
deb() { echo "/packages/$1/$2_$3-1_$(dpkg --print-architecture).deb"; }

until_so "the container boots" booted
echo "installing $old on Debian $(cat "$root/etc/debian_version")"
inside dpkg --force-confdef --force-confold --install "$(deb old pilot-relay "$old")" "$(deb old pilot-agent "$old")" >"$work/dpkg" 2>&1 || { cat "$work/dpkg"; exit 1; }
is "the relay runs" active "$(state pilot-relay)"
is "it starts at boot" enabled "$(inside systemctl is-enabled pilot-relay)"
is "the agent waits to be configured" inactive "$(state pilot-agent)"
is "nor does it start at boot" disabled "$(inside systemctl is-enabled pilot-agent || true)"
serves "installed"
is "data folder" "700 pilot-relay" "$(inside stat -c '%a %U' /var/lib/pilot-relay)"
is "admin token" "600 pilot-relay" "$(inside stat -c '%a %U' /var/lib/pilot-relay/admin-token)"
inside pilot-relay config check --config /etc/pilot-relay/relay.toml --data-dir /var/lib/pilot-relay >"$work/check" || { cat "$work/check"; exit 1; }
ok "config check has no objection"
for unit in pilot-relay pilot-agent; do
    level=$(inside systemd-analyze security --no-pager "$unit.service" | sed -n 's/.*exposure level for [^:]*: \([0-9.]*\).*/\1/p')
    awk -v level="$level" 'BEGIN { exit !(level != "" && level <= 2.5) }' || { echo "FAILED: systemd-analyze security $unit: $level" >&2; exit 1; }
    ok "systemd-analyze security $unit: $level"
done
inside systemd-analyze verify --man=no pilot-relay.service pilot-agent.service || { echo "FAILED: systemd-analyze verify" >&2; exit 1; }
[ -s "$root/usr/share/man/man1/pilot-relay-config-check.1.gz" ] && [ -s "$root/usr/share/man/man1/pilotctl.1.gz" ]
ok "manual pages"

main_pid() { inside systemctl show --property MainPID --value "$1"; }
before=$(main_pid pilot-relay)
since() { inside systemctl show --property ActiveEnterTimestampMonotonic --value "$1"; }
began=$(since pilot-relay)
inside systemctl kill -s HUP pilot-relay
serves "settings read again"
is "reading settings again keeps the process" "$before" "$(main_pid pilot-relay)"
inside systemctl reload pilot-relay
serves "succeeded"
[ "$before" != "$(main_pid pilot-relay)" ] || { echo "FAILED: reload has started no successor" >&2; exit 1; }
is "the service has been active all the time" "$began" "$(since pilot-relay)"

echo '# kept by the administrator' >>"$root/etc/pilot-relay/relay.toml"
echo 'registry = "127.0.0.1:9000"' >>"$root/etc/pilot-agent/agent.toml"
inside systemctl start pilot-agent
is "the configured agent runs" active "$(state pilot-agent)"
until_so "the agent is registered" has_node
id=$(node)
ok "the agent is node $id"

for step in "upgraded:new:$new" "downgraded:old:$old"; do
    IFS=: read -r word folder to <<<"$step"
    kept=$(find "$root/var/lib/pilot-relay" -name 'directory.sqlite-schema*')
    if [ "$word" = downgraded ] && [ -n "$kept" ]; then
        # The way back over a change of the database, as README.md beside this file has it.
        inside systemctl stop pilot-relay
        mv "$kept" "$root/var/lib/pilot-relay/directory.sqlite"
        rm -f "$root"/var/lib/pilot-relay/directory.sqlite-{wal,shm}
        ok "the database as it was before the upgrade: $(basename "$kept")"
    fi
    inside dpkg --force-confdef --force-confold --install "$(deb "$folder" pilot-relay "$to")" "$(deb "$folder" pilot-agent "$to")" >"$work/dpkg" 2>&1 || { cat "$work/dpkg"; exit 1; }
    if [ "$word" = downgraded ] && [ -n "$kept" ]; then
        inside systemctl start pilot-relay
        began=$(since pilot-relay)
    fi
    # shellcheck disable=SC2016
    is "$word" "$to-1" "$(inside dpkg-query -W -f '${Version}' pilot-relay)"
    is "the relay runs" active "$(state pilot-relay)"
    is "the agent runs" active "$(state pilot-agent)"
    serves "$word"
    is "$word: active all the time" "$began" "$(since pilot-relay)"
    until_so "the agent is registered" has_node
    is "the agent's number" "$id" "$(node)"
    grep -q 'kept by the administrator' "$root/etc/pilot-relay/relay.toml"
    ok "settings were kept"
done

inside dpkg --remove pilot-relay pilot-agent >/dev/null 2>&1
is "removed: the relay" inactive "$(state pilot-relay)"
is "removed: the agent" inactive "$(state pilot-agent)"
[ -s "$root/var/lib/pilot-relay/directory.sqlite" ] && [ -s "$root/etc/pilot-relay/relay.toml" ] && [ -s "$root/var/lib/pilot-agent/identity.json" ]
ok "data and settings stay"
inside dpkg --force-confdef --force-confold --install "$(deb old pilot-relay "$old")" "$(deb old pilot-agent "$old")" >"$work/dpkg" 2>&1 || { cat "$work/dpkg"; exit 1; }
is "installed after a removal: the relay" active "$(state pilot-relay)"
serves "installed after a removal"
inside systemctl stop pilot-relay
inside dpkg --force-confdef --force-confold --install "$(deb new pilot-relay "$new")" >"$work/dpkg" 2>&1 || { cat "$work/dpkg"; exit 1; }
is "upgraded while it was stopped: the relay" inactive "$(state pilot-relay)"
inside systemctl start pilot-relay

settings=$root/etc/pilot-relay/relay.toml
installs_again() { # package
    inside dpkg --force-confdef --force-confold --install "$(deb new "$1" "$new")" >"$work/dpkg" 2>&1 || { cat "$work/dpkg"; exit 1; }
}
says() { # what, words
    grep -q -e "$2" "$work/dpkg" || { cat "$work/dpkg"; echo "FAILED: $1: does not say '$2'" >&2; exit 1; }
    ok "$1: $(grep -e "$2" "$work/dpkg" | head -n 1)"
}
other_pid() { [ "$(main_pid "$1")" != "$2" ] && [ "$(state "$1")" = active ]; }
serves "before an upgrade with wrong settings"
cp "$settings" "$work/relay.toml"
before=$(main_pid pilot-relay)
echo 'sesions-max = 1' >>"$settings"
installs_again pilot-relay
says "upgraded with wrong settings" 'there is no setting sesions-max'
is "the relay runs on" "active $before" "$(state pilot-relay) $(main_pid pilot-relay)"
inside rm /run/pilot-relay/pilot-relay.sock
installs_again pilot-relay
is "also one that cannot be asked" "active $before" "$(state pilot-relay) $(main_pid pilot-relay)"
cp "$work/relay.toml" "$settings"
installs_again pilot-relay
until_so "a relay that cannot be asked is restarted" other_pid pilot-relay "$before"
serves "restarted"
before=$(main_pid pilot-relay)
inside systemctl reload pilot-relay
until_so "reloading works again" other_pid pilot-relay "$before"
cp "$root/etc/pilot-agent/agent.toml" "$work/agent.toml"
installs_again pilot-agent
inside systemctl restart pilot-agent
before=$(main_pid pilot-agent)
echo 'regstry = "127.0.0.1:9000"' >>"$root/etc/pilot-agent/agent.toml"
installs_again pilot-agent
says "the agent, upgraded with wrong settings" 'regstry'
is "the agent runs on" "active $before" "$(state pilot-agent) $(main_pid pilot-agent)"
inside systemctl kill -s HUP pilot-agent
until_so "the agent answers after a hang-up" has_node
is "a hang-up ends no agent" "active $before" "$(state pilot-agent) $(main_pid pilot-agent)"
cp "$work/agent.toml" "$root/etc/pilot-agent/agent.toml"
installs_again pilot-agent
until_so "the agent is restarted" other_pid pilot-agent "$before"

# Addresses that are not there yet: more starts fail than would be an accident.
restarts() { inside systemctl show --property NRestarts --value "$1"; }
began_again() { [ "$(restarts "$1")" -ge "$2" ]; }
inside systemctl stop pilot-relay pilot-agent
echo 'listen = "198.18.7.2:4000"' >>"$root/etc/pilot-agent/agent.toml"
echo 'beacon = "198.18.7.1:9001"' >>"$settings"
inside systemctl start --no-block pilot-agent
inside systemctl start --no-block pilot-relay
for try in 1 2 3 4 5 6; do
    is_tried() {
        # A change of addresses, at which it looks again.
        inside ip address replace "198.18.8.$try/32" dev lo
        inside ip address delete "198.18.8.$try/32" dev lo
        began_again pilot-relay "$try"
    }
    until_so "the relay is tried once more" is_tried
done
ok "the relay is tried again and again without its address: $(restarts pilot-relay) times"
inside ip address add 198.18.7.1/32 dev lo
serves "the address has come" 198.18.7.1
until_so "the agent is tried once more" began_again pilot-agent 6
inside ip address add 198.18.7.2/32 dev lo
until_so "the agent has come" has_node
ok "the agent serves when its address has come"
cp "$work/agent.toml" "$root/etc/pilot-agent/agent.toml"
cp "$work/relay.toml" "$settings"
echo 'sesions-max = 1' >>"$settings"
inside systemctl restart pilot-relay 2>/dev/null || true
is "wrong settings are not tried again" "failed 2" "$(state pilot-relay) $(inside systemctl show --property ExecMainStatus --value pilot-relay)"
status=0
inside pilot-relay --beacon relay.example.org:9001 2>"$work/said" || status=$?
is "a name nobody knows yet is no wrong setting" 1 "$status"
cp "$work/relay.toml" "$settings"
inside systemctl restart pilot-relay
serves "restarted with right settings"

inside dpkg --remove pilot-relay pilot-agent >/dev/null 2>&1
for package in pilot-relay pilot-agent; do
    # A disk of its own for the data: it is emptied, and stays.
    cp "$root/var/lib/dpkg/info/$package.postrm" "$work/$package.postrm"
    inside mount -t tmpfs none "/var/lib/$package"
    inside mkdir "/var/lib/$package/some"
    inside touch "/var/lib/$package/some/file"
    inside dpkg --purge "$package" >"$work/dpkg" 2>&1 || { cat "$work/dpkg"; echo "FAILED: purged with a mount" >&2; exit 1; }
    is "purged, what remains on a disk of its own" "" "$(inside ls -A "/var/lib/$package")"
    inside umount "/var/lib/$package"
    inside sh -s purge <"$work/$package.postrm"
done
left=$(find "$root" -xdev \( -path "$root/proc" -o -path "$root/sys" -o -path "$root/var/log/journal" \) -prune -o \
    \( -iname '*pilot*' \) -print | sed "s|^$root||" | grep -v '^/packages' || true)
is "purged: files that remain" "" "$left"
is "purged: users that remain, locked" "pilot-agent pilot-relay" \
    "$(cut -d: -f1 "$root/etc/passwd" | grep pilot | sort | tr '\n' ' ' | sed 's/ $//')"

echo "the installer, from a folder, without dpkg"
inside sh /packages/old/install.sh relay --from /packages/old --tarball >/dev/null
serves "installed from the tarball"
installer_says() { # what, words or "!" and words that are not said, arguments
    local what=$1 words=${2#!}
    inside env PATH=/usr/sbin:/usr/bin:/sbin:/bin sh /packages/new/install.sh relay --from /packages/new "${@:3}" >"$work/said" 2>&1 || true
    if grep -q -e "$words" "$work/said"; then [ "$words" = "$2" ]; else [ "$words" != "$2" ]; fi ||
        { cat "$work/said"; echo "FAILED: the installer, $what" >&2; exit 1; }
    ok "the installer, $what"
}
inside systemctl stop pilot-relay
installer_says "dry: does not say that it runs" '!is at work' --tarball --dry-run
installer_says "at its end: where the programs are" 'Add /usr/local/bin to PATH' --tarball
installer_says "at its end: that it runs" 'The relay is at work' --tarball
cp "$root/etc/pilot-relay/relay.toml" "$work/relay.toml"
echo 'sesions-max = 1' >>"$root/etc/pilot-relay/relay.toml"
installer_says "after a start that failed" 'does not start. Why: journalctl' --tarball
cp "$work/relay.toml" "$root/etc/pilot-relay/relay.toml"
inside sh /packages/new/install.sh relay --from /packages/new --tarball >"$work/said"
! grep -q 'to PATH' "$work/said" || { cat "$work/said"; echo "FAILED: the installer names a folder that is in PATH" >&2; exit 1; }
serves "installed once more over it"
inside sh /packages/new/install.sh relay --uninstall >/dev/null
is "folder of settings" "750 root pilot-relay" "$(inside stat -c '%a %U %G' /etc/pilot-relay)"
head -c -12 "$packages/new/install.sh" >"$root/root/torn.sh"
is "an installer that came only in part does nothing" "" "$(inside sh /root/torn.sh relay --from /packages/new --tarball 2>/dev/null || true)"
is "uninstalled" inactive "$(state pilot-relay)"
cp -r "$packages/new" "$root/root/broken"
printf x >>"$(find "$root/root/broken" -name '*.deb' -name 'pilot-agent*')"
if inside sh /root/broken/install.sh agent >"$work/broken" 2>&1; then echo "FAILED: a wrong checksum was accepted" >&2; exit 1; fi
grep -q 'checksum .* is wrong' "$work/broken" || { cat "$work/broken"; exit 1; }
ok "a wrong checksum is refused"
inside sh /packages/new/install.sh agent --from /packages/new >"$work/advice" 2>&1
grep -q '^pilot-agent: name the directory in /etc/pilot-agent/agent.toml' "$work/advice" || { cat "$work/advice"; echo "FAILED: the package does not say what comes next" >&2; exit 1; }
ok "the package says what comes next"
# shellcheck disable=SC2016
is "the installer's package" "install ok installed" "$(inside dpkg-query -W -f '${Status}' pilot-agent)"
inside env HOME=/root sh /packages/new/install.sh agent --from /packages/new --user >/dev/null
[ -x "$root/root/.local/bin/pilot-agent" ] && [ -s "$root/root/.config/systemd/user/pilot-agent.service" ]
ok "installed for a user"

inside systemctl poweroff >/dev/null 2>&1 || true
timeout 30 tail --pid="$nspawn" -f /dev/null || { echo "FAILED: the container does not end" >&2; exit 1; }
echo "the installer, from an address and with signatures"
packaging/installer-test.sh "$packages/new"
echo "packages: all steps passed in $SECONDS s"
