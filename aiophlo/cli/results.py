"""The file that says what came of each row, whole rows at any moment."""

import asyncio
import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aiophlo.cli.exits import UnusableError

FIELDS: Final = (
    *("key", "verdict", "reason", "status", "api_id", "attempts", "seconds"),
)
Put = Callable[[str], None]
Result = tuple[str, str, str | None, int | None, str | None, int, float]
_HEADER: Final = ",".join(FIELDS) + "\n"
_EVERY = 0.25  # seconds that a row waits for others at most
_ENOUGH = 1 << 16  # bytes that are written without waiting for more


class Results:
    """Writes a CSV or JSON-lines file, a row at a time.

    Rows are written whole and many at once. Where there is a file of an
    earlier run already, its place is taken only once the new one has as many
    rows: whenever a run is killed, what is there is whole.

    Args:
        path: Ends in `.csv` or `.jsonl`.
        resumed: Whether there may be a file of an earlier run.

    Raises:
        UnusableError: It can't be written, or something else is there.
    """

    def __init__(self, path: Path, *, resumed: bool) -> None:
        self._path = path
        self._write = format_of(path)(self._put)
        self._lines = 0
        self._pending: list[str] = []
        self._size = 0
        self._flushing: asyncio.TimerHandle | None = None
        self._failure: OSError | None = None
        self._placed = False
        self._expected = self._earlier_lines(resumed=resumed)
        self._part = path.with_name(f".{path.name}.part")
        try:
            self._file = os.open(
                self._part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND, 0o600
            )
        except OSError as error:
            raise _unwritable(path, error) from error
        if path.suffix == ".csv":
            self._put(_HEADER)
        self._flush()

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

    def close(self) -> None:
        """Write what is pending, and put the file in its place.

        Raises:
            OSError: The disk is full, or gone.
        """
        try:
            self._flush()
            self._take_place()
        finally:
            os.close(self._file)

    def _put(self, line: str) -> None:
        self._pending.append(line)
        self._size += len(line)

    def _flush_waiting(self) -> None:
        try:
            self._flush()
        except OSError as error:
            self._failure = error  # for whoever adds the next row

    def _flush(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        data = "".join(self._pending).encode(errors="replace")
        while data:
            data = data[os.write(self._file, data) :]
        self._lines += len(self._pending)
        self._pending.clear()
        self._size = 0
        if self._lines >= self._expected:
            self._take_place()

    def _take_place(self) -> None:
        if not self._placed:
            self._part.replace(self._path)
            self._placed = True

    def _earlier_lines(self, *, resumed: bool) -> int:
        try:
            with self._path.open("rb") as file:
                first = file.readline(1024)
                if not resumed or not _is_ours(first, self._path):
                    raise UnusableError(
                        f"--results: {self._path} is there already, and not this"
                        " batch's; name another file"
                    )
                return sum(block.count(b"\n") for block in iter(_reader(file), b"")) + 1
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise _unwritable(self._path, error) from error


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


def json_line(result: Result) -> str:
    """Return a row as a line of JSON."""
    return json.dumps(dict(zip(FIELDS, result, strict=True)), ensure_ascii=False) + "\n"


def _json_writer(put: Put) -> Callable[[Result], object]:
    return lambda result: put(json_line(result))


def _csv_writer(put: Put) -> Callable[[Result], object]:
    return csv.writer(_Lines(put), lineterminator="\n").writerow


class _Lines:
    """What csv writes to: one line at a time."""

    def __init__(self, write: Put) -> None:
        self.write = write


def _reader(file: io.BufferedReader) -> Callable[[], bytes]:
    return lambda: file.read(_ENOUGH)


def _is_ours(first: bytes, path: Path) -> bool:
    if path.suffix == ".csv":
        return first == _HEADER.encode()
    return not first or first.startswith(b'{"key": ')


def _unwritable(path: Path, error: OSError) -> UnusableError:
    return UnusableError(f"--results: {path} can't be written: {error.strerror}")
