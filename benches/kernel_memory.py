"""What the kernel keeps of an idle TCP connection, per end: a figure of benches/model.json.

    python3 benches/kernel_memory.py

Both ends are here, so half of what the slab caches grow by is one end's. Needs nothing of Fanbus.
"""

from __future__ import annotations

import resource
import socket
import statistics
from pathlib import Path

CONNECTIONS = 1500
WARM_UP = 200
ROUNDS = 5


def main() -> None:
    wanted = 2 * (WARM_UP + ROUNDS * CONNECTIONS) + 100
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        connect(listener, WARM_UP, held)
        grown = []
        for _ in range(ROUNDS):
            before = slab_kib()
            connect(listener, CONNECTIONS, held)
            grown.append((slab_kib() - before) / CONNECTIONS / 2)
    print(
        f"{statistics.median(grown):.2f} KiB of slab for each end, median of {ROUNDS} times "
        f"{CONNECTIONS} connections ({min(grown):.2f} to {max(grown):.2f})"
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
