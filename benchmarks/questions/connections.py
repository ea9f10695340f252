"""(i) What memory does an open connection take, with its transfer in flight?"""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.harness.certificates import Certificates, issued
from benchmarks.harness.lab import Lab, Measurement, say
from benchmarks.questions.in_flight import DELAY

FEW = 100  # what a process takes with so many is not counted
_BETWEEN_STARTS = 0.4  # seconds; a handshake costs both sides a millisecond or two
_SMALL = 32 * 1024  # bytes that asyncio is told to keep, instead of its 256 KiB
_PLAIN: Mapping[str, Any] = {"where": "phlo:plain", "on_uvloop": False}
CLIENTS: Mapping[str, Mapping[str, Any]] = {
    "aiophlo, HTTP": _PLAIN,
    "hand-tuned aiohttp, TLS": {"where": "yardstick:run", "on_uvloop": False},
    "aiophlo, TLS": _PLAIN,
    "aiophlo, TLS, buffers of 32 KiB": {**_PLAIN, "tls_buffer": _SMALL},
    "aiophlo, TLS, uvloop": {**_PLAIN, "on_uvloop": True},
}


def measure(lab: Lab) -> Measurement:
    """Open a hundred, a thousand and ten thousand; each once, alone."""
    sizes = (FEW, 1_000) if lab.quick else (FEW, 1_000, 10_000)
    rows = []
    with issued() as certificates:
        for name in CLIENTS:
            for row in _opened(lab, name, certificates, sizes):
                say(f"  {name}, {row['in_flight']:,}: {row['resident_mib']:.0f} MiB")
                rows.append(row)
    return {"few": FEW, "rows": rows}


def _opened(
    lab: Lab, name: str, certificates: Certificates, sizes: tuple[int, ...]
) -> Iterator[Measurement]:
    options, client = {}, {**CLIENTS[name]}
    if "TLS" in name:
        options["certificate"] = certificates.server
        client["authority"] = str(certificates.authority)
    for size in sizes:
        with lab.server(delay=DELAY, **options) as server:
            load = {
                "in_flight": size,
                "transfers": size,
                "skipped": size,
                "warm": True,
                "between_starts": _BETWEEN_STARTS,
            }
            row = lab.work("cpu", base_url=server.base_url, load=load, **client)
        yield {"client": name, "in_flight": size, **row}
