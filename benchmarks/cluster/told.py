"""What processes of the soak tell of their actions, as lines of JSON, and read back."""

import json
from collections.abc import Iterable
from typing import Any, Self

import attrs

from aiophlo.model import actions
from aiophlo.model.actions import Action
from aiophlo.model.outcomes import InDoubt, NotSent, Outcome

Line = dict[str, Any]


def begun(action: Action, at: float, *, coordinated: bool) -> Line:
    """Return what is told of an action before it is sent."""
    return {
        "begun": action.key,
        "kind": type(action).__name__,
        "fields": attrs.asdict(action),
        "at": at,
        "coordinated": coordinated,
    }


def ended(outcome: Outcome) -> Line:
    """Return what is told of what an action came to."""
    reason = outcome.reason if isinstance(outcome, InDoubt | NotSent) else None
    return {
        "ended": outcome.action.key,
        "verdict": outcome.verdict,
        "reason": reason,
        "status": outcome.status,
        "joined": outcome.joined,
    }


@attrs.define
class Said:
    """An action, and what its process said that it came to.

    Attributes:
        action: The action.
        at: Unix time at which it was begun.
        coordinated: Whether its pool reached the database.
        killed: Whether its process was killed.
        outcomes: How many it was said to have come to.
        verdict: The last of them; in doubt if the process didn't live to say one.
        reason: Its reason, if it has one.
        status: Its status, if it has one.
        joined: Whether it is another one's.
    """

    action: Action
    at: float
    coordinated: bool
    killed: bool
    outcomes: int = 0
    verdict: str = "in_doubt"
    reason: str | None = None
    status: int | None = None
    joined: bool = False

    @classmethod
    def of(cls, line: Line, *, killed: bool) -> Self:
        """Return what a line says that tells of an action's begin."""
        action: Action = getattr(actions, line["kind"])(**line["fields"])
        return cls(action, line["at"], line["coordinated"], killed)

    @property
    def to(self) -> str:
        """Whom it dials, if anybody."""
        return str(getattr(self.action, "to", ""))

    def end(self, line: Line) -> None:
        """Take what a line says that tells of its end."""
        self.outcomes += 1
        for name in ("verdict", "reason", "status", "joined"):
            setattr(self, name, line[name])


def read(text: str) -> list[Said]:
    """Return what the lines of one process say."""
    lines = [json.loads(line) for line in text.splitlines()]
    killed = {"closed": True} not in lines
    said: dict[str, Said] = {}
    for line in lines:
        if "begun" in line:
            said[line["begun"]] = Said.of(line, killed=killed)
        elif "ended" in line:
            said[line["ended"]].end(line)
    return list(said.values())


def without_one_outcome(said: Iterable[Said]) -> int:
    """Count the actions with two outcomes, or with none though their process lived."""
    return sum(it.outcomes > 1 or not (it.outcomes or it.killed) for it in said)
