#!/usr/bin/env python3
"""Checks the JSON of a comparison for what does not depend on how fast this machine is: everyone took part, everything
asked for was measured, and our shards relayed for their own senders only."""

import json
import sys

report = json.load(open(sys.argv[1], encoding="utf-8"))
contenders = {"floor", "naive", "mmsg", "mmsg-gso", "pilot-relay", "pilot-relay-2", "coturn"}
wrong = [remark for remark in report["remarks"] if "left out" in remark]

by_load = {}
for one in report["saturated"]:
    by_load.setdefault(json.dumps(one["load"], sort_keys=True), {})[one["contender"]] = one["rounds"]
for load, measured in by_load.items():
    # Thousands of channels take coturn very long to set up.
    expected = contenders if json.loads(load)["sessions"] <= 4000 else contenders - {"coturn"}
    missing = expected - set(measured)
    if missing:
        wrong.append(f"{load}: nothing of {sorted(missing)}")
    for name, rounds in measured.items():
        if not rounds or any(slice["delivered"] == 0 or slice["cpu_ns"] == 0 for slice in rounds):
            wrong.append(f"{load}: {name} delivered nothing or cost nothing")
if not by_load or not report["scaled"] or not report["paced"]:
    wrong.append("a part is missing")

steering = [remark for remark in report["remarks"] if remark.startswith("pilot-relay-2: forwarded")]
if not steering or any("; 0 of them for senders of another shard" not in remark for remark in steering):
    wrong.append(f"datagrams were steered to the wrong shard: {steering}")

for line in wrong:
    print(f"comparison: {line}", file=sys.stderr)
if wrong:
    sys.exit(1)
print(f"comparison: {len(by_load)} loads, everyone took part, every datagram came to its sender's shard")
