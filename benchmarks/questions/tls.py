"""(h) And over TLS, which is how Plivo is talked to?"""

from benchmarks.harness.certificates import issued
from benchmarks.harness.lab import Lab, Measurement
from benchmarks.questions import cpu


def measure(lab: Lab) -> Measurement:
    """Let all clients take turns as in (a), on connections with TLS 1.3."""
    transfers = 2_000 if lab.quick else 4_000
    with (
        issued() as certificates,
        lab.prompt_server(certificates.server) as base_url,
    ):
        authority = str(certificates.authority)
        return cpu.in_turns(lab, transfers, base_url=base_url, authority=authority)
