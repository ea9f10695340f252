"""(c) How much memory do very many transfers take?"""

from benchmarks.harness.lab import Lab, Measurement, say
from benchmarks.questions.growth import longest_streams
from benchmarks.questions.queues import CONCURRENCY


def measure(lab: Lab) -> Measurement:
    """Stream a million; a tenth with a journal; gather a tenth: it has to fit."""
    streams = longest_streams(lab)
    streamed = max(streams)
    rows = [{"client": "stream", "transfers": streamed, **streams[streamed]}]
    with lab.prompt_server() as base_url:
        transfers = streamed // 10
        for client, way in (("journaled", "journaled"), ("gather", "awaited")):
            row = lab.work(
                "queues",
                base_url=base_url,
                way=way,
                queued=transfers,
                transfers=transfers,
            )
            rows.append({"client": client, "transfers": transfers, **row})
    for row in rows:
        most = f"{row['peak_mib']:.1f} MiB at most"
        say(f"  {row['client']} of {row['transfers']:,}: {most}")
    return {"concurrency": CONCURRENCY, "rows": rows}
