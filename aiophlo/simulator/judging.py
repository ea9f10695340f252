"""Holding what was said about a deed against what became of it.

A deed is an action on an address of a node. However often it was asked for, its
requests and the outcomes that tell of it must explain each other.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final, Protocol

import attrs

from aiophlo.simulator.api import DIALLING, READING
from aiophlo.simulator.meaning import Meaning

_ONCE: Final = DIALLING | {"resume_call", "voicemail_drop"}  # a second one is heard
_BY_ITS_ANSWER: Final = frozenset({"server_error", "unreadable", "redirected"})
_REQUEST_TIMEOUT: Final = 408  # a server says it to an idle connection, unasked


class JudgedOutcome(Protocol):
    """What the ledger needs to know of an outcome, whoever made it.

    Where it has them, `joined`, `status` and `reason` are heard too, as aiophlo's own
    outcomes have them.
    """

    @property
    def verdict(self) -> str:
        """One of accepted, rejected, not_sent, in_doubt."""

    @property
    def action(self) -> object:
        """Named by its class, with phlo_id, node_id and to or member."""


@attrs.define
class Tally:
    """What became of all requests for one deed.

    Attributes:
        received: Requests that were read.
        applied: How often it took effect.
        yes: Answers that said yes, written whole.
        no: Answers that said no, written whole.
        not_now: Answers that were a 429.
        overtaken: Requests that came after an unclear end of an earlier one, and after
            another action of the same member or agent.
        faults: What went wrong on purpose, in order.
    """

    received: int = 0
    applied: int = 0
    yes: int = 0
    no: int = 0
    not_now: int = 0
    overtaken: int = 0
    faults: tuple[str, ...] = ()

    @property
    def unclear(self) -> int:
        """Requests without an answer that says what became of them."""
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
    """What all outcomes of one deed say.

    Attributes:
        own: Verdicts of those that stand for a request of their own.
        joined: Verdicts of those that share another's.
        by_answer: How many are in doubt for what an answer said.
    """

    own: Counter[str] = attrs.field(factory=Counter)
    joined: Counter[str] = attrs.field(factory=Counter)
    by_answer: int = 0

    def add(self, outcome: JudgedOutcome) -> None:
        """Hear one more."""
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
        """Count those with a verdict; joined ones are one where nobody leads."""
        return self.own[verdict] or (0 if self.own else min(self.joined[verdict], 1))


def judge(action: str, tally: Tally, told: Told | None) -> Iterator[str]:
    """Say in a sentence each what the requests and the outcomes of a deed belie."""
    if told is not None:
        yield from _unfounded(tally, told)
        if action in _ONCE:
            yield from _of_once(tally, told)
        elif action not in READING:
            yield from _of_repeatable(tally, told)
    elif tally.applied and action not in READING:
        yield f"took effect {tally.applied} times, and no outcome tells of it"


def _unfounded(tally: Tally, told: Told) -> Iterator[str]:
    """Find verdicts for which there was no answer."""
    for verdict, answers, word in (
        ("accepted", tally.yes, "yes"),
        ("rejected", tally.no, "no"),
    ):
        claimed = told.count(verdict) or min(told.joined[verdict], 1)
        if claimed > answers:
            yield f"called {verdict} {claimed} times, answered {word} {answers} times"
    if told.by_answer > tally.unclear:
        yield (
            f"called in doubt for its answer {told.by_answer} times, answered "
            f"unclearly {tally.unclear} times"
        )


def _of_once(tally: Tally, told: Told) -> Iterator[str]:
    """Find requests that no outcome explains, where each needs one of its own."""
    accepted, doubt = told.count("accepted"), told.count("in_doubt")
    rejected = told.count("rejected")
    sent = tally.received - tally.not_now
    if accepted > tally.applied:
        yield f"called accepted {accepted} times, took effect {tally.applied} times"
    for happened, times, explained in (
        ("took effect", tally.applied, accepted + doubt),
        ("was answered yes", tally.yes, accepted + doubt),
        ("was answered no", tally.no, rejected + doubt),
        ("was not clearly answered", tally.unclear, doubt),
        ("was sent", sent, accepted + rejected + doubt),
    ):
        if times > explained:
            yield f"{happened} {times} times, {_summary(told)}"


def _of_repeatable(tally: Tally, told: Told) -> Iterator[str]:
    """Find what no outcome explains, where one outcome may have taken many requests."""
    accepted, doubt = told.count("accepted"), told.count("in_doubt")
    if accepted and not tally.applied:
        yield f"called accepted {accepted} times, took effect 0 times"
    for happened, times, explained in (
        ("took effect", tally.applied, accepted + doubt),
        ("was answered yes", tally.yes, accepted + doubt),
        ("was answered no", tally.no, accepted + told.count("rejected") + doubt),
        ("was not clearly answered", tally.unclear, accepted + doubt),
    ):
        if times and not explained:
            yield f"{happened} {times} times, {_summary(told)}"
    if tally.overtaken >= max(told.own.total(), 1):
        yield f"was repeated after another action {tally.overtaken} times"


def _summary(told: Told) -> str:
    counts = ", ".join(
        f"{count} {verdict}" for verdict, count in sorted(told.own.items())
    )
    return f"outcomes: {counts or 'none of its own'}, {told.joined.total()} joined"
