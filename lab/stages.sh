# The stages of ../test.sh. Each is one function; all run from the top of the repository.

export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
# The laboratory and the load stage use programs that are built as they are shipped, but for what takes the compiler long.
profile=${PILOT_PROFILE:-ci}
relay_bin=target/$profile/pilot-relay
agent_bin=target/$profile/pilot-agent
ctl_bin=target/$profile/pilotctl
compare_bin=target/$profile/compare
loadgen_bin=target/$profile/loadgen
directory_bin=target/$profile/pilot-directory
debian_packages=(build-essential ca-certificates chromium chromium-driver clang coturn curl debootstrap e2fsprogs ethtool
    iproute2 iputils-ping libfaketime minisign nftables openssl procps prometheus python3-venv shellcheck stun-client systemd-container tcpdump
    util-linux wget xfsprogs xz-utils ${LONG:+crun podman runc})

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# What the other stages need: Debian packages, a Rust toolchain, the fuzzer, the unmodified Pilot programs.
stage_tools() {
    local missing=()
    for package in "${debian_packages[@]}"; do
        dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        as_root apt-get update -q
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"
        # Only their client programs are wanted; a server would hold the STUN port, and one would scrape for ever.
        for service in coturn prometheus prometheus-node-exporter; do
            case " ${missing[*]} " in *" ${service%-node-exporter} "*) as_root systemctl disable --now "$service" 2>/dev/null || true ;; esac
        done
    fi
    if ! command -v cargo >/dev/null; then
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c clippy -c rustfmt
        # shellcheck disable=SC1091
        source "$HOME/.cargo/env"
    fi
    command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked --version 0.13.2 --root target/tools
    lab/fetch-pilot.sh
}

stage_lint() {
    cargo fmt --all --check
    lab/check-security.py
    lab/check-seccomp.py
    shellcheck install.sh packaging/*.sh packaging/deb/*/*
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
}

# A tool of the build, not of the programs: quickly built is good enough.
tool() {
    [ -x "target/tools/bin/${1%@*}" ] || cargo install "$1" --locked --debug --root target/tools
}

# What a stage could not look at, said where it happens and once more at the end: a stage that passes is not one that has seen all.
not_checked=()
unseen() {
    not_checked+=("$1")
    printf '\n!! NOT CHECKED: %s\n' "$1" >&2
}

# Licences, duplicates and sources of every dependency, and known weaknesses and withdrawn versions where their database can
# be reached: RustSec's at GitHub, or the mirror that PILOT_ADVISORY_DB names by its https address.
stage_deny() {
    tool cargo-deny@0.20.2
    local deny=(target/tools/bin/cargo-deny --locked)
    "${deny[@]}" check --hide-inclusion-graph licenses bans sources
    if [ -n "${PILOT_ADVISORY_DB:-}" ]; then
        [[ $PILOT_ADVISORY_DB =~ ^https://[A-Za-z0-9._~:/%-]+$ ]] ||
            { echo "PILOT_ADVISORY_DB: '$PILOT_ADVISORY_DB' is not the https address of a git repository" >&2; return 1; }
        sed "s|^\[advisories\]\$|&\ndb-urls = [\"$PILOT_ADVISORY_DB\"]|" deny.toml >target/deny.toml
        deny+=(--config target/deny.toml)
    fi
    if ! "${deny[@]}" check --hide-inclusion-graph advisories; then
        # Told apart: a weakness found fails, a database out of reach does not.
        if "${deny[@]}" fetch db >/dev/null 2>&1; then return 1; fi
        unseen "known weaknesses and withdrawn versions of dependencies: the advisory database (${PILOT_ADVISORY_DB:-github.com/RustSec/advisory-db}) cannot be reached; PILOT_ADVISORY_DB names a mirror"
    fi
}

# The packages in a fresh Debian: installed, serving, upgraded, downgraded, removed, purged; and the installer. With
# PILOT_OLD_COMMIT from the packages of an older commit, which takes building them.
stage_package() {
    tool cargo-deb@3.8.0
    as_root env "PATH=$PATH" "HOME=$HOME" CI="${CI:-}" PILOT_DEBIAN_ROOT="${PILOT_DEBIAN_ROOT:-}" \
        PILOT_OLD_COMMIT="${PILOT_OLD_COMMIT:-}" packaging/test.sh --profile "$profile"
}

# Reload, restart, upgrade, kill and drain under a real systemd, 20 reloads and 20 restarts of them while datagrams flow.
stage_restarts() {
    local base=${PILOT_DEBIAN_ROOT:-$PWD/target/debian-root} root
    [ -x "$base/usr/bin/systemctl" ] || [ -n "${PILOT_DEBIAN_ROOT:-}" ] ||
        as_root debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,procps,iproute2,init-system-helpers bookworm "$base" >&2
    root=$PWD/target/systemd-root
    as_root rm -rf "$root"
    as_root cp -a --reflink=auto "$base" "$root"
    local load=$loadgen_bin wanted
    wanted=$(sed -n 's/^net.core.rmem_max = //p' tuning/90-pilot-relay.sysctl.conf)
    if [ "$(cat /proc/sys/net/core/rmem_max)" -lt "$wanted" ]; then
        load=""
        unseen "restarts under load: net.core.rmem_max of this host is below $wanted; install tuning/90-pilot-relay.sysctl.conf"
    fi
    as_root env PILOT_LOADGEN_BIN="$load" PILOT_RATE="${PILOT_RATE:-}" lab/systemd.sh "$root" "$relay_bin"
}

# What is released, built twice from two places: the same to the byte.
stage_reproduce() {
    tool cargo-deb@3.8.0
    packaging/reproduce.sh --profile "$profile"
}

# The image with its system call profile, where podman is.
stage_container() {
    local status=0
    as_root env "PATH=$PATH" PILOT_DEBIAN_ROOT="${PILOT_DEBIAN_ROOT:-}" packaging/container-test.sh --profile "$profile" || status=$?
    # 77: it could not be run here.
    [ $status -ne 77 ] || { unseen "the container: packaging/Containerfile and seccomp.json were not run"; return 0; }
    return $status
}

# Vectors, properties, engine stories, model tests, the ring and the programs on loopback.
stage_unit() {
    cargo test --workspace --exclude lab --no-fail-fast
}

# Every interleaving of the lock-free parts.
stage_loom() {
    RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test --profile ci -p relay --lib loom
}

# The formats in an interpreter that knows undefined behaviour when it sees it, what dependencies do in unsafe code included.
# The engines have none, and their tests fill tables, which takes it minutes a test; of our own unsafe code it knows
# that of `secrets`, with the allocator in the kernel's place. Only ./long-run.sh asks for it.
stage_miri() (
    cargo +nightly miri --version 2>/dev/null || rustup toolchain install nightly --profile minimal -c miri -c rust-src
    CARGO_TARGET_DIR=target/miri cargo +nightly miri test -p wire -p secrets --lib
)

# Our own unsafe code, which asks the kernel and is therefore beyond Miri, under the address sanitizer, leaks included: ring
# and sockets of relay and load generator, locked memory. RUSTC_BOOTSTRAP lets
# the stable compiler take the flag; --target keeps it away from what runs while building.
stage_asan() {
    local host
    host=$(rustc -vV | sed -n 's/^host: //p')
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="${RUSTFLAGS:-} -Zsanitizer=address" CARGO_TARGET_DIR=target/asan \
        cargo test --target "$host" -p wire -p secrets -p confinement -p relay -p loadgen --lib --test ring
}

# Coverage chooses what comes next: bytes for every format, histories for the engines of relay, directory and agent.
# The build takes most of the time; ./long-run.sh is for the search.
stage_fuzz() {
    PATH="$PWD/target/tools/bin:$PATH" fuzz/run.sh "${FUZZ_SECONDS:-2}"
}

stage_build() {
    cargo build --profile "$profile" -p relay -p directory -p agent -p loadgen ${LONG:+-p benches}
}

# Real kernels: namespaces, NATs, long lines, unmodified Pilot programs beside ours, no route out. An empty PILOT_AGENT_BIN
# passes our agent by.
stage_lab() {
    cargo test -p lab --no-run
    local bin=$PWD/$relay_bin pilot=$PWD/target/pilot-venv/bin
    as_root env "PATH=$PATH" "HOME=$HOME" PILOT_RELAY_BIN="$bin" PILOT_BIN_DIR="${PILOT_BIN_DIR:-$pilot}" \
        PILOT_AGENT_BIN="${PILOT_AGENT_BIN-$PWD/$agent_bin}" PILOT_CTL_BIN="${PILOT_CTL_BIN-$PWD/$ctl_bin}" \
        PILOT_LOADGEN_BIN="$PWD/$loadgen_bin" PILOT_LAB_FULL="${PILOT_LAB_FULL:-}" cargo test -p lab -- --nocapture --test-threads="${PILOT_LAB_THREADS:-2}"
}

# Ends the programs that a stage has started, and then removes their folder: the last that a relay does is to write its
# sessions there. A stage's trap on EXIT; the stage fails with a program that does not end, or ends with an error.
end_programs() { # folder
    local status=$? folder=$1 programs program
    programs=$(jobs -p)
    # shellcheck disable=SC2086
    [ -z "$programs" ] || kill $programs 2>/dev/null || true
    for program in $programs; do
        timeout 30 tail --pid="$program" -f /dev/null || kill -KILL "$program" 2>/dev/null || true
        wait "$program" || { status=$?; echo "process $program, told to end, ended with $status" >&2; }
    done
    rm -rf "$folder"
    exit "$status"
}

# 100 000 peers register through the directory and relay; then the relay's own counters must add up. A subshell, so that
# the relay ends with it however it ends.
stage_load() (
    data=$(mktemp -d)
    "$relay_bin" --data-dir "$data" --beacon 127.0.0.1:19001 --stun off --registry 127.0.0.1:19000 \
        --http 127.0.0.1:13000 &
    trap 'end_programs "$data"' EXIT
    curl -s --retry 50 --retry-connrefused --retry-delay 0 --retry-max-time 20 http://127.0.0.1:13000/healthz
    "$loadgen_bin" --peers "${LOADGEN_PEERS:-100000}" --relay 127.0.0.1:19001 --registry 127.0.0.1:19000 \
        --rate "${LOADGEN_RATE:-20000}" --seconds "${LOADGEN_SECONDS:-10}" --max-loss 0.1
    lab/check-accounting.py http://127.0.0.1:13000/counters
)

# What the programs expose, against Prometheus' own linter; dashboard and alerts, against what is exposed. A subshell, so
# that the programs end with it however it ends.
stage_metrics() (
    promtool check rules tuning/pilot-alerts.yml
    promtool test rules tuning/pilot-alerts-test.yml
    data=$(mktemp -d)
    "$relay_bin" --data-dir "$data/relay" --beacon 127.0.0.1:19001 --stun off --registry 127.0.0.1:19000 \
        --http 127.0.0.1:13000 &
    trap 'end_programs "$data"' EXIT
    "$directory_bin" --data-dir "$data/directory" --listen 127.0.0.1:19010 --http 127.0.0.1:13002 &
    "$agent_bin" --data-dir "$data/agent" --socket "$data/socket" --identity "$data/identity.json" \
        --registry 127.0.0.1:19000 --http 127.0.0.1:13001 &
    local sources=(http://127.0.0.1:{13000,13001,13002}/metrics)
    for source in "${sources[@]}"; do
        curl -s --retry 50 --retry-connrefused --retry-delay 0 --retry-max-time 20 --output /dev/null "$source"
    done
    lab/check-metrics.sh "${sources[@]}"
    lab/check-dashboard.py "${sources[@]}"
)

# The tour of a research fleet, as a user would type it.
stage_example() {
    BIN=$(dirname "$relay_bin") examples/research-fleet.sh
}

# A directory filled, asked, left with idle connections, and restarted: every answer right, every connection within its bound.
# With DIRECTORY_FULL 100 000 nodes, the highest rates and 15 000 connections: the figures of directory/SCALE.md.
stage_directory() {
    DIRECTORY_BIN=$directory_bin LOADGEN_BIN=$loadgen_bin benches/directory.sh
}

# Every relay beside the floor: here only that all take part and steering is right; slices so short say nothing of speed.
# With COMPARE_FULL the whole matrix, whose tables and plots are kept in target/comparison.
stage_compare() {
    local out=target/comparison
    mkdir -p "$out"
    if [ -n "${COMPARE_FULL:-}" ]; then
        as_root "$compare_bin" --full --json "$out/report.json" --markdown "$out/report.md" --plots "$out"
    else
        as_root "$compare_bin" --rounds 1 --slice-ms 40 --scale 1000,20000 --places loopback,veth,veth-napi \
            --json "$out/report.json" --markdown "$out/report.md" --plots "$out"
    fi
    lab/check-comparison.py "$out/report.json"
}
