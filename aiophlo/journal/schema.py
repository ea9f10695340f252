"""The schema of a journal's file, its versions, and the steps between them.

=======  ====================================================================
version  what it brought
=======  ====================================================================
1        `settings`, `actions`, `handovers`
2        the row `runner` in `settings`, which a release that knows version 1
         alone would pass over; keys of eight digits are kept masked; keys that
         are kept masked can be found by their digest alone
=======  ====================================================================

Opening a file to write migrates it to the latest version, in the transaction in
which the runner takes it over; reading changes nothing, and works with every version.
"""

import secrets
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from aiophlo.errors import JournalError
from aiophlo.journal.database import read_setting, value_of, write_setting
from aiophlo.journal.keys import Digests, has_digest

VERSION: Final = 2
_APPLICATION_ID = 0x7068_6C6F  # "phlo"
_ACTIONS = """
    CREATE TABLE actions (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        digest TEXT NOT NULL,
        kind TEXT NOT NULL,
        address TEXT,
        intended_at REAL NOT NULL,
        settled_at REAL,
        verdict TEXT,
        reason TEXT,
        status INTEGER,
        api_id TEXT,
        error TEXT,
        attempts INTEGER,
        seconds REAL
    )
"""
# Some files of version 1 were begun before there were handovers.
_HANDOVERS = """
    CREATE TABLE IF NOT EXISTS handovers (
        id TEXT PRIMARY KEY,
        account TEXT NOT NULL,
        phlo_id TEXT NOT NULL,
        node_id TEXT NOT NULL,
        agent TEXT NOT NULL,
        customer TEXT NOT NULL,
        targets TEXT NOT NULL,
        began_at REAL NOT NULL
    )
"""
_HEX_16 = "[0-9a-f]" * 16
# A query has to repeat this word for word, or SQLite won't use the index.
MASKED_KEY: Final = f"key GLOB '*#{_HEX_16}'"
_MASKED_KEYS = (
    f"CREATE INDEX masked_keys ON actions (substr(key, -16)) WHERE {MASKED_KEY}"
)


def is_journal(database: sqlite3.Connection, path: Path) -> bool:
    """Say whether there is a journal; False if nothing is there at all.

    Raises:
        JournalError: It is a newer release's, or another program's database.
    """
    mark = value_of(database, "PRAGMA application_id")
    version = value_of(database, "PRAGMA user_version")
    if mark == _APPLICATION_ID:
        if version > VERSION:
            raise JournalError(
                f"journal {path} was written by a newer aiophlo: its schema is"
                f" version {version}, this one knows {VERSION}"
            )
        return True
    if mark or version or value_of(database, "SELECT count(*) FROM sqlite_master"):
        raise JournalError(f"{path} is another program's database, not a journal")
    return False


def begin(database: sqlite3.Connection) -> None:
    """Make an empty file a journal, in a transaction of the caller's."""
    database.execute(
        "CREATE TABLE settings (name TEXT PRIMARY KEY, value BLOB NOT NULL)"
    )
    for statement in (_ACTIONS, _HANDOVERS, _MASKED_KEYS):
        database.execute(statement)
    write_setting(database, "salt", secrets.token_bytes(32))
    database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    database.execute(f"PRAGMA user_version = {VERSION}")


def migrate(database: sqlite3.Connection) -> None:
    """Bring a journal up to date, in a transaction of the caller's."""
    version = value_of(database, "PRAGMA user_version")
    for number in range(version, VERSION):
        _STEPS[number](database)
        database.execute(f"PRAGMA user_version = {number + 1}")


def _from_1_to_2(database: sqlite3.Connection) -> None:
    database.execute(_HANDOVERS)
    digests = Digests(read_setting(database, "salt"))
    rows = database.execute("SELECT id, key FROM actions")
    renamed = [
        (kept, row)
        for row, key in rows
        if not has_digest(key) and (kept := digests.key(key)) != key
    ]
    database.executemany("UPDATE actions SET key = ? WHERE id = ?", renamed)
    database.execute(_MASKED_KEYS)


_STEPS: Mapping[int, Callable[[sqlite3.Connection], None]] = {1: _from_1_to_2}
