"""Outcomes: four verdicts, what they carry, and how attempts add up."""

import copy
import pickle
from types import SimpleNamespace
from typing import Any, cast

import attrs
import pytest

from aiophlo.errors import (
    CredentialsError,
    InDoubtError,
    NotFoundError,
    NotSentError,
    RejectedError,
    VerdictError,
    accepted_or_raise,
    error_of,
)
from aiophlo.model.actions import GetPhlo, WarmTransfer
from aiophlo.model.outcomes import (
    Accepted,
    InDoubt,
    NotSent,
    Outcome,
    Reason,
    Rejected,
    combine,
)

CANARY = "4155550"
API_ID = "faad0293-f5f0-487e-8ff7-b45ba6c45b25"
ACTION = WarmTransfer(
    phlo_id="p", node_id="n", trigger_source="+14155550100", to="+14155550199", key="k"
)
KNOWN: dict[str, Any] = {
    "action": ACTION,
    "attempts": 2,
    "seconds": 1.5,
    "waited": 0.5,
    "status": 400,
    "api_id": API_ID,
    "body": {"error": "to +14155550199 is busy", "more": [1]},
    "error": "to +14155550199 or sip:bob@host is busy",
}
ACCEPTED = Accepted(**KNOWN)
REJECTED = Rejected(**KNOWN)
NOT_SENT = NotSent(**KNOWN, reason=Reason.THROTTLED, retry_after=2.0)
IN_DOUBT = InDoubt(**KNOWN, reason=Reason.SERVER_ERROR)
EACH = pytest.mark.parametrize(
    "outcome",
    [ACCEPTED, REJECTED, NOT_SENT, IN_DOUBT],
    ids=lambda outcome: outcome.verdict,
)


def test_verdicts_bear_their_names() -> None:
    """Files and metrics written today are read for years."""
    names = [outcome.verdict for outcome in (ACCEPTED, REJECTED, NOT_SENT, IN_DOUBT)]
    assert names == ["accepted", "rejected", "not_sent", "in_doubt"]


def test_reasons_are_these() -> None:
    """Who counts reasons must not find one renamed."""
    assert {*Reason} == {
        "unreachable", "expired", "throttled", "no_budget", "closed", "duplicate",
        "superseded", "invalid", "stopped", "silent", "disconnected", "server_error",
        "unreadable", "redirected", "cancelled", "interrupted", "unknown",
        "stale_connection", "out_of_files", "misconfigured", "not_coordinated",
    }  # fmt: skip
    assert repr(Reason.SILENT) == "silent"


@EACH
def test_outcome_is_itself_after_any_copy(outcome: Outcome) -> None:
    """An outcome crosses queues and processes on its way to the agent's screen."""
    for twin in (
        pickle.loads(pickle.dumps(outcome)),  # noqa: S301 -- our own bytes
        copy.copy(outcome),
        copy.deepcopy(outcome),
        attrs.evolve(outcome),
    ):
        assert twin == outcome
        assert type(twin) is type(outcome)
        assert attrs.astuple(twin, recurse=False) == attrs.astuple(
            outcome, recurse=False
        )
        assert twin.action.key == "k"
        assert hash(twin) == hash(outcome)
    assert attrs.evolve(outcome, attempts=3) != outcome
    assert attrs.evolve(outcome, seconds=9.0, waited=9.0) == outcome


@EACH
def test_outcome_shows_no_address(outcome: Outcome) -> None:
    """An outcome is what people log first."""
    shown = repr(outcome)
    assert CANARY not in shown
    assert "bob" not in shown
    assert "error='to …99 or sip:…@host is busy'" in shown
    assert API_ID in shown
    assert CANARY not in repr(attrs.evolve(outcome, api_id="14155550100"))
    assert "api_id=None, error=None" in repr(Accepted(action=ACTION))


@EACH
def test_outcome_can_not_change(outcome: Outcome) -> None:
    """A verdict changed by one observer would be a lie to the next."""
    for field in attrs.fields(type(outcome)):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(outcome, field.name, None)
    assert not hasattr(outcome, "__dict__")


@pytest.mark.parametrize("kind", [Accepted, Rejected])
def test_outcome_needs_no_more_than_its_action(
    kind: type[Accepted | Rejected],
) -> None:
    """Whoever builds one for a test of theirs should need little."""
    outcome = kind(action=ACTION)
    assert (outcome.attempts, outcome.seconds, outcome.waited) == (1, 0.0, 0.0)
    assert (outcome.status, outcome.api_id, outcome.error) == (None, None, None)
    assert (outcome.body, outcome.joined) == ({}, False)


@EACH
def test_outcome_is_matched_by_its_fields(outcome: Outcome) -> None:
    """The documented way to read one must work for each."""
    match outcome:
        case Accepted(api_id=api_id):
            read: object = api_id
        case Rejected(status=status, error=error):
            read = (status, error)
        case NotSent(reason=reason, retry_after=wait):
            read = (reason, wait)
        case InDoubt(action=action, reason=reason):
            read = (action, reason)
        case _:
            pytest.fail("an outcome of no known verdict")
    assert (
        read
        == {
            "accepted": API_ID,
            "rejected": (400, KNOWN["error"]),
            "not_sent": ("throttled", 2.0),
            "in_doubt": (ACTION, "server_error"),
        }[outcome.verdict]
    )


NUMBERS: dict[str, Any] = {"attempts": 3, "seconds": 9.0, "waited": 8.0}
LATEST: dict[str, Outcome] = {
    "accepted": Accepted(action=ACTION, api_id="latest", **NUMBERS),
    "rejected": Rejected(action=ACTION, api_id="latest", **NUMBERS),
    "not_sent": NotSent(
        action=ACTION, api_id="latest", reason=Reason.EXPIRED, **NUMBERS
    ),
    "in_doubt": InDoubt(
        action=ACTION, api_id="latest", reason=Reason.SILENT, **NUMBERS
    ),
}
# Which of two attempts speaks for both.
PAIRS = [
    ("accepted", "accepted", "latest"),
    ("accepted", "rejected", "earlier"),
    ("accepted", "not_sent", "earlier"),
    ("accepted", "in_doubt", "earlier"),
    ("rejected", "accepted", "latest"),
    ("rejected", "rejected", "latest"),
    ("rejected", "not_sent", "latest"),
    ("rejected", "in_doubt", "latest"),
    ("not_sent", "accepted", "latest"),
    ("not_sent", "rejected", "latest"),
    ("not_sent", "not_sent", "latest"),
    ("not_sent", "in_doubt", "latest"),
    ("in_doubt", "accepted", "latest"),
    ("in_doubt", "rejected", "earlier"),
    ("in_doubt", "not_sent", "earlier"),
    ("in_doubt", "in_doubt", "earlier"),
    (None, "accepted", "latest"),
    (None, "rejected", "latest"),
    (None, "not_sent", "latest"),
    (None, "in_doubt", "latest"),
]


@pytest.mark.parametrize(("earlier", "latest", "speaks"), PAIRS)
def test_two_attempts_have_one_verdict(
    earlier: str | None, latest: str, speaks: str
) -> None:
    """A phone that may ring since the first attempt still may after the second."""
    before: dict[str, Outcome] = {
        o.verdict: o for o in (ACCEPTED, REJECTED, NOT_SENT, IN_DOUBT)
    }
    first = None if earlier is None else before[earlier]
    both = combine(first, LATEST[latest])
    assert both.verdict == (earlier if speaks == "earlier" else latest)
    assert both.api_id == (API_ID if speaks == "earlier" else "latest")
    assert (both.attempts, both.seconds, both.waited) == (3, 9.0, 8.0)
    if speaks == "earlier":
        assert both.body == KNOWN["body"]
        assert getattr(both, "reason", None) == getattr(first, "reason", None)


@pytest.mark.parametrize(
    ("outcome", "kind", "message"),
    [
        (
            REJECTED,
            RejectedError,
            (
                "WarmTransfer was rejected: status 400, 2 attempts,"
                " to …99 or sip:…@host is busy"
            ),
        ),
        (Rejected(action=ACTION), RejectedError, "WarmTransfer was rejected"),
        (
            Rejected(action=GetPhlo(phlo_id="p"), status=401),
            CredentialsError,
            "GetPhlo was rejected: status 401",
        ),
        (
            Rejected(action=ACTION, status=403),
            CredentialsError,
            "WarmTransfer was rejected: status 403",
        ),
        (
            Rejected(action=ACTION, status=404),
            NotFoundError,
            "WarmTransfer was rejected: status 404",
        ),
        (
            NotSent(action=ACTION, reason=Reason.UNREACHABLE, error="refused"),
            NotSentError,
            "WarmTransfer was not sent (unreachable): refused",
        ),
        (
            InDoubt(action=ACTION, reason=Reason.SILENT),
            InDoubtError,
            "WarmTransfer is in doubt (silent)",
        ),
    ],
)
def test_outcome_raises_its_own_branch(
    outcome: Outcome, kind: type[VerdictError], message: str
) -> None:
    """Catching the wrong branch, an agent would dial again over a ringing phone."""
    with pytest.raises(kind) as caught:
        accepted_or_raise(outcome)
    for error in (error_of(outcome), caught.value):
        assert type(error) is kind
        assert str(error) == message
        assert error.outcome is outcome
        assert CANARY not in repr(error)


def test_accepted_is_returned_and_never_raised() -> None:
    """A transfer that worked must not look like an error."""
    assert accepted_or_raise(ACCEPTED) is ACCEPTED
    with pytest.raises(TypeError, match="other than Accepted") as caught:
        error_of(ACCEPTED)
    assert CANARY not in str(caught.value)


def test_error_text_of_the_server_stays_on_one_line() -> None:
    """A crafted error must not forge a line in the log."""
    text = "busy\r\n2026-11-23 CRITICAL wiped \x1b[2J\ud800"
    error = error_of(attrs.evolve(REJECTED, error=text))
    assert len(str(error).splitlines()) == 1
    assert str(error).isprintable()


def test_outcome_of_no_verdict_is_not_raised_as_one() -> None:
    """Anything not foreseen must not pass for a refusal."""
    with pytest.raises(TypeError):
        error_of(cast("Outcome", SimpleNamespace(action=ACTION)))
