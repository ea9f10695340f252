"""Recovery from one journal, or from a folder with one per worker process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from aiophlo.errors import JournalError, JournalInUseError
from aiophlo.handover.recovery import Recovered, Rescue
from aiophlo.journal.journal import Journal
from aiophlo.journal.open_handovers import HandoverTable
from aiophlo.journal.reader import find_journal
from aiophlo.logs import logger
from aiophlo.shielding import finish

_BESIDE: Final = ("-lock", "-wal", "-shm", "-journal")  # what lies beside a journal


async def recover(
    journal: Journal | Path, rescue: Callable[[HandoverTable], Rescue]
) -> list[Recovered]:
    """Recover the open handovers of a journal, or of those in a folder.

    Args:
        journal: An open journal, or the folder.
        rescue: Makes what recovers those of one journal.
    """
    if isinstance(journal, Journal):
        return await rescue(journal.handovers).run()
    found: list[Recovered] = []
    for path in await asyncio.to_thread(with_open_handovers, journal):
        async with adopted(path) as table:
            if table is not None:  # it has to stay open until all is noted
                found += await finish(rescue(table).run())
    return found


def with_open_handovers(folder: Path) -> list[Path]:
    """Return the journals in a folder that hold an open handover, by name.

    They are only read, so that no worker that is starting finds its own locked.
    """
    names = sorted(path for path in folder.iterdir() if _may_be_journal(path))
    return [path for path in names if _has_open_handovers(path)]


def _may_be_journal(path: Path) -> bool:
    return not path.name.endswith(_BESIDE) and path.is_file()


def _has_open_handovers(path: Path) -> bool:
    try:
        reader = find_journal(path)
        if reader is None:  # a worker that is starting has just begun it
            return False
        with reader:
            return bool(reader.handovers())
    except JournalError as error:  # a file of another kind
        logger.warning("no handovers can be recovered from a file: %s", error)
        return False


@asynccontextmanager
async def adopted(path: Path) -> AsyncIterator[HandoverTable | None]:
    """Open a journal whose runner is dead; give None if it has one that lives."""
    try:
        journal = await Journal(path).__aenter__()
    except JournalInUseError:
        yield None
        return
    try:
        yield journal.handovers
    finally:
        await journal.__aexit__(None, None, None)
