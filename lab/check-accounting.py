#!/usr/bin/env python3
"""Checks a relay's own books: received = forwarded + answered + deferred + everything dropped, shard by shard."""
import json
import sys
import urllib.request


def balanced(name, counters):
    received = counters["datagrams_received"]
    parts = {part: counters[f"datagrams_{part}"] for part in ("forwarded", "answered", "deferred")}
    parts |= {f"dropped {reason}": count for reason, count in counters["dropped"].items() if count}
    holds = received == sum(parts.values())
    terms = " + ".join(f"{count} {part}" for part, count in parts.items())
    print(f"{name}: received {received} {'=' if holds else '!='} {terms}")
    return holds


def main(address):
    with urllib.request.urlopen(address, timeout=5) as answer:
        counters = json.load(answer)
    rows = [("total", counters["total"])]
    rows += [(f"shard {index}", shard) for index, shard in enumerate(counters["shards"])]
    return 0 if all([balanced(name, row) for name, row in rows]) else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: check-accounting.py http://HOST:PORT/counters")
    sys.exit(main(sys.argv[1]))
