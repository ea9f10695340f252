"""The judge finds every lie that its ledger can prove, and no other."""

import attrs
import pytest

from aiophlo.simulator.answer_meaning import Meaning
from aiophlo.simulator.audit import Counts, Told, judge

ONCE = ["call", "warm_transfer", "cold_transfer", "run_phlo", "voicemail_drop"]
REPEATABLE = ["hold", "unhold", "abort_transfer", "bridge_mute"]
READS = ["get_phlo", "get_node"]
MEANINGS = {"y": Meaning.YES, "n": Meaning.NO, "l": Meaning.NOT_NOW}


@attrs.frozen
class Outcome:
    """What a client says of an action."""

    verdict: str
    status: int | None = None
    reason: str | None = None
    joined: bool = False
    action: object = None


ACCEPTED = Outcome("accepted")
REJECTED = Outcome("rejected")
NOT_SENT = Outcome("not_sent")
LOST = Outcome("in_doubt", reason="disconnected")
JOINED = attrs.evolve(ACCEPTED, joined=True)
REFUSED_WITH_IT = attrs.evolve(REJECTED, joined=True)
SILENT = Outcome("in_doubt", reason="silent")
DOUBTED_502 = Outcome("in_doubt", 502, "server_error")
DOUBTED_429 = Outcome("in_doubt", 429, "unknown")
DOUBTED_404 = Outcome("in_doubt", 404, "unknown")
DOUBTED_204 = Outcome("in_doubt", 204, "unreadable")
STALE_408 = Outcome("in_doubt", 408, "silent")


def counts_of(requests: str) -> Counts:
    """Count requests: answered yes, no or later, or unclearly.

    A capital has taken effect: `Y`, `N`, `L`, `U`.
    """
    made = Counts(received=len(requests), applied=sum(map(str.isupper, requests)))
    for request in requests.lower():
        made.answered(MEANINGS.get(request, Meaning.UNCLEAR))
    return made


def found(action: str, requests: str, outcomes: list[Outcome]) -> list[str]:
    """Judge outcomes of one deed."""
    told = Told()
    for outcome in outcomes:
        told.add(outcome)
    return list(judge(action, counts_of(requests), told))


@pytest.mark.parametrize("action", [*ONCE, *REPEATABLE])
@pytest.mark.parametrize(
    ("requests", "outcome"),
    [
        ("Y", ACCEPTED),
        ("lY", ACCEPTED),
        ("n", REJECTED),
        ("ln", REJECTED),
        ("", NOT_SENT),
        ("ll", NOT_SENT),
        ("U", LOST),
        ("u", LOST),
        ("U", SILENT),
        ("U", DOUBTED_502),
        ("", LOST),
        ("Y", LOST),
        ("n", LOST),
        ("", STALE_408),
        ("u", STALE_408),
    ],
)
def test_truth_is_believed(action: str, requests: str, outcome: Outcome) -> None:
    """A judge that cries wolf is switched off."""
    assert found(action, requests, [outcome]) == []


@pytest.mark.parametrize("action", [*ONCE, *REPEATABLE])
@pytest.mark.parametrize(
    ("requests", "outcome"),
    [
        ("", ACCEPTED),
        ("y", ACCEPTED),
        ("n", ACCEPTED),
        ("N", ACCEPTED),
        ("l", ACCEPTED),
        ("U", ACCEPTED),
        ("", REJECTED),
        ("Y", REJECTED),
        ("l", REJECTED),
        ("u", REJECTED),
        ("un", REJECTED),
        ("Y", NOT_SENT),
        ("y", NOT_SENT),
        ("n", NOT_SENT),
        ("U", NOT_SENT),
        ("u", NOT_SENT),
        ("l", DOUBTED_429),
        ("n", DOUBTED_404),
        ("Y", DOUBTED_204),
        ("", DOUBTED_502),
    ],
)
def test_lie_is_found(action: str, requests: str, outcome: Outcome) -> None:
    """Whoever trusts a wrong verdict rings a phone twice, or forgets a caller."""
    assert found(action, requests, [outcome]) != []


@pytest.mark.parametrize(
    ("action", "requests", "outcomes", "disagrees"),
    [
        ("call", "YY", [ACCEPTED], True),
        ("call", "YY", [ACCEPTED, ACCEPTED], False),
        ("call", "Y", [ACCEPTED, ACCEPTED], True),
        ("call", "Yn", [ACCEPTED, REJECTED], False),
        ("call", "YU", [ACCEPTED, LOST], False),
        ("call", "YU", [ACCEPTED], True),
        ("call", "uY", [ACCEPTED], True),
        ("call", "UU", [LOST], True),
        ("call", "uu", [LOST], True),
        ("call", "un", [LOST], True),
        ("call", "UU", [LOST, LOST], False),
        ("call", "Y", [ACCEPTED, NOT_SENT], False),
        ("call", "YY", [ACCEPTED, NOT_SENT], True),
        ("hold", "UY", [ACCEPTED], False),
        ("hold", "Un", [LOST], False),
        ("hold", "UUU", [LOST], False),
        ("hold", "YY", [ACCEPTED, ACCEPTED], False),
        ("hold", "Y", [ACCEPTED, ACCEPTED], True),
        ("hold", "nY", [LOST, ACCEPTED], False),
    ],
)
def test_every_request_needs_an_outcome_that_explains_it(
    action: str, requests: str, outcomes: list[Outcome], disagrees: bool
) -> None:
    """A dial repeated in doubt is a lie even when the first rang nobody."""
    assert bool(found(action, requests, outcomes)) is disagrees


@pytest.mark.parametrize(
    ("requests", "outcomes", "disagrees"),
    [
        ("Y", [ACCEPTED, JOINED], False),
        ("YY", [ACCEPTED, JOINED], True),
        ("Y", [JOINED, JOINED], False),
        ("n", [REJECTED, REFUSED_WITH_IT], False),
        ("Y", [ACCEPTED, REFUSED_WITH_IT], True),
        ("n", [REJECTED, JOINED], True),
    ],
)
def test_joined_outcome_stands_for_no_request_of_its_own(
    requests: str, outcomes: list[Outcome], disagrees: bool
) -> None:
    """A double click is one call, and two would be wrong."""
    assert bool(found("warm_transfer", requests, outcomes)) is disagrees


@pytest.mark.parametrize("action", READS)
@pytest.mark.parametrize(
    ("requests", "outcome", "disagrees"),
    [
        ("y", ACCEPTED, False),
        ("uuy", ACCEPTED, False),
        ("un", REJECTED, False),
        ("yyy", NOT_SENT, False),
        ("n", ACCEPTED, True),
        ("u", REJECTED, True),
        ("n", DOUBTED_404, True),
    ],
)
def test_read_is_held_against_its_answers_alone(
    action: str, requests: str, outcome: Outcome, disagrees: bool
) -> None:
    """A GET rings nobody, but what it says of a node must be so."""
    assert bool(found(action, requests, [outcome])) is disagrees


@pytest.mark.parametrize(
    ("superseded", "outcomes", "disagrees"),
    [
        (1, [ACCEPTED], True),
        (1, [LOST, ACCEPTED], False),
        (2, [LOST, ACCEPTED], True),
    ],
)
def test_repeat_after_a_newer_word_is_found(
    superseded: int, outcomes: list[Outcome], disagrees: bool
) -> None:
    """A customer taken off hold must not be put back by an old request."""
    seen = attrs.evolve(counts_of("UY"), superseded=superseded)
    told = Told()
    for outcome in outcomes:
        told.add(outcome)
    assert bool(list(judge("hold", seen, told))) is disagrees


@pytest.mark.parametrize(
    ("action", "requests", "disagrees"),
    [("call", "U", True), ("hold", "Y", True), ("call", "n", False)],
)
def test_effect_is_found_when_nobody_tells_of_it(
    action: str, requests: str, disagrees: bool
) -> None:
    """A phone that rings for an action without an outcome rings for nobody."""
    assert bool(list(judge(action, counts_of(requests), None))) is disagrees


def test_read_without_outcome_is_nobodys_business() -> None:
    """A batch's own probes come with no outcome."""
    assert list(judge("get_phlo", counts_of("y"), None)) == []
