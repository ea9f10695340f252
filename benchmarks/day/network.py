"""Two hosts and the call centre's own, in network namespaces of this kernel's."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from tests.support.cut_link import ip, why_not
from tests.support.ports import free_port

CENTRE: Final = "10.213.79.1"
_HOST: Final = "10.213.79.{}"
_PORT: Final = 8000
NAMES: Final = "a", "b"


@attrs.frozen
class Place:
    """Where a host is.

    Attributes:
        name: Its name.
        address: Its address.
        port: Its service's port.
        inside: What to put in front of a command that runs there.
    """

    name: str
    address: str
    port: int
    inside: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """Where its service is."""
        return f"http://{self.address}:{self.port}"


def _namespace(run: str, name: str) -> str:
    return f"aiophlo-day-{run}-{name}"


def _inside(run: str, name: str) -> tuple[str, ...]:
    return ("ip", "netns", "exec", _namespace(run, name))


def why_one_host() -> str:
    """Say why there can't be two hosts here; empty if there can."""
    return why_not()


def places(run: str) -> list[Place]:
    """Return the hosts of a run; without a name, two ports of this one."""
    if not run:
        return [Place(name, "127.0.0.1", free_port()) for name in NAMES]
    return [
        Place(name, _HOST.format(number), _PORT, _inside(run, name))
        for number, name in enumerate(NAMES, 2)
    ]


@contextlib.contextmanager
def laid() -> Iterator[tuple[str, Sequence[str]]]:
    """Lay the network: gives the run's name, and what runs a command at its centre."""
    run = str(os.getpid())
    centre = _namespace(run, "centre")
    try:
        for name in ("centre", *NAMES):
            ip("netns", "add", _namespace(run, name))
            ip("-n", _namespace(run, name), "link", "set", "lo", "up")
        ip("-n", centre, "link", "add", "bridge0", "type", "bridge")
        ip("-n", centre, "addr", "add", f"{CENTRE}/24", "dev", "bridge0")
        ip("-n", centre, "link", "set", "bridge0", "up")
        for place in places(run):
            _plug_in(centre, _namespace(run, place.name), place)
        yield run, _inside(run, "centre")
    finally:
        for name in ("centre", *NAMES):
            ip("netns", "del", _namespace(run, name), check=False)


def _plug_in(centre: str, host: str, place: Place) -> None:
    plug = f"to-{place.name}"
    ip("-n", centre, "link", "add", plug, "type", "veth",
       "peer", "name", "eth0", "netns", host)  # fmt: skip
    ip("-n", centre, "link", "set", plug, "master", "bridge0", "up")
    ip("-n", host, "addr", "add", f"{place.address}/24", "dev", "eth0")
    ip("-n", host, "link", "set", "eth0", "up")
