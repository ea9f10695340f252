"""Ownership: a journal's file has one runner, and is the one that was opened."""

# ruff: noqa: ASYNC240 -- these loops have nobody else to serve

import asyncio
import contextlib
import gc
import os
import shutil
import sqlite3
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiophlo.errors import JournalError, JournalInUseError
from aiophlo.journal import file
from aiophlo.journal.journal import Journal
from aiophlo.journal.ownership import Ownership
from aiophlo.model.actions import WarmTransfer

ROOT = Path(__file__).parents[2]
TRANSFER = WarmTransfer(
    phlo_id="p1", node_id="n1", trigger_source="+14155550199", to="+14155550100"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the journal under test lies."""
    return tmp_path / "batch.db"


def lock_of(path: Path) -> Path:
    """Return the lock that people find, empty, and remove."""
    return Path(f"{path}-lock")


async def open_in_child(path: Path) -> int:
    """Open the journal in another process; return how that ended."""
    program = (
        "import asyncio, sys\n"
        "from aiophlo.errors import JournalInUseError\n"
        "from aiophlo.journal.journal import Journal\n"
        "async def main():\n"
        "    try:\n"
        "        async with Journal(sys.argv[1]): pass\n"
        "    except JournalInUseError: sys.exit(7)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, str(path)),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    return await process.wait()


# One runner


async def test_second_runner_is_refused_when_the_lock_is_removed(path: Path) -> None:
    """Somebody tidies up an empty file, and 942 of 4,000 phones ring twice."""
    async with Journal(path) as journal:
        for _ in range(2):
            lock_of(path).unlink()
            with pytest.raises(JournalInUseError, match="never remove the lock"):
                async with Journal(path):
                    pass
            lock_of(path).unlink()
            assert await open_in_child(path) == 7
        await journal.intend("k", TRANSFER)


async def test_error_says_what_to_do_when_the_journal_is_in_use(path: Path) -> None:
    """Without it, people remove the lock."""
    async with Journal(path):
        with pytest.raises(JournalInUseError, match="until that one has ended") as got:
            async with Journal(path):
                pass
        # a server's log would show SQLite's traceback above the sentence that helps
        assert got.value.__cause__ is got.value.__context__ is None


async def test_journal_whose_lock_was_removed_can_be_opened_again(path: Path) -> None:
    """Nobody has it open: a batch must not be lost for a tidy folder."""
    async with Journal(path) as journal:
        await journal.intend("k", TRANSFER)
    lock_of(path).unlink()
    async with Journal(path) as journal:
        assert journal.report().reasons == {"interrupted": 1}


async def test_reader_keeps_nobody_from_resuming(path: Path) -> None:
    """A supervisor who looks must not stop the batch from going on after a kill."""
    async with Journal(path):
        pass
    with Journal.read(path):
        async with Journal(path):
            pass


def take_over(path: Path) -> None:
    """Mark a journal's file as another runner's."""
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("UPDATE settings SET value = 'another' WHERE name = 'runner'")
        other.commit()


@pytest.mark.parametrize("just_before_the_commit", [False, True])
async def test_runner_stops_when_another_has_taken_its_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, just_before_the_commit: bool
) -> None:
    """Where locks don't work, on some network disks, both would ring everybody."""
    check = Ownership.check_token

    def check_and_lose(ownership: Ownership, database: sqlite3.Connection) -> None:
        check(ownership, database)
        if not database.in_transaction:
            take_over(path)

    with pytest.raises(JournalInUseError, match="taken over"):  # noqa: PT012 -- closing
        async with Journal(path) as journal:
            await journal.intend("k", TRANSFER)
            if just_before_the_commit:
                monkeypatch.setattr(Ownership, "check_token", check_and_lose)
            else:
                take_over(path)
            with pytest.raises(JournalInUseError, match="taken over"):
                await journal.intend("k2", TRANSFER)
    with Journal.read(path) as reader:
        assert [record.key for record in reader.outcomes()] == ["k"]


async def test_two_who_come_in_at_once_are_not_both_let_in(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between looking and writing, a third one's lock file may have come and gone."""
    async with Journal(path):
        pass
    monkeypatch.setattr("aiophlo.journal.file._last_runner", lambda *_: "another")
    with pytest.raises(JournalInUseError):
        async with Journal(path):
            pass


# The same file


def delete(path: Path) -> None:
    """Delete a file."""
    path.unlink()


def replace(path: Path) -> None:
    """Put a copy in a file's place, as editors, restores and syncing tools do."""
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    copy.replace(path)


@pytest.mark.parametrize("part", ["", "-wal", "-shm"])
@pytest.mark.parametrize("lose", [delete, replace])
async def test_run_stops_when_its_file_is_lost(
    path: Path, part: str, lose: Callable[[Path], None]
) -> None:
    """The same command would ring everybody again, and this one says all is well."""
    said = "deleted or moved" if lose is delete else "replaced"
    with pytest.raises(JournalError, match=f"batch.db{part} was {said}"):  # noqa: PT012 -- closing
        async with Journal(path) as journal:
            await journal.intend("k", TRANSFER)
            assert journal.recall("claimed", TRANSFER) is None
            lose(Path(f"{path}{part}"))
            with pytest.raises(JournalError, match="before the list is run again"):
                await journal.intend("later", TRANSFER)
            if part == "-shm":  # in which another runner would have its own locks
                assert b"later" not in Path(f"{path}-wal").read_bytes()
            with pytest.raises(JournalError, match=said):
                journal.recall("k3", TRANSFER)
            with pytest.raises(JournalError, match=said):
                _ = journal.intend("claimed", TRANSFER)


@pytest.mark.parametrize("how", ["bytes", "truncated first", "another version"])
async def test_run_stops_when_its_file_is_overwritten_in_place(
    path: Path, how: str
) -> None:
    """`cp` of another night's journal: its number stays, and nobody would notice."""
    other = path.with_name("other.db")
    async with Journal(other) as journal:
        for number in range(200 if how == "another version" else 1):
            await journal.intend(f"o{number}", TRANSFER)
    with pytest.raises(JournalError):  # noqa: PT012 -- closing
        async with Journal(path) as journal:
            await journal.intend("k", TRANSFER)
            with path.open("wb" if how == "truncated first" else "r+b") as file:
                file.write(other.read_bytes())
            with pytest.raises(JournalError):
                await journal.intend("later", TRANSFER)


async def test_loss_is_noticed_though_nothing_is_written_any_more(path: Path) -> None:
    """The last outcomes were noted where nobody will find them."""
    with pytest.raises(JournalError, match="deleted or moved"):  # noqa: PT012 -- closing
        async with Journal(path) as journal:
            await journal.intend("k", TRANSFER)
            path.unlink()


async def test_loss_during_a_commit_is_noticed_before_anything_leaves(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An intent in a deleted file is no memory of the phone that is about to ring."""
    check = Ownership.check_token

    def lose(ownership: Ownership, database: sqlite3.Connection) -> None:
        check(ownership, database)
        path.unlink(missing_ok=True)

    with pytest.raises(JournalError, match="deleted"):  # noqa: PT012 -- closing
        async with Journal(path) as journal:
            monkeypatch.setattr(Ownership, "check_token", lose)
            with pytest.raises(JournalError, match="deleted"):
                await journal.intend("k", TRANSFER)


@pytest.mark.parametrize("lose", [delete, replace])
async def test_loss_while_it_is_opened_is_noticed(
    path: Path, monkeypatch: pytest.MonkeyPatch, lose: Callable[[Path], None]
) -> None:
    """What this run notes would be in a file that the next one doesn't find."""
    async with Journal(path):
        pass
    read = file._last_runner  # noqa: SLF001 -- just before it is opened to write

    def read_and_lose(*where: Any) -> str | None:  # noqa: ANN401 -- as they are
        found = read(*where)
        lose(path)
        if not path.exists():
            path.touch(mode=0o600)
        return found

    monkeypatch.setattr(file, "_last_runner", read_and_lose)
    with pytest.raises(JournalError):
        async with Journal(path):
            pass
    monkeypatch.undo()
    async with Journal(path) as journal:
        assert journal.report().open == 0


async def test_runner_is_marked_in_the_file_itself(path: Path) -> None:
    """Who reaches the file by another folder has no log of it, and would come in."""
    async with Journal(path):
        alone = path.with_name("alone.db")
        shutil.copy(path, alone)  # as another mount shows it, without its `-wal`
        with contextlib.closing(sqlite3.connect(alone)) as database:
            [(mark,)] = database.execute(
                "SELECT value FROM settings WHERE name = 'runner'"
            )
        assert mark.endswith(f":{lock_of(path).lstat().st_ctime_ns}")


# Whose file


def text_file(path: Path) -> None:
    """Make the list itself."""
    path.write_text("to,trigger_source\n" * 100)


def foreign_database(path: Path) -> None:
    """Make somebody's address book."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE contacts (name TEXT)")


def linked_twice(path: Path) -> None:
    """Make a file that has another name."""
    path.touch()
    path.with_name("second").hardlink_to(path)


def planted_lock(path: Path) -> None:
    """Plant a link where the lock is to be made."""
    victim = path.with_name("victim")
    victim.touch(mode=0o644)
    lock_of(path).symlink_to(victim)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "is a FIFO"),
        (os.mkdir, "is a folder"),
        (lambda path: path.symlink_to(path), "symbolic link"),
        (lambda path: path.symlink_to(path.with_name("new")), "leads to nothing"),
        (lambda path: path.symlink_to(os.devnull), "is a device"),
        (text_file, "not a database"),
        (foreign_database, "another program's database"),
        (linked_twice, "second name"),
        (planted_lock, "-lock is a symbolic link"),
        (lambda path: os.mkfifo(f"{path}-wal"), "-wal is a FIFO"),
        (lambda path: Path(f"{path}-shm").symlink_to(path), "-shm is a symbolic"),
    ],
)
async def test_what_is_no_journal_is_refused_and_left_alone(
    path: Path, make: Callable[[Path], None], said: str
) -> None:
    """`--journal /dev/null`, as root, closed /dev/null to everybody else."""
    make(path)
    before = {file.name: file.lstat() for file in path.parent.iterdir()}
    device = Path(os.devnull).stat()
    with pytest.raises(JournalError, match=said) as caught:
        async with Journal(path):
            pass
    assert str(path.parent) in str(caught.value)
    after = {file.name: file.lstat() for file in path.parent.iterdir()}
    assert {name: (s.st_mode, s.st_mtime_ns) for name, s in after.items()} == {
        name: (s.st_mode, s.st_mtime_ns) for name, s in before.items()
    }
    assert Path(os.devnull).stat().st_mode == device.st_mode
    assert not Path(f"{os.devnull}-lock").exists()


async def test_device_is_refused_by_its_own_name() -> None:
    """A device is what the option is most often given instead of no file."""
    before = Path(os.devnull).stat()
    with pytest.raises(JournalError, match="/dev/null: null is a device"):
        async with Journal(os.devnull):
            pass
    assert Path(os.devnull).stat().st_mode == before.st_mode


async def test_file_of_another_user_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner could change who counts as called."""
    async with Journal(path):
        pass
    monkeypatch.setattr("os.geteuid", lambda: path.lstat().st_uid + 1)
    with pytest.raises(JournalError, match="belongs to another user"):
        async with Journal(path):
            pass
    with Journal.read(path) as reader:  # looking is allowed to whom the system lets
        assert reader.report().open == 0


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_reading_what_is_no_file_is_refused_at_once(
    path: Path, make: Callable[[Path], None]
) -> None:
    """A report that waits for a FIFO's other end waits for ever."""
    make(path)
    with pytest.raises(JournalError, match="not a regular file"):
        Journal.read(path)


async def test_journal_behind_ones_own_link_is_used(path: Path) -> None:
    """A link to a journal that is there is how people name the latest one."""
    async with Journal(path) as journal:
        await journal.intend("k", TRANSFER)
    link = path.with_name("latest.db")
    link.symlink_to(path)
    async with Journal(link) as journal:
        assert journal.report().verdicts["in_doubt"] == 1
    assert not lock_of(link).exists()
    assert stat.S_ISLNK(link.lstat().st_mode)


# At once again


def is_being_written() -> bool:
    """Say whether a thread has a journal's file in this process."""
    return any(one.name == "aiophlo-journal" for one in threading.enumerate())


@pytest.mark.parametrize("turns", range(4))
async def test_journal_can_be_opened_at_once_after_a_cancelled_opening(
    path: Path, turns: int
) -> None:
    """A start that was given up must not block the next one, not for a moment."""
    task = asyncio.ensure_future(Journal(path).__aenter__())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert not is_being_written()
    async with Journal(path):
        pass


async def test_journal_can_be_opened_at_once_after_a_cancelled_closing(
    path: Path,
) -> None:
    """What is pending is written first, however impatient the one who leaves is."""
    journal = await Journal(path).__aenter__()
    _ = [journal.intend(f"k{n}", TRANSFER) for n in range(5_000)]
    task = asyncio.ensure_future(journal.__aexit__(None, None, None))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert not is_being_written()
    async with Journal(path) as journal:
        assert journal.report().verdicts["in_doubt"] == 5_000


async def test_profiler_that_holds_all_objects_harms_no_journal(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever hunts a leak in a service must not stop its batch."""
    held: list[object] = []
    lstat = os.lstat

    def look(name: str) -> os.stat_result:
        held[:] = gc.get_objects()
        return lstat(name)

    async with Journal(path) as journal:
        with monkeypatch.context() as patch:
            patch.setattr(os, "lstat", look)
            await journal.intend("k", TRANSFER)
    assert held


def under_way(path: Path) -> tuple[int | None, list[bool | None]]:
    """Return how many have a live runner, as the report and the records say."""
    with Journal.read(path) as reader:
        return reader.report().under_way, [one.under_way for one in reader.outcomes()]


async def test_what_is_under_way_is_told_from_what_a_dead_runner_left(
    path: Path,
) -> None:
    """Who is told to ask about calls that are being made asks in vain."""
    async with Journal(path) as journal:
        await journal.intend("k", TRANSFER)
        assert journal.report().under_way == 1
        assert under_way(path) == (1, [True])
        assert await open_in_child(path) == 7, "a look leaves the lock alone"
    assert under_way(path) == (0, [False])
    lock_of(path).unlink()
    assert under_way(path) == (None, [None]), "a copy of the file has no lock"
    lock_of(path).touch()
    assert under_way(path) == (None, [None]), "nor the one that its runner held"


async def test_what_a_killed_runner_left_is_not_under_way(path: Path) -> None:
    """A phone may have rung, and nobody notes any more whether it did."""
    program = (
        "import asyncio, os, sys\n"
        "from aiophlo.journal.journal import Journal\n"
        "from aiophlo.model.actions import WarmTransfer\n"
        "async def main():\n"
        "    async with Journal(sys.argv[1]) as journal:\n"
        "        await journal.intend('k', WarmTransfer(phlo_id='p', node_id='n',\n"
        "            trigger_source='+14155550199', to='+14155550100'))\n"
        "        os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, str(path)),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert await process.wait() == -9
    assert under_way(path) == (0, [False])
    with Journal.read(path) as reader:
        assert reader.report().open == 1
