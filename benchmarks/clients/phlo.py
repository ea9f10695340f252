"""aiophlo: awaited one by one, watched, streamed, and with a journal."""

import tempfile
from collections.abc import Awaitable, Iterator, Sequence
from pathlib import Path

from aiophlo import (
    Accepted,
    Account,
    Journal,
    Observer,
    Quota,
    SessionPool,
    WarmTransfer,
)
from benchmarks.harness.load import (
    AGENT,
    ANSWER_WITHIN,
    AUTH_ID,
    AUTH_TOKEN,
    CONNECT,
    NODE_ID,
    PHLO_ID,
    Load,
    target,
)

_ENOUGH = Quota(10**6, per=1.0)  # the limiter works, and nobody waits for it


def pool_of(
    base_url: str, *, observers: Sequence[Observer] = (), connections: int = 100_000
) -> SessionPool:
    """Return a pool whose quota, and by default connections, nobody waits for."""
    return SessionPool(
        Account(AUTH_ID, AUTH_TOKEN, quota=_ENOUGH),
        base_url=base_url,
        connect=CONNECT,
        answer_within=ANSWER_WITHIN,
        connections_per_account=connections,
        observers=observers,
    )


def transfer(number: int, phlo_id: str = PHLO_ID) -> WarmTransfer:
    """Return the number-th transfer, to a number of its own."""
    return WarmTransfer(
        phlo_id=phlo_id, node_id=NODE_ID, to=target(number), trigger_source=AGENT
    )


async def plain(
    base_url: str, load: Load, *, observers: Sequence[Observer] = ()
) -> None:
    """Send with `await pool.send(transfer)`."""
    async with pool_of(base_url, observers=observers) as pool:

        def send(phlo_id: str, number: int) -> Awaitable[object]:
            return pool.send(transfer(number, phlo_id), send_within=ANSWER_WITHIN)

        await load.by_workers(send)


async def observed(base_url: str, load: Load) -> None:
    """Send with an observer that counts."""
    seen: dict[type, int] = {}

    def count(event: object) -> None:
        seen[type(event)] = seen.get(type(event), 0) + 1

    await plain(base_url, load, observers=[count])


async def streamed(
    base_url: str, load: Load, *, journal: Journal | None = None
) -> None:
    """Send with `pool.stream(transfers)`."""

    def transfers() -> Iterator[WarmTransfer]:
        return map(transfer, load.numbers())

    async with (
        pool_of(base_url) as pool,
        pool.stream(
            transfers(), concurrency=load.in_flight, journal=journal
        ) as outcomes,
    ):
        async for outcome in outcomes:
            if not isinstance(outcome, Accepted):
                raise TypeError(outcome)
            load.note(outcome.seconds)


async def journalled(base_url: str, load: Load) -> None:
    """Send with `pool.stream(transfers, journal=journal)`."""
    with tempfile.TemporaryDirectory() as folder:
        async with Journal(Path(folder, "journal.db")) as journal:
            await streamed(base_url, load, journal=journal)
