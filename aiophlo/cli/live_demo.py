"""The demo that is watched: traffic, handovers and staged troubles, on a wallboard."""

import asyncio
import contextlib
import itertools
import os
import random
import sys
import webbrowser
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
import attrs
from aiohttp import web

from aiophlo.cli.exit_codes import Exit
from aiophlo.cli.interrupts import interrupts
from aiophlo.cli.ledger_comparison import Comparison, compare
from aiophlo.cli.simulator_process import Served, simulator_process
from aiophlo.cli.terminal_text import number_of
from aiophlo.errors import PhloError
from aiophlo.handover.event_router import EventRouter
from aiophlo.model.accounts import Quota
from aiophlo.model.actions import DialAction, WarmTransfer
from aiophlo.observed_events import ActionEnded, ActionJoined, ObservedEvent
from aiophlo.pool import SessionPool
from aiophlo.wallboard import Wallboard, aiohttp_app
from aiophlo.webhooks import Receiver, aiohttp_handler

if TYPE_CHECKING:
    from rich.console import Console

_SHOWN: Final = 10
_PHLO, _NODE = "demo-phlo", "demo-node"
_AWAITED_EVERY: Final = 1 / 12  # seconds
_STREAMED_EVERY: Final = 1 / 20
_HANDOVER_EVERY: Final = 1.5
_FAULT_EVERY: Final = 4.0
_TALKS: Final = 3.0, 9.0  # seconds, at least and at most
_RINGS: Final = 1.5  # seconds until somebody answers
_RING_FOR: Final = 4.0
_STAGED: Final = ("wait", "on_hold", "wait", "quota", "wait", "webhook", "wait")
_STAGE_FOR: Final = 8.0  # seconds


@attrs.define
class Verdicts:
    """The verdict on each number that was dialled; an observer.

    Attributes:
        by_number: As the ledger is compared with.
    """

    by_number: dict[str, str] = attrs.field(factory=dict)

    def __call__(self, event: ObservedEvent) -> None:
        """Note the end of a dial."""
        if isinstance(event, ActionEnded | ActionJoined):
            action = event.outcome.action
            if isinstance(action, DialAction):
                self.by_number[action.to] = event.outcome.verdict


async def show_live(
    quota: Quota | None, port: int, seconds: float | None, console: "Console"
) -> int:
    """Be busy, and show it on a wallboard, until interrupted; return the exit code.

    Args:
        quota: Of the account; None for no limit.
        port: Where the wallboard is served.
        seconds: Ends it by itself; None for not.
        console: Where what is said goes.
    """
    async with (
        simulator_process(quota) as served,
        LiveDemo(served, port=port) as demo,
    ):
        console.print(
            f"A wallboard of made-up calls; no phone rings: {demo.url}\nTroubles are"
            " staged: a customer on hold, a quota that others eat, a dead webhook."
            " Ctrl-C ends it.",
            highlight=False,
            soft_wrap=True,
        )
        _open_browser(demo.url)
        ended = asyncio.Event()
        with interrupts(lambda _: ended.set()):
            running = asyncio.ensure_future(demo.run())
            waiting = asyncio.ensure_future(ended.wait())
            await asyncio.wait(
                {running, waiting},
                timeout=seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in (running, waiting):
                task.cancel()
            await asyncio.gather(running, waiting, return_exceptions=True)
            await demo.end()
        compared = compare(await demo.ledger(), demo.verdicts.by_number)
    return _say_end(compared, console)


def _say_end(compared: Comparison, console: "Console") -> int:
    for sentence in compared.disagreements[:_SHOWN]:
        console.print(sentence, highlight=False, markup=False)
    console.print(
        f"Ledger: {number_of(compared.dials, 'dial')},"
        f" {number_of(compared.rung_twice, 'number')} rung twice. The verdicts"
        f" {'agree' if compared.agrees else 'DISAGREE'}.",
        highlight=False,
    )
    return Exit.ACCEPTED if compared.agrees else Exit.IN_DOUBT


def _open_browser(url: str) -> None:
    """Open a browser where there is a screen; one in the terminal would take that."""
    has_screen = any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    if sys.stderr.isatty() and (has_screen or sys.platform in {"darwin", "win32"}):
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(url)


class LiveDemo:
    """A pool that is busy against a simulator, and its wallboard.

    Use it as `async with LiveDemo(served) as demo:`.

    Args:
        served: The simulator.
        port: Where the wallboard is served, on this machine alone; 0 for any.

    Attributes:
        pool: What is busy.
        board: Its wallboard.
        verdicts: What came of each number.
    """

    def __init__(self, served: Served, *, port: int = 0) -> None:
        self._served = served
        self._port = port
        self._chance = random.Random(7)  # noqa: S311 -- no secret
        self._numbers = itertools.count(1)
        self._router = EventRouter()
        self.verdicts = Verdicts()
        self.pool = SessionPool(
            served.account,
            base_url=served.base_url,
            answer_within=2.0,
            observers=[self.verdicts],
        )
        self.board = Wallboard(
            self.pool,
            name="demo",
            notice="Demo: made-up calls, staged troubles; no phone rings",
        )
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._stack = contextlib.AsyncExitStack()
        await self._stack.__aenter__()
        self._session = await self._stack.enter_async_context(aiohttp.ClientSession())
        await self._serve()
        await self._stack.enter_async_context(self.pool)
        await self.webhooks_return()
        await self._control(
            "POST", "habits", {"reaction": "answers", "after": _RINGS, "stays": None}
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()
        await self._stack.aclose()

    async def end(self) -> None:
        """End what is under way, so that the ledger and the verdicts are complete."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(aiohttp.ClientError):
            await self._control("DELETE", "script")
        await self.pool.close()

    @property
    def url(self) -> str:
        """Where the wallboard is."""
        return f"{self._url}/wall/"

    async def _serve(self) -> None:
        app = web.Application()
        receiver = Receiver(
            self._router.feed,
            auth_tokens=self._served.account.auth_token,
            observers=[self.board],
        )
        app.router.add_route("*", "/webhooks", aiohttp_handler(receiver))
        app.add_subapp("/wall", aiohttp_app(self.board))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        try:
            await web.TCPSite(runner, "127.0.0.1", self._port).start()
        except OSError:  # somebody else has that port
            await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._url = f"http://127.0.0.1:{runner.addresses[-1][1]}"

    async def run(self, *, staged: bool = True) -> None:
        """Be busy until cancelled.

        Args:
            staged: Stage troubles, too, one after the other.
        """
        work = [self._await_transfers(), self._stream_transfers(), self._hand_over()]
        if staged:
            work += [self._go_wrong(), self._stage_troubles()]
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)

    async def _await_transfers(self) -> None:
        while True:
            self._start(self._transfer())
            await asyncio.sleep(_AWAITED_EVERY * self._chance.uniform(0.2, 1.8))

    async def _transfer(self) -> None:
        with contextlib.suppress(PhloError):
            await self.pool.send(next(self._transfers()))

    async def _stream_transfers(self) -> None:
        async def transfers() -> AsyncIterator[WarmTransfer]:
            for transfer in self._transfers():
                yield transfer
                await asyncio.sleep(_STREAMED_EVERY)

        async with self.pool.stream(transfers()) as outcomes:
            async for _ in outcomes:
                pass

    async def _hand_over(self) -> None:
        while True:
            self._start(self.handover())
            await asyncio.sleep(_HANDOVER_EVERY)

    async def handover(self) -> None:
        """Hand a customer over, from the first ring to the last hang-up."""
        agent, (customer, partner) = self._number(), self._pair()
        call = await self._place_call(agent, customer)
        with contextlib.suppress(PhloError):
            async with self.pool.consult(
                self.pool.phlo(_PHLO).multi_party_call(_NODE),
                agent=agent,
                customer=customer,
                to=partner,
                router=self._router,
                ring_for=_RING_FOR,
                told_within=0.5,
                bring_back_within=2.0,
            ) as consult:
                await asyncio.sleep(self._chance.uniform(*_TALKS))
                if self._chance.random() < 0.8:  # noqa: PLR2004 -- most of them
                    await consult.complete()
        await self._hang_up(call, agent, customer, partner)

    async def _place_call(self, agent: str, customer: str) -> Any:  # noqa: ANN401 -- JSON
        call = {"phlo_id": _PHLO, "node_id": _NODE}
        body = {**call, "agent": agent, "customer": customer}
        return await self._control("POST", "calls", body)

    async def _hang_up(self, call: Any, *members: str) -> None:  # noqa: ANN401 -- JSON
        with contextlib.suppress(aiohttp.ClientError):
            for member in members:
                path = f"calls/{call['conference_uuid']}/members/{member}"
                await self._control("DELETE", path)

    async def _go_wrong(self) -> None:
        """Lose an answer now and then."""
        while True:
            await asyncio.sleep(_FAULT_EVERY)
            await self.lose_an_answer()

    async def lose_an_answer(self) -> None:
        """Let the next transfer's phone ring, and its answer be lost."""
        body = {"fault": "drop_after_read", "action": "warm_transfer"}
        await self._control("POST", "faults", body)

    async def _stage_troubles(self) -> None:
        for stage in itertools.cycle(_STAGED):
            if stage == "quota":
                await self.spend_quota_elsewhere(_STAGE_FOR / 2)
            elif stage == "webhook":
                await self.webhooks_die()
                await asyncio.sleep(2 * _STAGE_FOR)
                await self.webhooks_return()
            elif stage == "on_hold":
                await self.leave_on_hold()
            await asyncio.sleep(_STAGE_FOR)

    async def spend_quota_elsewhere(self, seconds: float) -> None:
        """Send with this account's credentials, as another program would."""
        account = self._served.account
        auth = aiohttp.BasicAuth(account.auth_id, account.auth_token)
        until = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < until:
            url = f"{self._served.base_url}/phlo/{_PHLO}"
            asked = [self._session.get(url, auth=auth) for _ in range(10)]
            for answer in await asyncio.gather(*asked):
                await answer.read()
            await asyncio.sleep(0.1)

    async def webhooks_die(self) -> None:
        """Let events be posted nowhere any more, as behind a dead proxy."""
        await self._control("DELETE", "callback")

    async def webhooks_return(self) -> None:
        """Post events to this process."""
        await self._control("POST", "callback", {"url": f"{self._url}/webhooks"})

    async def leave_on_hold(self) -> None:
        """Begin a handover whose customer can't be brought back."""
        agent = self._number()
        body = {"status": 503, "action": "abort_transfer", "to": agent, "times": None}
        await self._control("POST", "answers", {**body, "dialled": False})
        self._start(self._never_answered(agent))

    async def _never_answered(self, agent: str) -> None:
        customer, partner = self._pair()
        await self._control(
            "POST", "habits", {"reaction": "ignores", "address": partner}
        )
        await self._place_call(agent, customer)
        with contextlib.suppress(PhloError):
            async with self.pool.consult(
                self.pool.phlo(_PHLO).multi_party_call(_NODE),
                agent=agent,
                customer=customer,
                to=partner,
                router=self._router,
                ring_for=0.5,
                told_within=0.2,
                bring_back_within=0.5,
            ):
                pass

    async def ledger(self) -> Any:  # noqa: ANN401 -- JSON
        """Return the simulator's ledger."""
        async with self._session.get(self._served.ledger_url) as answer:
            return await answer.json()

    async def _control(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 -- JSON
        url = self._served.ledger_url.replace("/ledger", f"/{path}")
        async with self._session.request(method, url, json=body) as answer:
            if answer.status == 204:  # noqa: PLR2004 -- HTTP's no content
                return None
            return await answer.json(content_type=None)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _transfers(self) -> Iterator[WarmTransfer]:
        while True:
            yield WarmTransfer(
                phlo_id=_PHLO,
                node_id="demo-dialler",
                to=self._number(),
                trigger_source="+14159999999",
            )

    def _number(self) -> str:
        return f"+1{4_150_000_000 + next(self._numbers)}"

    def _pair(self) -> tuple[str, str]:
        return self._number(), self._number()
