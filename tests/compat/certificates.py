"""A certificate authority of the tests' own."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificates:
    """Files, and the server's contexts."""

    authority: trustme.CA
    ca_file: Path
    client_file: Path

    @classmethod
    def issue(cls, directory: Path) -> Certificates:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(directory / "ca.pem")
        authority.issue_cert("client@example.org").private_key_and_cert_chain_pem.write_to_path(
            directory / "client.pem"
        )
        return cls(authority, directory / "ca.pem", directory / "client.pem")

    def server(self, *names: str, alpn: str = "http/1.1", asks: bool = False) -> ssl.SSLContext:
        """The context of a server of these names; one that `asks` wants a certificate of the client."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*names).configure_cert(context)
        context.set_alpn_protocols([alpn])
        if asks:
            # In TLS 1.3 a client learns only later that it was refused, and by chance how.
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.verify_mode = ssl.CERT_REQUIRED
            self.authority.configure_trust(context)
        return context

    def client(self) -> ssl.SSLContext:
        """A context that trusts the authority."""
        return ssl.create_default_context(cafile=str(self.ca_file))
