"""The journal: what was acknowledged survives, and nothing leaves unrecorded."""

# ruff: noqa: ASYNC240 -- these loops have nobody else to serve

import asyncio
import contextlib
import gc
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from aiophlo.actions import AbortTransfer, Action, GetPhlo, RunPhlo, WarmTransfer
from aiophlo.errors import InvalidInputError, JournalError, PhloError
from aiophlo.journal import Journal, default_key
from aiophlo.journal_file import JournalReader, OpenFile, open_journal
from aiophlo.outcomes import Accepted, InDoubt, NotSent, Outcome, Reason, Rejected

ROOT = Path(__file__).parent.parent
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
        database.execute("UPDATE settings SET value = ?", (bytes(32),))
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
    secrets = ("4155550100", "555-0100", "4155550199", "555\u20110100", "\uff15\uff15")
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
from aiophlo.actions import WarmTransfer
from aiophlo.journal import Journal
from aiophlo.outcomes import Accepted

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
            with pytest.raises(JournalError, match="full"):
                await journal.settle("k0", accepted(transfer()))
    written = [n for n, result in enumerate(results) if result is None]
    with Journal.read(path) as reader:
        kept = [record.key for record in reader.outcomes()]
    assert kept == [f"k{n}" for n in written]


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


async def test_error_of_the_block_is_not_replaced_when_closing(path: Path) -> None:
    """The first error is the one that explains the second."""
    async with Journal(path):
        pass
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 -- leaving must not raise
        async with Journal(path, max_bytes=path.stat().st_size) as journal:
            await asyncio.wait(
                [asyncio.ensure_future(intend(journal, n)) for n in range(500)]
            )
            raise ZeroDivisionError


async def test_unforeseen_error_in_the_thread_hangs_nobody(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that hangs for ever is noticed after the shift."""

    def burst(*_: object) -> None:
        raise MemoryError("burst")

    with pytest.raises(JournalError, match="burst"):  # noqa: PT012 -- closing raises
        async with Journal(path) as journal:
            monkeypatch.setattr("aiophlo.journal_writer._commit", burst)
            with pytest.raises(JournalError, match="burst"):
                await journal.intend("k", transfer())


async def test_file_that_cannot_be_let_go_of_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What SQLite says last may be that it lost something."""

    @contextlib.contextmanager
    def stuck(*args: Any, **options: Any) -> Iterator[OpenFile]:  # noqa: ANN401 -- its own
        with open_journal(*args, **options) as file:
            yield file
        raise OSError("stuck")

    monkeypatch.setattr("aiophlo.journal_writer.open_journal", stuck)
    with pytest.raises(JournalError, match="stuck"):
        async with Journal(path):
            pass


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
    assert sum("INSERT" in statement for statement in statements) == 500
    assert 1 <= statements.count("COMMIT") < 50


async def test_commits_are_synced(path: Path) -> None:
    """An intent that a power cut takes back is a phone that rings twice."""
    with open_journal(path, max_bytes=None) as file:
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
    for thread in list(writers()):
        thread.join(timeout=10)
    async with Journal(path):
        pass


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
        self.runner.run(wait(self.journal.intend(key, transfer())))
        self.claims[key] = (True, earlier)
        self.asked.add(key)
        self.kept[key] = "in_doubt"  # as the next run will see it

    @rule(key=KEYS, outcome=OUTCOMES)
    def settle(self, key: str, outcome: Outcome) -> None:
        """Note an outcome for what is claimed."""
        if key not in self.claims:
            return
        _, earlier = self.claims.pop(key)
        noted = self.runner.run(wait(self.journal.settle(key, outcome)))
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
        self.journal.start_run()
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


async def wait(future: asyncio.Future[T]) -> T:
    """Await a future that has a loop already."""
    return await future


JournalAgainstModel.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None
)
TestJournalAgainstModel = JournalAgainstModel.TestCase
