"""The exception tree: what a caller can catch, and that it travels."""

import copy
import inspect
import pickle
import re

import attrs
import pytest

from aiophlo import errors
from aiophlo.errors import (
    CredentialsError,
    CustomerOnHoldError,
    EngagedError,
    InDoubtError,
    InvalidAddressError,
    InvalidInputError,
    NobodyAnsweredError,
    NotFoundError,
    NotSentError,
    PhloError,
    RejectedError,
    VerdictError,
)
from aiophlo.model.actions import WarmTransfer
from aiophlo.model.handover_records import Ending, OpenHandover, Tried
from aiophlo.model.outcomes import InDoubt, Reason, Rejected

OUTCOME = InDoubt(
    action=WarmTransfer(
        phlo_id="p", node_id="n", trigger_source="+14155550100", to="+14155550101"
    ),
    reason=Reason.SILENT,
    status=None,
    body={"api_id": ["nested"]},
)


def drawn_tree() -> dict[str, str]:
    """Return each exception's parent as the module's docstring draws it."""
    parents: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in (inspect.getdoc(errors) or "").splitlines():
        match = re.match(r"(?P<indent>[ │├└─]*)(?P<name>[A-Z]\w+Error)\b", line)
        if match is None:
            continue
        depth = len(match["indent"])
        while path and path[-1][0] >= depth:
            path.pop()
        parents[match["name"]] = path[-1][1] if path else "Exception"
        path.append((depth, match["name"]))
    return parents


def real_tree() -> dict[str, str]:
    """Return each exception's first parent as the module defines it."""
    return {
        name: value.__bases__[0].__name__
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }


def test_tree_is_what_its_docstring_draws() -> None:
    """Who catches by the drawing would let a ringing phone pass as a refusal."""
    assert drawn_tree() == real_tree()
    assert len(real_tree()) == 18


def test_invalid_input_is_a_value_error_too() -> None:
    """Code that already catches ValueError for bad input keeps working."""
    assert issubclass(InvalidInputError, ValueError)
    assert not issubclass(VerdictError, ValueError)


@pytest.mark.parametrize("kind", [InvalidInputError, InvalidAddressError])
def test_input_error_keeps_its_field_when_copied(
    kind: type[InvalidInputError],
) -> None:
    """A worker process's refusal must still say which column was wrong."""
    error = kind("to: expected something else", field="to")
    for twin in (
        pickle.loads(pickle.dumps(error)),  # noqa: S301 -- our own bytes
        copy.copy(error),
        copy.deepcopy(error),
    ):
        assert type(twin) is kind
        assert (str(twin), twin.field) == (str(error), "to")
    assert kind("x").field == ""


@pytest.mark.parametrize(
    "kind",
    [
        VerdictError,
        RejectedError,
        CredentialsError,
        NotFoundError,
        NotSentError,
        InDoubtError,
    ],
)
def test_verdict_error_keeps_its_outcome_when_copied(kind: type[VerdictError]) -> None:
    """The agent's screen needs the outcome on the other side of a queue."""
    error = kind("WarmTransfer is in doubt", outcome=OUTCOME)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        twin = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 -- our own
        assert type(twin) is kind
        assert twin.outcome == OUTCOME
        assert str(twin) == str(error)
    assert copy.copy(error).outcome is OUTCOME
    deep = copy.deepcopy(error).outcome
    assert deep == OUTCOME
    assert deep is not OUTCOME
    with pytest.raises(TypeError, match="outcome"):
        kind("x")  # type: ignore[call-arg]
    assert hash(error) != hash(copy.copy(error))  # an exception is itself alone


def test_verdict_error_shows_what_its_outcome_knows() -> None:
    """Who handles an error at night must not have to dig for why and how often."""
    outcome = attrs.evolve(OUTCOME, attempts=3, seconds=1.5, status=502)
    error = InDoubtError("WarmTransfer is in doubt", outcome=outcome)
    assert error.action is outcome.action
    assert (error.attempts, error.seconds, error.status) == (3, 1.5, 502)
    assert error.reason is Reason.SILENT
    rejected = RejectedError("no", outcome=Rejected(action=OUTCOME.action, status=400))
    assert (rejected.reason, rejected.status) == (None, 400)
    error.add_note("seen by the supervisor")
    assert copy.copy(error).__notes__ == ["seen by the supervisor"]


def test_handover_error_keeps_what_it_knows_when_copied() -> None:
    """Whoever helps the customer may sit at the other end of a queue."""
    tried = (Tried("+14155550101", Ending.NO_ANSWER),)
    nobody = NobodyAnsweredError("nobody took the call", tried=tried)
    handover = OpenHandover(
        account="MA",
        phlo_id="p",
        node_id="n",
        agent="+14155550100",
        customer="…02",
        targets="…01",
    )
    on_hold = CustomerOnHoldError("customer …02 may be alone", handover=handover)
    engaged = EngagedError("agent: …00 can't be in two", field="agent")
    for error in (nobody, on_hold, engaged):
        twin = pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own bytes
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(copy.copy(error)) == vars(error)
        assert "155550" not in f"{error!r} {vars(error)}"
    assert NobodyAnsweredError("x").tried == ()
    assert CustomerOnHoldError("x").handover is None


def test_bare_phlo_error_copies() -> None:
    """Whoever catches the base must be able to hand it on."""
    twin = pickle.loads(pickle.dumps(PhloError("closed")))  # noqa: S301 -- our own
    assert (type(twin), str(twin)) == (PhloError, "closed")


def test_error_shows_no_address_of_its_outcome() -> None:
    """A traceback in a ticket must not carry the customer's number."""
    error = InDoubtError("WarmTransfer is in doubt", outcome=OUTCOME)
    shown = f"{error!r} {error} {vars(error)}"
    assert "155550100" not in shown
    assert "155550101" not in shown
    assert "…01" in shown
