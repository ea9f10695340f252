"""The rows of a batch's file: CSV or JSON lines, read one at a time."""

import csv
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, cast

import attrs

from aiophlo.cli.csv_header import COLUMNS, Table, read_header, unknown_column
from aiophlo.cli.exit_codes import UnusableError
from aiophlo.cli.row_source import Source
from aiophlo.errors import InvalidInputError
from aiophlo.model.actions import Role, WarmTransfer

_ROUNDED = re.compile(r"\+?\d+(?:[.,]\d+)?[eE]\+?\d+")
_DECIMAL = re.compile(r"\+?\d+[.,]\d{1,2}")  # as 14155550123.0; dots split numbers
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_BREAK = re.compile(r"[\r\n]")
_BLANK = " \t\r\n"
_CTRL_Z = "\x1a"
_LONGEST_START = 1 << 16  # characters in which a JSON object of a row ends


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
        ignore_columns: Pass over columns that aren't known.
    """

    phlo_id: str | None
    node_id: str | None
    assume_plus: bool
    ignore_columns: bool = False


def rows_of(source: Source, defaults: Defaults) -> Iterator[Row | Unusable]:
    """Read `source` from its start; blank lines are passed over.

    Args:
        source: CSV with a header, or JSON lines.
        defaults: What options say about every row.

    Raises:
        UnusableError: Its header is missing, or has the wrong columns.
    """
    with source.text() as text:
        start = text.read(_LONGEST_START).lstrip(_BLANK + _CTRL_Z)
    if start[:1] == "[" or _is_pretty(start):
        kind = "a JSON array" if start[0] == "[" else "JSON objects of several lines"
        raise UnusableError(
            f"{source.name} holds {kind}; expected CSV with a header, or JSON with an"
            " object in each line, such as jq -c makes of it"
        )
    ignore_columns = defaults.ignore_columns
    has_ctrl_z = source.ends_with(_CTRL_Z.encode())
    with source.text() as text:
        lines = _up_to_ctrl_z(text) if has_ctrl_z else text
        if start[:1] == "{":
            yield from _json_rows(lines, ignore_columns=ignore_columns)
        elif start:
            table = read_header(lines, source.name, ignore_columns=ignore_columns)
            yield from _csv_rows(table)


def _is_pretty(start: str) -> bool:
    """Say whether JSON begins with an object that doesn't end in its first line."""
    first = start.partition("\n")[0].strip()
    if first == "{":
        return True
    if first[:1] != "{":
        return False
    try:
        _, end = json.JSONDecoder().raw_decode(start)
    except (ValueError, RecursionError):
        return False
    return end > len(first)


def _up_to_ctrl_z(lines: Iterable[str]) -> Iterator[str]:
    """Drop the Ctrl-Z with which DOS programs end a file."""
    last = ""
    for line in lines:
        if last:
            yield last
        last = line
    if last := last.rstrip(_CTRL_Z + "\r\n"):
        yield last


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


def actions_of(
    source: Source, defaults: Defaults
) -> Iterator[tuple[int, WarmTransfer]]:
    """Yield what the rows of `source` ask for, each with the line where it begins.

    Those that can't be sent, and were told when the rows were checked, are left out.
    """
    for row in rows_of(source, defaults):
        if isinstance(row, Unusable):
            continue
        line, fields = row
        try:
            action = action_of(fields, defaults, own_key(fields) or None)
        except InvalidInputError:
            continue
        yield line, action


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


def _csv_rows(table: Table) -> Iterator[Row | Unusable]:
    reader, passed = table.reader, table.passed
    pick, width, line = table.pick, table.width, passed + reader.line_num
    ended = False
    while not ended:
        try:
            for cells in reader:
                begin, line = line + 1, passed + reader.line_num
                if len(cells) > width:
                    _drop_empty(cells, width)
                if len(cells) == width:
                    cells.append("")
                    if any(cells):
                        yield begin, pick(cells)
                elif any(cells):
                    fields = f"has {len(cells)} fields, its header {width}"
                    yield Unusable(begin, fields)
            ended = True
        except csv.Error as error:  # the next line begins a new row
            begin, line = line + 1, passed + reader.line_num
            upto = f" (up to line {line})" if line > begin else ""
            yield Unusable(begin, f"is broken CSV{upto}: {error}")


def _drop_empty(cells: list[str], width: int) -> None:
    """Drop the empty cells that a spreadsheet adds behind the last column."""
    while len(cells) > width and not cells[-1].strip():
        cells.pop()


def _json_rows(
    lines: Iterable[str], *, ignore_columns: bool
) -> Iterator[Row | Unusable]:
    for number, line in enumerate(lines, 1):
        if not line.strip(_BLANK):
            continue
        try:
            pairs = json.loads(line, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError):
            yield Unusable(number, "is not JSON")
            continue
        yield _json_row(number, pairs, ignore_columns=ignore_columns)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object's names and values, with what a dict would drop."""


def _json_row(number: int, pairs: object, *, ignore_columns: bool) -> Row | Unusable:
    if not isinstance(pairs, _Pairs):
        return Unusable(number, "is not a JSON object")
    values = {name: value for name, value in pairs if value is not None}
    if len({name for name, _ in pairs}) < len(pairs):
        return Unusable(number, "names a field twice")
    for name, value in values.items():
        if name not in COLUMNS:
            if ignore_columns:
                continue
            return Unusable(number, f"has an unknown field {unknown_column(name)}")
        if not isinstance(value, str):
            kind = type(value).__name__
            return Unusable(number, f"{name}: expected text in quotes, got {kind}")
    to, trigger_source, role, phlo_id, node_id, key = (
        values.get(column, "") for column in COLUMNS
    )
    return number, (to, trigger_source, role, phlo_id, node_id, key)
