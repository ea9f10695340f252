"""The header of a CSV file: its delimiter, its columns, and what is wrong with them.

`csv.Sniffer` guesses a delimiter by how often characters come, and takes a header
of two columns for one of another; the names that may stand there are known.
"""

import csv
import difflib
import operator
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, Final

import attrs

from aiophlo.cli.exit_codes import UnusableError
from aiophlo.model.redaction import mask_text

COLUMNS: Final = ("to", "trigger_source", "role", "phlo_id", "node_id", "key")
REQUIRED: Final = ("to", "trigger_source")

_DELIMITERS = (",", ";", "\t")
_BLANK = " \t\r\n"
_SEP = re.compile(r'"?sep=(.)"?', re.IGNORECASE)  # Excel writes and reads it
_EMPTY = re.compile(r'[\s,;"]*')
_SHOWN = 40
# Other people's words for the columns.
_SYNONYMS = {
    **dict.fromkeys(("agent", "from", "caller", "source", "trigger"), "trigger_source"),
    **dict.fromkeys(("phone", "number", "phone_number", "callee", "target"), "to"),
    **dict.fromkeys(("phlo", "flow", "flow_id"), "phlo_id"),
    **dict.fromkeys(("node",), "node_id"),
    **dict.fromkeys(("id", "reference", "order", "external_id"), "key"),
}


@attrs.frozen
class Table:
    """A CSV file whose header was read.

    Attributes:
        reader: Gives the rows.
        passed: Lines before those that `reader` counts.
        width: Columns.
        pick: Takes the fields of `COLUMNS` from a row and one empty cell.
    """

    reader: Any  # what csv.reader returns has no name
    passed: int
    width: int
    pick: Callable[[list[str]], Any]


def read_header(lines: Iterable[str], name: str, *, ignore_columns: bool) -> Table:
    """Read up to the first row.

    Args:
        lines: The file's.
        name: What people call it.
        ignore_columns: Pass over columns that aren't known.

    Raises:
        UnusableError: The header is missing, or has the wrong columns.
    """
    lines = iter(lines)
    passed, first, delimiter = _first_line(lines)
    delimiter = delimiter or _delimiter(first)
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    try:
        header = [cell.strip() for cell in next(reader)]
    except csv.Error as error:
        line = passed + reader.line_num
        raise UnusableError(f"{name}, line {line}: {error}") from error
    while header and not header[-1]:  # a spreadsheet's empty columns
        header.pop()
    pick = _picker(header, name, ignore_columns=ignore_columns)
    return Table(reader, passed, len(header), pick)


def _first_line(lines: Iterator[str]) -> tuple[int, str, str]:
    """Return how many lines stand before the header, the header, what `sep=` says."""
    delimiter = ""
    for passed, line in enumerate(lines):
        if (match := _SEP.fullmatch(line.strip("\r\n"))) and not delimiter:
            delimiter = match[1]
        elif not _EMPTY.fullmatch(line):
            return passed, line, delimiter
    return 0, "", delimiter


def _delimiter(header: str) -> str:
    def known(delimiter: str) -> int:
        cells = next(csv.reader([header], delimiter=delimiter), [])
        names = {_plain(cell) for cell in cells}
        return len(names & {*COLUMNS, *_SYNONYMS})

    return max(_DELIMITERS, key=known)  # the first of equals


def _plain(cell: str) -> str:
    return re.sub(r"[\s_-]+", "_", cell.strip().lower())


def _picker(
    header: list[str], name: str, *, ignore_columns: bool
) -> Callable[[list[str]], Any]:
    found = [cell.lower() for cell in header]
    unknown = [] if ignore_columns else [c for c in header if c.lower() not in COLUMNS]
    missing = [column for column in REQUIRED if column not in found]
    if unknown or missing:
        raise UnusableError(
            f"{name}: its header {_complaint(header, unknown, missing)}"
        )
    for column in COLUMNS:
        if found.count(column) > 1:
            raise UnusableError(f"{name}: its header has {column!r} twice")
    return operator.itemgetter(
        *(found.index(c) if c in found else len(found) for c in COLUMNS)
    )


def _complaint(header: list[str], unknown: list[str], missing: list[str]) -> str:
    others = unknown or [c for c in header if c.lower() not in COLUMNS]
    parts = []
    if missing:
        parts.append("lacks " + " and ".join(map(repr, missing)))
    if others:
        named = (unknown_column(c) if c else "a column without a name" for c in others)
        parts.append("has " + ", ".join(named))
    known = ", ".join(COLUMNS)
    ignoring = "; --ignore-columns passes over others" if not missing else ""
    return f"{' and '.join(parts)}; columns are {known}{ignoring}"


def unknown_column(name: str) -> str:
    """Return an unknown column's name, and which one may be meant."""
    shown = repr(mask_text(name)[:_SHOWN])
    meant = _meant_column(name)
    return f"{shown} (is it {meant!r}?)" if meant else shown


def _meant_column(name: str) -> str | None:
    plain = _plain(name)
    if plain in _SYNONYMS:
        return _SYNONYMS[plain]
    close = difflib.get_close_matches(plain, COLUMNS, n=1, cutoff=0.75)
    return close[0] if close else None
