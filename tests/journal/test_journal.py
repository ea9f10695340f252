"""The journal: what was acknowledged survives, and nothing leaves unrecorded."""

# ruff: noqa: ASYNC240 -- these loops have nobody else to serve

import asyncio
import contextlib
import gc
import itertools
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from aiophlo.errors import InvalidInputError, JournalError, PhloError
from aiophlo.journal import writer
from aiophlo.journal.file import OpenFile, open_file
from aiophlo.journal.journal import Journal, default_key
from aiophlo.journal.reader import JournalReader
from aiophlo.model.actions import AbortTransfer, Action, GetPhlo, RunPhlo, WarmTransfer
from aiophlo.model.handover_records import OpenHandover
from aiophlo.model.outcomes import Accepted, InDoubt, NotSent, Outcome, Reason, Rejected

ROOT = Path(__file__).parents[2]
TO = "+14155550100"
T = TypeVar("T")


def transfer(number: int = 0, **changes: str) -> WarmTransfer:
    """Return one of many transfers that differ in whom they dial."""
    facts: dict[str, Any] = {
        "phlo_id": "p1",
        "node_id": "n1",
        "trigger_source": "+14155550199",
        "to": f"+1415556{number:04d}",
    }
    return WarmTransfer(**facts | changes)


def accepted(action: Action) -> Accepted:
    """Return what Plivo's yes looks like."""
    return Accepted(action=action, status=201, api_id="faad0293", seconds=0.2)


async def intend(journal: Journal, number: int) -> None:
    """Intend one of many transfers, in a task of its own."""
    await journal.intend(f"k{number}", transfer(number))


async def send(journal: Journal, key: str, action: Action, outcome: Outcome) -> None:
    """Take an action all the way, as a batch does."""
    assert journal.recall(key, action) is None
    await journal.intend(key, action)
    await journal.settle(key, outcome)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the journal under test lies."""
    return tmp_path / "batch.db"


# What is remembered


@pytest.mark.parametrize(
    "outcome",
    [
        Accepted(action=transfer(), status=201, api_id="a1", seconds=0.25),
        Rejected(action=transfer(), status=400, error="bad role", attempts=2),
        InDoubt(action=transfer(), reason=Reason.SILENT, attempts=3),
    ],
)
async def test_settled_action_is_kept_when_reopened(
    path: Path, outcome: Outcome
) -> None:
    """A resumed batch that forgot one would ring that phone a second time."""
    async with Journal(path) as journal:
        await send(journal, "k", outcome.action, outcome)
    async with Journal(path) as journal:
        known = journal.recall("k", outcome.action)
    assert known == outcome
    assert known.seconds == outcome.seconds


async def test_action_not_sent_may_be_intended_again(path: Path) -> None:
    """A row that an outage stopped must not be lost for good."""
    action = transfer()
    lost = NotSent(action=action, reason=Reason.UNREACHABLE)
    async with Journal(path) as journal:
        await send(journal, "k", action, lost)
    async with Journal(path) as journal:
        await send(journal, "k", action, accepted(action))
    async with Journal(path) as journal:
        assert isinstance(journal.recall("k", action), Accepted)
        assert [record.id for record in journal.outcomes()] == [1]


async def test_intent_without_outcome_is_in_doubt_when_reopened(path: Path) -> None:
    """Its request may have left: sending it again may ring a second phone."""
    action = transfer()
    async with Journal(path) as journal:
        await journal.intend("k", action)
    async with Journal(path) as journal:
        known = journal.recall("k", action)
    assert known == InDoubt(action=action, reason=Reason.INTERRUPTED)


async def test_intent_to_send_again_is_in_doubt_when_reopened(path: Path) -> None:
    """Its second request may have left: the first one's "not sent" is no word on it."""
    action = transfer()
    lost = NotSent(action=action, reason=Reason.UNREACHABLE, status=503, attempts=4)
    async with Journal(path) as journal:
        await send(journal, "k", action, lost)
    async with Journal(path) as journal:
        assert journal.recall("k", action) is None
        await journal.intend("k", action)
        assert journal.report().open == 1
    async with Journal(path) as journal:
        known = journal.recall("k", action)
    assert known == InDoubt(action=action, reason=Reason.INTERRUPTED)


async def test_row_is_recalled_by_its_key_or_its_place(path: Path) -> None:
    """A row found under another key than it was kept by rings a second time."""
    named, nameless = transfer(1, key="k1"), transfer(2)
    async with Journal(path) as journal:
        key = default_key(7, journal.digest(nameless))
        await send(journal, "k1", named, accepted(named))
        await send(journal, key, nameless, accepted(nameless))
    async with Journal(path) as journal:
        assert journal.recall_row(6, named) == ("k1", accepted(named))
        assert journal.recall_row(7, nameless) == (key, accepted(nameless))
        again, unknown = journal.recall_row(8, nameless)
        assert (again != key, unknown) == (True, None)


async def test_verdict_on_a_row_in_doubt_is_doubt_unless_accepted(path: Path) -> None:
    """Its phone may have rung in the run before, whatever this one was told."""
    action = transfer()
    doubt = InDoubt(action=action, reason=Reason.SILENT, attempts=2)
    async with Journal(path) as journal:
        await send(journal, "k", action, doubt)
    async with Journal(path) as journal:
        assert journal.recall("k", action, include_in_doubt=True) is None
        unsent = NotSent(action=action, reason=Reason.STOPPED, attempts=0)
        assert journal.verdict_on("k", unsent) == doubt
        assert journal.verdict_on("k", accepted(action)).attempts == 3
        assert journal.verdict_on("another", unsent) is unsent


async def test_action_in_doubt_is_sent_again_on_request_alone(path: Path) -> None:
    """Only the user can know that the phone did not ring."""
    action = transfer()
    async with Journal(path) as journal:
        await send(journal, "k", action, InDoubt(action=action, reason=Reason.SILENT))
    async with Journal(path) as journal:
        assert journal.recall("k", action, include_in_doubt=True) is None
        await journal.intend("k", action)
        noted = await journal.settle("k", accepted(action))
    assert isinstance(noted, Accepted)


async def test_action_in_doubt_stays_so_when_sending_it_again_fails(path: Path) -> None:
    """The first request may have rung: a third would be a second by accident."""
    action = transfer()
    doubt = InDoubt(action=action, reason=Reason.SILENT, attempts=2)
    async with Journal(path) as journal:
        await send(journal, "k", action, doubt)
    async with Journal(path) as journal:
        journal.recall("k", action, include_in_doubt=True)
        await journal.intend("k", action)
        noted = await journal.settle(
            "k", NotSent(action=action, reason=Reason.THROTTLED, attempts=1)
        )
        assert noted == attrs.evolve(doubt, attempts=3)
    async with Journal(path) as journal:
        assert journal.recall("k", action) == noted


async def test_action_settled_since_the_run_began_is_known(path: Path) -> None:
    """A second batch beside the first must not take its calls for interrupted."""
    first, second = transfer(1), transfer(2)
    async with Journal(path) as journal:
        await send(journal, "a", first, accepted(first))
    async with Journal(path) as journal:
        await journal.intend("b", second)
        journal.start_run()
        assert isinstance(journal.recall("a", first), Accepted)
        await journal.settle("b", accepted(second))
        assert isinstance(journal.recall("b", second), Accepted)


async def test_reason_of_a_newer_release_is_unknown(path: Path) -> None:
    """A journal that two releases share must stay readable for the older."""
    action = transfer()
    async with Journal(path) as journal:
        await send(journal, "k", action, InDoubt(action=action, reason=Reason.SILENT))
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE actions SET reason = 'abducted'")
        database.commit()
    async with Journal(path) as journal:
        assert journal.recall("k", action) == InDoubt(
            action=action, reason=Reason.UNKNOWN
        )


# Keys and digests


async def test_repeated_key_is_a_duplicate_at_every_stage(path: Path) -> None:
    """A customer listed twice must not be called twice."""
    action = transfer()
    duplicate = NotSent(action=action, attempts=0, reason=Reason.DUPLICATE)
    async with Journal(path) as journal:
        assert journal.recall("k", action) is None
        assert journal.recall("k", action) == duplicate
        await journal.intend("k", action)
        assert journal.recall("k", action) == duplicate
        await journal.settle("k", accepted(action))
        assert journal.recall("k", action) == duplicate


async def test_repeated_key_is_a_duplicate_in_a_resumed_batch(path: Path) -> None:
    """The results of a resumed batch must count each call once, as before."""
    action = transfer()
    async with Journal(path) as journal:
        await send(journal, "k", action, accepted(action))
    async with Journal(path) as journal:
        assert isinstance(journal.recall("k", action), Accepted)
        assert isinstance(journal.recall("k", action), NotSent)
        journal.start_run()
        assert isinstance(journal.recall("k", action), Accepted)


async def test_key_for_two_actions_is_refused_in_hand_and_on_disk(path: Path) -> None:
    """One of the two customers would be taken for done and never called."""
    async with Journal(path) as journal:
        journal.recall("order 4155550100", transfer(1))
        with pytest.raises(InvalidInputError, match="two different") as caught:
            journal.recall("order 4155550100", transfer(2))
        assert "4155550100" not in str(caught.value)
        await journal.intend("order 4155550100", transfer(1))
    async with Journal(path) as journal:
        with pytest.raises(InvalidInputError, match="two different"):
            journal.recall("order 4155550100", transfer(2))


async def test_claimed_key_is_refused_to_another_action(path: Path) -> None:
    """The journal would speak of one call while another one rings."""
    async with Journal(path) as journal:
        journal.recall("k", transfer(1))
        with pytest.raises(InvalidInputError, match="two different"):
            await journal.intend("k", transfer(2))


async def test_second_outcome_is_refused_before_the_first_is_on_disk(
    path: Path,
) -> None:
    """A late "not sent" would have the next run ring an accepted call again."""
    async with Journal(path) as journal:
        await journal.intend("k", transfer())
        first = journal.settle("k", accepted(transfer()))
        with pytest.raises(InvalidInputError, match="is settled"):
            await journal.settle("k", NotSent(action=transfer(), reason=Reason.EXPIRED))
        await first


async def test_second_intent_is_refused(path: Path) -> None:
    """Two tasks that each hold an intent would both ring the phone."""
    action = transfer()
    async with Journal(path) as journal:
        await journal.intend("k", action)
        with pytest.raises(InvalidInputError, match="intent already"):
            await journal.intend("k", action)
        await journal.settle("k", accepted(action))
        with pytest.raises(InvalidInputError, match="outcome already"):
            await journal.intend("k", action)
        with pytest.raises(InvalidInputError, match="settled"):
            await journal.settle("k", accepted(action))


async def test_released_key_leaves_no_trace(path: Path) -> None:
    """A row that a stopping batch gave back must be sent by the next run."""
    action = transfer()
    async with Journal(path) as journal:
        journal.recall("k", action)
        journal.release("k")
        assert journal.report().open == 0
        assert journal.recall("k", action) is None
        await journal.intend("k", action)
        with pytest.raises(InvalidInputError, match="released"):
            journal.release("k")


async def test_key_that_utf8_cannot_hold_is_refused_alone(path: Path) -> None:
    """One odd row must not end the batch for all others."""
    async with Journal(path) as journal:
        with pytest.raises(InvalidInputError, match="UTF-8"):
            journal.recall("\ud800", transfer())
        await journal.intend("k", transfer())


async def test_digest_covers_everything_but_the_key(path: Path) -> None:
    """A row that was edited must not pass for the one that was sent."""
    async with Journal(path) as journal:
        digests = {
            journal.digest(action)
            for action in (
                transfer(),
                transfer(1),
                transfer(role="customer"),
                transfer(node_id="n2"),
                AbortTransfer(phlo_id="p1", node_id="n1", member=TO),
                GetPhlo(phlo_id="p1"),
                RunPhlo(phlo_id="p1", parameters={"a": 1}),
                RunPhlo(phlo_id="p1", parameters={"a": 2}),
            )
        }
        assert len(digests) == 8
        assert journal.digest(transfer()) == journal.digest(transfer(key="mine"))


async def test_digest_is_the_same_for_equal_parameters_and_when_reopened(
    path: Path,
) -> None:
    """Every row of a resumed batch would count as new and be dialled again."""
    async with Journal(path) as journal:
        one = journal.digest(RunPhlo(phlo_id="p", parameters={"a": 1, "b": 2}))
    async with Journal(path) as journal:
        assert one == journal.digest(RunPhlo(phlo_id="p", parameters={"b": 2, "a": 1}))


async def test_digest_is_what_it_was_in_earlier_releases(path: Path) -> None:
    """A journal outlives an update of aiophlo, of Python and of attrs."""
    async with Journal(path):
        pass
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(
            "UPDATE settings SET value = ? WHERE name = 'salt'", (bytes(32),)
        )
        database.commit()
    async with Journal(path) as journal:
        assert journal.digest(transfer()) == "41fbe15856d83814d88d010891ea3c30"
        run = RunPhlo(phlo_id="p1", parameters={"b": 1.5, "a": "é"})
        assert journal.digest(run) == "d85fa0c406c151b9895e957f9cff6f9e"


async def test_digests_differ_between_journals(tmp_path: Path) -> None:
    """Numbers are few: without a salt, a table of all digests finds them."""
    digests = set()
    for name in ("a", "b"):
        async with Journal(tmp_path / name) as journal:
            digests.add(journal.digest(transfer()))
    assert len(digests) == 2


def test_default_key_tells_rows_and_actions_apart() -> None:
    """The same transfer on two rows is meant twice."""
    assert default_key(1, "a" * 32) == "1:" + "a" * 16
    assert len({default_key(1, "a"), default_key(2, "a"), default_key(1, "b")}) == 3


@pytest.mark.parametrize(
    "key",
    [
        TO,
        TO[1:],
        "customer +1 (415) 555-0100",
        "415-555-0100",
        "(415)/555\u20110100",
        "\uff14\uff11\uff15\uff15\uff15\uff15\uff10\uff11\uff10\uff10",
        f"sip:{TO[1:]}@phone.plivo.com",
        f"{TO[1:]}:0123456789abcdef",
        f"agent-{TO[1:]}",
        "415\u00ad555%2D0100",
        "415    555    0100",
    ],
)
async def test_file_holds_no_number_at_any_time(path: Path, key: str) -> None:
    """Whoever finds the file must not learn who was called."""
    action = transfer(to=TO)
    error = f"{TO} is busy"
    rejected = Rejected(action=action, error=error, api_id=TO, body={"to": TO})
    async with Journal(path) as journal:
        await send(journal, key, action, rejected)
        held = b"".join(file.read_bytes() for file in path.parent.iterdir())
    held += b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"WarmTransfer" in held
    split = ("555-0100", "555\u20110100", "\uff15\uff15", "415\u00ad555", "415    555")
    secrets = ("4155550100", "4155550199", *split)
    for secret in secrets:
        assert secret.encode() not in held
    async with Journal(path) as journal:
        assert isinstance(journal.recall(key, action), Rejected)


@pytest.mark.parametrize(
    "key",
    ["order-1000001", "444c5555-6666-7777-8888-444455556666", "7:1234567890123456"],
)
async def test_key_without_a_number_is_kept_as_it_is(path: Path, key: str) -> None:
    """Whoever looks into a row in doubt has to find it in his own books."""
    async with Journal(path) as journal:
        await journal.intend(key, transfer())
        assert [record.key for record in journal.outcomes()] == [key]


async def test_keys_that_look_alike_once_masked_stay_apart(path: Path) -> None:
    """One of two customers would be taken for the other."""
    async with Journal(path) as journal:
        for key in ("+14155550100", "+14155559900"):
            await send(journal, key, transfer(), accepted(transfer()))
        shown = [record.key for record in journal.outcomes()]
        assert len(set(shown)) == 2
        assert journal.recall(shown[0], transfer()) is None


async def test_odd_answer_is_kept_as_text(path: Path) -> None:
    """An answer no database can hold must not stop the batch."""
    action = transfer()
    odd = Rejected(action=action, error="\ud800" + "x" * 9999, api_id="\udfff")
    async with Journal(path) as journal:
        await send(journal, "k", action, odd)
        record = next(journal.outcomes())
    assert record.error == " " + "x" * 499
    assert record.api_id == "?"


# Reading


async def test_report_counts_what_is_there(path: Path) -> None:
    """Whoever decides about rows in doubt has to see how many there are."""
    async with Journal(path) as journal:
        for number, kind in enumerate((accepted, accepted)):
            action = transfer(number)
            await send(journal, f"k{number}", action, kind(action))
        doubt = InDoubt(action=transfer(8), reason=Reason.SILENT)
        await send(journal, "k8", transfer(8), doubt)
        await journal.intend("k9", transfer(9))
        report = journal.report()
    assert report.verdicts == {
        "accepted": 2,
        "rejected": 0,
        "not_sent": 0,
        "in_doubt": 1,
    }
    assert report.reasons == {"silent": 1}
    assert report.open == 1
    assert report.first_at is not None
    assert report.last_at is not None
    assert report.first_at <= report.last_at


async def test_empty_journal_reports_nothing(path: Path) -> None:
    """A batch that was killed at once has a report as well."""
    async with Journal(path) as journal:
        report = journal.report()
    assert (report.open, report.first_at, report.last_at) == (0, None, None)


async def test_reading_works_beside_a_runner_and_after_it(path: Path) -> None:
    """A supervisor who looks must neither wait for the batch nor stop it."""
    action = transfer()
    async with Journal(path) as journal:
        await send(journal, "k", action, accepted(action))
        with Journal.read(path) as reader:
            assert reader.report().verdicts["accepted"] == 1
            await send(journal, "k2", transfer(2), accepted(transfer(2)))
            assert reader.report().verdicts["accepted"] == 2
    with Journal.read(path) as reader:
        record = next(reader.outcomes())
        assert repr(reader) == f"<JournalReader of {str(path)!r}>"
        async with Journal(path):
            pass
    assert (record.key, record.kind, record.address) == ("k", "WarmTransfer", "…00")
    assert (record.verdict, record.status, record.attempts) == ("accepted", 201, 1)
    assert (record.api_id, record.seconds) == ("faad0293", 0.2)


async def test_all_outcomes_are_read_when_they_fill_pages(path: Path) -> None:
    """A results file must not end where a page does."""
    async with Journal(path) as journal:
        await asyncio.gather(
            *(journal.intend(f"k{n}", transfer(n)) for n in range(2_500))
        )
    with Journal.read(path) as reader:
        assert [r.key for r in reader.outcomes()] == [f"k{n}" for n in range(2_500)]


async def test_every_row_is_recalled_in_any_order(path: Path) -> None:
    """A resumed list may be sorted another way: no row may ring twice."""
    count = 2_500
    async with Journal(path) as journal:
        for n in range(count):
            journal.recall(f"k{n}", transfer(n))
            _ = journal.settle(f"k{n}", accepted(transfer(n)))
    orders = (range(count), range(count - 1, -1, -1), range(0, 7 * count, 7))
    async with Journal(path) as journal:
        for order in orders:
            journal.start_run()
            for n in order:
                action = transfer(n % count)
                known = journal.recall(f"k{n % count}", action)
                assert isinstance(known, Accepted)


async def test_row_far_into_the_file_is_recalled_first(path: Path) -> None:
    """Whoever resumes with the end of the list must not be stopped by an error."""
    async with Journal(path) as journal:
        await send(journal, "k", transfer(), accepted(transfer()))
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE actions SET id = 100000")
        database.commit()
    async with Journal(path) as journal:
        assert isinstance(journal.recall("k", transfer()), Accepted)
        again = journal.recall("k", transfer())
    assert again == NotSent(action=transfer(), attempts=0, reason=Reason.DUPLICATE)


async def test_rows_are_read_by_the_page_in_each_run(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second batch over a million rows must not look up each by itself."""
    async with Journal(path) as journal:
        for n in range(5):
            await send(journal, f"k{n}", transfer(n), accepted(transfer(n)))
    pages, after = itertools.count(), JournalReader.after

    def counted(reader: JournalReader, row: int) -> Any:  # noqa: ANN401 -- its own
        next(pages)
        return after(reader, row)

    monkeypatch.setattr(JournalReader, "after", counted)
    async with Journal(path) as journal:
        for _ in range(2):
            journal.start_run()
            for n in range(5):
                assert isinstance(journal.recall(f"k{n}", transfer(n)), Accepted)
    assert next(pages) == 2


async def test_reading_a_missing_journal_is_refused(path: Path) -> None:
    """A mistyped name must not pass for an empty batch, nor make a file."""
    with pytest.raises(JournalError, match=r"batch\.db"):
        Journal.read(path)
    assert not path.exists()


async def test_reading_an_empty_file_is_refused(path: Path) -> None:
    """An empty file says nothing about whom we called."""
    path.touch()
    with pytest.raises(JournalError, match="no journal"):
        Journal.read(path)


# What may be opened


async def test_second_runner_is_refused_in_the_same_process(path: Path) -> None:
    """Two runs of one list at a time would ring every phone twice."""
    link = path.with_name("link.db")
    link.symlink_to(path)
    async with Journal(path) as journal:
        for name in (path, link, os.path.relpath(path)):
            with pytest.raises(JournalError, match="in use by another runner"):
                async with Journal(name):
                    pass
        with pytest.raises(JournalError, match="open already"):
            await journal.__aenter__()
        await journal.intend("k", transfer())
    async with journal:
        assert journal.report().verdicts["in_doubt"] == 1


def child(source: str, path: Path) -> subprocess.Popen[str]:
    """Start another Python that opens the journal and runs `source` in it."""
    program = f"""
import asyncio, sys
from aiophlo.model.actions import WarmTransfer
from aiophlo.journal.journal import Journal
from aiophlo.model.outcomes import Accepted

def transfer(n):
    return WarmTransfer(phlo_id="p1", node_id="n1", trigger_source="+14155550199",
        to=f"+1415556{{n:04d}}")

async def main():
    async with Journal(sys.argv[1]) as journal:
{source}

asyncio.run(main())
"""
    return subprocess.Popen(  # noqa: S603 -- our own interpreter
        [sys.executable, "-c", program, str(path)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


async def test_second_runner_is_refused_until_the_first_is_killed(path: Path) -> None:
    """A killed batch must be resumable at once, a living one never doubled."""
    with child("        print('open', flush=True); input()", path) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "open\n"
        with pytest.raises(JournalError, match="in use by another runner"):
            async with Journal(path):
                pass
        first.kill()
        first.wait()
        async with Journal(path):
            pass


SENDING = """
        async def task(first):
            for n in range(first, 1_000_000, 20):
                action = transfer(n % 10_000)
                if journal.recall(f"k{n}", action) is None:
                    await journal.intend(f"k{n}", action)
                    print("i", n, flush=True)
                    await journal.settle(f"k{n}", Accepted(action=action))
                    print("s", n, flush=True)
        await asyncio.gather(*map(task, range(20)))
"""


async def test_acknowledged_writes_survive_a_kill(path: Path) -> None:
    """What a killed batch was told is on disk decides who is called again."""
    told: dict[str, str] = {}
    for _ in range(3):
        with child(SENDING, path) as runner:
            assert runner.stdout is not None
            lines = [runner.stdout.readline() for _ in range(1_000)]
            runner.kill()
            lines += [line for line in runner.stdout if line.endswith("\n")]
        told |= {line.split()[1]: line.split()[0] for line in lines}
    async with Journal(path) as journal:
        kept = {record.key: record.verdict for record in journal.outcomes()}
    for number, what in told.items():
        assert kept[f"k{number}"] == "accepted" if what == "s" else kept[f"k{number}"]
    assert len(told) > 1_000


async def test_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    """An old release must not guess what a newer one has noted."""
    async with Journal(path):
        pass
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(JournalError, match="newer aiophlo: its schema is version 99"):
        async with Journal(path):
            pass
    with pytest.raises(JournalError, match="newer"):
        Journal.read(path)
    assert path.read_bytes() == before


async def test_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    """A mistyped option must not destroy the list itself."""
    text = b"to,trigger_source\n" * 100
    path.write_bytes(text)
    with pytest.raises(JournalError, match="not a database") as caught:
        async with Journal(path):
            pass
    assert isinstance(caught.value.__cause__, sqlite3.Error)
    assert isinstance(caught.value, PhloError)
    assert path.read_bytes() == text


async def test_database_of_another_program_is_refused(path: Path) -> None:
    """Our tables have no business in somebody's address book."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE contacts (name TEXT)")
    with pytest.raises(JournalError, match="another program's"):
        async with Journal(path):
            pass


async def test_file_without_a_directory_is_refused(path: Path) -> None:
    """The error has to name the file, or nobody finds the slip."""
    with pytest.raises(JournalError, match="nowhere") as caught:
        async with Journal(path / "nowhere" / "batch.db"):
            pass
    assert isinstance(caught.value.__cause__, OSError)


async def test_journal_whose_checkpoint_was_cut_short_can_be_opened(path: Path) -> None:
    """A list that can't be resumed is begun anew, and calls everybody twice."""
    async with Journal(path) as journal:
        for number in range(100):
            await journal.intend(f"k{number}", transfer(number))
        names = (str(path), f"{path}-wal")
        parts = {name: Path(name).read_bytes() for name in names}
    whole = path.read_bytes()  # as the last to close has left it
    assert len(whole) > len(parts[str(path)])
    for name, content in parts.items():
        Path(name).write_bytes(content)
    with path.open("r+b") as file:  # killed, or out of room, after the first page
        file.write(whole[:4096])
    async with Journal(path) as journal:
        assert journal.report().verdicts["in_doubt"] == 100


async def test_broken_file_without_a_log_is_refused_and_left_alone(path: Path) -> None:
    """What SQLite can't mend must not be taken for a journal, nor made worse."""
    async with Journal(path) as journal:
        for number in range(100):
            await journal.intend(f"k{number}", transfer(number))
    broken = path.read_bytes()[:8192]
    path.write_bytes(broken)
    Path(f"{path}-lock").unlink()
    with pytest.raises(JournalError, match="malformed"):
        async with Journal(path):
            pass
    assert path.read_bytes() == broken
    assert [file.name for file in path.parent.iterdir()] == [path.name]


async def test_runner_killed_while_it_made_the_file_leaves_a_usable_one(
    path: Path,
) -> None:
    """A batch killed in its first moment must start the second time."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
    async with Journal(path) as journal:
        await journal.intend("k", transfer())


async def test_files_are_private_from_the_first_moment(path: Path) -> None:
    """Other users of the machine must not learn whom we call."""
    path.touch(mode=0o644)
    before = os.umask(0)
    try:
        async with Journal(path) as journal:
            await journal.intend("k", transfer())
            modes = {
                p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()
            }
    finally:
        os.umask(before)
    assert modes == {
        "batch.db": 0o600,
        "batch.db-wal": 0o600,
        "batch.db-shm": 0o600,
        "batch.db-lock": 0o600,
    }


# Failing


async def test_full_disk_fails_every_waiter_and_every_later_call(path: Path) -> None:
    """A request that leaves unrecorded is sent again by the next run."""
    async with Journal(path):
        pass
    with pytest.raises(JournalError):  # noqa: PT012 -- leaving the block raises too
        async with Journal(path, max_bytes=path.stat().st_size) as journal:
            results = await asyncio.gather(
                *(intend(journal, n) for n in range(500)),
                return_exceptions=True,
            )
            assert all(isinstance(result, JournalError | None) for result in results)
            errors = [error for error in results if error is not None]
            assert "full" in str(errors[-1])
            assert isinstance(errors[-1].__cause__, sqlite3.OperationalError)
            for call in (journal.intend, journal.recall):
                with pytest.raises(JournalError, match="full"):
                    call("new", transfer())
    written = [n for n, result in enumerate(results) if result is None]
    with Journal.read(path) as reader:
        kept = [record.key for record in reader.outcomes()]
    assert kept == [f"k{n}" for n in written]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of a megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk))
    try:
        subprocess.run(mount, check=True, capture_output=True)  # noqa: S603 -- ours
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("may not mount a disk")
    yield disk
    subprocess.run(("umount", str(disk)), check=True)  # noqa: S603, S607 -- ours


async def test_outcomes_are_kept_once_a_full_disk_has_room_again(
    small_disk: Path,
) -> None:
    """A call that was told as accepted must not come back in doubt."""
    path, ballast = small_disk / "batch.db", small_disk / "ballast"
    with pytest.raises(JournalError, match="full"):  # noqa: PT012 -- closing raises
        async with Journal(path) as journal:
            await asyncio.gather(*(intend(journal, n) for n in range(3)))
            with contextlib.suppress(OSError), ballast.open("wb", 0) as file:
                while True:
                    file.write(bytes(4096))
            with pytest.raises(JournalError, match="full"):  # noqa: PT012 -- at some n
                for n in itertools.count(3):  # the file has some room of its own
                    await intend(journal, n)
            with contextlib.suppress(JournalError):  # and for an outcome, perhaps
                await journal.settle("k0", accepted(transfer(0)))
            ballast.unlink()
            await journal.settle("k1", accepted(transfer(1)))
            with pytest.raises(JournalError, match="full"):  # whatever room there is
                await journal.intend("new", transfer())
    async with Journal(path) as journal:
        assert isinstance(journal.recall("k0", transfer(0)), Accepted)
        assert isinstance(journal.recall("k1", transfer(1)), Accepted)
        assert isinstance(journal.recall("k2", transfer(2)), InDoubt)
        assert journal.recall(f"k{n}", transfer(n)) is None


async def test_outcomes_are_tried_again_when_closing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever makes room while the batch is ending must not have made it in vain."""

    def full(*_: object) -> None:
        raise OSError("full")

    with pytest.raises(JournalError, match="full"):  # noqa: PT012 -- closing raises
        async with Journal(path) as journal:
            await journal.intend("k0", transfer(0))
            with monkeypatch.context() as patch:
                patch.setattr("aiophlo.journal.writer._commit", full)
                patch.setattr("aiophlo.journal.writer._commit_outcomes", full)
                with pytest.raises(JournalError, match="full"):
                    await journal.settle("k0", accepted(transfer(0)))
    async with Journal(path) as journal:
        assert isinstance(journal.recall("k0", transfer(0)), Accepted)


async def test_each_outcome_is_told_once_a_disk_has_room_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that ends on a full disk must not wait for ever for its last rows."""

    def full(*_: object) -> None:
        raise OSError("full")

    with pytest.raises(JournalError, match="full"):  # noqa: PT012 -- closing raises
        async with Journal(path) as journal, asyncio.timeout(20):
            journal.recall("never intended", transfer(9))
            await asyncio.gather(*(intend(journal, n) for n in range(3)))
            monkeypatch.setattr("aiophlo.journal.writer._commit", full)
            with monkeypatch.context() as patch:
                patch.setattr("aiophlo.journal.writer._commit_outcomes", full)
                with pytest.raises(JournalError, match="full"):
                    await journal.settle("k0", accepted(transfer(0)))
            for n in (1, 2):
                await journal.settle(f"k{n}", accepted(transfer(n)))
            with pytest.raises(JournalError, match="full"):
                journal.settle("never intended", accepted(transfer(9))).cancel()
    with Journal.read(path) as reader:
        assert reader.report().verdicts["accepted"] == 3


async def test_outcome_whose_intent_failed_is_no_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What never left must be sent by the next run, not passed over."""

    def full(*_: object) -> None:
        raise OSError("full")

    with pytest.raises(JournalError, match="full"):  # noqa: PT012 -- closing raises
        async with Journal(path) as journal:
            monkeypatch.setattr("aiophlo.journal.writer._commit", full)
            with pytest.raises(JournalError, match="full"):
                await journal.intend("k0", transfer(0))
            with pytest.raises(JournalError, match="full"):
                await journal.settle("k0", accepted(transfer(0)))
    monkeypatch.undo()
    async with Journal(path) as journal:
        assert journal.recall("k0", transfer(0)) is None


async def test_failure_of_what_nobody_awaited_comes_out_when_closing(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A batch must not end as if all were noted."""
    async with Journal(path):
        pass
    with pytest.raises(JournalError, match="full"):  # noqa: PT012 -- closing raises
        async with Journal(path, max_bytes=path.stat().st_size) as journal:
            for n in range(500):
                journal.recall(f"k{n}", transfer(n))
            _ = journal.settle("k0", accepted(transfer()))
            _ = [journal.intend(f"k{n}", transfer(n)) for n in range(1, 500)]
    gc.collect()
    assert not caplog.records


async def test_failure_that_nobody_awaited_is_told_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand tracebacks of the event loop's hide the one error that counts."""

    def full(*_: object) -> None:
        raise OSError("full")

    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, why: told.append(why))
    monkeypatch.setattr("aiophlo.journal.writer._commit", full)
    with pytest.raises(JournalError, match="full"):
        async with Journal(path) as journal:
            unawaited = [journal.intend("k0", transfer(0))]
    unawaited.clear()
    gc.collect()
    assert told == []


async def test_error_of_the_block_is_not_replaced_when_closing(path: Path) -> None:
    """The first error is the one that explains the second."""
    async with Journal(path):
        pass
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 -- leaving must not raise
        async with Journal(path, max_bytes=path.stat().st_size) as journal:
            intents = (intend(journal, number) for number in range(500))
            told = await asyncio.gather(*intents, return_exceptions=True)
            assert isinstance(told[-1], JournalError)
            raise ZeroDivisionError


async def test_unforeseen_error_in_the_thread_hangs_nobody(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that hangs for ever is noticed after the shift."""

    def burst(*_: object) -> None:
        raise MemoryError("burst")

    with pytest.raises(JournalError, match="burst"):  # noqa: PT012 -- closing raises
        async with Journal(path) as journal:
            monkeypatch.setattr("aiophlo.journal.writer._commit", burst)
            with pytest.raises(JournalError, match="burst"):
                await journal.intend("k", transfer())


async def test_file_that_cannot_be_let_go_of_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What SQLite says last may be that it lost something."""

    @contextlib.contextmanager
    def stuck(*args: Any, **options: Any) -> Iterator[OpenFile]:  # noqa: ANN401 -- its own
        with open_file(*args, **options) as file:
            yield file
        raise OSError("stuck")

    monkeypatch.setattr("aiophlo.journal.writer.open_file", stuck)
    with pytest.raises(JournalError, match="stuck"):
        async with Journal(path):
            pass


async def test_first_failure_is_told_and_not_what_follows_from_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever mends the second finds the disk as full as before."""

    @contextlib.contextmanager
    def stuck(*args: Any, **options: Any) -> Iterator[OpenFile]:  # noqa: ANN401 -- its own
        with open_file(*args, **options) as file:
            yield file
        raise OSError("stuck")

    def burst(*_: object) -> None:
        raise MemoryError("burst")

    monkeypatch.setattr("aiophlo.journal.writer.open_file", stuck)
    monkeypatch.setattr("aiophlo.journal.writer._commit", burst)
    with pytest.raises(JournalError, match="burst"):
        async with Journal(path) as journal:
            _ = journal.intend("k", transfer())


async def test_outcome_is_written_though_another_row_was_refused(path: Path) -> None:
    """A call that is known to have been taken would come back in doubt."""
    with pytest.raises(JournalError, match="constraint"):  # noqa: PT012 -- closing raises
        async with Journal(path) as journal:
            await intend(journal, 5)
            with contextlib.closing(sqlite3.connect(path)) as database:
                database.execute(
                    "INSERT INTO actions VALUES"
                    " (77, 'k1', '', '', '', 0, 0, '', '', 0, '', '', 0, 0)"
                )
                database.commit()
            with pytest.raises(JournalError, match="constraint"):
                await intend(journal, 1)
            await journal.settle("k5", accepted(transfer(5)))
    with Journal.read(path) as reader:
        assert [r.verdict for r in reader.outcomes() if r.key == "k5"] == ["accepted"]


async def test_row_that_is_open_is_counted_besides_those_not_sent(path: Path) -> None:
    """Another list could take the place of one of which a phone may be ringing."""
    async with Journal(path) as journal:
        await intend(journal, 1)
        with Journal.read(path) as reader:
            assert reader.count(besides=["not_sent"]) == 1
            assert reader.count(besides=["not_sent", "accepted"]) == 1


async def test_key_that_begins_with_a_number_is_not_that_rows(path: Path) -> None:
    """Row 7 would be told as called, for a customer's own key 7:30pm."""
    async with Journal(path) as journal:
        await send(journal, "7:30pm", transfer(1), accepted(transfer(1)))
        key, _ = journal.recall_row(70, transfer(2))
        await journal.settle(key, accepted(transfer(2)))
        with Journal.read(path) as reader:
            assert reader.find_default(7) is None
            found = reader.find_default(70)
    assert found is not None
    assert found.key == key


async def test_row_that_cannot_be_written_takes_its_group_with_it(path: Path) -> None:
    """Half a group on disk would say that calls were told which were not."""
    with pytest.raises(JournalError, match="constraint"):  # noqa: PT012 -- closing raises
        async with Journal(path) as journal:
            with contextlib.closing(sqlite3.connect(path)) as database:
                database.execute(
                    "INSERT INTO actions VALUES"
                    " (77, 'k1', '', '', '', 0, 0, '', '', 0, '', '', 0, 0)"
                )
                database.commit()
            results = await asyncio.gather(
                *(intend(journal, n) for n in range(2)), return_exceptions=True
            )
    assert isinstance(results[1], JournalError)
    with Journal.read(path) as reader:
        kept = [record.key for record in reader.outcomes() if record.key == "k0"]
    assert bool(kept) == (results[0] is None)


async def test_intent_is_not_kept_without_the_outcome_of_its_commit(
    path: Path,
) -> None:
    """A row that never left would come back in doubt, and never be called."""
    action = transfer()
    with pytest.raises(JournalError, match="no outcome"):  # noqa: PT012 -- closing raises
        async with Journal(path) as journal:
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as it:
                it.execute(
                    "CREATE TRIGGER t BEFORE UPDATE ON actions"
                    " BEGIN SELECT RAISE(ABORT, 'no outcome'); END"
                )
                it.execute("BEGIN IMMEDIATE")
                first = asyncio.ensure_future(intend(journal, 1))
                await asyncio.sleep(0)
                journal.recall("k", action)
                unsent = NotSent(action=action, reason=Reason.EXPIRED)
                settled = journal.settle("k", unsent)  # in one commit with its intent
                it.execute("ROLLBACK")
            await asyncio.wait([first])
            await asyncio.wait([settled])
    with Journal.read(path) as reader:
        assert "k" not in {record.key for record in reader.outcomes()}


async def test_closed_journal_refuses_every_call(path: Path) -> None:
    """A task that outlives its batch must not send unrecorded."""
    async with Journal(path) as journal:
        assert repr(journal) == f"<Journal {str(path)!r} open>"
    assert repr(journal) == f"<Journal {str(path)!r} closed>"
    with pytest.raises(JournalError, match="not open"):
        await journal.intend("k", transfer())
    with pytest.raises(JournalError, match="not open"):
        journal.recall("k", transfer())


# Tasks and threads


async def test_concurrent_intents_share_commits(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync per row would hold a batch far below the account's quota."""
    statements: list[str] = []
    connect = sqlite3.connect

    def traced(*args: object, **options: object) -> sqlite3.Connection:
        connection = connect(*args, **options)  # type: ignore[call-overload]
        assert isinstance(connection, sqlite3.Connection)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    async with Journal(path) as journal:
        statements.clear()
        await asyncio.gather(
            *(journal.intend(f"k{n}", transfer(n)) for n in range(500))
        )
        written = statements.copy()
    assert sum("INSERT" in statement for statement in written) == 500
    assert written.count("COMMIT") == 1


async def test_commits_have_a_bound(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of a million must not wait for the last to be written."""
    monkeypatch.setattr("aiophlo.journal.writer._GROUP", 10)
    groups: list[int] = []

    def counted(file: OpenFile, group: Any) -> None:  # noqa: ANN401 -- its own
        groups.append(len(group))
        commit(file, group)

    commit = writer._commit  # noqa: SLF001 -- what a commit takes in is its own
    monkeypatch.setattr(writer, "_commit", counted)
    async with Journal(path) as journal:
        await asyncio.gather(
            *(journal.intend(f"k{n}", transfer(n)) for n in range(200))
        )
    assert sum(groups) == 200
    assert max(groups) < 20


async def test_commits_are_synced(path: Path) -> None:
    """An intent that a power cut takes back is a phone that rings twice."""
    with open_file(path, max_bytes=None) as file:
        (level,) = file.database.execute("PRAGMA synchronous").fetchone()
    assert level == 2


async def test_cancelled_intent_can_be_settled(path: Path) -> None:
    """A call that was given up before it left must not count as in doubt."""
    action = transfer()
    async with Journal(path) as journal:
        journal.recall("k", action)
        task = asyncio.ensure_future(journal.intend("k", action))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await journal.settle("k", NotSent(action=action, reason=Reason.CLOSED))
    async with Journal(path) as journal:
        assert journal.report().verdicts["not_sent"] == 1
        assert journal.recall("k", action) is None


async def test_outcome_of_a_cancelled_task_is_written_when_closing(path: Path) -> None:
    """What a cancelled task still knew must not be lost."""
    action = transfer()
    async with Journal(path) as journal:
        await journal.intend("k", action)
        journal.settle("k", accepted(action)).cancel()
    async with Journal(path) as journal:
        assert isinstance(journal.recall("k", action), Accepted)


async def test_outcome_without_intent_is_written_with_one(path: Path) -> None:
    """A row that expired in the queue belongs in the report too."""
    action = transfer()
    async with Journal(path) as journal:
        journal.recall("k", action)
        await journal.settle("k", NotSent(action=action, reason=Reason.EXPIRED))
        assert journal.report().reasons == {"expired": 1}


def writers() -> Iterator[threading.Thread]:
    """Yield the writing threads that are alive."""
    return (t for t in threading.enumerate() if t.name == "aiophlo-journal")


async def test_thread_ends_with_the_block(path: Path) -> None:
    """A service that runs a thousand batches must not gather threads."""
    async with Journal(path):
        assert list(writers())
    assert not list(writers())


def test_thread_ends_when_the_journal_is_dropped(path: Path) -> None:
    """A task that was thrown away must not keep the file locked."""

    async def drop() -> None:
        journal = Journal(path)
        await journal.__aenter__()
        await journal.intend("k", transfer())

    asyncio.run(drop())
    gc.collect()
    for thread in list(writers()):
        thread.join(timeout=10)
        assert not thread.is_alive()
    with Journal.read(path) as reader:
        assert reader.report().open == 1


async def test_cancelled_opening_lets_go_of_the_file(path: Path) -> None:
    """A start that was given up must not block the next one."""
    journal = Journal(path)
    task = asyncio.ensure_future(journal.__aenter__())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not list(writers())
    async with Journal(path):
        pass


# Elsewhere


HANDOVER = OpenHandover(
    id="h",
    account="MA",
    phlo_id="p",
    node_id="n",
    agent=TO,
    customer="",
    targets="",
    began_at=0.0,
)


def fails_elsewhere(journal: Journal) -> list[str]:
    """Use a journal on a loop of this thread's own; return what that raises."""
    said = []

    async def use() -> None:
        for call in (
            journal.start_run,
            lambda: journal.intend("k2", transfer(2)),
            lambda: journal.settle("k", accepted(transfer())),
            lambda: journal.handovers.end(HANDOVER).send(None),
        ):
            with pytest.raises(InvalidInputError) as caught:
                call()
            said.append(str(caught.value))
        with pytest.raises(InvalidInputError) as caught:
            await journal.__aexit__(None, None, None)
        said.append(str(caught.value))

    asyncio.run(use())
    return said


async def test_journal_is_refused_in_another_thread(path: Path) -> None:
    """What waits for a write there would wait for ever."""
    async with Journal(path) as journal:
        await journal.intend("k", transfer())
        said = await asyncio.to_thread(fails_elsewhere, journal)
        assert all("another thread's event loop" in text for text in said)
        await journal.settle("k", accepted(transfer()))


def test_journal_is_refused_on_a_later_loop(path: Path) -> None:
    """Scripts that call `asyncio.run` twice get no answer from the first one's loop."""
    with asyncio.Runner() as runner:
        journal = runner.run(Journal(path).__aenter__())
        runner.run(wait(lambda: journal.intend("k", transfer())))
    said = fails_elsewhere(journal)
    assert all("another event loop, which has ended" in text for text in said)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_journal_is_refused_in_a_forked_child(path: Path) -> None:
    """A worker forked after opening has no thread that writes: it hangs, or rings."""
    with asyncio.Runner() as runner:
        journal = runner.run(Journal(path).__aenter__())
        runner.run(wait(lambda: journal.intend("k", transfer())))
        child = os.fork()
        if not child:
            status = 1
            with contextlib.suppress(BaseException):
                said = fails_elsewhere(journal)
                status = 0 if all("its child" in text for text in said) else 2
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        runner.run(wait(lambda: journal.settle("k", accepted(transfer()))))
        runner.run(journal.__aexit__(None, None, None))


# Against a model

KEYS = st.sampled_from(["a", "b", "c", "+14155550100"])
OUTCOMES = st.sampled_from(
    [
        accepted(transfer()),
        Rejected(action=transfer(), status=404),
        NotSent(action=transfer(), reason=Reason.THROTTLED),
        InDoubt(action=transfer(), reason=Reason.SILENT),
    ]
)


class JournalAgainstModel(RuleBasedStateMachine):
    """Whatever a batch does, the journal knows what a dict would."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.mkdtemp()
        self.runner = asyncio.Runner()
        self.kept: dict[str, str] = {}
        self.claims: dict[str, tuple[bool, str]] = {}
        self.asked: set[str] = set()
        self.journal = self.opened()

    def opened(self) -> Journal:
        """Open the journal."""
        return self.runner.run(Journal(f"{self.directory}/j.db").__aenter__())

    @rule(key=KEYS, include_in_doubt=st.booleans())
    def recall(self, key: str, *, include_in_doubt: bool) -> None:
        """Ask for a key."""
        known = self.journal.recall(key, transfer(), include_in_doubt=include_in_doubt)
        kept = self.kept.get(key, "")
        if key in self.claims or key in self.asked:
            assert known == NotSent(
                action=transfer(), attempts=0, reason=Reason.DUPLICATE
            )
            return
        if kept:
            self.asked.add(key)
        if kept in {"", "not_sent"} or (kept == "in_doubt" and include_in_doubt):
            assert known is None
            self.claims[key] = (False, kept)
        else:
            assert known is not None
            assert known.verdict == kept

    @rule(key=KEYS)
    def intend(self, key: str) -> None:
        """Begin what may be begun."""
        intended, earlier = self.claims.get(key, (True, ""))
        if intended:
            return
        self.runner.run(wait(lambda: self.journal.intend(key, transfer())))
        self.claims[key] = (True, earlier)
        self.asked.add(key)
        self.kept[key] = "in_doubt"  # as the next run will see it

    @rule(key=KEYS, outcome=OUTCOMES)
    def settle(self, key: str, outcome: Outcome) -> None:
        """Note an outcome for what is claimed."""
        if key not in self.claims:
            return
        _, earlier = self.claims.pop(key)
        noted = self.runner.run(wait(lambda: self.journal.settle(key, outcome)))
        if earlier == "in_doubt" and not isinstance(outcome, Accepted):
            assert isinstance(noted, InDoubt)
        else:
            repeats = earlier == "in_doubt"  # requests of both runs count
            assert noted == attrs.evolve(outcome, attempts=noted.attempts)
            assert noted.attempts > outcome.attempts if repeats else noted == outcome
        self.kept[key] = noted.verdict
        self.asked.add(key)

    @rule(key=KEYS)
    def release(self, key: str) -> None:
        """Give a claim back."""
        intended, _ = self.claims.get(key, (True, ""))
        if not intended:
            self.journal.release(key)
            del self.claims[key]

    @precondition(lambda self: not self.claims)
    @rule()
    def start_run(self) -> None:
        """Begin another batch on the same journal."""
        self.runner.run(start(self.journal))
        self.asked.clear()

    @rule()
    def reopen(self) -> None:
        """Close it and go on with it."""
        self.runner.run(self.journal.__aexit__(None, None, None))
        with JournalReader(f"{self.directory}/j.db") as reader:
            assert len(list(reader.outcomes())) == len(self.kept)
        self.journal = self.opened()
        self.claims.clear()
        self.asked.clear()

    def teardown(self) -> None:
        """Close everything."""
        self.runner.run(self.journal.__aexit__(None, None, None))
        self.runner.close()
        shutil.rmtree(self.directory)


async def wait(write: Callable[[], asyncio.Future[T]]) -> T:
    """Write on the loop that the journal is on."""
    return await write()


async def start(journal: Journal) -> None:
    """Begin another batch on the loop that the journal is on."""
    journal.start_run()


JournalAgainstModel.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None
)
TestJournalAgainstModel = JournalAgainstModel.TestCase
