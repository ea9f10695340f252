"""A batch that looks first sends again only what was looked for and is unseen."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from aiophlo import (
    InDoubt,
    InvalidInputError,
    Journal,
    Outcome,
    SessionPool,
    WarmTransfer,
)
from aiophlo.simulator import Fault, Listing, Simulator
from tests.support.doubles import AGENT, NODE_ID, PHLO_ID, act, address, pool_of

LONG_AGO = 20_000.0  # seconds; by then every call is over, and listed
OURS = "+14155550100"


def transfer(number: int) -> WarmTransfer:
    """Return a transfer with a key of its own."""
    return WarmTransfer(
        phlo_id=PHLO_ID,
        node_id=NODE_ID,
        trigger_source=AGENT,
        to=address(number),
        key=f"row {number}",
    )


async def run(
    pool: SessionPool,
    path: Path,
    *numbers: int,
    **options: Any,  # noqa: ANN401 -- stream's own
) -> list[Outcome]:
    """Stream some transfers with a journal; return their outcomes in order."""
    async with Journal(path) as journal:
        stream = pool.stream(
            map(transfer, numbers),
            journal=journal,
            **options,
        )
        async with stream as outcomes:
            found = {number: outcome async for number, outcome in outcomes.numbered()}
    return [found[number] for number in range(len(numbers))]


async def lose(
    pool: SessionPool, simulator: Simulator, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leave in doubt, hours ago, one that rang and one that didn't."""

    def then() -> float:
        return time.time() - LONG_AGO

    with monkeypatch.context() as patch:
        clock = SimpleNamespace(time=then)
        patch.setattr("aiophlo.journal.open_journal.time", clock)
        patch.setattr(simulator.call_list, "_now", then)
        simulator.fault_next(Fault.DROP_AFTER_READ, to=address(1))
        simulator.fault_next(Fault.DROP_BEFORE_READ, dialled=False, to=address(2))
        lost = await run(pool, path, 1, 2)
    assert [outcome.verdict for outcome in lost] == ["in_doubt"] * 2


async def test_seen_is_accepted_and_unseen_is_sent_again(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was rung last night is not rung again; who wasn't, is."""
    path = tmp_path / "j.db"
    async with pool_of(simulator) as pool:
        await lose(pool, simulator, path, monkeypatch)
        outcomes = await run(pool, path, 1, 2, include_in_doubt="unseen")
    assert [outcome.verdict for outcome in outcomes] == ["accepted"] * 2
    assert [getattr(outcome, "sighted", None) for outcome in outcomes] == [True, False]
    assert [outcome.attempts for outcome in outcomes] == [1, 2]
    assert simulator.ledger.dials(to=address(1)) == 1
    assert simulator.ledger.dials(to=address(2)) == 1
    with Journal.read(path) as reader:
        assert reader.report().verdicts["accepted"] == 2
        assert reader.report().reasons == {"sighted": 1}
        seen, sent = reader.outcomes()
    assert seen.intended_at < time.time() - LONG_AGO / 2, "it stays as it was"
    assert sent.intended_at > time.time() - LONG_AGO / 2


async def test_what_was_seen_is_known_to_have_been_seen(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plivo never said yes to it: who counts its answers must be able to tell."""
    path = tmp_path / "j.db"
    async with pool_of(simulator) as pool:
        await lose(pool, simulator, path, monkeypatch)
        await run(pool, path, 1, 2, include_in_doubt="unseen")
        again = await run(pool, path, 1, 2)
    assert [getattr(outcome, "sighted", None) for outcome in again] == [True, False]


async def test_recalled_doubt_knows_when_it_left(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program of one's own can look for it, too."""
    path = tmp_path / "j.db"
    async with pool_of(simulator) as pool:
        await lose(pool, simulator, path, monkeypatch)
        doubt, _ = await run(pool, path, 1, 2)
        assert isinstance(doubt, InDoubt)
        sighting = await pool.look(doubt, look_for=0)
    assert sighting.seen


@pytest.mark.parametrize("trouble", ["too soon", "two calls", "no list"])
async def test_what_is_not_surely_unseen_stays_in_doubt(
    simulator: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
) -> None:
    """Only a list that was read whole, and late enough, says that nothing is there."""
    path = tmp_path / "j.db"
    async with pool_of(simulator) as pool:
        await lose(pool, simulator, path, monkeypatch)
        options: dict[str, Any] = {"include_in_doubt": "unseen"}
        if trouble == "too soon":
            options["unseen_after"] = 2 * LONG_AGO
        if trouble == "two calls":
            (leg,) = simulator.call_list.legs(address(1))
            for number in (1, 2, 2):
                other = simulator.place_other_call(address(number))
                other.began_at = leg.began_at
        if trouble == "no list":
            simulator.answer_next(403, action="list_calls", times=None)
        before = simulator.ledger.dials()
        outcomes = await run(pool, path, 1, 2, **options)
        assert [outcome.verdict for outcome in outcomes] == ["in_doubt"] * 2
        assert simulator.ledger.dials() == before
        simulator.clear_script()
        again = await run(pool, path, 1, 2)
    assert [outcome.verdict for outcome in again] == ["in_doubt"] * 2
    with Journal.read(path) as reader:
        assert all(r.intended_at < time.time() - 300 for r in reader.outcomes())


async def test_call_from_a_number_nobody_knew_of_is_not_rung_again(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node's number was changed last week, and the settings weren't."""
    path = tmp_path / "j.db"
    async with pool_of(simulator, caller_ids=["+14155550777"]) as pool:
        await lose(pool, simulator, path, monkeypatch)
        [outcome] = await run(pool, path, 1, include_in_doubt="unseen")
    assert outcome.verdict == "in_doubt"
    assert simulator.ledger.dials(to=address(1)) == 1


async def test_doubts_that_are_kept_stop_no_batch(
    simulator: Simulator, tmp_path: Path
) -> None:
    """Ten old doubts in a row are no failing server."""
    path = tmp_path / "j.db"
    numbers = range(12)
    async with pool_of(simulator) as pool:
        for number in numbers:
            simulator.fault_next(Fault.DROP_AFTER_READ, to=address(number))
            await run(pool, path, number)
        outcomes = await run(pool, path, *numbers, 50, include_in_doubt="unseen")
    assert [outcome.verdict for outcome in outcomes] == ["in_doubt"] * 12 + ["accepted"]


async def test_unlisted_call_rings_twice(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the option risks, as its documentation says."""
    simulator.list_calls(Listing(unlisted=1.0))
    path = tmp_path / "j.db"
    async with pool_of(simulator) as pool:
        await lose(pool, simulator, path, monkeypatch)
        await run(pool, path, 1, include_in_doubt="unseen")
    assert simulator.ledger.dials(to=address(1)) == 2


async def test_wrong_options_are_refused(simulator: Simulator) -> None:
    """Before anything is sent."""
    async with pool_of(simulator) as pool:
        for wrong in ("seen", 1, None):
            with pytest.raises(InvalidInputError, match="include_in_doubt"):
                pool.stream([], include_in_doubt=wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError, match="a journal that knows"):
            pool.stream([], include_in_doubt="unseen")
        with pytest.raises(InvalidInputError, match="unseen_after"):
            pool.stream([], unseen_after=0)


async def test_only_what_an_earlier_run_left_in_doubt_can_be_resolved(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verdict must not be noted over another one."""
    path = tmp_path / "j.db"
    async with pool_of(simulator) as pool:
        await lose(pool, simulator, path, monkeypatch)
        accepted = await pool.send(act(WarmTransfer, 7))
    async with Journal(path) as journal:
        found = journal.find_row(0, transfer(1))
        assert found is not None
        assert found[0] == "in_doubt"
        assert journal.find_row(0, transfer(9)) is None
        with pytest.raises(InvalidInputError, match="two different actions"):
            journal.find_row(0, attrs.evolve(transfer(1), to=address(8)))
        with pytest.raises(InvalidInputError, match="in hand"):
            _ = journal.resolve("row 1", accepted)
        assert journal.recall("row 9", transfer(9)) is None
        with pytest.raises(InvalidInputError, match="in hand"):
            _ = journal.resolve("row 9", accepted)
        assert journal.recall("row 1", transfer(1), include_in_doubt=True) is None
        assert isinstance(journal.earlier("row 1"), InDoubt)
        await journal.resolve("row 1", accepted)
        assert journal.earlier("row 1") is None
