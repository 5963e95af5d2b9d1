#!/usr/bin/env bash
# Builds what is released: two Debian packages, a tarball with all programs, and their checksums, into target/packages.
#
#   packaging/build.sh [--profile PROFILE] [--version VERSION] [--no-build] [--out DIR]
#
# --no-build packages the programs that are there (target/PROFILE, or CARGO_TARGET_DIR). Two builds of one commit with
# the same toolchain should be the same to the byte, wherever the sources lie; reproduce.sh compares them: README.md beside this file.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=release version="" out="" build=yes
while [ $# -gt 0 ]; do
    case "$1" in
    --profile) profile=$2; shift 2 ;;
    --version) version=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --no-build) build=no; shift ;;
    *) echo "build.sh: unknown argument '$1'; there are --profile, --version, --no-build, --out" >&2; exit 2 ;;
    esac
done
export PATH=$PWD/target/tools/bin:${PILOT_TOOLS_BIN:+$PILOT_TOOLS_BIN:}$PATH
command -v cargo-deb >/dev/null || { echo "build.sh: cargo-deb is missing; run: ./test.sh tools" >&2; exit 1; }
[ -n "$version" ] || version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
[ -n "$out" ] || out=$PWD/target/packages
target=${CARGO_TARGET_DIR:-$PWD/target}
folder=$profile
[ "$profile" != dev ] || folder=debug
bin=$target/$folder
made=$PWD/target/packaging

# The time of the commit is the time of all that is built from it.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
umask 022

if [ "$build" = yes ]; then
    # Folders of this host are in no program, neither those of Rust's sources nor of C's.
    remap="--remap-path-prefix=$PWD=/src --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$target=/target"
    prefix_map="-ffile-prefix-map=$PWD=/src -ffile-prefix-map=${CARGO_HOME:-$HOME/.cargo}=/cargo -ffile-prefix-map=$target=/target"
    RUSTFLAGS="${RUSTFLAGS:-} $remap" CFLAGS="${CFLAGS:-} $prefix_map" CARGO_INCREMENTAL=0 \
        cargo build --locked --profile "$profile" -p relay -p directory -p agent -p loadgen
fi
for program in pilot-relay pilot-directory pilot-agent pilotctl loadgen; do
    [ -x "$bin/$program" ] || { echo "build.sh: $bin/$program is missing; leave out --no-build" >&2; exit 1; }
done

rm -rf "$made"
mkdir -p "$made"/{etc,man/relay,man/agent,man/other,completions/bash,completions/zsh,completions/fish} "$out"
"$bin/pilot-relay" config default >"$made/etc/relay.toml"
"$bin/pilot-agent" config default >"$made/etc/agent.toml"
for program in pilot-relay:relay pilot-directory:relay pilot-agent:agent pilotctl:agent loadgen:other; do
    name=${program%:*}
    "$bin/$name" man --folder "$made/man/${program#*:}" >/dev/null
    "$bin/$name" completions bash >"$made/completions/bash/$name"
    "$bin/$name" completions zsh >"$made/completions/zsh/_$name"
    "$bin/$name" completions fish >"$made/completions/fish/$name.fish"
done
gzip -9n "$made"/man/*/*.1

for package in relay agent; do
    cargo deb -q -p "$package" --no-build --profile "$profile" --strip --compress-system --deb-version "$version-1" \
        --output "$out"
done

arch=$(uname -m)
name=pilot-$version-$arch-linux
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
top=$stage/$name
mkdir -p "$top"/{bin,etc,share/man/man1,units,sysusers}
for program in pilot-relay pilot-directory pilot-agent pilotctl loadgen; do
    strip -o "$top/bin/$program" "$bin/$program"
done
cp "$made"/etc/*.toml "$top/etc/"
cp "$made"/man/*/*.1.gz "$top/share/man/man1/"
cp -r "$made/completions" "$top/share/"
cp packaging/units/*.service "$top/units/"
cp packaging/sysusers/*.conf "$top/sysusers/"
cp -r tuning "$top/share/"
cp README.md LICENSE-APACHE LICENSE-MIT install.sh "$top/"
chmod -R u=rwX,go=rX "$top"
tar -C "$stage" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -cf - "$name" |
    gzip -9n >"$out/$name.tar.gz"
install -m 755 install.sh "$out/install.sh"
(cd "$out" && sha256sum -- *.deb *.tar.gz install.sh >SHA256SUMS)
cat "$out/SHA256SUMS"
