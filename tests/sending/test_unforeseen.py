"""Whatever raises, wherever it does: what has left is never called not sent."""

import contextlib
import itertools
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, Self

import pytest

import aiophlo
from aiophlo import Account, Hold, Outcome, Reason, SessionPool, WarmTransfer
from tests.support.doubles import act, outcome_of
from tests.support.raw_server import Connection, RawServer

pytestmark = pytest.mark.long

PACKAGE: Final = Path(aiophlo.__file__).parent
ANSWERS: Final = {
    "yes": b'HTTP/1.1 201 x\r\nContent-Length: 26\r\n\r\n{"api_id":"1", "error":""}',
    "wait": b"HTTP/1.1 429 x\r\nContent-Length: 2\r\nRetry-After: 0\r\n\r\n{}",
    "broken": b"HTTP/1.1 503 x\r\nContent-Length: 2\r\n\r\n{}",
}
# They hold what fails, and end it; what each of them calls does fail.
HOLDERS: Final = {
    "Sender.run",
    "Sender.send",
    "Sender._end",
    "ActionsUnderWay.begin",
    "ActionsUnderWay.end",
}
COROUTINE: Final = 0x80  # its pauses can't be told from its end


class UnforeseenError(Exception):
    """A bug of ours, whose words quote a number."""


class Saboteur:
    """Raises once, as one function of ours is called, or as it returns.

    Args:
        number: Of these moments, from 1.

    Attributes:
        where: The function; None if there were fewer moments.
    """

    def __init__(self, number: int) -> None:
        self._left = number
        self._before = sys.gettrace()
        self.where: CodeType | None = None

    def __enter__(self) -> Self:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:  # noqa: ANN401 -- as sys wants it
        code = frame.f_code
        path = Path(code.co_filename)
        if path.parent not in {PACKAGE / "sending", PACKAGE / "protocol"}:
            return None
        if code.co_qualname in HOLDERS:
            return None
        called = event == "call" and frame.f_lineno == code.co_firstlineno
        if called or (event == "return" and not code.co_flags & COROUTINE):
            self._left -= 1
            if not self._left:
                self.where = code
                sys.settrace(None)
                raise UnforeseenError("+14155550123")
        return self._trace


async def sent_by(
    saboteur: Saboteur, action: aiophlo.Action, answers: Iterator[bytes]
) -> tuple[Outcome | None, int]:
    """Return what a send came to, None if it raised, and how many requests came."""

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            connection.send(next(answers))

    account = Account("MAUNFORESEEN00000001", "token", quota=None)
    async with RawServer(script) as server:
        pool = SessionPool(
            account,
            base_url=server.base_url,
            random=lambda: 0.0,
            observers=[lambda _: None],
        )
        async with pool:
            outcome = None
            with saboteur, contextlib.suppress(UnforeseenError):
                outcome = await outcome_of(pool.send(action))
            assert pool.state().in_flight == 0, saboteur.where
        return outcome, len(server.requests)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a connection without owner
@pytest.mark.parametrize(
    ("kind", "first"),
    [(WarmTransfer, []), (WarmTransfer, ["wait"]), (Hold, ["broken"])],
    ids=["at once", "after a 429", "after a 503"],
)
async def test_no_fault_of_ours_hides_a_ringing_phone(
    kind: type[aiophlo.Action], first: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """An agent who reads "not sent" dials again: the partner is rung twice."""
    caplog.set_level(logging.ERROR, logger="aiophlo")
    asked_to_wait = first.count("wait")
    for number in itertools.count(1):
        caplog.clear()
        answers = (ANSWERS[name] for name in [*first, *["yes"] * 9])
        saboteur = Saboteur(number)
        outcome, requests = await sent_by(saboteur, act(kind, number), answers)
        if saboteur.where is None:
            break
        if outcome is None:  # it was raised before there was anything to end
            assert not requests, saboteur.where
            continue
        if outcome.verdict == "not_sent":
            assert requests <= asked_to_wait, saboteur.where
        if getattr(outcome, "reason", None) is Reason.UNKNOWN:
            assert "UnforeseenError" in (outcome.error or ""), saboteur.where
            assert "test_unforeseen.py" in caplog.text, saboteur.where
        assert "5550123" not in f"{outcome.error}{caplog.text}"
    assert number > 100
