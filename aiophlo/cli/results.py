"""The results file: a row for each outcome, in whole rows at any moment."""

import asyncio
import csv
import functools
import json
import os
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aiophlo.cli.exit_codes import UnusableError
from aiophlo.cli.terminal_text import harmless, harmless_id
from aiophlo.journal.private_files import create_private, stat_own
from aiophlo.model.outcomes import Outcome, why_of

FIELDS: Final = (
    *("key", "verdict", "reason", "status", "api_id", "attempts", "seconds", "error"),
)
Put = Callable[[str], None]
Result = tuple[str, str, str | None, int | None, str | None, int, float, str | None]
_HEADER: Final = ",".join(FIELDS) + "\n"
_EVERY = 0.25  # seconds that a row waits for others at most
# What a spreadsheet begins a formula with, and what marks a text that was made inert.
_FORMULA_STARTS = (
    *("=", "+", "-", "@", "\t", "\r", "\n", "'"),
    *("\uff1d", "\uff0b", "\uff0d", "\uff20"),  # = + - @, full width
)
_OURS = 0o600  # the mode of what we write
_ENOUGH = 1 << 16  # bytes that are written without waiting for more


def result_of(outcome: Outcome) -> Result:
    """Return an outcome as a row of results, its texts safe to show."""
    return (
        outcome.action.key or "",
        outcome.verdict,
        why_of(outcome),
        outcome.status,
        harmless_id(outcome.api_id),
        outcome.attempts,
        round(outcome.seconds, 3),
        harmless(outcome.error),
    )


class Results:
    """Writes a CSV or JSON-lines file, a row at a time.

    Rows are written whole and many at once; where the disk is full, what was
    written of one is taken back. Where there is a file of an earlier run
    already, its place is taken only once the new one has as many rows: whenever
    a run is killed, what is there is whole.

    Args:
        path: Ends in `.csv` or `.jsonl`.

    Raises:
        UnusableError: It can't be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._write = format_of(path)(self._put)
        self._lines = 0
        self._end = 0  # of the last whole row, in bytes
        self._pending: list[bytes] = []
        self._size = 0
        self._flushing: asyncio.TimerHandle | None = None
        self._failure: OSError | None = None
        self._part = part_of(path)
        try:
            self._expected = _lines_in(path)
            self._placed = not path.exists()
            if not self._placed:
                self._part.unlink(missing_ok=True)
            file = path if self._placed else self._part
            self._file = create_private(file, os.O_RDWR | os.O_APPEND)
            self._begin()
        except OSError as error:
            raise _unwritable(path, error) from error

    def _begin(self) -> None:
        if self._path.suffix == ".csv":
            self._put(_HEADER)
        try:
            self._flush()
        except OSError:
            os.close(self._file)
            raise

    def add(self, result: Result) -> None:
        """Write a row, soon.

        Raises:
            OSError: The disk is full, or gone.
        """
        if self._failure is not None:
            raise self._failure
        self._write(result)
        if self._size >= _ENOUGH:
            self._flush()
        elif self._flushing is None:
            loop = asyncio.get_running_loop()
            self._flushing = loop.call_later(_EVERY, self._flush_waiting)

    def close(self, *, complete: bool = True) -> None:
        """Write what is pending, and put the file in its place.

        Args:
            complete: Every row was added; else what an earlier run knew of the
                others stays.

        Raises:
            OSError: The disk is full, or gone.
        """
        try:
            self._flush()
            if not self._placed and not complete:
                self._keep_earlier()
            self._take_place()
        finally:
            os.close(self._file)

    def _put(self, line: str) -> None:
        data = line.encode(errors="replace")
        self._pending.append(data)
        self._size += len(data)

    def _flush_waiting(self) -> None:
        try:
            self._flush()
        except OSError as error:
            self._failure = error  # for whoever adds the next row

    def _flush(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        data = b"".join(self._pending)
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError as error:
            error.filename = str(self._path)  # or nobody knows which disk is full
            raise
        finally:
            self._note_written(len(data) - len(left))
        if self._lines >= self._expected:
            self._take_place()

    def _note_written(self, size: int) -> None:
        """Drop the rows that are in the file whole, and what is there of another."""
        whole = rows = 0
        for line in self._pending:
            if whole + len(line) > size:
                break
            whole += len(line)
            rows += 1
        del self._pending[:rows]
        self._lines += rows
        self._size -= whole
        self._end += whole
        if whole < size:
            os.ftruncate(self._file, self._end)

    def _keep_earlier(self) -> None:
        """Add the earlier file's rows of keys that this one lacks."""
        read = _key_reader(self._path)
        with os.fdopen(os.dup(self._file), "rb") as own:
            own.seek(0)
            known = Counter(hash(read(line)) for line in own)
        with self._path.open("rb") as earlier:
            for line in earlier:
                key = hash(read(line))
                if known[key]:
                    known[key] -= 1
                elif line.endswith(b"\n"):
                    self._pending.append(line)
                    self._size += len(line)
                if self._size >= _ENOUGH:
                    self._flush()
        self._flush()

    def _take_place(self) -> None:
        if not self._placed:
            self._part.replace(self._path)
            self._placed = True


def part_of(path: Path) -> Path:
    """Return where results are written until they take the place of others."""
    return path.with_name(f".{path.name}.part")


def check_place(path: Path, *, resumed: bool) -> None:
    """Refuse to write results where something else is.

    Args:
        path: Theirs.
        resumed: Whether there may be some of an earlier run.

    Raises:
        UnusableError: They can't be written, or something else is there.
    """
    format_of(path)
    try:
        for file in (path, part_of(path)):
            found = stat_own(file)
            if found is None:
                continue
            private = file is path or stat.S_IMODE(found.st_mode) == _OURS
            if not private or not _is_ours(file):
                raise _foreign(file)
        if not resumed and path.exists():
            raise _foreign(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise UnusableError(f"--results: {path.parent} is no folder to write to")


def _foreign(path: Path) -> UnusableError:
    return UnusableError(
        f"--results: {path} is there already, and not this batch's; name another file"
    )


def _lines_in(path: Path) -> int:
    if stat_own(path) is None:
        return 0
    with path.open("rb") as file:
        blocks = iter(functools.partial(file.read, _ENOUGH), b"")
        return sum(block.count(b"\n") for block in blocks)


def format_of(path: Path) -> Callable[[Put], Callable[[Result], object]]:
    """Return what makes a writer of rows in the format that a file's name asks for.

    Raises:
        UnusableError: It asks for none that is known.
    """
    if path.suffix == ".csv":
        return _csv_writer
    if path.suffix == ".jsonl":
        return _json_writer
    raise UnusableError("--results: expected a name that ends in .csv or .jsonl")


def _json_writer(put: Put) -> Callable[[Result], object]:
    def write(result: Result) -> None:
        fields = dict(zip(FIELDS, result, strict=True))
        put(json.dumps(fields, ensure_ascii=False) + "\n")

    return write


def _csv_writer(put: Put) -> Callable[[Result], object]:
    write = csv.writer(_Lines(put), lineterminator="\n").writerow
    return lambda result: write(map(_inert, result))


def _inert(value: str | float | None) -> str | float | None:
    """Return `value` so that a spreadsheet takes no text for a formula."""
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return value


def plain(text: str) -> str:
    """Return a text of a CSV file as it was before it was made inert."""
    return text[1:] if text.startswith("'") and text[1:2] in _FORMULA_STARTS else text


class _Lines:
    """What csv writes to: one line at a time."""

    def __init__(self, write: Put) -> None:
        self.write = write


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.readline(1024)
    if ".csv" in path.suffixes:
        return not first or first == _HEADER.encode()
    return not first or first.startswith(b'{"key": ')


def _key_reader(path: Path) -> Callable[[bytes], object]:
    """Return what finds the key in a line, as it stands there."""
    if path.suffix == ".csv":
        return lambda line: next(iter(next(csv.reader([line.decode()]))), None)
    return lambda line: json.loads(line).get("key") if line.endswith(b"\n") else None


def _unwritable(path: Path, error: OSError) -> UnusableError:
    why = error.strerror or error
    return UnusableError(f"--results: {path} can't be written: {why}")
