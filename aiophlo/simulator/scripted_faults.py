"""Scripted answers and faults: how the next request that fits is answered."""

import email.utils
import json
import time
from collections.abc import Mapping
from typing import Final

import attrs

from aiophlo.simulator.api import Asked
from aiophlo.simulator.faults import Fault, status_takes_effect
from aiophlo.simulator.http11 import Answer

_PAGE: Final = b"<html><body><h1>Something went wrong</h1></body></html>\n"
_HTML: Final = {"Content-Type": "text/html"}
_RETRY_AFTER: Final = 1  # seconds

Body = bytes | str | Mapping[str, object]


def _title_case(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.title(): text for name, text in headers.items()}


@attrs.define(kw_only=True, eq=False)
class Scripted:
    """A scripted answer or fault, in place of the sound answer.

    Attributes:
        fault: How it goes wrong, or None for a scripted answer.
        status: Status of a scripted answer, or None for the sound one.
        headers: Added to a scripted answer.
        body: Of a scripted answer; None for what goes with the status.
        delay: Seconds before the answer, besides the latency.
        dialled: Whether the request takes effect; None for what goes with the rest.
        to: Strikes only what concerns this address (`to` or member), if given.
        action: Strikes only this action, if given.
        times: Strikes this often; None for ever.
    """

    fault: Fault | None = None
    status: int | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict, converter=_title_case)
    body: Body | None = None
    delay: float = 0.0
    dialled: bool | None = None
    to: str | None = None
    action: str | None = None
    times: int | None = 1

    def fits(self, asked: Asked) -> bool:
        """Say whether this is for the request."""
        return self.to in {None, asked.address} and self.action in {None, asked.action}

    @property
    def takes_effect(self) -> bool:
        """Whether the request is carried out all the same."""
        if self.dialled is not None:
            return self.dialled
        if self.fault is not None:
            return self.fault.takes_effect
        if isinstance(self.body, Mapping) and self.body.get("error"):
            return False
        return self.status is None or status_takes_effect(self.status)

    def answer(self, sound: Answer, api_id: str) -> Answer:
        """Make the answer, before the fault deforms it.

        Args:
            sound: What would have been answered.
            api_id: For an answer that needs a body of its own.
        """
        if self.fault is Fault.ERROR_IN_201:
            refused = {"api_id": api_id, "error": "the node did not take the action"}
            return Answer.of_json(201, refused)
        status = self.fault.status if self.fault else self.status
        if status is None:
            return attrs.evolve(sound, headers={**sound.headers, **self.headers})
        answer = _answer_with(status, sound, api_id)
        body = answer.body if self.body is None else _encode(self.body)
        own = {**_retry_after(self.fault), **self.headers}
        return Answer(status, body, {**answer.headers, **own})


def _answer_with(status: int, sound: Answer, api_id: str) -> Answer:
    """Return the usual answer with a status."""
    match status // 100:
        case 2:
            return sound
        case 3:
            return Answer(status, b"", {"Location": "/v1/elsewhere"})
        case 5:
            return Answer(status, _PAGE, _HTML)
    return Answer.of_json(status, {"api_id": api_id, "error": f"scripted {status}"})


def _encode(body: Body) -> bytes:
    if isinstance(body, bytes):
        return body
    return (body if isinstance(body, str) else json.dumps(body)).encode()


def _retry_after(fault: Fault | None) -> dict[str, str]:
    if fault is Fault.STATUS_429_SECONDS:
        return {"Retry-After": str(_RETRY_AFTER)}
    if fault is Fault.STATUS_429_DATE:
        date = email.utils.formatdate(time.time() + _RETRY_AFTER, usegmt=True)
        return {"Retry-After": date}
    return {}


class Script:
    """The scripted answers and faults that are still to come, the oldest first."""

    def __init__(self) -> None:
        self._waiting: list[Scripted] = []

    def add(self, scripted: Scripted) -> None:
        """Append a scripted answer or fault."""
        self._waiting.append(scripted)

    def clear(self) -> None:
        """Forget all of them."""
        self._waiting.clear()

    def next(self, asked: Asked) -> Scripted | None:
        """Return the first one that fits a request, and count it as used."""
        for scripted in self._waiting:
            if scripted.fits(asked):
                if scripted.times is not None:
                    scripted.times -= 1
                    if not scripted.times:
                        self._waiting.remove(scripted)
                return scripted
        return None
