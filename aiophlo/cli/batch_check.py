"""Checking a batch's file before anything is sent, against its journal, too."""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from typing import Self

import attrs

from aiophlo.cli.batch_options import BatchOptions
from aiophlo.cli.exit_codes import UnusableError
from aiophlo.cli.fingerprint import Fingerprint, fingerprint_of, read_fingerprint
from aiophlo.cli.first_pass import Survey, validate_rows
from aiophlo.cli.journal_places import JournalPlace, SharedPlace, usable_journal
from aiophlo.cli.known_rows import count_settled
from aiophlo.cli.list_sketch import share_in, sketch_of
from aiophlo.cli.output import say_error
from aiophlo.cli.row_source import Source
from aiophlo.cli.rows import Defaults, Unusable
from aiophlo.cli.terminal_text import number_of

_LATELY = 86_400.0  # seconds
_MOST = 0.5  # share of a list's rows that are in another


@attrs.frozen
class Found:
    """What the first reading of a file found.

    Attributes:
        fingerprint: What is to be remembered of it.
        unchanged: Earlier runs had the very same.
        repeats: Lines of rows that are left out, for they equal earlier ones.
    """

    fingerprint: Fingerprint
    unchanged: bool
    repeats: Sequence[int] = ()

    def leaves_out(self, line: int) -> bool:
        """Say whether the row in a line equals an earlier one, and is not sent."""
        return _has(self.repeats, line)


def check_file(options: BatchOptions, source: Source) -> Found:
    """Check every row, unless earlier runs have done so."""
    with usable_journal():
        known = None if options.journal is None else read_fingerprint(options.journal)
    unchanged = known is not None and known.is_of(source, options.defaults)
    if (
        known is not None
        and unchanged
        and known.survey.rows  # none is refused below
        and not (known.survey.unusable or known.survey.equal)  # these are listed again
    ):
        return Found(known, unchanged=True)
    _check_lines_stand(known, source, options.defaults)
    repeats = array("Q")

    def tell_equal(line: int, first: int) -> None:
        unusable.flush()
        say_error(f"line {line}: asks for the same transfer as line {first}")
        if not options.allow_repeats:
            repeats.append(line)

    with _UnusableList() as unusable:
        found = validate_rows(source, options.defaults, unusable.add, tell_equal)
        settled, conflicts = _known_in_journal(options, source, repeats, unusable.add)
    found = attrs.evolve(
        found, rows=found.rows - conflicts, unusable=found.unusable + conflicts
    )
    _check_survey(found, options, source)
    others = settled_rows(options.journal) - settled
    fingerprint = fingerprint_of(
        source,
        options.defaults,
        found,
        allow_repeats=options.allow_repeats,
        others=others,
    )
    return Found(fingerprint, unchanged, repeats)


def _check_lines_stand(
    known: Fingerprint | None, source: Source, defaults: Defaults
) -> None:
    """Refuse a file whose rows may have moved, if they are known by their lines."""
    if known is None or not known.survey.keyless or known.begins(source, defaults):
        return
    raise UnusableError(
        f"{source.name}: the journal was begun with other rows or options; rows without"
        " a key go by line and content, so that some could be dialled again."
        " Restore it, or send what is new in a file and a journal of its own"
    )


def _check_survey(found: Survey, options: BatchOptions, source: Source) -> None:
    """Refuse rows that can't be used, and a file without any, unless that is wanted."""
    if found.unusable and not options.skip_invalid:
        rows = number_of(found.rows + found.unusable, "row")
        raise UnusableError(
            f"{source.name}: {found.unusable} of {rows} can't be used, nothing was"
            " sent; --skip-invalid sends the others"
        )
    if not (found.rows or found.unusable or options.allow_empty):
        raise UnusableError(
            f"{source.name}: holds no rows; --allow-empty takes it for nothing to do"
        )


def _known_in_journal(
    options: BatchOptions,
    source: Source,
    repeats: Sequence[int],
    tell_unusable: Callable[[Unusable], None],
) -> tuple[int, int]:
    """Return how many rows are settled, and how many have another transfer's key."""
    if options.journal is None or not settled_rows(options.journal):
        return 0, 0
    conflicts = 0

    def tell(row: Unusable) -> None:
        nonlocal conflicts
        conflicts += 1
        tell_unusable(row)

    left_out = partial(_has, repeats)
    with usable_journal():
        reader = options.journal.find()
        if reader is None:
            return 0, 0
        with reader:
            settled = count_settled(
                source, options.defaults, reader, left_out=left_out, tell=tell
            )
    return settled, conflicts


def _has(lines: Sequence[int], line: int) -> bool:
    at = bisect_left(lines, line)
    return at < len(lines) and lines[at] == line


def settled_rows(journal: JournalPlace | None, *, doubts: bool = True) -> int:
    """Return how many transfers a journal has that will not be sent again.

    Args:
        journal: Where they are noted; None for nowhere.
        doubts: Those in doubt are not.

    Raises:
        UnusableError: It can't be read.
    """
    with usable_journal():
        found = None if journal is None else journal.find()
        if found is None:
            return 0
        with found as reader:
            return reader.count(besides=["not_sent", *([] if doubts else ["in_doubt"])])


def refuse_sent_list(
    options: BatchOptions, source: Source, place: SharedPlace, *, keep: bool
) -> None:
    """Refuse a list of which most was sent under another journal lately.

    Args:
        options: What was typed.
        source: The list.
        place: Where its journal is, or is to be.
        keep: Keep its sketch, since it is sent now; the journal has to be open.

    Raises:
        UnusableError: It was, and that isn't wanted.
        JournalError: That can't be known.
    """
    with place.lists() as lists:
        if lists.has_own:
            return
        sketch = sketch_of(source, options.defaults, lists.secret())
        with lists.others(_LATELY) as others:
            for name, other in others.items():
                if share_in(sketch, other) > _MOST and not options.allow_repeats:
                    raise UnusableError(
                        f"{source.name}: most of its rows are in the journal"
                        f" {name}, which was used within a day; --allow-repeats sends"
                        " them again",
                        plain=name,
                    )
            if keep:
                lists.keep(sketch)


class _UnusableList:
    """Names each row that can't be used, neighbours with one reason together.

    A forgotten option would else be told a million times, once for each row. Use it
    as a context manager: leaving names what is left.
    """

    def __init__(self) -> None:
        self._first: Unusable | None = None
        self._last = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def add(self, row: Unusable) -> None:
        """Name a row, now or with its neighbours."""
        first = self._first
        if first is None or (row.line, row.reason) != (self._last + 1, first.reason):
            self.flush()
            self._first = row
        self._last = row.line

    def flush(self) -> None:
        """Name what was added, before something else is said."""
        if self._first is None:
            return
        line, reason, _ = self._first
        self._first = None
        where = (
            f"line {line}" if line == self._last else f"lines {line} to {self._last}"
        )
        say_error(f"{where}: {reason}")
