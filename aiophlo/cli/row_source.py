"""The source of a batch's rows: a file, or a copy of standard input."""

import contextlib
import errno
import hashlib
import io
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from aiophlo.cli.exit_codes import UnusableError

STDIN = "-"
_BLOCK = 1 << 20
_SMALL_BLOCK = 1 << 16
_LONGEST_LINE = 1 << 20  # bytes; one that is longer would be held in memory whole
_OTHERS = {  # by what they begin with
    b"\xff\xfe": "is UTF-16; save it as UTF-8",
    b"\xfe\xff": "is UTF-16; save it as UTF-8",
    b"PK\x03\x04": "is an Excel workbook (.xlsx) or another ZIP file; save it as CSV",
    b"\xd0\xcf\x11\xe0": "is an old Excel workbook (.xls); save it as CSV",
    b"\x1f\x8b": "is compressed (.gz); try: gunzip -c FILE | aiophlo batch -",
    b"\x28\xb5\x2f\xfd": "is compressed (.zst); try: zstdcat FILE | aiophlo batch -",
    b"\xfd7zXZ": "is compressed (.xz); try: xzcat FILE | aiophlo batch -",
    b"BZh": "is compressed (.bz2); try: bzcat FILE | aiophlo batch -",
    b"%PDF": "is a PDF; expected CSV with a header, or JSON lines",
}


_LONGEST_MARK = max(map(len, _OTHERS))


class Source:
    """Text that can be read more than once, however it came.

    Args:
        file: What it is read from; seekable, and its own to close.
        name: What people call it.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self._file = file
        self._state = self._stat()

    @property
    def size(self) -> int:
        """Bytes."""
        return os.fstat(self._file.fileno()).st_size

    def check(self) -> None:
        """Raise if the file was written to since it was opened.

        Raises:
            UnusableError: Rows may stand elsewhere than where they were checked.
        """
        if self._stat() != self._state:
            raise UnusableError(f"{self.name} has changed while it was being read")

    def is_same_file(self, path: Path) -> bool:
        """Say whether `path` leads to the file that this reads."""
        with contextlib.suppress(OSError):
            return os.path.samestat(path.stat(), os.fstat(self._file.fileno()))
        return False

    @contextlib.contextmanager
    def text(self) -> Iterator[io.TextIOWrapper]:
        """Read from the start; bytes that aren't UTF-8 become surrogates."""
        self._file.seek(0)
        start = self._file.read(_LONGEST_MARK)
        for mark, what in _OTHERS.items():
            if start.startswith(mark):
                raise UnusableError(f"{self.name}: {what}")
        self._file.seek(0)
        text = io.TextIOWrapper(
            self._file, "utf-8-sig", errors="surrogateescape", newline=""
        )
        try:
            yield text
        finally:
            text.detach()

    def ends_with(self, mark: bytes) -> bool:
        """Say whether `mark` ends the file, but for a line's end."""
        self._file.seek(max(self.size - len(mark) - len(b"\r\n"), 0))
        return self._file.read().rstrip(b"\r\n").endswith(mark)

    def digest(self, salt: bytes, size: int) -> str:
        """Return a digest of the first `size` bytes."""
        digest = hashlib.sha256(salt)
        self._file.seek(0)
        while size > 0 and (block := self._file.read(min(_BLOCK, size))):
            digest.update(block)
            size -= len(block)
        return digest.hexdigest()

    def _stat(self) -> tuple[int, int]:
        stat = os.fstat(self._file.fileno())
        return stat.st_size, stat.st_mtime_ns


@contextlib.contextmanager
def opened(path: str) -> Iterator[Source]:
    """Open a file; standard input, and pipes, are copied to a private one first.

    The copy has no name, so that nobody's number is left behind by a kill.

    Args:
        path: The file's, or `-`.

    Raises:
        UnusableError: It can't be read, or has a line that is too long.
    """
    name = "standard input" if path == STDIN else path
    with contextlib.ExitStack() as stack:
        try:
            file = _open(path)
            stack.callback(file.close)
            if path == STDIN or not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                file = _spooled(file, name)
                stack.callback(file.close)
            else:
                for _ in _blocks(file, name):
                    pass
        except OSError as error:
            why = error.strerror or "unknown"
            raise UnusableError(f"{name}: can't be read: {why}") from error
        yield Source(file, name)


def _open(path: str) -> BinaryIO:
    if path != STDIN:
        return Path(path).open("rb")
    if sys.stdin is None:
        raise OSError(errno.EBADF, "it is closed")
    return open(sys.stdin.fileno(), "rb", closefd=False)


def _spooled(file: BinaryIO, name: str) -> BinaryIO:
    with contextlib.ExitStack() as stack:
        copy = stack.enter_context(tempfile.TemporaryFile())
        with file:
            copy.writelines(_blocks(file, name))
        copy.flush()
        stack.pop_all()
        return copy


def _blocks(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Read `file`, a block at a time, as long as its lines end.

    Raises:
        UnusableError: A line is too long: it is no list of rows, or has no end.
    """
    length = 0  # of the line so far
    while block := file.read(_SMALL_BLOCK):
        ends = [at for mark in (b"\n", b"\r") if (at := block.find(mark)) >= 0]
        length += min(ends, default=len(block))
        if length > _LONGEST_LINE:
            raise UnusableError(
                f"{name}: has a line of more than {_LONGEST_LINE >> 20} MiB; expected"
                " CSV with a header, or JSON lines"
            )
        if ends:
            last = max(block.rfind(b"\n"), block.rfind(b"\r"))
            length = len(block) - last - 1
        yield block
