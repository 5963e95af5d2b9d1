#!/usr/bin/env python3
"""Checks that every test which SECURITY.md names is there: `CRATE FILE::TEST`, in CRATE/tests/FILE.rs or CRATE/src/FILE.rs.

    lab/check-security.py
"""
import pathlib
import re
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
CRATES = "|".join(manifest.parent.name for manifest in TOP.glob("*/Cargo.toml"))
CRATE = re.compile(rf"\b({CRATES})\s(?=`[a-z0-9_/]+::)", re.IGNORECASE)
NAME = re.compile(r"`([a-z0-9_/]+)::([a-z0-9_]+)`")


def proofs(text):
    """The tests a text names; a crate holds for all names up to the next one."""
    crate, position = None, 0
    for found in NAME.finditer(text):
        for named in CRATE.finditer(text, position, found.end()):
            crate = named.group(1).lower()
        position = found.end()
        yield crate, found.group(1), found.group(2)


def is_there(crate, file, test):
    places = (TOP / str(crate) / folder / f"{file}.rs" for folder in ("tests", "src"))
    function = re.compile(rf"^\s*(async )?fn {test}\(", re.MULTILINE)
    return any(place.is_file() and function.search(place.read_text()) for place in places)


def main():
    # Of a table a row, else a paragraph.
    texts = re.split(r"\n\n|\n(?=\||- )", re.sub(r"\n  +", " ", (TOP / "SECURITY.md").read_text()))
    named = [proof for text in texts for proof in proofs(text)]
    missing = [f"{crate} {file}::{test}" for crate, file, test in named if not is_there(crate, file, test)]
    for proof in missing:
        print(f"SECURITY.md names a test that is not there: {proof}")
    if len(named) < 50:
        sys.exit(f"only {len(named)} tests found in SECURITY.md; has its form changed?")
    print(f"{len(named)} tests named, {len(missing)} missing")
    sys.exit(bool(missing))


main()
