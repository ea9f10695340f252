"""A journal that an earlier release began: everything it knew is still known."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from aiophlo.errors import JournalError
from aiophlo.journal.journal import Journal
from aiophlo.journal.reader import JournalReader
from aiophlo.journal.schema import MASKED_KEY
from aiophlo.model.actions import WarmTransfer
from aiophlo.model.outcomes import NotSent, Outcome, Reason

# The file of the release whose schema was version 1: of each outcome one, an
# intent without one, keys of each kind, and an open handover.
VERSION_1 = Path(__file__).with_name("version_1.sql")
KEYS = {
    "accepted": "accepted",
    "rejected": "rejected",
    "not sent": None,  # and so to be sent
    "in doubt": "in_doubt",
    "+1 (415) 555-0100": "accepted",  # masked then as it is today
    "12345678": "accepted",  # kept as it was: eight digits were no number then
    "order 2026-1128": "accepted",
    "id 9+1234567-+1": "accepted",  # masked then, but otherwise
    None: "accepted",  # known by its place
    "interrupted": "in_doubt",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a journal of version 1, as it lay there after a kill."""
    path = tmp_path / "batch.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(VERSION_1.read_text(encoding="utf-8"))
    return path


def transfer(number: int) -> WarmTransfer:
    """Return what the file's row of that number stands for."""
    return WarmTransfer(
        phlo_id="p1",
        node_id="n1",
        trigger_source="+14155550199",
        to=f"+1415556{number:04d}",
    )


def recall(journal: Journal, number: int, key: str | None) -> Outcome | None:
    """Ask for a row as the program that wrote it would."""
    if key is None:
        return journal.recall_row(number, transfer(number))[1]
    return journal.recall(key, transfer(number))


async def test_all_that_version_1_knew_is_known(path: Path) -> None:
    """An update between two runs must not call a whole list again."""
    async with Journal(path) as journal:
        for number, (key, verdict) in enumerate(KEYS.items(), 1):
            known = recall(journal, number, key)
            assert (known and known.verdict) == verdict, key
        [handover] = journal.handovers.left_open()
    assert handover.agent == "+14155550199"  # or nobody could be brought back
    assert (handover.customer, handover.targets) == ("…23", "…44")


async def test_row_of_version_1_is_a_duplicate_when_asked_for_twice(path: Path) -> None:
    """A key that is kept in an older form stands for one call, too."""
    async with Journal(path) as journal:
        for number, key in enumerate(KEYS, 1):
            if KEYS[key] is not None:
                recall(journal, number, key)
                again = recall(journal, number, key)
                assert isinstance(again, NotSent), key
                assert again.reason is Reason.DUPLICATE


async def test_opening_brings_version_1_up_to_date_once(path: Path) -> None:
    """A release that knows version 1 alone would pass over the runner's mark."""
    for _ in range(2):
        async with Journal(path) as journal:
            assert journal.report().verdicts["accepted"] == 6
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("PRAGMA user_version").fetchone() == (2,)


async def test_key_that_is_a_number_today_is_masked_in_the_file(path: Path) -> None:
    """What version 1 kept in clear must not be read off a stolen file."""
    async with Journal(path) as journal:
        kept = [record.key for record in journal.outcomes()]
    assert [key.partition("#")[0] for key in kept[5:7]] == ["…78", "order …28"]


async def test_masked_key_is_found_by_an_index(path: Path) -> None:
    """With a million rows, a list of numbered keys would else take days."""
    async with Journal(path):
        pass
    where = f"WHERE {MASKED_KEY} AND substr(key, -16) = ?"
    plan = f"EXPLAIN QUERY PLAN SELECT id FROM actions {where}"  # noqa: S608 -- constant
    with closing(sqlite3.connect(path)) as database:
        [step] = database.execute(plan, ("0" * 16,))
    assert "USING INDEX masked_keys" in step[-1]


async def test_journal_begun_today_has_what_a_migrated_one_has(
    path: Path, tmp_path: Path
) -> None:
    """A statement that works on the one must not fail on the other."""
    paths = path, tmp_path / "new.db"
    for each in paths:
        async with Journal(each):
            pass
    schemas = []
    for each in paths:
        with closing(sqlite3.connect(each)) as database:
            query = "SELECT name, sql FROM sqlite_master ORDER BY name"
            schemas.append(
                [
                    (name, " ".join((sql or "").split()))
                    for name, sql in database.execute(query)
                ]
            )
    assert schemas[0] == schemas[1]


def test_version_1_is_read_without_being_changed(path: Path) -> None:
    """A report on an old batch must leave it to the program that runs it."""
    before = path.read_bytes()
    with JournalReader(path) as reader:
        assert reader.report().verdicts["rejected"] == 1
        assert reader.report().open == 1
        assert len(list(reader.outcomes())) == len(KEYS)
        assert len(reader.handovers()) == 1
    assert path.read_bytes() == before


async def test_failed_migration_leaves_version_1(path: Path) -> None:
    """What is half brought up to date would be lost to either release."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE masked_keys (name)")
        database.commit()
    with pytest.raises(JournalError, match="masked_keys"):
        async with Journal(path):
            pass
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
        query = "SELECT count(*) FROM actions WHERE key = '12345678'"
        assert database.execute(query).fetchone() == (1,)
