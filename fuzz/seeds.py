#!/usr/bin/env python3
"""Writes seeds/TARGET/* from the vector files: a magic of four bytes is not found by chance.

The seeds are committed; run this again when vectors change. Long messages are left out. The seeds of the engines are
stories as their scripts write them, eight bytes a step, so that what takes several steps in order is not left to chance.
"""

import hashlib
import json
import pathlib
import shutil

BYTES_MAX = 450
HERE = pathlib.Path(__file__).parent
VECTORS = HERE.parent / "wire" / "tests" / "vectors"


def document(name):
    return json.loads((VECTORS / name).read_text())


def messages(name):
    return [bytes.fromhex(vector["hex"]) for vector in document(name)["vectors"] if "hex" in vector]


def ipc():
    for name in ("ipc.json", "ipc_newest.json"):
        yield from messages(name)
        for vector in document(name)["vectors"]:
            for frame in vector.get("expect", {}).get("daemon_frames", []):
                yield bytes.fromhex(frame.get("hex", ""))


def registry():
    for vector in document("registry_json.json")["vectors"]:
        yield bytes.fromhex(vector["hex"])[4:]
        yield bytes.fromhex(vector["expect"].get("response_hex", ""))[4:]
    kinds = set()
    for entry in document("registry_capture_1_18.json")["entries"]:
        for side in (entry["request"], entry["response"]):
            if side["type"] not in kinds:
                kinds.add(side["type"])
                message = json.dumps(side).encode()
                yield len(message).to_bytes(4, "big") + message


# --- relay_engine: see relay/tests/model/script.rs ---


def setting(shards=2, known=0x3F, remembered=0, room=0, budgets=0, mail=0, admission=0):
    """A relay with a directory, under `grace` or `admission` 6 strict, 7 open; sessions for `room` 0 many, 2 one, 3 three."""
    return bytes([setting_byte(shards, admission) | budgets << 6 | mail << 7, known, remembered, room, 0, 0, 0, 0])


# Node n of the relay has the number n - 1 in the script; its address is proven at host (n - 1) % 4. Endpoints are three
# ports a host: 6, 7 and 8 are one host at which nodes 1 and 2 have no proof, 0 is proven to be node 1's.
ASKED = 0xE0


def setting_byte(shards, admission):
    """The lowest number that says both: shards by its remainder, admission by three of its bits."""
    return next(byte for byte in range(32) if byte % 3 == shards - 1 and byte >> 2 & 7 == admission)


def claim(at, node, has_cookie=False):
    return bytes([16, at, 0, node - 1, int(has_cookie), 1, 0, 0])


def judge(is_good=True):
    return bytes([26, 1, 0 if is_good else 3, 0, 0, 0, 0, 0])


def discover(at, node, extended=False):
    return bytes([0, at, 0, node - 1, 0, 7 if extended else 0, 0, 0])


def relay(at, sender, dest, shard=0):
    return bytes([5, at, shard, sender - 1, dest - 1, 3, 1, 2])


def punch(at, requester, target):
    return bytes([10, at, 0, requester - 1, target - 1, 0, 0, 0])


def alive(at):
    return bytes([12, at, 0, 0, 0, 0, 0, 0])


def trace(at, sender, dest):
    return bytes([15, at, 0, sender - 1, dest - 1, 1, 5, 5])


def stun(at, local=9):
    return bytes([16, at, local, 1, 2, 3, 4, 5])


def wait(index):
    """Index into the script's times: 5 is 350 ms, 9 a second, 14 151 s, 15 601 s."""
    return bytes([19, index, 0, 0, 0, 0, 0, 0])


def publish(node, hosts, last=None):
    return bytes([23, 0, 0, node - 1, hosts, 0 if last is None else 1, last or 0, 0])


def withdraw(node, told=True):
    return bytes([25, 0, 0, node - 1, 0 if told else 3, 0, 0, 0])


MIXED_UP = [discover(6, 1), discover(7, 2), wait(9), discover(6, 2), wait(5), wait(5), wait(9)]
DELIVER = [bytes([28, shard, 7, 0, 0, 0, 0, 0]) for shard in range(3)]

RELAY_STORIES = {
    "two_talk": [discover(0, 1), discover(3, 2), relay(0, 1, 2), relay(3, 2, 1), punch(0, 1, 2), stun(0)],
    "shared_socket": [discover(6, 1, True), discover(6, 2, True), relay(6, 1, 2), relay(6, 2, 1, 0xC0)],
    "holder_answers": [discover(6, 1), wait(10), discover(9, 1), alive(6), wait(9), discover(9, 1), relay(6, 1, 2)],
    "holder_is_silent": [discover(6, 1), wait(10), discover(9, 1), wait(5), wait(5), wait(9), relay(9, 1, 2)],
    "proof_displaces": [discover(6, 1), wait(10), discover(0, 1), discover(6, 1), alive(0), discover(6, 1)] + [wait(3)] * 5,
    "proof_in_contest": [discover(6, 1), discover(9, 1), publish(1, 8, 0), discover(10, 1), wait(5), wait(5)],
    "takeover": MIXED_UP + [discover(8, 1), alive(6), alive(ASKED), relay(8, 1, 2), wait(9)],
    "takeover_is_not_improved": [claim(6, 1), claim(6, 1, True), judge(), discover(7, 2), wait(9), discover(6, 2), wait(5),
        wait(5), wait(9), discover(8, 1), alive(6), discover(0, 1), alive(8), wait(9), relay(8, 1, 2)],
    "takeover_silent": MIXED_UP + [discover(8, 1), alive(6), wait(5), wait(5), wait(9), discover(8, 1)],
    "takeover_holder_speaks": MIXED_UP + [discover(8, 1), alive(6), relay(6, 1, 2), alive(8)],
    "forged_neighbour": [discover(6, 1), wait(9), discover(6, 2), wait(10), discover(6, 1), discover(8, 1), alive(6), alive(8)],
    "silent_for_long": [discover(6, 1), wait(14), wait(9), discover(9, 1), wait(15), discover(6, 1)],
    "recall": [discover(0, 1), relay(0, 1, 2), alive(ASKED), relay(0, 1, 2), wait(9)],
    "recall_remembered": [discover(0, 1), relay(0, 1, 2), alive(4), relay(0, 1, 2), bytes([31, 0xFF] + [0] * 6)],
    "recall_traced": [discover(0, 1), trace(0, 1, 2), alive(ASKED), relay(0, 1, 2), wait(10), wait(12)],
    "moved_sender": [discover(6, 1), discover(3, 2), relay(9, 1, 2), alive(6), relay(0, 1, 2), relay(9, 1, 2, 0xC1)],
    "withdrawn": [discover(6, 1), withdraw(1), discover(6, 1), publish(1, 1, 0), discover(6, 1), withdraw(1, False), wait(12)],
    "withdrawn_in_contest": [discover(0, 1), discover(6, 1), withdraw(1, False), wait(5), wait(5), wait(12)],
    "addresses_go": [discover(0, 1), discover(3, 2), bytes([27, 0, 0, 1, 0, 0, 0, 0]), relay(0, 1, 2), punch(0, 1, 2)],
    "signed": [discover(6, 1), claim(9, 1), claim(9, 1, True), judge(), discover(6, 1), claim(9, 1), wait(10), relay(9, 1, 2)],
    "forged": [discover(6, 1), claim(9, 1), claim(9, 1, True), judge(False), claim(10, 1), wait(10), wait(10), claim(10, 1, True)],
    "strict": [discover(6, 1), discover(0, 1), discover(6, 1), claim(6, 1), claim(6, 1, True), judge(), discover(4, 2), punch(6, 1, 2), judge()],
    "strict_lapsed": [discover(0, 1), publish(1, 4, 0), discover(0, 1), discover(6, 1), relay(9, 1, 2)],
    "slow_mail": [discover(0, 1), discover(3, 2), relay(3, 2, 1, 0xC0), discover(6, 2), withdraw(2), *DELIVER, relay(0, 1, 2)],
}

RELAY_SETTINGS = {
    "slow_mail": setting(3, mail=1),
    "strict": setting(2, admission=6),
    "strict_lapsed": setting(1, admission=5),
    "recall_remembered": setting(2, remembered=0x03),
    "shared_socket": setting(3),
}


def relay_histories():
    for name, story in RELAY_STORIES.items():
        yield name, RELAY_SETTINGS.get(name, setting()) + b"".join(story)
    yield "full", setting(1, room=3) + b"".join(discover(6, n) for n in range(1, 7)) + wait(13) + discover(7, 6) + discover(8, 5)
    yield "budgets", setting(2, budgets=1) + b"".join([discover(0, 1), discover(3, 2), *[relay(0, 1, 2)] * 9, *[stun(0)] * 9])


STORIES = {"relay_engine": relay_histories()}


def extensions():
    """Beacon messages of ours, of which no vector file knows: challenge, claim with zeros and without, trace."""
    node = (7).to_bytes(4, "big")
    yield b"\x0b" + bytes(range(32)) + bytes(range(16))
    yield b"\x0c" + node + bytes(16 + 64)
    yield b"\x0c" + node + bytes(range(16)) + bytes(range(64))
    yield b"\x0d" + node + (8).to_bytes(4, "big") + bytes(range(1, 26))


SEEDS = {
    "address": [vector["inputs"]["text"].encode() for vector in document("addresses.json")["vectors"]],
    "beacon": messages("beacon.json") + list(extensions()),
    "ipc": list(ipc()),
    "packet": messages("packets.json"),
    "registry": list(registry()),
    "stun": messages("stun.json"),
    "tunnel": messages("tunnel_v122.json") + messages("tunnel_v19.json"),
}

for target, seeds in SEEDS.items():
    folder = HERE / "seeds" / target
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for seed in seeds:
        if 0 < len(seed) <= BYTES_MAX:
            (folder / hashlib.sha1(seed).hexdigest()[:12]).write_bytes(seed)

for target, stories in STORIES.items():
    folder = HERE / "seeds" / target
    folder.mkdir(parents=True, exist_ok=True)
    for name, history in stories:
        (folder / name).write_bytes(history)
