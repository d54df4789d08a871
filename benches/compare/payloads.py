"""The files that servers send and clients upload, and a certificate: made where the peers are."""

from __future__ import annotations

import os
import subprocess

from .systems import HOME

SIZES = {"8Ki": 8 << 10, "100Ki": 100 << 10, "1Mi": 1 << 20, "10Mi": 10 << 20}
FILES = HOME / "files"
BODY = HOME / "body"
CERTIFICATE, KEY = HOME / "certificate.pem", HOME / "key.pem"
_BODY_BYTES = 100_000_000


def prepare() -> None:
    """Makes the files that are missing."""
    FILES.mkdir(parents=True, exist_ok=True)
    for name, size in SIZES.items():
        path = FILES / name
        if not path.exists():
            path.write_bytes(os.urandom(size))
    if not BODY.exists():
        BODY.write_bytes(os.urandom(_BODY_BYTES))
    if not CERTIFICATE.exists():
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"]
        command += ["ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650"]
        command += ["-subj", "/CN=localhost", "-keyout", str(KEY), "-out", str(CERTIFICATE)]
        subprocess.run(command, check=True, capture_output=True)
