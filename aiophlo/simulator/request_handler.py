"""Handles requests: decides each, and answers in time or with the scripted fault."""

import asyncio
import email.utils
import functools
import itertools
import random
import uuid
from collections.abc import Callable, Mapping
from typing import Protocol

import attrs

from aiophlo.simulator.accounts import Accounts, SimulatedAccount
from aiophlo.simulator.answer_meaning import Meaning
from aiophlo.simulator.api import (
    LISTING,
    READING,
    Asked,
    RefusedError,
    success,
    understand,
)
from aiophlo.simulator.conditions import Conditions
from aiophlo.simulator.faults import Fault, WireAnswer, write
from aiophlo.simulator.http11 import (
    Answer,
    BodyEnd,
    Connection,
    MalformedError,
    Request,
)
from aiophlo.simulator.ledger import Ledger, Record
from aiophlo.simulator.random_faults import RandomFaults
from aiophlo.simulator.scripted_faults import Script, Scripted
from aiophlo.simulator.switchboard import Switchboard


@attrs.frozen
class Timing:
    """When things happen.

    Attributes:
        latency: Seconds from a request to its answer.
        drip_every: Seconds between two bytes of a dripping answer.
        clock: Gives the seconds by which quota and ledger go.
    """

    latency: float
    drip_every: float
    clock: Callable[[], float]


class Controlling(Protocol):
    """What serves the paths beside the API."""

    def serve(self, connection: Connection, request: Request) -> None:
        """Answer a request, now or later."""


class RequestHandler:
    """Takes requests and answers them.

    Args:
        ledger: Where everything is entered.
        accounts: Who may ask.
        script: The scripted answers and faults.
        chances: The random faults.
        switchboard: The live calls.
        control: Serves what isn't the API.
        conditions: Checked whenever something has happened.
        timing: When things happen.
        retry_after: Whether a 429 says in how many seconds to come again.
        seed: Seed of the ids that are handed out.

    Attributes:
        connections: Those that are open.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        accounts: Accounts,
        script: Script,
        chances: RandomFaults,
        switchboard: Switchboard,
        control: Controlling,
        conditions: Conditions,
        timing: Timing,
        retry_after: bool,
        seed: int,
    ) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._script = script
        self._chances = chances
        self._switchboard = switchboard
        self._control = control
        self._conditions = conditions
        self._timing = timing
        self._retry_after = retry_after
        self._random = random.Random(seed)  # noqa: S311 -- ids, not secrets
        self._request_numbers = itertools.count(1)
        self._held: list[Callable[[], None]] | None = None
        self.connections: set[Connection] = set()

    @property
    def held(self) -> int:
        """Number of answers that are being held."""
        return len(self._held or ())

    def hold(self) -> None:
        """Hold answers back from now on."""
        if self._held is None:
            self._held = []

    def release(self) -> None:
        """Give those that were held, in order, and hold no more."""
        held, self._held = self._held or [], None
        for answer in held:
            answer()

    def opened(self, connection: Connection) -> None:
        """Note a new connection."""
        self.connections.add(connection)

    def closed(self, connection: Connection) -> None:
        """Forget one."""
        self.connections.discard(connection)
        self._conditions.check()

    def serve(self, connection: Connection, request: Request) -> None:
        """Answer a request, now or later, and enter it in the ledger."""
        if not request.path.startswith("/v1/"):
            self._control.serve(connection, request)
            return
        asked = understand(request)
        account = self._accounts.find(request.headers.get("authorization", ""))
        record = self._ledger.open(
            asked, at=self._timing.clock(), account=account.auth_id if account else ""
        )
        answer, scripted = self._decide(asked, account, record)
        self._answer(connection, record, answer, scripted)
        self._conditions.check()

    def _decide(
        self, asked: Asked, account: SimulatedAccount | None, record: Record
    ) -> tuple[Answer, Scripted | None]:
        """Authenticate, count, carry out and answer; the rest is writing."""
        wait = account.window.admit(record.at) if account and account.window else 0.0
        if wait:
            return self._too_many(wait), None
        refusal = (
            _unauthorized(asked, account)
            or asked.refusal
            or self._switchboard.refusal(asked)
        )
        if account:
            self._ledger.admit(record.at)
        scripted = self._script.next(asked) or self._chances.next(asked)
        if scripted and scripted.fault:
            self._ledger.note_fault(record, scripted.fault)
        takes_effect = refusal is None and (scripted is None or scripted.takes_effect)
        if takes_effect and asked.action not in READING:
            self._ledger.apply(record)
            self._switchboard.apply(asked, record.account)
        sound = (
            self._error(refusal.status, refusal.error)
            if refusal
            else self._success(asked, record.account)
        )
        answer = scripted.answer(sound, self._new_id()) if scripted else sound
        return answer, scripted

    def _success(self, asked: Asked, account: str) -> Answer:
        if asked.action not in LISTING:
            return success(asked, self._new_id())
        try:
            document = self._switchboard.call_list.answer(asked, account)
        except RefusedError as refusal:
            return self._error(refusal.status, refusal.error)
        now = self._switchboard.call_list.time
        headers = {"Date": email.utils.formatdate(now, usegmt=True)}
        return Answer.of_json(200, {"api_id": self._new_id(), **document}, headers)

    def _answer(
        self,
        connection: Connection,
        record: Record,
        answer: Answer,
        scripted: Scripted | None,
    ) -> None:
        """Write the answer once it is due: held, late, or at once."""
        finish = functools.partial(
            self._finish,
            connection,
            record,
            answer,
            scripted.fault if scripted else None,
        )
        delay = self._timing.latency + (scripted.delay if scripted else 0.0)
        if self._held is not None:
            self._held.append(finish)
        elif delay > 0:
            asyncio.get_running_loop().call_later(delay, finish)
        else:
            finish()

    def _finish(
        self,
        connection: Connection,
        record: Record,
        answer: Answer,
        fault: Fault | None,
    ) -> None:
        request_id = f"r-{next(self._request_numbers):x}"
        answer.headers = {"X-Request-Id": request_id, **answer.headers}
        written = write(answer, fault)
        if fault is Fault.DRIP:
            self._drip(connection, record, written)
            return
        self._enter_answer(connection, record, written)
        connection.reply(written.data, written.ending, written.last_words)

    def _enter_answer(
        self, connection: Connection, record: Record, written: WireAnswer
    ) -> None:
        if connection.is_open:
            self._ledger.answer(record, written.status, written.meaning)
        else:
            self._ledger.answer(record, None, Meaning.UNCLEAR)

    def _drip(
        self, connection: Connection, record: Record, written: WireAnswer, sent: int = 0
    ) -> None:
        """Write one byte, and the others later, while the connection is open."""
        last = sent + 1 >= len(written.data)
        if last:
            self._enter_answer(connection, record, written)
        connection.write(written.data[sent : sent + 1])
        if last:
            connection.reply(b"", BodyEnd.KEEP)
        elif connection.is_open:
            asyncio.get_running_loop().call_later(
                self._timing.drip_every,
                self._drip,
                connection,
                record,
                written,
                sent + 1,
            )

    def refuse(self, error: MalformedError) -> Answer:
        """Make the answer to what is no request."""
        return self._error(error.status, str(error))

    def _too_many(self, wait: float) -> Answer:
        headers = {"Retry-After": str(int(wait) + 1)} if self._retry_after else {}
        return self._error(429, "too many requests", headers)

    def _error(
        self, status: int, error: str, headers: Mapping[str, str] | None = None
    ) -> Answer:
        document = {"api_id": self._new_id(), "error": error}
        return Answer.of_json(status, document, headers)

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))


def _unauthorized(
    asked: Asked, account: SimulatedAccount | None
) -> RefusedError | None:
    """Refuse strangers, and an account that would run a PHLO for another one.

    Source:
        Plivo docs, "Authentication". Assumed: the same 401 for another's account.
    """
    if account is None or asked.owner not in {"", account.auth_id}:
        return RefusedError(401, "authentication failed")
    return None
