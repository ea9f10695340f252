"""What a results file of an earlier run knows, and whose it is.

The journal is written first, so that it knows at least as much: but for rows
whose outcome came when its disk was full. These are in doubt there, as
interrupted, while the results may have them as accepted.
"""

import contextlib
import csv
import json
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from aiophlo.cli.exit_codes import UnusableError
from aiophlo.cli.journal_places import JournalPlace
from aiophlo.cli.results import FIELDS, Result, part_of, plain
from aiophlo.errors import InvalidInputError
from aiophlo.journal.keys import Digests
from aiophlo.journal.read_ahead import ReadAhead
from aiophlo.journal.reader import JournalView, KnownRow

_PATHS = "results"
_ID = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9_-]+")
_SENT = {"accepted", "rejected", "in_doubt"}


def take_over(path: Path, journal: JournalPlace) -> None:
    """Have the journal know what the results of an earlier run know.

    Args:
        path: The results that are to be written anew.
        journal: Open, so that no other runner writes.

    Raises:
        UnusableError: They are of another batch.
        JournalError: It can't be read or written.
    """
    place = str(path.absolute())
    with journal.read() as reader:
        known_paths = json.loads(reader.setting(_PATHS) or "[]")
        earlier = _EarlierRows(reader)
        for file in (path, part_of(path)):
            if file.exists():
                for result in read_results(file):
                    earlier.add(result)
    nothing_sent = earlier.rows and not earlier.compared
    if earlier.foreign or (nothing_sent and place not in known_paths):
        raise UnusableError(
            f"--results: {path} is there already, and of another batch than the"
            " journal; name another file"
        )
    paths = json.dumps(list(dict.fromkeys([*known_paths, place])))
    journal.write({_PATHS: paths}, settled=earlier.missed.values())


class _EarlierRows:
    """Holds results against the journal.

    Attributes:
        rows: How many there are.
        compared: How many were sent, and have a key that a journal can hold.
        foreign: One is of another batch.
        missed: Rows that the journal has as interrupted, by their ids, as they are.
    """

    def __init__(self, reader: JournalView) -> None:
        self.rows = 0
        self.compared = 0
        self.foreign = False
        self.missed: dict[int, KnownRow] = {}
        self._digests = Digests(reader.setting("salt"))
        self._ahead = ReadAhead(reader)

    def add(self, result: Result) -> None:
        key, verdict, reason, status, api_id, attempts, seconds, error = result
        self.rows += 1
        if verdict not in _SENT:
            return
        try:
            stored = self._digests.key(key)
        except InvalidInputError:
            return
        self.compared += 1
        known = self._ahead.find(stored, masked=stored != key)
        shown = api_id if api_id and _ID.fullmatch(api_id) else None
        if known is None or (
            verdict == known.verdict == "accepted"
            and None not in {shown, known.api_id}
            and shown != known.api_id
        ):
            self.foreign = True
        elif (known.verdict, known.reason) == ("in_doubt", "interrupted"):
            as_told = known._replace(
                verdict=verdict,
                reason=reason,
                status=status,
                api_id=shown,
                error=error,
                attempts=attempts,
                seconds=seconds,
            )
            self.missed.setdefault(known.id, as_told)


def read_results(path: Path) -> Iterator[Result]:
    """Yield the rows of a results file with their keys as they were given.

    What isn't a whole row, as where a disk was full, is passed over.
    """
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        whole = (line for line in file if line.endswith("\n"))
        if path.suffixes and ".jsonl" in path.suffixes:
            lines: Iterator[list[Any]] = chain.from_iterable(map(_json_values, whole))
        else:
            lines = map(_csv_values, csv.reader(whole))
        for values in lines:
            if (row := _result(values)) is not None:
                yield row


def _csv_values(cells: list[str]) -> list[str]:
    return [plain(cell) if cell[:1] == "'" else cell for cell in cells]


def _json_values(line: str) -> Iterator[list[Any]]:
    with contextlib.suppress(ValueError):
        values = json.loads(line)
        if isinstance(values, dict) and [*values] == [*FIELDS]:
            yield [*values.values()]


def _result(values: list[Any]) -> Result | None:
    try:
        key, verdict, reason, status, api_id, attempts, seconds, error = values
        return (
            *(key, str(verdict), reason or None),
            *(int(status) if status else None, api_id or None),
            *(int(attempts), float(seconds), error or None),
        )
    except (ValueError, TypeError):  # half a row, or the header
        return None
