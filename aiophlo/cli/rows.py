"""The rows of a batch's file: CSV or JSON lines, read one at a time."""

import csv
import json
import operator
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TextIO, cast

import attrs

from aiophlo.actions import Role, WarmTransfer
from aiophlo.addresses import mask_text
from aiophlo.cli.exits import UnusableError
from aiophlo.cli.source import Source
from aiophlo.errors import InvalidInputError

COLUMNS: Final = ("to", "trigger_source", "role", "phlo_id", "node_id", "key")
REQUIRED: Final = ("to", "trigger_source")

_ROUNDED = re.compile(r"\+?\d+(?:[.,]\d+)?[eE]\+?\d+")
_DECIMAL = re.compile(r"\+?\d+[.,]\d{1,2}")  # as 14155550123.0; dots split numbers
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_BREAK = re.compile(r"[\r\n]")
_BLANK = " \t\r\n"


Fields = tuple[str, str, str, str, str, str]  # by `COLUMNS`, empty if there was none
Row = tuple[int, Fields]  # the line where it begins, from 1, and its fields


class Unusable(NamedTuple):
    """A row that can't be sent.

    Attributes:
        line: Where it begins in its file, from 1.
        reason: What is wrong with it; safe to show.
        key: Its key, if it could be read.
    """

    line: int
    reason: str
    key: str = ""


@attrs.frozen
class Defaults:
    """What options say about every row.

    Attributes:
        phlo_id: For rows that name none.
        node_id: For rows that name none.
        assume_plus: Put a `+` before numbers that lack one.
    """

    phlo_id: str | None
    node_id: str | None
    assume_plus: bool


def rows_of(source: Source) -> Iterator[Row | Unusable]:
    """Read `source` from its start; blank lines are passed over.

    Raises:
        UnusableError: Its header is missing, or has the wrong columns.
    """
    with source.text() as text:
        first = text.read(4096).lstrip(_BLANK)[:1]
    with source.text() as text:
        if first == "{":
            yield from _json_rows(text)
            return
        if first in {"", "["}:
            wrong = "is empty" if not first else "holds a JSON array"
            raise UnusableError(
                f"{source.name} {wrong}; expected CSV with a header, or JSON lines"
            )
        yield from _csv_rows(text, source.name)


def action_of(fields: Fields, defaults: Defaults, key: str | None) -> WarmTransfer:
    """Return what a row asks for.

    Args:
        fields: As they were read.
        defaults: What they may leave out.
        key: What it is known by.

    Raises:
        InvalidInputError: It can't be sent; the message masks its numbers.
    """
    if any(map(_SURROGATE.search, fields)):
        raise InvalidInputError("is not UTF-8 text")
    to, trigger_source, role, phlo_id, node_id, own = map(str.strip, fields)
    if any(map(_BREAK.search, fields)):
        raise InvalidInputError("has a line break within a field; is a quote missing?")
    if not own.isprintable():
        raise InvalidInputError("key: expected text without control characters")
    return WarmTransfer(
        phlo_id=_named(phlo_id, defaults.phlo_id, "phlo_id"),
        node_id=_named(node_id, defaults.node_id, "node_id"),
        trigger_source=_address(trigger_source, "trigger_source", defaults),
        to=_address(to, "to", defaults),
        role=cast("Role", role or Role.AGENT),  # which checks it
        key=key,
    )


def own_key(fields: Fields) -> str:
    """Return the key that a row names, or an empty text."""
    return fields[5].strip()


def _named(own: str, default: str | None, name: str) -> str:
    if not own and default is None:
        option = name.replace("_", "-")
        raise InvalidInputError(f"{name}: is missing, and no --{option} was given")
    return own or default or ""


def _address(text: str, name: str, defaults: Defaults) -> str:
    if not text:
        raise InvalidInputError(f"{name}: is missing")
    if _ROUNDED.fullmatch(text):
        raise InvalidInputError(
            f"{name}: a spreadsheet has rounded it (as in 1.41E+10) and its digits are"
            " lost; format the column as text before it is filled"
        )
    if _DECIMAL.fullmatch(text):
        raise InvalidInputError(
            f"{name}: a decimal fraction, such as a spreadsheet makes of a number"
        )
    if defaults.assume_plus and text[0] in "123456789(":
        return f"+{text}"
    return text


def _csv_rows(text: TextIO, name: str) -> Iterator[Row | Unusable]:
    reader = csv.reader(text, strict=True)
    try:
        header = next((cells for cells in reader if any(cells)), [])
    except csv.Error as error:
        raise UnusableError(f"{name}, line {reader.line_num}: {error}") from error
    pick = _picker(header, name)
    width, line = len(header), reader.line_num
    ended = False
    while not ended:
        try:
            for cells in reader:
                begin, line = line + 1, reader.line_num
                if len(cells) == width:
                    cells.append("")
                    if any(cells):
                        yield begin, pick(cells)
                elif any(cells):
                    fields = f"has {len(cells)} fields, its header {width}"
                    yield Unusable(begin, fields)
            ended = True
        except csv.Error as error:  # the next line begins a new row
            begin, line = line + 1, reader.line_num
            upto = f" (up to line {line})" if line > begin else ""
            yield Unusable(begin, f"is broken CSV{upto}: {error}")


def _picker(header: list[str], name: str) -> Callable[[list[str]], Any]:
    """Return what takes the fields of `COLUMNS` from a row and one empty cell."""
    found = [cell.strip().lower() for cell in header]
    for column in REQUIRED:
        if column not in found:
            hint = _delimiter_hint(header)
            raise UnusableError(f"{name}: its header lacks {column!r}{hint}")
    for column in found:
        if column not in COLUMNS:
            known = ", ".join(COLUMNS)
            shown = mask_text(column)[:40]
            raise UnusableError(
                f"{name}: its header has {shown!r}; columns are {known}"
            )
        if found.count(column) > 1:
            raise UnusableError(f"{name}: its header has {column!r} twice")
    return operator.itemgetter(
        *(found.index(c) if c in found else len(found) for c in COLUMNS)
    )


def _delimiter_hint(header: list[str]) -> str:
    for delimiter, shown in ((";", "';'"), ("\t", "tabs")):
        if len(header) == 1 and delimiter in header[0]:
            return f"; it is separated by {shown} instead of ','"
    return ""


def _json_rows(text: TextIO) -> Iterator[Row | Unusable]:
    for number, line in enumerate(text, 1):
        if not line.strip(_BLANK):
            continue
        try:
            pairs = json.loads(line, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError):
            yield Unusable(number, "is not JSON")
            continue
        yield _json_row(number, pairs)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object's names and values, with what a dict would drop."""


def _json_row(number: int, pairs: object) -> Row | Unusable:
    if not isinstance(pairs, _Pairs):
        return Unusable(number, "is not a JSON object")
    values = {name: value for name, value in pairs if value is not None}
    if len({name for name, _ in pairs}) < len(pairs):
        return Unusable(number, "names a field twice")
    for name, value in values.items():
        if name not in COLUMNS:
            return Unusable(number, f"has an unknown field {mask_text(name)[:40]!r}")
        if not isinstance(value, str):
            kind = type(value).__name__
            return Unusable(number, f"{name}: expected text in quotes, got {kind}")
    to, trigger_source, role, phlo_id, node_id, key = (
        values.get(column, "") for column in COLUMNS
    )
    return number, (to, trigger_source, role, phlo_id, node_id, key)
