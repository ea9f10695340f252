"""Where a batch's journal is kept: in a file, or in a Postgres that runners share."""

import contextlib
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import attrs

from aiophlo.cli.exit_codes import UnusableError, needs_extra
from aiophlo.cli.postgres import URL_VARIABLE, shared_secret
from aiophlo.coordination import Coordinator
from aiophlo.errors import InvalidInputError, JournalError
from aiophlo.journal.file import write_beside_runner
from aiophlo.journal.journal import Journal
from aiophlo.journal.private_files import stat_regular
from aiophlo.journal.reader import JournalView, KnownRow, find_journal

if TYPE_CHECKING:
    from aiophlo.postgres import (
        PostgresCoordinator,
        PostgresJournal,
        PostgresJournalReader,
    )
    from aiophlo.postgres.sent_lists import SentLists

_SHARED = "postgresql:"
_IS_SHARED = re.compile(r"postgresql:(?!//)")
# A slip that made a file would send to everybody again.
_LIKE_SHARED = re.compile(r"[a-z]*(pos?t?gr?es|pg|psql)[a-z]*:(//)?", re.IGNORECASE)


@contextlib.contextmanager
def usable_journal() -> Iterator[None]:
    """Say of which option it is that a journal can't be read or written.

    Raises:
        UnusableError: It can't be.
    """
    try:
        yield
    except JournalError as error:
        raise UnusableError(f"--journal: {error}") from error


class JournalPlace(Protocol):
    """Where a journal is kept."""

    @property
    def exists(self) -> bool:
        """Whether there is one.

        Raises:
            JournalError: It can't be known.
        """

    def find(self) -> JournalView | None:
        """Open it for reading, if there is one.

        Raises:
            JournalError: It can't be read.
        """

    def read(self) -> JournalView:
        """Open it for reading.

        Raises:
            JournalError: There is none, or it can't be read.
        """

    def write(
        self, settings: Mapping[str, str], *, settled: Iterable[KnownRow] = ()
    ) -> None:
        """Keep settings, and rows with outcomes that were not noted when they came.

        It has to be open.

        Raises:
            JournalError: It can't be written.
        """

    def open(self) -> "AbstractAsyncContextManager[Journal | PostgresJournal]":
        """Open it to run a batch."""

    def coordinator(self) -> Coordinator | None:
        """Return what a pool beside it shares with other runners; None for nothing."""


@attrs.frozen
class FilePlace:
    """A file of one runner's."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def exists(self) -> bool:
        """Whether there is one."""
        try:
            return stat_regular(self.path) is not None
        except OSError as error:
            raise JournalError(f"{self.path}: {error.strerror or error}") from error

    def find(self) -> JournalView | None:
        """Open it for reading, if there is one and something in it."""
        return find_journal(self.path)

    def read(self) -> JournalView:
        """Open it for reading."""
        return Journal.read(self.path)

    def write(
        self, settings: Mapping[str, str], *, settled: Iterable[KnownRow] = ()
    ) -> None:
        """Keep settings, and rows with outcomes that were not noted when they came."""
        write_beside_runner(self.path, settings, settled=settled)

    def open(self) -> "AbstractAsyncContextManager[Journal | PostgresJournal]":
        """Open it to run a batch."""
        return Journal(self.path)

    def coordinator(self) -> None:
        """Return nothing: one runner shares nothing."""


@attrs.frozen
class SharedPlace:
    """A Postgres, which several runners share.

    Attributes:
        url: Where it is.
        namespace: Schema of the tables.
        name: The journal's.
    """

    url: str = attrs.field(repr=False)
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{_SHARED}{self.name}"

    @property
    def exists(self) -> bool:
        """Whether there is one."""
        reader = self.find()
        if reader is not None:
            reader.close()
        return reader is not None

    def find(self) -> "PostgresJournalReader | None":
        """Open it for reading, if there is one of that name."""
        from aiophlo.postgres.batch_reader import NoJournalError  # noqa: PLC0415 -- needs the extra

        try:
            return self.read()
        except NoJournalError:
            return None

    def read(self) -> "PostgresJournalReader":
        """Open it for reading."""
        return self.coordinator().read_journal(self.name)

    def lists(self) -> "SentLists":
        """Open what it is to be told from: the lists of other journals."""
        from aiophlo.postgres.sent_lists import SentLists  # noqa: PLC0415 -- as above

        return SentLists(self.url, self.namespace, self.name)

    def write(
        self, settings: Mapping[str, str], *, settled: Iterable[KnownRow] = ()
    ) -> None:
        """Keep settings, and rows with outcomes that were not noted when they came."""
        with self.read() as reader:
            reader.write(settings, settled=settled)

    @contextlib.asynccontextmanager
    async def open(self) -> "AsyncIterator[PostgresJournal]":
        """Open it to run a batch."""
        from aiophlo.postgres import MigrationError  # noqa: PLC0415 -- as above

        async with contextlib.AsyncExitStack() as stack:
            journal = self.coordinator().journal(self.name)
            try:
                await stack.enter_async_context(journal)
            except MigrationError as error:
                raise JournalError(str(error)) from error
            yield journal

    def coordinator(self) -> "PostgresCoordinator":
        """Return what a pool shares with other runners: the account's rate."""
        with needs_extra("postgres", "postgres"):
            from aiophlo.postgres import PostgresCoordinator  # noqa: PLC0415 -- as above

        return PostgresCoordinator(
            self.url, namespace=self.namespace, secret=shared_secret()
        )


def place_of(
    journal: str | None, url: str | None, namespace: str
) -> JournalPlace | None:
    """Return where a journal is that `--journal` names; None if it names none.

    Raises:
        UnusableError: It can't be there.
    """
    if journal is None:
        return None
    slip = _LIKE_SHARED.match(journal)
    if slip and not _IS_SHARED.match(journal):
        raise UnusableError(
            "--journal: expected postgresql: and a name, such as postgresql:nightly-28,"
            f" got one that begins with {slip[0]} (where the database is,"
            f" --postgres-url or {URL_VARIABLE} says); or a file's path, begun by ./ if"
            " it looks so"
        )
    if not journal.startswith(_SHARED):
        return FilePlace(Path(journal))
    if url is None:
        raise UnusableError(
            f"--postgres-url: expected where the database is, or {URL_VARIABLE}"
        )
    place = SharedPlace(url, namespace, journal.removeprefix(_SHARED))
    try:
        place.coordinator().journal(place.name)
    except InvalidInputError as error:
        raise UnusableError(f"--journal: {error}") from error
    return place
