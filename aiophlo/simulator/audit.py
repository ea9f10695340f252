"""The audit: compares a client's outcomes with the requests that the ledger counted.

All requests for the same action on the same address of a node are counted together,
as a deed. The counts and the outcomes of a deed must explain each other.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final, Protocol

import attrs

from aiophlo.simulator.answer_meaning import Meaning
from aiophlo.simulator.api import DIALLING, READING

_ONCE: Final = DIALLING | {"resume_call", "voicemail_drop"}  # a repeat is heard
_BY_ITS_ANSWER: Final = frozenset({"server_error", "unreadable", "redirected"})
_REQUEST_TIMEOUT: Final = 408  # a server says it to an idle connection, unasked


class JudgedOutcome(Protocol):
    """What the audit needs of an outcome, of whatever client.

    `joined`, `status` and `reason` count, too, where it has them, as aiophlo's own
    outcomes do.
    """

    @property
    def verdict(self) -> str:
        """One of accepted, rejected, not_sent, in_doubt."""

    @property
    def action(self) -> object:
        """Named by its class, with phlo_id, node_id and to or member."""


@attrs.define
class Counts:
    """The counts of all requests for one deed.

    Attributes:
        received: Requests that were read.
        applied: How often it took effect.
        yes: Answers that said yes, written whole.
        no: Answers that said no, written whole.
        not_now: Answers that were a 429.
        superseded: Requests that came after an unclear end of an earlier one, and after
            another action of the same member or agent.
        faults: What went wrong on purpose, in order.
    """

    received: int = 0
    applied: int = 0
    yes: int = 0
    no: int = 0
    not_now: int = 0
    superseded: int = 0
    faults: tuple[str, ...] = ()

    @property
    def unclear(self) -> int:
        """Requests without an answer that is a clear yes, no or 429."""
        return self.received - self.yes - self.no - self.not_now

    def answered(self, meaning: Meaning) -> None:
        """Count an answer."""
        match meaning:
            case Meaning.YES:
                self.yes += 1
            case Meaning.NO:
                self.no += 1
            case Meaning.NOT_NOW:
                self.not_now += 1


@attrs.define
class Told:
    """The counts of all outcomes of one deed.

    Attributes:
        own: Verdicts of those that stand for a request of their own.
        joined: Verdicts of those that share another's.
        by_answer: How many are in doubt for what an answer said.
    """

    own: Counter[str] = attrs.field(factory=Counter)
    joined: Counter[str] = attrs.field(factory=Counter)
    by_answer: int = 0

    def add(self, outcome: JudgedOutcome) -> None:
        """Count one more outcome."""
        if getattr(outcome, "joined", False):
            self.joined[outcome.verdict] += 1
            return
        self.own[outcome.verdict] += 1
        if outcome.verdict == "in_doubt":
            status = getattr(outcome, "status", None)
            seen = status not in {None, _REQUEST_TIMEOUT}
            reason = getattr(outcome, "reason", None)
            self.by_answer += seen or str(reason) in _BY_ITS_ANSWER

    def count(self, verdict: str) -> int:
        """Return how many have a verdict; joined ones alone count as one."""
        return self.own[verdict] or (0 if self.own else min(self.joined[verdict], 1))


def judge(action: str, counts: Counts, told: Told | None) -> Iterator[str]:
    """Yield a sentence for each contradiction between requests and outcomes."""
    if told is not None:
        yield from _unfounded(counts, told)
        if action in _ONCE:
            yield from _of_once(counts, told)
        elif action not in READING:
            yield from _of_idempotent(counts, told)
    elif counts.applied and action not in READING:
        yield f"took effect {counts.applied} times, and no outcome tells of it"


def _unfounded(counts: Counts, told: Told) -> Iterator[str]:
    """Yield the verdicts for which there was no such answer."""
    for verdict, answers, word in (
        ("accepted", counts.yes, "yes"),
        ("rejected", counts.no, "no"),
    ):
        claimed = told.count(verdict) or min(told.joined[verdict], 1)
        if claimed > answers:
            yield f"called {verdict} {claimed} times, answered {word} {answers} times"
    if told.by_answer > counts.unclear:
        yield (
            f"called in doubt for its answer {told.by_answer} times, answered "
            f"unclearly {counts.unclear} times"
        )


def _of_once(counts: Counts, told: Told) -> Iterator[str]:
    """Yield what no outcome explains, where each request needs one of its own."""
    accepted, doubt = told.count("accepted"), told.count("in_doubt")
    rejected = told.count("rejected")
    sent = counts.received - counts.not_now
    if accepted > counts.applied:
        yield f"called accepted {accepted} times, took effect {counts.applied} times"
    for happened, times, explained in (
        ("took effect", counts.applied, accepted + doubt),
        ("was answered yes", counts.yes, accepted + doubt),
        ("was answered no", counts.no, rejected + doubt),
        ("was not clearly answered", counts.unclear, doubt),
        ("was sent", sent, accepted + rejected + doubt),
    ):
        if times > explained:
            yield f"{happened} {times} times, {_summary(told)}"


def _of_idempotent(counts: Counts, told: Told) -> Iterator[str]:
    """Yield what no outcome explains, where one may have taken many requests."""
    accepted, doubt = told.count("accepted"), told.count("in_doubt")
    if accepted and not counts.applied:
        yield f"called accepted {accepted} times, took effect 0 times"
    for happened, times, explained in (
        ("took effect", counts.applied, accepted + doubt),
        ("was answered yes", counts.yes, accepted + doubt),
        ("was answered no", counts.no, accepted + told.count("rejected") + doubt),
        ("was not clearly answered", counts.unclear, accepted + doubt),
    ):
        if times and not explained:
            yield f"{happened} {times} times, {_summary(told)}"
    if counts.superseded >= max(told.own.total(), 1):
        yield f"was repeated after another action {counts.superseded} times"


def _summary(told: Told) -> str:
    counts = ", ".join(
        f"{count} {verdict}" for verdict, count in sorted(told.own.items())
    )
    return f"outcomes: {counts or 'none of its own'}, {told.joined.total()} joined"
