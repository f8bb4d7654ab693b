"""Certificates for tests: an authority, a server's and a client's, as the files that settings name."""

from __future__ import annotations

from pathlib import Path

import trustme


class Certificates:
    """An authority and what it has issued, in a folder.

    Attributes:
        ca: of the authority.
        cert: of the server, the chain.
        key: its private key.
        both: the two in one file.
        client: a client's certificate and key in one file.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._authority = trustme.CA()
        self.ca, self.cert, self.key = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
        self.both, self.client = folder / "both.pem", folder / "client.pem"
        self._authority.cert_pem.write_to_path(str(self.ca))
        self._authority.issue_cert("prometheus@example.org").private_key_and_cert_chain_pem.write_to_path(
            str(self.client)
        )
        self.renew()

    def renew(self) -> None:
        """Write another certificate of the server, from the same authority, into the same files."""
        issued = self._authority.issue_cert("127.0.0.1", "localhost")
        self.key.write_bytes(issued.private_key_pem.bytes())
        self.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        self.both.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
