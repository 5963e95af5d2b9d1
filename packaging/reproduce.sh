#!/usr/bin/env bash
# Builds the committed sources twice and fails where the two differ by a byte: the packages, the tarball, the programs.
#
#   packaging/reproduce.sh [--profile PROFILE] [--out DIR]     release unless told; DIR keeps what the first build made
#
# What may be different between two hosts is: the folder of the sources, that of the dependencies (CARGO_HOME), that of
# what is built, umask, time zone, language. Compilers and linker are this host's for both; that others give the same is not
# shown here. Needs room for two targets in TMPDIR (3 GB with --profile ci, 8 GB with release).
set -euo pipefail
cd "$(dirname "$0")/.."

profile=release out=""
while [ $# -gt 0 ]; do
    case "$1" in
    --profile) profile=${2:?--profile needs a name}; shift 2 ;;
    --out) out=${2:?--out needs a folder}; shift 2 ;;
    *) echo "reproduce.sh: unknown argument '$1'; there are --profile, --out" >&2; exit 2 ;;
    esac
done
[ -z "$(git status --porcelain)" ] || echo "reproduce.sh: what is not committed takes no part" >&2
commit=$(git rev-parse HEAD)
folder=$profile
[ "$profile" != dev ] || folder=debug
export PILOT_TOOLS_BIN=$PWD/target/tools/bin${PILOT_TOOLS_BIN:+:$PILOT_TOOLS_BIN}
unset SOURCE_DATE_EPOCH CARGO_TARGET_DIR

work=$(mktemp -d "${TMPDIR:-/tmp}/pilot-reproduce.XXXXXX")
trap 'rm -rf "$work"' EXIT
one=$work/one two=$work/another/and/a/longer/way
cargo_home=${CARGO_HOME:-$HOME/.cargo}
mkdir -p "$work/home/registry"
# The same archives, unpacked elsewhere: nothing is fetched that is here already.
for part in registry/cache registry/index config.toml; do
    [ ! -e "$cargo_home/$part" ] || cp -a --reflink=auto "$cargo_home/$part" "$work/home/$part"
done

build() { # sources, and what is different, as NAME=VALUE
    local sources=$1
    shift
    git clone -q --no-hardlinks "$PWD" "$sources"
    git -C "$sources" checkout -q "$commit"
    env "$@" "$sources/packaging/build.sh" --profile "$profile" --out "$sources-packages" >/dev/null
}
build "$one" TZ=UTC LC_ALL=C
echo "built once in $SECONDS s"
(
    umask 077
    build "$two" TZ=Pacific/Auckland LC_ALL=C.UTF-8 CARGO_HOME="$work/home" CARGO_TARGET_DIR="$work/built/elsewhere"
)
echo "built twice in $SECONDS s"

sums() { # packages, programs
    (cd "$1" && sha256sum -- *)
    (cd "$2" && sha256sum -- pilot-relay pilot-directory pilot-agent pilotctl loadgen)
}
sums "$one-packages" "$one/target/$folder" >"$work/sums-one"
sums "$two-packages" "$work/built/elsewhere/$folder" >"$work/sums-two"
if [ -n "$out" ]; then
    mkdir -p "$out"
    cp "$one-packages"/* "$out/"
fi
cat "$work/sums-one"
if ! diff "$work/sums-one" "$work/sums-two" >"$work/differences"; then
    printf '\nreproduce.sh: two builds of %s differ:\n' "$commit" >&2
    grep '^[<>]' "$work/differences" >&2
    trap - EXIT
    echo "reproduce.sh: both are kept in $work; look with: diffoscope FILE FILE" >&2
    exit 1
fi
echo "two builds of $commit (profile $profile) are the same to the byte, in $SECONDS s"
