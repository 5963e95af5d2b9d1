#!/usr/bin/env python3
"""Checks that every metric which the dashboard and the alerts speak of is exposed by somebody.

    lab/check-dashboard.py URL-or-FILE… [--without PREFIX]

The sources are what running programs expose. Names that begin with PREFIX are passed over, for programs that do not run.
"""
import argparse
import json
import pathlib
import re
import sys
import urllib.request

TUNING = pathlib.Path(__file__).resolve().parent.parent / "tuning"
# `up` is Prometheus' own.
OURS = re.compile(r"\b((?:pilot|process)_[a-z0-9_]+)\b")


def read(source):
    if source.startswith("http://"):
        with urllib.request.urlopen(source, timeout=10) as answer:
            return answer.read().decode()
    return pathlib.Path(source).read_text()


def exposed(text):
    names = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M):
        names |= {name + part for part in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    return names


def expressions():
    """Every expression with where it stands."""
    dashboard = json.loads((TUNING / "grafana-pilot.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f"panel {panel['title']!r}", target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']!r}", variable["query"]["query"]
    alert = None
    # Without a YAML reader: an expression goes on until the next key.
    for line in (TUNING / "pilot-alerts.yml").read_text().splitlines():
        if match := re.match(r"\s*- alert: (\w+)", line):
            alert, inside = match[1], False
        elif alert and (match := re.match(r"\s*(\w+):\s*(.*)", line)):
            inside = match[1] == "expr"
            if inside:
                yield f"alert {alert}", match[2]
        elif alert and inside:
            yield f"alert {alert}", line


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("sources", nargs="+")
    arguments.add_argument("--without", action="append", default=[], metavar="PREFIX")
    arguments = arguments.parse_args()
    known = set().union(*(exposed(read(source)) for source in arguments.sources))
    wanted, missing = set(), []
    for place, expression in expressions():
        for name in OURS.findall(re.sub(r'"[^"]*"', '""', expression)):
            if name.startswith(tuple(arguments.without)):
                continue
            wanted.add(name)
            if name not in known:
                missing.append(f"{place} speaks of {name}, which nobody exposes")
    print(*missing, sep="\n", end="\n" if missing else "")
    print(f"{len(wanted)} names in use, {len(known)} exposed")
    return 1 if missing or not wanted else 0


if __name__ == "__main__":
    sys.exit(main())
