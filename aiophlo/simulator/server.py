"""The simulator itself: a PHLO API on a port of this machine."""

import asyncio
import concurrent.futures
import functools
import ssl as tls
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Concatenate, Final, ParamSpec, Self, TypeVar

from aiophlo.simulator.accounts import Accounts
from aiophlo.simulator.desk import Desk, Timing
from aiophlo.simulator.faults import Fault
from aiophlo.simulator.http11 import Connection
from aiophlo.simulator.ledger import Ledger
from aiophlo.simulator.scripts import Body, Script, Strike
from aiophlo.simulator.waiting import Watch

AUTH_ID: Final = "MASIMULATOR000000001"
AUTH_TOKEN: Final = "bm90LWEtc2VjcmV0LWp1c3QtYS1zaW11bGF0b3Iw"  # noqa: S105 -- made up
_BACKLOG: Final = 16_384

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _in_its_loop(
    method: Callable[Concatenate["Simulator", _P], _T],
) -> Callable[Concatenate["Simulator", _P], _T]:
    """Let any thread call a method: it always runs where the simulator runs."""

    @functools.wraps(method)
    def call(self: "Simulator", /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return self.in_its_loop(functools.partial(method, self, *args, **kwargs))

    return call


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


class Simulator:
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
        ssl: tls.SSLContext | None = None,
        keep_requests: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ledger = Ledger(keep_requests=keep_requests)
        self.auth_id = auth_id or AUTH_ID
        self.auth_token = auth_token or AUTH_TOKEN
        self._host = host
        self._port = port
        self._ssl = ssl
        self._accounts = Accounts(quota)
        self._accounts.add(self.auth_id, self.auth_token)
        self._script = Script()
        self._watch = Watch()
        self._desk = Desk(
            ledger=self.ledger,
            accounts=self._accounts,
            script=self._script,
            watch=self._watch,
            timing=Timing(latency, drip_every, clock),
            retry_after=retry_after,
            seed=seed,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
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

    def in_its_loop(self, call: Callable[[], _T]) -> _T:
        """Run `call` in the simulator's own loop, and wait for it, from any thread."""
        loop = self._loop
        if loop is None or not loop.is_running() or loop is _running_loop():
            return call()
        done: concurrent.futures.Future[_T] = concurrent.futures.Future()
        loop.call_soon_threadsafe(_run_into, done, call)
        return done.result()

    @_in_its_loop
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

    @_in_its_loop
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

    @_in_its_loop
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

    @_in_its_loop
    def clear_script(self) -> None:
        """Forget scripted answers and faults that have struck nobody yet."""
        self._script.clear()

    @_in_its_loop
    def hold_answers(self) -> HeldAnswers:
        """Keep answers back from now on; requests still take effect on arrival."""
        self._desk.hold()
        return HeldAnswers(self.release_answers)

    @_in_its_loop
    def release_answers(self) -> None:
        """Give the answers that were held, in order, and hold no more."""
        self._desk.release()

    async def wait_for(
        self,
        condition: Callable[[Ledger], bool] | None = None,
        *,
        requests: int = 0,
        dials: int = 0,
        held: int = 0,
        within: float = 5.0,
    ) -> None:
        """Wait until all of this has happened, counted from the simulator's start.

        Args:
            condition: Holds for the ledger.
            requests: So many requests have arrived.
            dials: So many dials have been made.
            held: So many answers are being held.
            within: Seconds to wait at most.

        Raises:
            TimeoutError: It didn't happen in time.
        """
        met = self._watch_for(condition, requests, dials, held)
        await asyncio.wait_for(asyncio.wrap_future(met), within)

    def wait(
        self,
        condition: Callable[[Ledger], bool] | None = None,
        *,
        requests: int = 0,
        dials: int = 0,
        held: int = 0,
        within: float = 5.0,
    ) -> None:
        """Do the same as `wait_for` by blocking this thread, which isn't its own."""
        if self._loop is _running_loop():
            raise RuntimeError("this would block the simulator: await wait_for()")
        self._watch_for(condition, requests, dials, held).result(within)

    def _watch_for(
        self,
        condition: Callable[[Ledger], bool] | None,
        requests: int,
        dials: int,
        held: int,
    ) -> concurrent.futures.Future[None]:
        def is_met() -> bool:
            return (
                self.ledger.received >= requests
                and self.ledger.dialled_total >= dials
                and self.held >= held
                and (condition is None or condition(self.ledger))
            )

        met: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.in_its_loop(lambda: self._watch.add(is_met, met))
        return met


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _run_into(done: "concurrent.futures.Future[_T]", call: Callable[[], _T]) -> None:
    try:
        done.set_result(call())
    except Exception as error:  # noqa: BLE001 -- it is the caller's, in its own thread
        done.set_exception(error)
