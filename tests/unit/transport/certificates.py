"""Certificates for tests: an authority, and files as an operator would give them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import trustme


class Authority:
    """Signs, and writes PEM files into `folder`."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._ca = trustme.CA()
        self.pem = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.pem)

    def issue(
        self,
        name: str,
        *hosts: str,
        common_name: str | None = None,
        not_after: datetime | None = None,
    ) -> tuple[Path, Path]:
        """The certificate and its key, as files."""
        issued = self._ca.issue_cert(*hosts, common_name=common_name, not_after=not_after)
        cert, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        return cert, key
