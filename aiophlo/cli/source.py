"""Where a batch's rows come from: a file, or whatever was piped in."""

import contextlib
import hashlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from aiophlo.cli.exits import UnusableError

STDIN = "-"
_BLOCK = 1 << 20
_OTHER_ENCODINGS = (b"\xff\xfe", b"\xfe\xff")


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
        """Raise if somebody has written to it since it was opened.

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
        if self._file.read(2) in _OTHER_ENCODINGS:
            raise UnusableError(f"{self.name}: is UTF-16; save it as UTF-8")
        self._file.seek(0)
        text = io.TextIOWrapper(
            self._file, "utf-8-sig", errors="surrogateescape", newline=""
        )
        try:
            yield text
        finally:
            text.detach()

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
        UnusableError: It can't be read.
    """
    name = "standard input" if path == STDIN else path
    with contextlib.ExitStack() as stack:
        try:
            file = _open(path)
            if path == STDIN or not file.seekable():
                file = _spooled(file)
        except OSError as error:
            why = error.strerror or "unknown"
            raise UnusableError(f"{name}: can't be read: {why}") from error
        yield Source(stack.enter_context(file), name)


def _open(path: str) -> BinaryIO:
    if path != STDIN:
        return Path(path).open("rb")
    return open(sys.stdin.fileno(), "rb", closefd=False)


def _spooled(file: BinaryIO) -> BinaryIO:
    with contextlib.ExitStack() as stack:
        copy = stack.enter_context(tempfile.TemporaryFile())
        with file:
            shutil.copyfileobj(file, copy)
        copy.flush()
        stack.pop_all()
        return copy
