#!/bin/sh
# Installs the node (agent) or the relay of a Pilot network from a folder or an address with released files, whose
# checksums it verifies.
#
#   sh install.sh --help     says how it is called
#
# Run twice it does the same thing again. No secret is read, sent or printed.
set -eu
# What is installed can be read by all, whatever the shell of the one who installs says.
umask 022

say() { printf '%s\n' "$*"; }
fail() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }
usage() { help >&2; fail "$1"; }
run() {
    if [ "$dry" = yes ]; then say "  would run: $*"; else "$@"; fi
}

# In here and not read from this file: a script that comes through a pipe has none.
help() {
    cat <<'END'
Installs the node (agent) or the relay of a Pilot network from released files.

  sh install.sh agent --from PLACE     as root: Debian package or tarball with a system service; else: into ~/.local
  sh install.sh relay --from PLACE     as root
  sh install.sh agent --uninstall      takes away what was installed; settings and data stay

  --from PLACE     folder or https address with SHA256SUMS and the files named there [default: this script's folder]
  --pubkey KEY     also verify SHA256SUMS.minisig with this key of minisign: the key itself, or the file with it
  --tarball        not the Debian package, also where there is dpkg
  --user           into ~/.local, also as root (agent only)
  --dry-run        say what would be done
  --help           this text

END
}

# wget follows a redirection to wherever it leads, also to where nothing is encrypted; so each one is looked at.
by_wget() { # address, file
    address=$1 hops=0
    while :; do
        if wget --max-redirect=0 --tries=3 -nv -S -O "$2" "$address" 2>"$work/answer"; then return 0; fi
        to=$(sed -n 's/^ *[Ll]ocation: *\([^ ]*\).*/\1/p' "$work/answer" | tr -d '\r' | tail -n 1)
        if [ -z "$to" ]; then
            tail -n 1 "$work/answer" >&2
            return 1
        fi
        case "$to" in
        https://*) address=$to ;;
        *://* | //*) fail "$address leads to $to, which is not https; nothing was installed" ;;
        /*) address=https://$(printf '%s\n' "${address#https://}" | cut -d / -f 1)$to ;;
        *) address=${address%/*}/$to ;;
        esac
        hops=$((hops + 1))
        [ $hops -le 10 ] || fail "$1 leads on and on; nothing was installed"
    done
}

# All of it is one function, called on the last line: a script that came only in part does nothing.
main() {
    what="" from="" pubkey="" dry=no uninstall=no tarball=no user=no
    while [ $# -gt 0 ]; do
        case "$1" in
        agent | relay) what=$1 ;;
        --from) [ -n "${2:-}" ] || usage "--from needs a folder or an address"; from=$2; shift ;;
        --pubkey) [ -n "${2:-}" ] || usage "--pubkey needs a key"; pubkey=$2; shift ;;
        --dry-run) dry=yes ;;
        --uninstall) uninstall=yes ;;
        --tarball) tarball=yes ;;
        --user) user=yes ;;
        -h | --help | help | usage) help; exit 0 ;;
        *) usage "unknown argument '$1'" ;;
        esac
        shift
    done
    [ -n "$what" ] || usage "say what to install: agent or relay"
    [ "$(id -u)" -eq 0 ] || user=yes
    if [ "$user" = yes ] && [ "$what" = relay ]; then fail "the relay is a service of the system; run this as root"; fi

    package=pilot-$what
    case "$(uname -s)" in Linux) ;; *) fail "these programs run on Linux" ;; esac
    machine=$(uname -m)
    if [ "$user" = yes ]; then
        [ -n "${HOME:-}" ] || fail "there is no home folder (HOME)"
        bin=$HOME/.local/bin share=$HOME/.local/share
        config=${XDG_CONFIG_HOME:-$HOME/.config}/$package units=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user
    else
        bin=/usr/local/bin share=/usr/local/share config=/etc/$package units=/etc/systemd/system
    fi
    manifest=$share/$package/installed

    has_systemd() { [ -d /run/systemd/system ] && command -v systemctl >/dev/null 2>&1; }
    manager() {
        if [ "$user" = yes ]; then systemctl --user "$@"; else systemctl "$@"; fi
    }

    if [ "$uninstall" = yes ]; then
        if [ -f "$manifest" ]; then
            if has_systemd; then run manager disable --now "$package.service" || true; fi
            while IFS= read -r file; do
                case "$file" in /*) run rm -f "$file" ;; esac
            done <"$manifest"
            run rm -rf "${share:?}/$package"
            if has_systemd; then run manager daemon-reload || true; fi
        elif [ "$user" = no ] && command -v dpkg >/dev/null 2>&1 && dpkg -s "$package" >/dev/null 2>&1; then
            run dpkg --remove "$package"
        else
            fail "$package was not installed by this script"
        fi
        say "$package is gone. Settings in $config and data stay; remove them by hand."
        exit 0
    fi

    # Where the files are.
    if [ -z "$from" ]; then
        here=$(CDPATH='' cd -- "$(dirname -- "$0")" 2>/dev/null && pwd) || here=""
        if [ -z "$here" ] || [ ! -f "$here/SHA256SUMS" ]; then
            fail "say where the released files are: --from FOLDER or --from https://…"
        fi
        from=$here
    fi
    work=$(mktemp -d) || fail "cannot make a temporary folder"
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    fetch() {
        case "$from" in
        https://*)
            if command -v curl >/dev/null 2>&1; then
                curl --proto '=https' --tlsv1.2 -fsSL --retry 3 -o "$work/$1" "$from/$1"
            elif command -v wget >/dev/null 2>&1; then
                by_wget "$from/$1" "$work/$1"
            else
                fail "neither curl nor wget is there to fetch $from/$1; copy the files here and name their folder with --from"
            fi ;;
        http://*) fail "$from is not encrypted; use https, or a local folder" ;;
        *) cp "$from/$1" "$work/$1" 2>/dev/null ;;
        esac || fail "cannot get $1 from $from"
    }

    fetch SHA256SUMS
    if [ -n "$pubkey" ]; then
        command -v minisign >/dev/null 2>&1 ||
            fail "minisign is missing, which --pubkey needs; install it (Debian: apt-get install minisign)"
        if [ -f "$pubkey" ]; then pubkey=$(grep -v '^untrusted comment:' "$pubkey" | head -n 1); fi
        fetch SHA256SUMS.minisig
        minisign -V -q -P "$pubkey" -m "$work/SHA256SUMS" -x "$work/SHA256SUMS.minisig" ||
            fail "the signature of SHA256SUMS is not that of this key; nothing was installed. Take the key from where you trust it, \
and the files from $from once more"
        say "SHA256SUMS: its signature is right."
    fi
    kind=tarball
    if [ "$user" = no ] && [ "$tarball" = no ] && command -v dpkg >/dev/null 2>&1; then kind=deb; fi
    names=$(sed 's/^[0-9a-f]*[ *]*//' "$work/SHA256SUMS")
    if [ "$kind" = deb ]; then
        wanted="^${package}_[0-9A-Za-z.+~-]*_$(dpkg --print-architecture)\\.deb\$"
    else
        wanted="^pilot-[0-9A-Za-z.+~-]*-${machine}-linux\\.tar\\.gz\$"
    fi
    file=$(printf '%s\n' "$names" | grep -e "$wanted" | sort -V | tail -n 1) || true
    [ -n "$file" ] || fail "$from has no $kind of $package for this machine ($machine)"
    fetch "$file"
    (cd "$work" && grep -F "  $file" SHA256SUMS >one && sha256sum -c one >/dev/null 2>&1) ||
        fail "the checksum of $file is wrong; nothing was installed"
    say "$file: its checksum is right."

    if [ "$kind" = deb ]; then
        bin=/usr/bin
        if [ "$dry" = yes ]; then run dpkg --install "$file"; else
            # Settings that were changed stay; there may be nobody to ask. New defaults lie beside, as FILE.dpkg-dist.
            dpkg --force-confdef --force-confold --install "$work/$file" || fail "dpkg could not install it; what it needs comes with: apt-get --fix-broken install"
        fi
    else
        tar -C "$work" -xzf "$work/$file"
        top=$work/${file%.tar.gz}
        : >"$work/installed"
        put() {
            run mkdir -p "$(dirname "$3")"
            # Beside and renamed: a program that runs keeps its file.
            run install -m "$1" "$2" "$3.new"
            run mv -f "$3.new" "$3"
            printf '%s\n' "$3" >>"$work/installed"
        }
        case "$what" in
        agent) programs="pilot-agent pilotctl" ;;
        relay) programs="pilot-relay pilot-directory" ;;
        esac
        for program in $programs; do
            put 755 "$top/bin/$program" "$bin/$program"
            for page in "$top/share/man/man1/$program.1.gz" "$top/share/man/man1/$program"-*.1.gz; do
                [ ! -f "$page" ] || put 644 "$page" "$share/man/man1/$(basename "$page")"
            done
            put 644 "$top/share/completions/bash/$program" "$share/bash-completion/completions/$program"
        done
        unit=$top/units/$package.service
        [ "$user" = no ] || unit=$top/units/$package.user.service
        sed "s|/usr/bin/|$bin/|" "$unit" >"$work/unit"
        put 644 "$work/unit" "$units/$package.service"
        if [ "$user" = no ]; then
            put 644 "$top/sysusers/$package.conf" "/usr/local/lib/sysusers.d/$package.conf"
            if command -v systemd-sysusers >/dev/null 2>&1; then
                run systemd-sysusers "/usr/local/lib/sysusers.d/$package.conf"
            elif ! id "$package" >/dev/null 2>&1; then
                run useradd --system --no-create-home --shell /usr/sbin/nologin "$package"
            fi
        fi
        if [ ! -e "$config/$what.toml" ]; then
            run mkdir -p "$config"
            run install -m 644 "$top/etc/$what.toml" "$config/$what.toml"
        fi
        if [ "$what" = relay ]; then
            # Keys of certificates may lie here.
            run chown root:pilot-relay "$config"
            run chmod 750 "$config"
        fi
        run mkdir -p "$share/$package"
        run install -m 644 "$work/installed" "$manifest"
        if has_systemd; then
            run manager daemon-reload || true
            if [ "$what" = relay ]; then
                run manager enable "$package.service"
                run manager restart "$package.service" ||
                    fail "the relay is installed and does not start. Why: journalctl -u pilot-relay"
            else
                # A node that runs goes on with the new program; one that was never set up is not started.
                run manager try-restart "$package.service" || true
            fi
        fi
    fi

    if [ "$what" = agent ]; then
        say "Name the directory in $config/agent.toml (registry = \"HOST:9000\"), then:"
        if [ "$user" = yes ]; then say "  systemctl --user enable --now pilot-agent"; else say "  systemctl enable --now pilot-agent"; fi
    elif [ "$dry" = yes ]; then
        :
    elif ! has_systemd; then
        say "Nothing has started the relay, as there is no systemd. Start it: $bin/pilot-relay --config $config/relay.toml --data-dir FOLDER"
    elif systemctl is-active --quiet "$package.service"; then
        say "The relay is at work: systemctl status pilot-relay. Look at this host: pilot-relay doctor"
    else
        say "The relay does not run. Why: journalctl -u pilot-relay. Start it: systemctl start pilot-relay"
    fi
    case ":$PATH:" in *":$bin:"*) ;; *) say "Add $bin to PATH." ;; esac
}

main "$@"
