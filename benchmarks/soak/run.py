"""Pushes faulted actions of every kind through a pool, and has them judged."""

import asyncio
import contextlib
import functools
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Final

import aiohttp

from aiophlo.errors import VerdictError
from aiophlo.model.accounts import Account
from aiophlo.model.actions import Action
from aiophlo.model.outcomes import InDoubt, NotSent, Outcome
from aiophlo.observed_events import AttemptEnded, ObservedEvent
from aiophlo.pool import SessionPool
from aiophlo.simulator import Fault
from benchmarks.soak import actions
from benchmarks.soak.judge import Judge, judge
from benchmarks.soak.result import Options, Result

_TOKEN: Final = "c29hay1ub3QtYS1zZWNyZXQ"  # noqa: S105 -- made up
_SLOW: Final = {Fault.SILENCE, Fault.STALL_HEADERS, Fault.STALL_BODY, Fault.DRIP}
_PAUSING: Final = {
    Fault.STATUS_429,
    Fault.STATUS_429_SECONDS,
    Fault.STATUS_429_DATE,
}
_HEARD_TOGETHER: Final = 2_000
_SEND_WITHIN: Final = 60.0  # seconds: longer than any pause here

_Send = Callable[[Action], Coroutine[None, None, Outcome | None]]


def chances(each: float) -> dict[str, float]:
    """Give every fault its chance.

    Args:
        each: Chance of those that cost nothing but a connection. What costs a second
            of waiting, or pauses a whole account, strikes less often.
    """
    slower = dict.fromkeys(_SLOW, each / 3) | dict.fromkeys(_PAUSING, each / 6)
    return {fault.value: slower.get(fault, each) for fault in Fault}


def _session(
    options: Options,
) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientSession | None]:
    if options.lends_session:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    return contextlib.nullcontext()


class Soak:
    """One run.

    Args:
        judge: Who judges it.
        accounts: Whose actions.
        options: How.

    Attributes:
        outcomes: How many each action has, by number.
        escaped: Exceptions that should not have come out, by class.
        reasons: Outcomes by verdict and reason.
    """

    def __init__(self, judge: Judge, accounts: list[Account], options: Options) -> None:
        self._judge = judge
        self._accounts = accounts
        self._options = options
        self._unheard: list[Outcome] = []
        self._on_doubt: dict[str, Callable[[], None]] = {}
        self.outcomes = bytearray(options.actions)
        self.escaped: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()

    async def run(self) -> None:
        """Send everything, and let it be judged."""
        streamed, awaited = actions.halves(self._options.actions)
        seed, hands = self._options.seed, max(self._options.concurrency // 2, 1)
        waits = random.Random(seed)  # noqa: S311 -- spreads waits
        async with (
            _session(self._options) as session,
            SessionPool(
                *self._accounts,
                session=session,
                base_url=self._judge.base_url,
                connect=2.0,
                answer_within=1.0,
                observers=[self._observe],
                random=lambda: 0.5 + waits.random() / 2,  # leaves a rival time to begin
            ) as pool,
            asyncio.TaskGroup() as group,
        ):
            tasks = actions.tasks(awaited, seed)
            for _ in range(hands):
                group.create_task(self._work(pool, tasks))
            singles = actions.singles(streamed, seed)
            group.create_task(self._stream(pool, singles, hands))
        await self._judge.hear(self._unheard)

    async def _stream(
        self, pool: SessionPool, singles: Iterator[Action], hands: int
    ) -> None:
        try:
            async with pool.stream(
                singles,
                concurrency=hands,
                account=self._account_of,
                on_duplicate="send",
            ) as outcomes:
                async for outcome in outcomes:
                    await self._note(outcome)
        except Exception as error:  # noqa: BLE001 -- nothing but outcomes may come out
            self.escaped[type(error).__name__] += 1

    async def _work(self, pool: SessionPool, tasks: Iterator[actions.Task]) -> None:
        for task in tasks:
            send = functools.partial(
                self._send, pool, account=self._account_of(task.action)
            )
            if task.twin is not None:
                both = await asyncio.gather(send(task.action), send(task.twin))
                await self._note(*both)
            elif task.rival is not None:
                await self._note(*await self._contest(send, task.action, task.rival))
            else:
                await self._note(await send(task.action))

    async def _contest(
        self, send: _Send, first: Action, rival: Action
    ) -> tuple[Outcome | None, Outcome | None]:
        """Begin `rival` as soon as an attempt at `first` is in doubt, or after it."""
        begun: list[asyncio.Future[Outcome | None]] = []
        key = str(first.key)
        self._on_doubt[key] = lambda: begun.append(asyncio.ensure_future(send(rival)))
        outcome = await send(first)
        self._on_doubt.pop(key, None)
        return outcome, await (begun[0] if begun else send(rival))

    def _observe(self, event: ObservedEvent) -> None:
        if isinstance(event, AttemptEnded) and isinstance(event.outcome, InDoubt):
            begin = self._on_doubt.pop(str(event.outcome.action.key), None)
            if begin is not None:
                begin()

    async def _send(
        self, pool: SessionPool, action: Action, *, account: Account
    ) -> Outcome | None:
        try:
            return await pool.send(action, account=account, send_within=_SEND_WITHIN)
        except VerdictError as error:
            return error.outcome
        except Exception as error:  # noqa: BLE001 -- nothing else may come out
            self.escaped[type(error).__name__] += 1
            return None

    async def _note(self, *outcomes: Outcome | None) -> None:
        """Count outcomes; let the judge hear them, those of one task together."""
        for outcome in (known for known in outcomes if known is not None):
            self.outcomes[int(outcome.action.key or 0)] += 1
            self.reasons[_reason(outcome)] += 1
            self._unheard.append(outcome)
        if len(self._unheard) >= _HEARD_TOGETHER:
            unheard, self._unheard = self._unheard, []
            await self._judge.hear(unheard)

    def _account_of(self, action: Action) -> Account:
        return self._accounts[int(action.key or 0) % len(self._accounts)]


def _reason(outcome: Outcome) -> str:
    if isinstance(outcome, NotSent | InDoubt):
        return f"{outcome.verdict} ({outcome.reason})"
    return f"{outcome.verdict}, joined" if outcome.joined else outcome.verdict


async def soak(options: Options, *, progress: bool = False) -> Result:
    """Run a soak.

    Args:
        options: What, and how hard.
        progress: Say on standard error how far it is.
    """
    accounts = actions.accounts(_TOKEN)
    began = time.monotonic()
    async with judge(accounts, options.faults, options.seed) as its_judge:
        run = Soak(its_judge, accounts, options)
        reporting = asyncio.ensure_future(_report_on(run)) if progress else None
        try:
            await run.run()
        finally:
            if reporting is not None:
                reporting.cancel()
        findings = await its_judge.findings()
    return Result(
        findings=findings,
        without_outcome=len(run.outcomes) - run.outcomes.count(1),
        escaped=run.escaped,
        reasons=run.reasons,
        seconds=time.monotonic() - began,
        peak_memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


async def _report_on(run: Soak) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(10)
        done = run.reasons.total()
        rate = done / (time.monotonic() - began)
        print(f"{done:,} outcomes, {rate:,.0f} per second", file=sys.stderr)
