"""The first pass over a batch's file: validates every row before anything is sent."""

import contextlib
import re
from collections.abc import Callable

import attrs

from aiophlo.cli.row_source import Source
from aiophlo.cli.rows import (
    Defaults,
    Fields,
    Row,
    Unusable,
    action_of,
    own_key,
    rows_of,
)
from aiophlo.errors import InvalidInputError
from aiophlo.journal.repeated_rows import RepeatedRows
from aiophlo.model.address_matching import phone_of

_PLAIN_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")
_MOST_KINDS = 10_000  # agents, roles and nodes whose check is remembered


@attrs.frozen
class Survey:
    """What a file holds.

    Attributes:
        rows: Rows that can be sent.
        unusable: Rows that can't.
        repeated: Rows with the key of an earlier one.
        keyless: Rows with no key of their own, of those that can be sent.
        equal: Rows that ask for the same transfer as an earlier one, by another
            key or line; part of `rows`.
        conflicts: Rows with the key of an earlier one that asks for another
            transfer; part of `repeated` and `unusable`.
    """

    rows: int
    unusable: int
    repeated: int
    keyless: int
    equal: int
    conflicts: int = 0


def validate_rows(
    source: Source,
    defaults: Defaults,
    tell: Callable[[Unusable], None],
    tell_equal: Callable[[int, int], None],
) -> Survey:
    """Check every row, in memory that doesn't grow with their number.

    Args:
        source: What is read.
        defaults: What options say about every row.
        tell: Called with each row that can't be sent.
        tell_equal: Called with the line of each row that asks for the same transfer
            as an earlier one, and the line of that; lines ascend.

    Raises:
        UnusableError: Its header is missing, or has the wrong columns.
    """
    with contextlib.closing(RepeatedRows()) as keys:
        validator = _RowValidator(defaults, tell, keys)
        for row in rows_of(source, defaults):
            validator.validate(row)
        repeated = conflicts = 0
        for found in keys.sharing_a_key():
            repeated += 1
            if not found["same"]:
                conflicts += 1
                reason = f"key: line {found['first']} has it for another transfer"
                tell(Unusable(found["line"], reason))
        if conflicts:
            keys.drop_conflicts()
        equal = 0
        for found in keys.sharing_content():
            equal += found["new"]
            tell_equal(found["line"], found["first"])
        return Survey(
            rows=validator.rows - conflicts,
            unusable=validator.unusable + conflicts,
            repeated=repeated,
            keyless=validator.keyless,
            equal=equal,
            conflicts=conflicts,
        )


class _RowValidator:
    def __init__(
        self, defaults: Defaults, tell: Callable[[Unusable], None], keys: RepeatedRows
    ) -> None:
        self.rows = 0
        self.keyless = 0
        self.unusable = 0
        self._defaults = defaults
        self._tell = tell
        self._keys = keys
        self._sound: dict[tuple[str, ...], int] = {}  # all but `to` and key, checked

    def validate(self, row: Row | Unusable) -> None:
        if isinstance(row, Unusable):
            self._refuse(row)
            return
        line, fields = row
        key = fields[5]
        kind = self._sound.get(fields[1:5])
        if (
            kind is not None
            and _PLAIN_NUMBER.fullmatch(fields[0])
            and key.isascii()
            and key.isprintable()
        ):
            self._accept(line, key.strip(), (fields[0], kind))
        else:
            self._validate_whole(line, fields)

    def _validate_whole(self, line: int, fields: Fields) -> None:
        key = own_key(fields)
        try:
            action = action_of(fields, self._defaults, key or None)
        except InvalidInputError as error:
            self._refuse(Unusable(line, str(error), key))
            return
        kind = hash(
            (
                phone_of(action.trigger_source),
                action.role,
                action.phlo_id,
                action.node_id,
            )
        )
        if len(self._sound) >= _MOST_KINDS:
            self._sound.clear()
        self._sound[fields[1:5]] = kind
        self._accept(line, key, (phone_of(action.to), kind))

    def _accept(self, line: int, key: str, content: tuple[str, int]) -> None:
        self.rows += 1
        self._keys.add(key, hash(content), line)
        if not key:
            self.keyless += 1

    def _refuse(self, row: Unusable) -> None:
        self.unusable += 1
        self._tell(row)
