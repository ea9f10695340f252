"""A network of two hosts whose link can be cut, in namespaces of this kernel's.

Only so does a kernel hold what was written, and deliver it later: a forwarder
that stops reading has it already.
"""

import contextlib
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Final

import attrs

SERVER: Final = "10.213.77.1"
CLIENT: Final = "10.213.77.2"


def why_not() -> str:
    """Say why there can be no such network here; empty if there can."""
    if os.name == "nt" or os.geteuid() != 0:
        return "only root may make network namespaces"
    if shutil.which("ip") is None:
        return "needs iproute2's ip"
    made = ip("netns", "add", f"aiophlo-try-{os.getpid()}", check=False)
    if made:
        return "this kernel lets nobody make network namespaces"
    ip("netns", "del", f"aiophlo-try-{os.getpid()}")
    return ""


def ip(*arguments: str, check: bool = True) -> int:
    """Run iproute2's ip, and return its status."""
    command = ["ip", *arguments]
    done = subprocess.run(command, check=check, capture_output=True)  # noqa: S603 -- our own words
    return done.returncode


_numbers = itertools.count()


@attrs.frozen
class Link:
    """A server's and a client's host, and what is between.

    Attributes:
        server: Namespace of the server, at `SERVER`.
        client: Namespace of the client, at `CLIENT`.
    """

    server: str
    client: str

    def cut(self) -> None:
        """Lose every packet from now on, with nobody told."""
        self._filter("add")

    def mend(self) -> None:
        """Let packets through again."""
        self._filter("del")

    def _filter(self, change: str) -> None:
        # A route to nowhere, which says nothing: the client's kernel goes on trying.
        for name, other in ((self.server, CLIENT), (self.client, SERVER)):
            route = ("blackhole", f"{other}/32")
            ip("-n", name, "route", change, *route)


@contextlib.contextmanager
def link() -> Iterator[Link]:
    """Give two hosts that are linked."""
    number = next(_numbers)
    names = [f"aiophlo-{os.getpid()}-{number}{side}" for side in ("s", "c")]
    try:
        for name in names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        server, client = names
        ip("link", "add", "veth0", "netns", server, "type", "veth",
            "peer", "name", "veth0", "netns", client)  # fmt: skip
        for name, address in ((server, SERVER), (client, CLIENT)):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "veth0")
            ip("-n", name, "link", "set", "veth0", "up")
        yield Link(server, client)
    finally:
        for name in names:
            ip("netns", "del", name, check=False)
