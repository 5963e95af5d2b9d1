"""Does with two daemons, through the unmodified Python SDK, what agents do. Prints one line of JSON for each step, with
the shape of what the SDK returned, so that the answers of two daemons can be compared.

usage: sdk.py NEAR_SOCKET FAR_SOCKET [--any-bytes]

With --any-bytes it also sends what the unmodified daemon is known to lose.
"""

import json
import os
import sys
import threading
import time

from pilotprotocol import Driver, PilotError

MEGABYTE = 1 << 20
PORT = 4242
DATAGRAM_PORT = 4343
PATIENCE_SECONDS = 60


def shape(value):
    """Keys and types, without values."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in sorted(value.items())}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    return type(value).__name__


def step(name, value=None):
    print(json.dumps({"step": name, "shape": shape(value)}), flush=True)


def wait_for(what, probe):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = probe()
        if found:
            return found
        time.sleep(0.05)
    raise SystemExit(f"waited in vain for {what}")


def in_background(action):
    result = {}

    def run():
        try:
            result["value"] = action()
        except Exception as error:  # told by the one who joins
            result["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def join(what):
        thread.join(PATIENCE_SECONDS)
        if thread.is_alive():
            raise SystemExit(f"waited in vain for {what}")
        if "error" in result:
            raise SystemExit(f"{what}: {result['error']}")
        return result["value"]

    return join


def streams(near, far, address, any_bytes):
    listener = far.listen(PORT)

    def echo():
        with listener.accept() as conn:
            total = 0
            while total < MEGABYTE:
                data = conn.read(65536)
                if not data:
                    break
                total += len(data)
                conn.write(data)
            return total

    echoed = in_background(echo)
    content = os.urandom(MEGABYTE)
    with near.dial(f"{address}:{PORT}", timeout=30) as conn:
        writing = in_background(lambda: sum(conn.write(content[at : at + 16384]) for at in range(0, MEGABYTE, 16384)))
        back = conn.read_full(MEGABYTE)
        assert writing("writing") == MEGABYTE
    assert echoed("the echo") == MEGABYTE
    assert back == content, "what came back is not what was sent"
    step("stream of a megabyte there and back")

    conn = near.dial(f"{address}:7")
    words = b"SACK\x01looks like an acknowledgement" if any_bytes else b"plain words"
    conn.write(words)
    assert conn.read_full(len(words)) == words
    conn.set_read_deadline(time.time() + 0.2)
    try:
        conn.read(1)
        raise SystemExit("a read came back without data")
    except PilotError:
        pass
    conn.close()
    step("stream with a deadline")

    try:
        near.dial(f"{address}:4999", timeout=5)
        raise SystemExit("a port that nobody has bound was reached")
    except PilotError:
        step("dial of an unbound port is refused")

    held = [near.dial(f"{address}:7") for _ in range(20)]
    for number, conn in enumerate(held):
        conn.write(bytes([number]))
    assert [conn.read_full(1) for conn in held] == [bytes([number]) for number in range(20)]
    for conn in held:
        conn.close()
    step("twenty streams side by side")


def datagrams(near, far, address):
    listener = far.listen(DATAGRAM_PORT)
    received = in_background(far.recv_from)
    deadline = time.monotonic() + PATIENCE_SECONDS
    # A datagram may be lost; nobody promises otherwise.
    join = threading.Event()

    def send():
        while not join.is_set() and time.monotonic() < deadline:
            near.send_to(f"{address}:{DATAGRAM_PORT}", b"a datagram")
            time.sleep(0.2)

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    datagram = received("a datagram")
    join.set()
    sending.join()
    assert datagram["dst_port"] == DATAGRAM_PORT, datagram
    listener.close()
    step("datagram", datagram)


def services(near, address, folder):
    sent = near.send_message(address, b"hello", "text")
    assert sent["ack"] == "ACK TEXT 5 bytes", sent
    step("send_message", sent)
    sent = near.send_message(address, b'{"a": 1}', "json")
    assert sent["ack"] == "ACK JSON 8 bytes", sent
    path = os.path.join(folder, "from-sdk.bin")
    with open(path, "wb") as file:
        file.write(os.urandom(300_000))
    sent = near.send_file(address, path)
    assert sent["ack"].startswith("ACK FILE"), sent
    step("send_file", sent)


def events(near, far, near_address, far_address):
    events = []
    subscription = near.subscribe_event(far_address, "news", timeout=PATIENCE_SECONDS)
    heard = in_background(lambda: next(subscription))
    deadline = time.monotonic() + PATIENCE_SECONDS
    done = threading.Event()

    def publish():
        while not done.is_set() and time.monotonic() < deadline:
            events.append(far.publish_event(far_address, "news", b"something happened"))
            time.sleep(0.3)

    publishing = threading.Thread(target=publish, daemon=True)
    publishing.start()
    topic, payload = heard("an event")
    done.set()
    publishing.join()
    assert (topic, payload) == ("news", b"something happened"), (topic, payload)
    step("event", events[0])


def trust(near, far, near_id, far_id):
    step("handshake", near.handshake(far_id, "let us meet"))

    def pending():
        waiting = far.pending_handshakes()
        ids = [request["node_id"] for request in waiting["pending"] or []]
        return waiting if near_id in ids else None

    step("pending_handshakes", wait_for("the request", pending))
    step("approve_handshake", far.approve_handshake(near_id))

    def trusted():
        peers = near.trusted_peers()
        return peers if far_id in [peer["node_id"] for peer in peers["trusted"] or []] else None

    step("trusted_peers", wait_for("trust", trusted))
    step("revoke_trust", near.revoke_trust(far_id))
    step("reject_handshake", far.reject_handshake(near_id, "no"))


def main():
    near_socket, far_socket, *options = sys.argv[1:]
    near, far = Driver(near_socket), Driver(far_socket)
    near_info, far_info = near.info(), far.info()
    step("info", {key: value for key, value in near_info.items() if key not in ("peer_list", "conn_list")})
    step("health", near.health())
    near_address, address = near_info["address"], far_info["address"]
    step("resolve_hostname", near.resolve_hostname(far_info["hostname"]))
    streams(near, far, address, options == ["--any-bytes"])
    datagrams(near, far, address)
    services(near, address, os.path.dirname(near_socket))
    events(near, far, near_address, address)
    trust(near, far, near_info["node_id"], far_info["node_id"])
    step("set_tags", near.set_tags(["lab"]))
    step("set_visibility", near.set_visibility(True))
    step("set_hostname", near.set_hostname(near_info["hostname"] + "-renamed"))
    step("network_list", near.network_list())
    try:
        near.disconnect(1_000_000)
        step("disconnect of nothing")
    except PilotError:
        step("disconnect of nothing is refused")
    near.close()
    far.close()
    step("done")


main()
