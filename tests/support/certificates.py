"""Certificates that are made for a test: an authority, and who is certified by it."""

from __future__ import annotations

import ssl
from datetime import datetime, timezone
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization


class Certificates:
    """An authority of its own, and the files of a server that it has certified, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.certfile = folder / "server.pem"
        self.keyfile = folder / "server.key"
        self.authorities = folder / "authority.pem"
        self.authority.cert_pem.write_to_path(str(self.authorities))
        self.renew()

    def renew(self, *, until: datetime | None = None) -> None:
        """A new certificate and key in the old one's place. `until`: it is valid no longer."""
        begin = None if until is None else datetime(2000, 1, 1, tzinfo=timezone.utc)
        issued = self.authority.issue_cert(
            "localhost", "127.0.0.1", not_before=begin, not_after=until
        )
        self.keyfile.write_bytes(issued.private_key_pem.bytes())
        self.certfile.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))

    def client(self, name: str = "client") -> Path:
        """One file with the certificate and the key of a client."""
        path = self.folder / f"{name}.pem"
        issued = self.authority.issue_cert(f"{name}@example.org")
        issued.private_key_and_cert_chain_pem.write_to_path(str(path))
        return path

    def encrypt_key(self, password: str) -> None:
        """In place, as `openssl pkcs8 -topk8` does it."""
        key = serialization.load_pem_private_key(self.keyfile.read_bytes(), None)
        encrypted = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password.encode()),
        )
        self.keyfile.write_bytes(encrypted)

    def environment(self) -> dict[str, str]:
        """For a server."""
        return {
            "FANBUS_SSL_CERTFILE": str(self.certfile),
            "FANBUS_SSL_KEYFILE": str(self.keyfile),
        }

    def trusted(self, *, protocols: tuple[str, ...] = ("http/1.1",)) -> ssl.SSLContext:
        """For a client that trusts this authority, and no other."""
        context = ssl.create_default_context(cafile=str(self.authorities))
        context.set_alpn_protocols(list(protocols))
        return context
