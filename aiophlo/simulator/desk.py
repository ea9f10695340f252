"""Where requests are decided and answers leave, in time or as badly as asked for."""

import asyncio
import functools
import ipaddress
import random
import uuid
from collections.abc import Callable, Mapping

import attrs

from aiophlo.simulator.accounts import Accounts, SimulatedAccount
from aiophlo.simulator.api import READING, Asked, RefusedError, success, understand
from aiophlo.simulator.chance import Chances
from aiophlo.simulator.faults import Broken, Fault, write
from aiophlo.simulator.http11 import (
    Answer,
    Connection,
    Ending,
    MalformedError,
    Request,
)
from aiophlo.simulator.ledger import Ledger, Record
from aiophlo.simulator.meaning import Meaning
from aiophlo.simulator.scripts import Script, Strike
from aiophlo.simulator.switchboard import Switchboard
from aiophlo.simulator.waiting import Watch


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


class Desk:
    """Takes requests and answers them.

    Args:
        ledger: Where everything is entered.
        accounts: Who may ask.
        script: What goes otherwise than usual because somebody said so.
        chances: What goes otherwise than usual by chance.
        switchboard: The live calls.
        watch: Who waits for something to happen.
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
        chances: Chances,
        switchboard: Switchboard,
        watch: Watch,
        timing: Timing,
        retry_after: bool,
        seed: int,
    ) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._script = script
        self._chances = chances
        self._switchboard = switchboard
        self._watch = watch
        self._timing = timing
        self._retry_after = retry_after
        self._random = random.Random(seed)  # noqa: S311 -- ids, not secrets
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
        self._watch.check()

    def serve(self, connection: Connection, request: Request) -> None:
        """Answer a request, now or later, and enter it in the ledger."""
        if not request.path.startswith("/v1/"):
            connection.reply(self._inspect(connection, request).whole(), Ending.KEEP)
            return
        asked = understand(request)
        account = self._accounts.find(request.headers.get("authorization", ""))
        record = self._ledger.open(
            asked, at=self._timing.clock(), account=account.auth_id if account else ""
        )
        answer, strike = self._decide(asked, account, record)
        self._answer(connection, record, answer, strike)
        self._watch.check()

    def _inspect(self, connection: Connection, request: Request) -> Answer:
        """Answer what isn't the API: the ledger, to whoever is on this machine."""
        if request.path != "/_simulator/ledger":
            return self._error(404, "no such resource")
        if request.method != "GET":
            return self._error(405, f"{request.method} is not allowed here")
        if not ipaddress.ip_address(connection.peer).is_loopback:
            return self._error(403, "only for this machine")
        return Answer.of_json(200, self._ledger.as_json())

    def _decide(
        self, asked: Asked, account: SimulatedAccount | None, record: Record
    ) -> tuple[Answer, Strike | None]:
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
        strike = self._script.next(asked) or self._chances.next(asked)
        if strike and strike.fault:
            self._ledger.strike(record, strike.fault)
        takes_effect = refusal is None and (strike is None or strike.takes_effect)
        if takes_effect and asked.action not in READING:
            self._ledger.apply(record)
            self._switchboard.apply(asked)
        sound = (
            self._error(refusal.status, refusal.error)
            if refusal
            else success(asked, self._new_id())
        )
        return (strike.answer(sound, self._new_id()) if strike else sound), strike

    def _answer(
        self,
        connection: Connection,
        record: Record,
        answer: Answer,
        strike: Strike | None,
    ) -> None:
        """Write the answer once it is due: held, late, or at once."""
        finish = functools.partial(
            self._finish, connection, record, answer, strike.fault if strike else None
        )
        delay = self._timing.latency + (strike.delay if strike else 0.0)
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
        broken = write(answer, fault)
        if fault is Fault.DRIP:
            self._drip(connection, record, broken)
            return
        self._enter_answer(connection, record, broken)
        connection.reply(broken.data, broken.ending, broken.last_words)

    def _enter_answer(
        self, connection: Connection, record: Record, broken: Broken
    ) -> None:
        if connection.is_open:
            self._ledger.answer(record, broken.status, broken.meaning)
        else:
            self._ledger.answer(record, None, Meaning.UNCLEAR)

    def _drip(
        self, connection: Connection, record: Record, broken: Broken, sent: int = 0
    ) -> None:
        """Write one byte, and the others later, while somebody listens."""
        last = sent + 1 >= len(broken.data)
        if last:
            self._enter_answer(connection, record, broken)
        connection.write(broken.data[sent : sent + 1])
        if last:
            connection.reply(b"", Ending.KEEP)
        elif connection.is_open:
            asyncio.get_running_loop().call_later(
                self._timing.drip_every,
                self._drip,
                connection,
                record,
                broken,
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
