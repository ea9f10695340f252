"""The simulator of a soak, in a process of its own, and the judge beside its ledger."""

import asyncio
import contextlib
import multiprocessing
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Final

import attrs

from aiophlo.model.accounts import Account
from aiophlo.model.outcomes import Outcome
from aiophlo.simulator import Simulator

NO_FAULT: Final = "(none)"
_KEPT: Final = 20  # sentences: enough to see what is wrong


@attrs.define
class Findings:
    """What the judge knows in the end.

    Attributes:
        disagreements: How many there are.
        sentences: The first of them.
        verdicts: Actions by the fault that struck a request of theirs, and verdict.
        struck: How often each fault struck each action, in Plivo's word.
        rung_twice: Phones that rang more than once.
        requests: Requests received.
        dials: Dials made.
    """

    disagreements: int = 0
    sentences: list[str] = attrs.field(factory=list)
    verdicts: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    struck: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    rung_twice: int = 0
    requests: int = 0
    dials: int = 0

    def add(self, sentences: Sequence[str]) -> None:
        """Note disagreements."""
        self.disagreements += len(sentences)
        self.sentences += sentences[: _KEPT - len(self.sentences)]


class Judge:
    """The near end of the judge's process.

    Args:
        connection: To the far end.

    Attributes:
        base_url: Where its simulator is.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._turn = asyncio.Lock()
        self.base_url = ""

    async def open(self) -> None:
        """Wait until the simulator listens."""
        self.base_url = await asyncio.to_thread(self._connection.recv)

    async def hear(self, outcomes: Sequence[Outcome]) -> None:
        """Give outcomes to be judged, those of the same deeds together."""
        async with self._turn:
            await asyncio.to_thread(self._connection.send, outcomes)

    async def findings(self) -> Findings:
        """End the judge's process, and give what it has found."""
        async with self._turn:
            await asyncio.to_thread(self._connection.send, None)
            found: Findings = await asyncio.to_thread(self._connection.recv)
        return found


@contextlib.asynccontextmanager
async def judge(
    accounts: Sequence[Account], faults: Mapping[str, float], seed: int
) -> AsyncIterator[Judge]:
    """Run a simulator and its judge in a process of their own.

    Args:
        accounts: Who may ask.
        faults: Chance of each fault by name.
        seed: Seed of these chances.

    Yields:
        The judge, whose simulator listens.
    """
    spawning = multiprocessing.get_context("spawn")
    near, far = spawning.Pipe()
    process = spawning.Process(
        target=_run, args=(far, list(accounts), dict(faults), seed), daemon=True
    )
    process.start()
    far.close()
    try:
        made = Judge(near)
        await made.open()
        yield made
    finally:
        near.close()
        process.terminate()
        process.join()


def _run(
    connection: Connection,
    accounts: list[Account],
    faults: dict[str, float],
    seed: int,
) -> None:
    asyncio.run(_serve(connection, accounts, faults, seed))


async def _serve(
    connection: Connection,
    accounts: list[Account],
    faults: dict[str, float],
    seed: int,
) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    simulator = Simulator(quota=None, faults=faults, seed=seed, keep_requests=False)
    for account in accounts:
        simulator.add_account(account.auth_id, account.auth_token, account.main)
    findings = Findings()

    def hear() -> None:
        outcomes = connection.recv()
        if outcomes is None:
            _conclude(simulator, findings)
            connection.send(findings)
            over.set()
        else:
            _judge(simulator, findings, outcomes)

    async with simulator:
        loop.add_reader(connection.fileno(), hear)
        connection.send(simulator.base_url)
        await over.wait()
        loop.remove_reader(connection.fileno())


def _judge(
    simulator: Simulator, findings: Findings, outcomes: Sequence[Outcome]
) -> None:
    """Judge between two requests: nothing arrives meanwhile."""
    for outcome in outcomes:
        faults = simulator.ledger.faults_of(outcome.action) or (NO_FAULT,)
        for fault in set(faults):
            findings.verdicts[fault, outcome.verdict] += 1
    findings.add(simulator.ledger.settle(outcomes))


def _conclude(simulator: Simulator, findings: Findings) -> None:
    ledger = simulator.ledger
    findings.add(ledger.disagreements([]))
    findings.struck = ledger.struck
    findings.rung_twice = len(ledger.rung_twice())
    findings.requests = ledger.received
    findings.dials = ledger.dialled_total
