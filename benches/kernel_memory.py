"""The kernel's memory for an idle TCP connection, per end: one of the costs of benches/model.json.

    python3 benches/kernel_memory.py

Both ends are here, so half of what the slab caches grow by is one end's. Needs nothing of Fanbus.
"""

from __future__ import annotations

import argparse
import json
import resource
import socket
import statistics
from pathlib import Path
from typing import Any

CONNECTIONS = 1500
WARM_UP = 200
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--record", type=Path, metavar="FILE", help="the figures go there, too")
    options = parser.parse_args()
    found = {"connections": CONNECTIONS, "kib": measured()}
    if options.record is not None:
        options.record.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))


def measured() -> list[float]:
    """KiB of slab for each end, of each round."""
    wanted = 2 * (WARM_UP + ROUNDS * CONNECTIONS) + 100
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    held: list[socket.socket] = []
    grown = []
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        connect(listener, WARM_UP, held)
        for _ in range(ROUNDS):
            before = slab_kib()
            connect(listener, CONNECTIONS, held)
            grown.append((slab_kib() - before) / CONNECTIONS / 2)
    return grown


def table(found: dict[str, Any]) -> str:
    values = found["kib"]
    return (
        "| connections | rounds | KiB of slab for each end | spread |\n|---|---|---|---|\n"
        f"| {found['connections']} | {len(values)} | {statistics.median(values):.2f} "
        f"| {min(values):.2f} to {max(values):.2f} |"
    )


def connect(listener: socket.socket, count: int, held: list[socket.socket]) -> None:
    for _ in range(count):
        held.append(socket.create_connection(listener.getsockname()))
        held.append(listener.accept()[0])


def slab_kib() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("Slab:")))


if __name__ == "__main__":
    main()
