"""Ports for servers that can't be asked which one they took."""

import random
import socket
from typing import Final

_BELOW_OUTGOING: Final = (10_000, 30_000)  # where no connection's own end is put


def free_port() -> int:
    """Find a port that nobody uses, and that no connection is given meanwhile."""
    while True:
        port = random.SystemRandom().randint(*_BELOW_OUTGOING)
        with socket.socket() as found:
            try:
                found.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
