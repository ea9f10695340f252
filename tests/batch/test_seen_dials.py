"""Seen dials: equal ones are found, and no other is lost."""

from typing import Any

import attrs
import pytest

from aiophlo.batch.seen_dials import SeenDials
from aiophlo.model.actions import AddUser, ColdTransfer, DialAction, WarmTransfer
from tests.support.doubles import act, address


def dial(kind: type[DialAction], **changes: Any) -> DialAction:  # noqa: ANN401 -- an action's own
    """Return a dial that differs from all others in what is given."""
    action = act(kind)
    assert isinstance(action, DialAction)
    return attrs.evolve(action, **changes)


@pytest.mark.parametrize("kind", [WarmTransfer, ColdTransfer, AddUser])
def test_equal_dials_are_found_however_they_are_spelled(kind: type[DialAction]) -> None:
    """One customer in two spellings would be called twice."""
    seen = SeenDials()
    assert seen.add(dial(kind, to="+14152225555"))
    assert not seen.add(dial(kind, to="+1 (415) 222-5555", key="another"))
    assert seen.add(dial(kind, to="sip:sup@h.example"))
    assert not seen.add(dial(kind, to="sip:%73up@h.example:5060;transport=udp"))
    assert seen.add(dial(kind, to="sip:sup@h.example:5070"))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (ColdTransfer, {}),
        (WarmTransfer, {"to": address(1)}),
        (WarmTransfer, {"trigger_source": address(7)}),
        (WarmTransfer, {"role": "customer"}),
        (WarmTransfer, {"phlo_id": "other"}),
        (WarmTransfer, {"node_id": "other"}),
    ],
)
def test_dials_that_differ_are_both_new(
    kind: type[DialAction], changes: dict[str, str]
) -> None:
    """Somebody would never be called."""
    seen = SeenDials()
    assert seen.add(dial(WarmTransfer))
    assert seen.add(dial(kind, **changes))


def test_many_are_told_apart_in_few_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where hashes stand side by side, one must not be found across two others."""
    hashes = {number: 0x1_0101_0101_0101 >> number % 48 for number in range(41)}
    monkeypatch.setattr(
        "aiophlo.batch.seen_dials.hash",
        lambda key: hashes[int(key.split()[-2][-7:])],
        raising=False,
    )
    seen = SeenDials()
    known: set[int] = set()
    for number, value in hashes.items():
        assert seen.add(dial(WarmTransfer, to=address(number))) == (value not in known)
        known.add(value)


def test_hash_that_lies_across_two_others_is_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody who is in the list once would never be called."""
    hashes = [0x0_0203_0405_0607, 0x0_0809_0A0B_0C0D, 0x2_0304_0506_0700]
    monkeypatch.setattr(
        "aiophlo.batch.seen_dials.hash",
        lambda key: hashes[int(key.split()[-2][-7:])],
        raising=False,
    )
    seen = SeenDials()
    for number in range(3):
        assert seen.add(dial(WarmTransfer, to=address(number)))
    assert not any(seen.add(dial(WarmTransfer, to=address(n))) for n in range(3))
