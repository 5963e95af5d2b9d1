#!/usr/bin/env python3
"""How long a directory takes from exec to its first answers: directory-restart.py PROGRAM DATA_DIR PORT ROUNDS

Ends it alternately by SIGTERM and by SIGKILL, starts it again on the same data, and asks until it answers: a lookup of node 1, then
a query over all records. Prints the median and the range of the rounds, and exits 1 if an answer was not the one hoped for.
"""
import json
import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time

GIVE_UP_SECONDS = 120


def ask(port, request, deadline):
    """One answer; connects until somebody listens."""
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=GIVE_UP_SECONDS) as connection:
                message = json.dumps(request).encode()
                connection.sendall(struct.pack(">I", len(message)) + message)
                stream = connection.makefile("rb")
                (length,) = struct.unpack(">I", stream.read(4))
                return json.loads(stream.read(length))
        except (ConnectionError, struct.error):
            if time.monotonic() > deadline:
                sys.exit(f"directory-restart.py: no answer on port {port} within {GIVE_UP_SECONDS} s")
            time.sleep(0.001)


def processor_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        # The name in parentheses may hold anything; behind it, utime and stime are the 12th and 13th fields.
        fields = stat.read().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def start(program, data_dir, port):
    """Starts the program; returns it, the seconds to its first answers, its processor seconds, and its memory then."""
    began = time.monotonic()
    command = [program, "--listen", f"127.0.0.1:{port}", "--data-dir", data_dir]
    directory = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        lookup = ask(port, {"type": "lookup", "node_id": 1}, began + GIVE_UP_SECONDS)
        served, busy = time.monotonic() - began, processor_seconds(directory.pid)
        query = ask(port, {"type": "query", "text": "", "offline": True, "limit": 10}, began + GIVE_UP_SECONDS)
        queried = time.monotonic() - began
        if lookup.get("type") != "lookup_ok" or not query.get("hits"):
            sys.exit(f"directory-restart.py: not restored: {lookup} {query}")
        with open(f"/proc/{directory.pid}/status", encoding="ascii") as status:
            resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
        return directory, (served, queried, busy, resident)
    except BaseException:
        directory.kill()
        raise


def main():
    program, data_dir, port, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    times = {signal.SIGTERM: [], signal.SIGKILL: []}
    # Whoever filled the folder has ended as it should.
    ended_by = signal.SIGTERM
    for number in range(2 * rounds):
        directory, measured = start(program, data_dir, port)
        times[ended_by].append(measured)
        ended_by = signal.SIGKILL if number % 2 == 0 else signal.SIGTERM
        directory.send_signal(ended_by)
        directory.wait()
    for ended_by, measured in times.items():
        served, queried, busy, resident = zip(*measured)
        print(
            f"restart           after {ended_by.name}: first lookup answered in {statistics.median(served):.3f} s "
            f"({min(served):.3f} to {max(served):.3f}), first query in {statistics.median(queried):.3f} s, "
            f"{statistics.median(busy):.2f} s of processor time, "
            f"{statistics.median(resident) / 1024:.1f} MiB resident then; rounds: {len(served)}"
        )


main()
