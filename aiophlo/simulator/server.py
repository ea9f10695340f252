"""The simulator itself: a PHLO API on a port of this machine."""

import asyncio
import ssl as tls
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

from aiophlo.simulator.accounts import Accounts
from aiophlo.simulator.call import Call
from aiophlo.simulator.chance import Chances, parse_chances
from aiophlo.simulator.courier import Callback, Courier, Post
from aiophlo.simulator.desk import Desk, Timing
from aiophlo.simulator.faults import Fault
from aiophlo.simulator.http11 import Connection
from aiophlo.simulator.ledger import Ledger
from aiophlo.simulator.people import Habit
from aiophlo.simulator.reach import Reachable, in_its_loop
from aiophlo.simulator.scripts import Body, Script, Strike
from aiophlo.simulator.switchboard import Switchboard

AUTH_ID: Final = "MASIMULATOR000000001"
AUTH_TOKEN: Final = "bm90LWEtc2VjcmV0LWp1c3QtYS1zaW11bGF0b3Iw"  # noqa: S105 -- made up
_BACKLOG: Final = 16_384


class HeldAnswers:
    """Answers kept back until `release()`, or until the end of a `with` block."""

    def __init__(self, release: Callable[[], None]) -> None:
        self.release = release

    def __enter__(self) -> Self:
        """Change nothing: they are held since this was made."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Release them."""
        self.release()


class Simulator(Reachable):
    """A PHLO API that rings nobody and remembers everything.

    Behaves as Plivo documents it: Basic authentication, one strict moving-window quota
    per main account, the documented answers; and it fails in every way in which a
    server can, when told to. All methods may be called from any thread.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        quota: Requests and seconds: what each main account may make; None for no limit.
        latency: Seconds from a request to its answer.
        retry_after: Whether a 429 says in how many seconds to come again.
        drip_every: Seconds between two bytes of a dripping answer.
        auth_id: Id of the first account; made up by default.
        auth_token: Its secret; made up by default.
        seed: Seed of all chance and of the ids that are handed out.
        strict: Whether only placed calls, their nodes and their members exist; else
            every PHLO, node and address does.
        returns_customer: Whether a transfer whose target is busy, declines, doesn't
            answer or hangs up ends by itself and gives the customer back to the agent;
            else the customer stays on hold until it is aborted.
        faults: Chance of each fault by name, as a mapping or as text such as
            `drop_after_read=0.01,status_503=0.02`; `all` names each one.
        ssl: Serve TLS with this context.
        keep_requests: Keep a record of every request in the ledger; without, counts.
        clock: Gives the seconds by which quota and ledger go.

    Attributes:
        ledger: What was asked and what was dialled.
        auth_id: Id of the first account.
        auth_token: Its secret.
        base_url: Where the API is, without a slash at its end: `http://…/v1`.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        quota: tuple[int, float] | None = (300, 5.0),
        latency: float = 0.0,
        retry_after: bool = False,
        drip_every: float = 0.05,
        auth_id: str | None = None,
        auth_token: str | None = None,
        seed: int = 0,
        strict: bool = False,
        returns_customer: bool = True,
        faults: str | Mapping[str, float] | None = None,
        ssl: tls.SSLContext | None = None,
        keep_requests: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(Ledger(keep_requests=keep_requests))
        self.auth_id = auth_id or AUTH_ID
        self.auth_token = auth_token or AUTH_TOKEN
        self._host = host
        self._port = port
        self._ssl = ssl
        self._accounts = Accounts(quota)
        self._accounts.add(self.auth_id, self.auth_token)
        self._script = Script()
        self._courier = Courier(
            tokens=self._accounts.tokens, seed=seed, changed=self._watch.check
        )
        self._switchboard = Switchboard(
            strict=strict,
            returns_customer=returns_customer,
            later=_later,
            tell=self._courier.tell,
            changed=self._watch.check,
        )
        self._desk = Desk(
            ledger=self.ledger,
            accounts=self._accounts,
            script=self._script,
            chances=Chances(seed, _parse_faults(faults)),
            switchboard=self._switchboard,
            watch=self._watch,
            timing=Timing(latency, drip_every, clock),
            retry_after=retry_after,
            seed=seed,
        )
        self._server: asyncio.Server | None = None

    def __repr__(self) -> str:
        """Say where it listens and what the ledger counts."""
        where = self.base_url if self._server else "not listening"
        return f"<Simulator {where} {self.ledger!r}>"

    async def __aenter__(self) -> Self:
        """Start to listen."""
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop, whatever is still unanswered."""
        await self.stop()

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The address or port can't be had.
        """
        self._loop = asyncio.get_running_loop()
        self._server = await self._loop.create_server(
            lambda: Connection(self._desk),
            self._host,
            self._port,
            ssl=self._ssl,
            backlog=_BACKLOG,
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and cut every connection; the ledger stays."""
        if self._server is None:
            return
        await self._courier.close()
        self._server.close()
        for connection in list(self._desk.connections):
            connection.transport.abort()
        await self._server.wait_closed()
        self._server = None

    @property
    def base_url(self) -> str:
        """Where the API is, as a client wants it."""
        scheme = "https" if self._ssl else "http"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self._port}/v1"

    @property
    def url(self) -> str:
        """Where the simulator is, without the API's path."""
        return self.base_url.removesuffix("/v1")

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._desk.connections)

    @property
    def held(self) -> int:
        """Number of answers that are being held."""
        return self._desk.held

    @in_its_loop
    def add_account(
        self, auth_id: str, auth_token: str, main: str | None = None
    ) -> None:
        """Let one more account in.

        Args:
            auth_id: Its id.
            auth_token: Its secret.
            main: Id of the account whose subaccount it is, and whose quota it shares.

        Raises:
            KeyError: There is no account `main`.
        """
        self._accounts.add(auth_id, auth_token, main)

    @in_its_loop
    def answer_next(
        self,
        status: int | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        delay: float = 0.0,
        dialled: bool | None = None,
        to: str | None = None,
        action: str | None = None,
        times: int | None = 1,
    ) -> None:
        """Say how the next fitting request within the quota is answered.

        Args:
            status: HTTP status; None for the answer that is due, with `headers`.
            headers: Added to the answer.
            body: Bytes, text, or what becomes JSON; None for what goes with `status`.
            delay: Seconds before the answer, besides the latency.
            dialled: Whether it takes effect all the same. By default after 2xx (but
                not with an `error` in `body`), 301 to 303, 408 and 5xx.
            to: Only requests that concern this address (`to` or member).
            action: Only this action, in Plivo's word.
            times: For so many requests; None for ever.
        """
        self._script.add(
            Strike(
                status=status,
                headers=headers or {},
                body=body,
                delay=delay,
                dialled=dialled,
                to=to,
                action=action,
                times=times,
            )
        )

    @in_its_loop
    def fault_next(
        self,
        fault: Fault | str,
        *,
        delay: float = 0.0,
        dialled: bool | None = None,
        to: str | None = None,
        action: str | None = None,
        times: int | None = 1,
    ) -> None:
        """Say how the next fitting request within the quota goes wrong.

        Args:
            fault: How, or its name.
            delay: Seconds before it does, besides the latency.
            dialled: Whether it takes effect all the same; `Fault` says the default.
            to: Only requests that concern this address (`to` or member).
            action: Only this action, in Plivo's word.
            times: For so many requests; None for ever.

        Raises:
            ValueError: There is no such fault.
        """
        self._script.add(
            Strike(
                fault=Fault(fault),
                delay=delay,
                dialled=dialled,
                to=to,
                action=action,
                times=times,
            )
        )

    def drop_next_answer(
        self, *, to: str | None = None, action: str | None = None, times: int | None = 1
    ) -> None:
        """Let the next fitting request take effect and close without an answer."""
        self.fault_next(Fault.DROP_AFTER_READ, to=to, action=action, times=times)

    @in_its_loop
    def clear_script(self) -> None:
        """Forget scripted answers and faults that have struck nobody yet."""
        self._script.clear()

    @in_its_loop
    def hold_answers(self) -> HeldAnswers:
        """Keep answers back from now on; requests still take effect on arrival."""
        self._desk.hold()
        return HeldAnswers(self.release_answers)

    @in_its_loop
    def release_answers(self) -> None:
        """Give the answers that were held, in order, and hold no more."""
        self._desk.release()

    @in_its_loop
    def set_habit(self, habit: Habit, *, address: str | None = None) -> None:
        """Say how somebody takes calls: unless told so, people answer at once.

        Args:
            habit: How.
            address: Who, spelt as in requests; None for all without one of their own.
        """
        self._switchboard.people.set(habit, address)

    @in_its_loop
    def add_node(self, phlo_id: str, node_id: str) -> None:
        """Let a PHLO and a node of it exist in strict mode."""
        self._switchboard.add_node(phlo_id, node_id)

    @in_its_loop
    def place_call(
        self,
        phlo_id: str,
        node_id: str,
        *,
        agent: str,
        customer: str,
        account: str | None = None,
    ) -> Call:
        """Start a live call in which a customer talks to an agent.

        Args:
            phlo_id: PHLO.
            node_id: Multi-party-call node of it.
            agent: The agent's address, spelt as in requests.
            customer: The customer's.
            account: auth_id of the account it runs in; None for the first.

        Returns:
            The call, which shows at any time who is doing what.
        """
        return self._switchboard.place(
            phlo_id,
            node_id,
            agent=agent,
            customer=customer,
            account=account or self.auth_id,
        )

    @property
    def calls(self) -> list[Call]:
        """Live calls that go on."""
        return self._switchboard.calls

    @in_its_loop
    def post_events(self, callback: Callback | None) -> None:
        """Say where the events of live calls go from now on; None for nowhere."""
        self._courier.callback = callback

    @property
    def posts(self) -> list[Post]:
        """Events that have been posted, the newest last."""
        return self._courier.posts


def _later(seconds: float, callback: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, callback)


def _parse_faults(faults: str | Mapping[str, float] | None) -> dict[Fault, float]:
    if isinstance(faults, Mapping):
        faults = ",".join(f"{name}={chance}" for name, chance in faults.items())
    return parse_chances(faults or "")
