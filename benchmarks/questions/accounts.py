"""CPU per action with 100 accounts in one pool, beside a pool of one.

::

    python -m benchmarks.questions.accounts

The simulator runs in a process of its own, so that only the client is
counted. Rounds of both kinds take turns, and the smallest figure of each is
taken: what else the machine does only ever adds.
"""

import asyncio
import multiprocessing
import multiprocessing.connection
import time

from aiophlo import Account, SessionPool, WarmTransfer
from aiophlo.simulator import Simulator

ACTIONS = 10_000  # per round
ROUNDS = 5
IN_FLIGHT = 100
MANY = 100
TOKEN = "made-up"  # noqa: S105 -- a simulator's
AGENT = "+14152223333"


def auth_id(number: int) -> str:
    """Return the id of an account."""
    return f"MA{number:018d}"


async def _serve(pipe: multiprocessing.connection.Connection) -> None:
    """Serve until this process is ended."""
    async with Simulator(quota=None, keep_requests=False) as simulator:
        for number in range(MANY):
            simulator.add_account(auth_id(number), TOKEN)
        pipe.send(simulator.base_url)
        await asyncio.Event().wait()


def serve(pipe: multiprocessing.connection.Connection) -> None:
    """Run a simulator and tell its base URL."""
    asyncio.run(_serve(pipe))


async def cpu_per_action(base_url: str, accounts: int, first: int) -> float:
    """Send a round of transfers over warm connections.

    Args:
        base_url: Where the API is.
        accounts: How many share the work.
        first: Number of the first address to dial.

    Returns:
        CPU time per action in seconds.
    """
    ids = [auth_id(number) for number in range(accounts)]
    numbers = iter(range(first, first + ACTIONS))

    async def work(pool: SessionPool) -> None:
        for number in numbers:
            transfer = WarmTransfer(
                phlo_id="phlo",
                node_id="node",
                to=f"+1{number:010d}",
                trigger_source=AGENT,
            )
            await pool.send(transfer, account=ids[number % accounts])

    async with SessionPool(
        *(Account(it, TOKEN, quota=None) for it in ids), base_url=base_url
    ) as pool:
        # The first action of each is no steady state, nor is one that connects:
        # both kinds begin with as many open connections.
        await asyncio.gather(
            *(
                pool.phlo("phlo", account=it).describe()
                for it in ids
                for _ in range(IN_FLIGHT // accounts)
            )
        )
        began = time.process_time()
        await asyncio.gather(*(work(pool) for _ in range(IN_FLIGHT)))
        return (time.process_time() - began) / ACTIONS


def measure(base_url: str) -> dict[int, list[float]]:
    """Let both kinds take turns.

    Args:
        base_url: Where the API is.

    Returns:
        CPU time per action in seconds, one a round, by the number of accounts.
    """
    figures: dict[int, list[float]] = {1: [], MANY: []}
    first = 2_000_000_000
    for _ in range(ROUNDS):
        for accounts, figure in figures.items():
            figure.append(asyncio.run(cpu_per_action(base_url, accounts, first)))
            first += ACTIONS
    return figures


def main() -> None:
    """Measure and print the ratio."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=serve, args=(there,), daemon=True)
    server.start()
    try:
        figures = measure(here.recv())
    finally:
        server.terminate()
        server.join()
    one, many = min(figures[1]), min(figures[MANY])
    print(f"1 account: {one * 1e6:.0f} us CPU per action")
    print(f"{MANY} accounts: {many * 1e6:.0f} us CPU per action")
    print(f"ratio: {many / one:.3f} (budget 1.1)")


if __name__ == "__main__":
    main()
