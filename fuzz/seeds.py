#!/usr/bin/env python3
"""Writes seeds/TARGET/* from the vector files: a magic of four bytes is not found by chance.

The seeds are committed; run this again when vectors change. Long messages are left out.
"""

import hashlib
import json
import pathlib
import shutil

BYTES_MAX = 450
HERE = pathlib.Path(__file__).parent
VECTORS = HERE.parent / "tests" / "vectors"


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
