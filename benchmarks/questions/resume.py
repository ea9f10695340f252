"""How fast a batch that was killed passes over what it had finished.

Run as `python -m benchmarks.questions.resume [ROWS]`. Makes a journal of 900,000
finished rows, then streams those and a thousand new ones, built on the way as a
file's rows are, against a simulator in this process, which is idle until the first
new request.
"""

import asyncio
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from aiophlo import Account, Journal, SessionPool, WarmTransfer
from aiophlo.journal.file import INTEND, SETTLE, open_file
from aiophlo.journal.journal import default_key
from aiophlo.journal.keys import Digests
from aiophlo.simulator import Simulator

FINISHED = 900_000
NEW = 1_000
_PER_TRANSACTION = 50_000


def transfers(number: int) -> Iterator[WarmTransfer]:
    """Yield so many transfers, each to a phone of its own."""
    for row in range(number):
        yield WarmTransfer(
            phlo_id="5d2f8a5e-4a7a-4f0e-8a45-b9de3d6cf0a1",
            node_id="9c1b7c40-1f64-4f2f-9c39-4e1b8c2ad7e5",
            trigger_source="+14152223333",
            to=f"+1{4150000000 + row}",
        )


def make_journal(path: Path, rows: int) -> None:
    """Write a journal in which so many transfers were accepted."""
    now = time.time()
    with open_file(path, max_bytes=None) as file:
        digests = Digests(file.salt)
        numbered = enumerate(transfers(rows))
        while some := list(islice(numbered, _PER_TRANSACTION)):
            intents, outcomes = [], []
            for row, action in some:
                digest = digests.action(action)
                key = default_key(row, digest)
                intents.append((row + 1, key, digest, "WarmTransfer", "…00", now))
                api_id = f"faad0293-f5f0-487e-8ff7-{row:012d}"
                outcomes.append(
                    (now, "accepted", None, 201, api_id, None, 1, 0.2, row + 1)
                )
            with file.commit() as database:
                database.executemany(INTEND, intents)
                database.executemany(SETTLE, outcomes)


async def resume(path: Path, rows: int) -> None:
    """Stream the journal's rows and some new ones, and print how long it took."""
    async with Simulator(quota=None) as simulator:
        account = Account(simulator.auth_id, simulator.auth_token, quota=None)
        began, cpu = time.perf_counter(), time.process_time()
        async with (
            SessionPool(account, base_url=simulator.base_url) as pool,
            Journal(path) as journal,
            pool.stream(transfers(rows + NEW), journal=journal) as outcomes,
        ):
            passed = 0
            async for _ in outcomes:
                passed += 1
                if simulator.ledger.received:
                    break
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    per_row = cpu / passed * 1e6
    print(
        f"{seconds:.2f} s until the first new request, {passed / seconds:,.0f} rows/s"
    )
    print(f"{per_row:.1f} us CPU per row, building its action included")
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB at most")


def main() -> None:
    """Make the journal, then resume."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else FINISHED
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "batch.db"
        make_journal(path, rows)
        print(f"{rows:,} finished rows, {path.stat().st_size / 1e6:.0f} MB")
        asyncio.run(resume(path, rows))


if __name__ == "__main__":
    main()
