"""`aiophlo check --calls`: whether Plivo's list shows a call that a PHLO has made.

What looking rests on is assumed. One real call of the user's own, and one look at the
list, says whether it holds on their account.
"""

import datetime as dt
import math
from typing import Any

import attrs

from aiophlo.cli.exit_codes import Exit, UnusableError
from aiophlo.cli.sending import known_of
from aiophlo.looking.call_list import Reading
from aiophlo.looking.call_records import CallRecord
from aiophlo.model.accounts import Account
from aiophlo.model.addresses import parse_address
from aiophlo.model.outcomes import Outcome
from aiophlo.model.redaction import mask
from aiophlo.pool import SessionPool

_TOLERANCE = 60.0  # seconds by which somebody's clock and memory may be off
_WITHIN = 10.0  # seconds for all questions
_PHLO = "00000000-0000-0000-0000-000000000000"  # not sent


@attrs.frozen
class KnownCall:
    """A call that a PHLO is known to have made.

    Attributes:
        to: Whom it was to.
        at: Unix time at which it was asked for.
    """

    to: str = attrs.field(repr=mask)
    at: float

    @classmethod
    def parse(cls, to: str | None, at: str | None) -> "KnownCall":
        """Read `--to` and `--at`.

        Raises:
            UnusableError: One is missing, or no time.
            InvalidInputError: `--to` is no address.
        """
        if to is None or at is None:
            raise UnusableError(
                "--calls: expected --to and --at with it, of a call that a PHLO of"
                " yours has just made: this command makes none"
            )
        return cls(parse_address(to, field="to"), _parse_time(at))


@attrs.frozen
class ListedCalls:
    """What the list shows of a known call.

    Attributes:
        known: The call.
        records: The outgoing calls to its number about that time.
        complete: Whether the list could be read, and to its end.
        last: The answer that kept it from being read, if there is one.
    """

    known: KnownCall
    records: tuple[CallRecord, ...]
    complete: bool
    last: Outcome | None

    @property
    def finding(self) -> str:
        """What that says, in a word."""
        if len(self.records) == 1:
            return "ok"
        if self.records:
            return "several"
        return "not_found" if self.complete else "unknown"

    @property
    def exit(self) -> Exit:
        """The exit code."""
        return Exit.ACCEPTED if self.finding == "ok" else Exit.REFUSED

    @property
    def lines(self) -> list[str]:
        """What is said of it."""
        shown = [f"  {_describe(record, self.known)}" for record in self.records]
        return [f"{'calls':<12} {_WORDS[self.finding]}", *shown, *self._trouble()]

    def _trouble(self) -> list[str]:
        if self.last is not None:
            return [
                f"The list could not be read: {known_of(self.last) or 'no answer'}."
            ]
        if not self.complete:
            return ["The list could not be read to its end, or not be understood."]
        return []

    def as_json(self) -> list[dict[str, Any]]:
        """Return each call as an object, its numbers masked."""
        return [
            {
                "state": str(record.state),
                "seconds_after": _after(record, self.known),
                "from": mask(record.from_),
                "hangup_cause": record.hangup_cause,
            }
            for record in self.records
        ]


_WORDS = {
    "ok": "listed: what looking assumes holds for this call",
    "several": "more than one is listed: try with a phone that nothing else calls",
    "not_found": "not listed: looking would see nothing here; try again in a minute",
    "unknown": "unknown",
}


async def list_calls(
    pool: SessionPool, account: Account, known: KnownCall
) -> ListedCalls:
    """Read the list, by GETs alone."""
    looking = pool._looks()  # noqa: SLF001 -- its own questions, and no verdict
    reading = await looking.read(
        account, _PHLO, known.to, since=known.at - _TOLERANCE, within=_WITHIN
    )
    found = {
        record.call_uuid: record
        for record in reading.records
        if record.is_outbound
        and record.is_to(known.to)
        and _is_near(record, known, reading)
    }
    return ListedCalls(known, tuple(found.values()), reading.complete, reading.last)


def _is_near(record: CallRecord, known: KnownCall, reading: Reading) -> bool:
    if record.began_at is None:
        return True
    return math.fabs(record.began_at - reading.ahead - known.at) <= _TOLERANCE


def _after(record: CallRecord, known: KnownCall) -> float | None:
    return None if record.began_at is None else round(record.began_at - known.at, 1)


def _describe(record: CallRecord, known: KnownCall) -> str:
    after = _after(record, known)
    began = "at a time that isn't said" if after is None else f"{after:+g} s from --at"
    cause = f" ({record.hangup_cause})" if record.hangup_cause else ""
    return f"{record.state}{cause}, began {began}, from {mask(record.from_)}"


def _parse_time(text: str) -> float:
    """Return the Unix time of an ISO date and time, or of a time of today's."""
    for parse in (dt.datetime.fromisoformat, _today):
        try:
            return parse(text).timestamp()
        except ValueError:
            continue
    raise UnusableError("--at: expected HH:MM:SS of today, or YYYY-MM-DDTHH:MM:SSZ")


def _today(text: str) -> dt.datetime:
    now = dt.datetime.now().astimezone()
    return dt.datetime.combine(
        now.date(), dt.time.fromisoformat(text), tzinfo=now.tzinfo
    )
