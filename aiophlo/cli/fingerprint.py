"""The fingerprint of a batch's file, which its journal keeps.

It stands among the journal's settings. A file that hasn't changed needs no
second check, and its finished rows can be told by their place alone.
"""

import json
import secrets
from typing import TypeVar

import attrs

from aiophlo.cli.first_pass import Survey
from aiophlo.cli.journal_places import JournalPlace
from aiophlo.cli.row_source import Source
from aiophlo.cli.rows import Defaults
from aiophlo.errors import JournalError

_NAME = "batch"
_Noted = TypeVar("_Noted", bound=attrs.AttrsInstance)


@attrs.frozen
class Fingerprint:
    """The file as it was when the batch last began.

    Attributes:
        salt: Of the digest, so that nobody finds a number by trying all.
        size: Of the file, in bytes.
        digest: Of the file and the options that shape its rows.
        survey: What it held.
        allow_repeats: Equal rows were to be sent, too.
        others: Settled transfers in the journal that are not of this file.
    """

    salt: str
    size: int
    digest: str
    survey: Survey
    allow_repeats: bool
    others: int = 0

    @property
    def sendable(self) -> int:
        """Rows that are to be sent, if they are new."""
        equal = 0 if self.allow_repeats else self.survey.equal
        return self.survey.rows - equal

    @property
    def distinct(self) -> int:
        """Transfers that are to be sent: rows that are told twice count once."""
        return self.sendable - (self.survey.repeated - self.survey.conflicts)

    def is_of(self, source: Source, defaults: Defaults) -> bool:
        """Say whether this is about the file as it is now."""
        return source.size == self.size and self.begins(source, defaults)

    def begins(self, source: Source, defaults: Defaults) -> bool:
        """Say whether the file is unchanged, or has grown at its end."""
        return _digest(source, defaults, self.salt, self.size) == self.digest


def fingerprint_of(
    source: Source,
    defaults: Defaults,
    found: Survey,
    *,
    allow_repeats: bool,
    others: int,
) -> Fingerprint:
    """Return what to remember of a file that was surveyed just now."""
    salt = secrets.token_hex(16)
    size = source.size
    digest = _digest(source, defaults, salt, size)
    return Fingerprint(salt, size, digest, found, allow_repeats, others)


def _digest(source: Source, defaults: Defaults, salt: str, size: int) -> str:
    # What shapes a row; which others are passed over doesn't.
    shaping = (defaults.phlo_id, defaults.node_id, defaults.assume_plus)
    options = json.dumps([salt, *shaping])
    return source.digest(options.encode(), size)


def read_fingerprint(journal: JournalPlace) -> Fingerprint | None:
    """Return what a journal remembers, or None: it is new, or no command's.

    Raises:
        JournalError: It can't be read.
    """
    found = journal.find()
    if found is None:
        return None
    with found as reader:
        text = reader.setting(_NAME)
    if text is None:
        return None
    try:
        values = json.loads(text)
        survey = _checked(Survey(**values.pop("survey")))
        return _checked(Fingerprint(survey=survey, **values))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise JournalError(
            f"journal {journal}: was begun by another version of this command, which"
            " noted other things of its file; go on with that one"
        ) from error


def _checked(read: _Noted) -> _Noted:
    """Return what was read if every field of it is of its type.

    Raises:
        TypeError: One isn't.
    """
    for field in attrs.fields(type(read)):
        if type(getattr(read, field.name)) is not field.type:
            raise TypeError(field.name)
    return read


def write_fingerprint(journal: JournalPlace, fingerprint: Fingerprint) -> None:
    """Remember; the journal has to be open, so that no other runner writes.

    Raises:
        JournalError: It can't be written.
    """
    journal.write({_NAME: json.dumps(attrs.asdict(fingerprint))})
