#!/usr/bin/env bash
# The ways by which install.sh gets files and what it believes of them: signatures, addresses, redirections. Nothing is
# installed outside a temporary folder, nothing leaves loopback. packaging/test.sh calls it and does the rest in a Debian.
#
#   packaging/installer-test.sh FOLDER     with what packaging/build.sh has made
set -euo pipefail
cd "$(dirname "$0")/.."

released=$(realpath "${1:?name the folder with the packages that packaging/build.sh has made}")
for command in minisign curl wget openssl python3; do
    command -v "$command" >/dev/null || { echo "installer-test.sh: $command is missing; run: ./test.sh tools" >&2; exit 1; }
done
work=$(mktemp -d "${TMPDIR:-/tmp}/pilot-installer.XXXXXX")
server=""
trap '[ -z "$server" ] || { kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; }; rm -rf "$work"' EXIT
ok() { echo "  ok    $*"; }

# A node of a person in a home of its own, and no service manager to be told of it.
installer() {
    rm -rf "${work:?}/home"
    mkdir "$work/home"
    # shellcheck disable=SC2086
    env -u XDG_CONFIG_HOME -u XDG_RUNTIME_DIR -u DBUS_SESSION_BUS_ADDRESS HOME="$work/home" CURL_CA_BUNDLE="$work/certificate.pem" \
        WGETRC="$work/wgetrc" ${shell:-sh} install.sh agent --user "$@" >"$work/said" 2>&1
}
installs() { # what, arguments
    local what=$1
    shift
    installer "$@" || { cat "$work/said"; echo "FAILED: $what: not installed" >&2; exit 1; }
    [ -x "$work/home/.local/bin/pilot-agent" ] || { echo "FAILED: $what: nothing was installed" >&2; exit 1; }
    ok "$what"
}
refuses() { # what, words of the message, arguments
    local what=$1 words=$2
    shift 2
    ! installer "$@" || { cat "$work/said"; echo "FAILED: $what: was installed" >&2; exit 1; }
    grep -q -e "$words" "$work/said" || { cat "$work/said"; echo "FAILED: $what: does not say '$words'" >&2; exit 1; }
    [ -z "$(ls -A "$work/home")" ] || { echo "FAILED: $what: something was installed" >&2; exit 1; }
    ok "$what: $(grep -e "$words" "$work/said" | head -n 1)"
}

for help in --help -h usage; do
    sh install.sh "$help" | grep -q -e '--pubkey KEY' || { echo "FAILED: install.sh $help" >&2; exit 1; }
    sh -s -- "$help" <install.sh | grep -q -e '--pubkey KEY' || { echo "FAILED: install.sh $help, through a pipe" >&2; exit 1; }
done
ok "it says how it is called, also through a pipe"
refuses "a wrong argument is told the right ones" '--pubkey KEY' --frm "$released"

for shell in sh dash 'busybox sh' bash; do
    command -v "${shell%% *}" >/dev/null || { echo "  not   by $shell, which is not here"; continue; }
    installs "by $shell" --from "$released"
    grep -q -x "Add $work/home/.local/bin to PATH." "$work/said" || { cat "$work/said"; echo "FAILED: it does not say what PATH lacks" >&2; exit 1; }
    PATH=$work/home/.local/bin:$PATH installs "by $shell, into a folder in PATH" --from "$released"
    ! grep -q 'to PATH' "$work/said" || { cat "$work/said"; echo "FAILED: it names a folder that is in PATH" >&2; exit 1; }
done
shell="sh"

files=$work/files
cp -r "$released" "$files"
for name in release another; do
    minisign -G -W -f -p "$work/$name.pub" -s "$work/$name.key" >/dev/null
done
key=$(tail -n 1 "$work/release.pub")
refuses "a signature that is not there" 'cannot get SHA256SUMS.minisig' --from "$files" --pubkey "$key"
minisign -S -s "$work/release.key" -m "$files/SHA256SUMS" >/dev/null
installs "signed, by the key" --from "$files" --pubkey "$key"
installs "signed, by the key's file" --from "$files" --pubkey "$work/release.pub"
not_signed='signature of SHA256SUMS is not that of this key'
refuses "another's key" "$not_signed" --from "$files" --pubkey "$(tail -n 1 "$work/another.pub")"
refuses "what is no key" "$not_signed" --from "$files" --pubkey nonsense
# Whoever changes a file makes its checksum right again; the signature is what remains.
cp -r "$files" "$work/tampered"
for file in "$work"/tampered/*.tar.gz; do printf x >>"$file"; done
refuses "a tampered file" 'the checksum of .* is wrong' --from "$work/tampered" --pubkey "$key"
(cd "$work/tampered" && sha256sum -- *.deb *.tar.gz install.sh >SHA256SUMS)
refuses "a tampered file with its checksum" "$not_signed" --from "$work/tampered" --pubkey "$key"
minisign -S -s "$work/another.key" -m "$work/tampered/SHA256SUMS" >/dev/null
refuses "a tampered file, signed by another" "$not_signed" --from "$work/tampered" --pubkey "$key"
cp "$files/SHA256SUMS.minisig" "$work/signature"
sed '2s/^\(.\{40\}\)./\1%/' "$work/signature" >"$files/SHA256SUMS.minisig"
refuses "a torn signature" "$not_signed" --from "$files" --pubkey "$key"
cp "$work/signature" "$files/SHA256SUMS.minisig"

# A host of releases: /files has them, and the others lead there or elsewhere.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout "$work/server.key" -out "$work/certificate.pem" 2>/dev/null
echo "ca_certificate = $work/certificate.pem" >"$work/wgetrc"
mkfifo "$work/ports"
cat >"$work/server.py" <<'END'
import http.server, os, ssl, sys, threading

class Host(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        folder, _, name = self.path.lstrip("/").partition("/")
        to = {
            "moved": f"https://localhost:{secure}/files/{name}",
            "moved-twice": f"https://localhost:{secure}/moved/{name}",
            "moved-here": f"/files/{name}",
            "unencrypted": f"http://localhost:{plain}/files/{name}",
            "moved-unencrypted": f"https://localhost:{secure}/unencrypted/{name}",
            "for-ever": f"/for-ever/{name}",
        }.get(folder)
        if to is None:
            return super().do_GET()
        self.send_response(302)
        self.send_header("Location", to)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass

def listen():
    return http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host)
https, http_ = listen(), listen()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("certificate.pem", "server.key")
https.socket = context.wrap_socket(https.socket, server_side=True)
secure, plain = https.server_address[1], http_.server_address[1]
threading.Thread(target=http_.serve_forever, daemon=True).start()
with open("ports", "w") as ports:
    ports.write(f"{secure} {plain}\n")
https.serve_forever()
END
(cd "$work" && exec python3 server.py) &
server=$!
exec 3<>"$work/ports"
read -rt 20 secure plain <&3 || { echo "FAILED: the server for the installer did not start" >&2; exit 1; }
base=https://localhost:$secure
curl --cacert "$work/certificate.pem" -fsS -o /dev/null "http://localhost:$plain/files/SHA256SUMS"

# Every program of the system but the one that would be taken first.
mkdir "$work/bin"
ln -s /usr/bin/* /bin/* "$work/bin/" 2>/dev/null || true
rm "$work/bin/curl"
for by in curl wget; do
    [ $by = curl ] || PATH=$work/bin
    installs "$by: from an address" --from "$base/files" --pubkey "$key"
    installs "$by: by way of a redirection" --from "$base/moved" --pubkey "$key"
    installs "$by: by way of several" --from "$base/moved-twice"
    installs "$by: on the same host" --from "$base/moved-here"
    refuses "$by: to what is not encrypted" 'not https\|cannot get SHA256SUMS' --from "$base/unencrypted"
    refuses "$by: to what is not encrypted, later" 'not https\|cannot get SHA256SUMS' --from "$base/moved-unencrypted"
    refuses "$by: without an end" 'on and on\|cannot get SHA256SUMS' --from "$base/for-ever"
    refuses "$by: to nothing" 'cannot get SHA256SUMS' --from "$base/nowhere"
    refuses "$by: not encrypted from the beginning" 'is not encrypted' --from "http://localhost:$plain/files"
done
: >"$work/wgetrc"
refuses "wget: a host nobody vouches for" 'cannot get SHA256SUMS' --from "$base/files"
rm "$work/bin/wget"
refuses "neither" 'neither curl nor wget' --from "$base/files"
