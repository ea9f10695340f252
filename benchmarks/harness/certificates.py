"""A certificate authority of one run, and how clients are told to trust it."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs


@attrs.frozen
class Certificates:
    """Files for TLS on loopback.

    Attributes:
        authority: What clients are to trust.
        server: A server's key and certificates.
    """

    authority: Path
    server: Path


@contextlib.contextmanager
def issued(*hosts: str) -> Iterator[Certificates]:
    """Make an authority and a certificate, for as long as it takes.

    Args:
        hosts: Whose it is, besides loopback.
    """
    import trustme  # noqa: PLC0415 -- it would weigh on the clients

    authority = trustme.CA()
    with tempfile.TemporaryDirectory() as folder:
        files = Certificates(Path(folder, "authority.pem"), Path(folder, "server.pem"))
        authority.cert_pem.write_to_path(str(files.authority))
        issued_ = authority.issue_cert("127.0.0.1", "localhost", *hosts)
        issued_.private_key_and_cert_chain_pem.write_to_path(str(files.server))
        yield files


def trust(authority: str) -> None:
    """Let whatever this process imports from now on trust an authority.

    Clients look at the environment, as OpenSSL and requests do, so none needs an
    option for it; aiohttp does when it is imported.
    """
    os.environ["SSL_CERT_FILE"] = os.environ["REQUESTS_CA_BUNDLE"] = authority
