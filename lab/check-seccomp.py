#!/usr/bin/env python3
"""Whatever the programs leave themselves (confinement/src/calls.rs), the container's profile must not refuse."""

import json
import pathlib
import re
import sys

top = pathlib.Path(__file__).resolve().parent.parent
source = (top / "confinement/src/calls.rs").read_text()
profile = json.loads((top / "packaging/seccomp.json").read_text())
allowed = {name for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}

lists = re.findall(r"const (USUAL\w*): &\[c_long\] = &\[(.*?)\];", source, re.DOTALL)
# Those with rules about their arguments are told apart there.
ruled = re.findall(r"rules\.insert\(libc::SYS_(\w+)", source)
usual = {call for _, body in lists for call in re.findall(r"SYS_(\w+)", body)} | set(ruled)
if len(usual) < 100:
    sys.exit(f"check-seccomp.py: only {len(usual)} calls found in confinement/src/calls.rs; has it another form now?")
missing = sorted(usual - allowed)
if missing:
    sys.exit("packaging/seccomp.json refuses what the programs need: " + ", ".join(missing))
print(f"seccomp.json allows all {len(usual)} calls of confinement/src/calls.rs")
