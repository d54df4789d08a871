"""h2spec, a conformance suite of HTTP/2, against a server with TLS: `make suites`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from support.certificates import Certificates
from support.servers import Server

DEADLINE_S = 300.0


def main() -> int:
    """Its exit status: not 0 if the suite finds a fault."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = Certificates(folder).environment()
        with Server("tls", workers=1, environment=environment, stderr=folder / "err") as server:
            where = ["-h", "127.0.0.1", "-p", str(server.port), "-P", "/who"]
            suite = [sys.argv[1], "--tls", "--insecure", "--timeout", "5", *where]
            return subprocess.run(suite, timeout=DEADLINE_S).returncode


if __name__ == "__main__":
    sys.exit(main())
