"""Standard output and error, which may fail without changing what a command does.

A disk is full, a pipe's reader has gone, a terminal is closed or knows no UTF-8:
by then phones may ring, so nothing that is said may end a command or decide its
exit code. Who needs to know asks `say` whether it was written.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, TextIO, cast

_STANDARD = 2  # the last of the three descriptors that a process expects to have


class Output:
    """A stream that takes everything, and says what went wrong.

    Args:
        stream: Where it goes; None if the process has none.

    Attributes:
        failure: Why it can't be written; None while it can.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.failure: str | None = None if stream else "it is closed"
        self.encoding = getattr(stream, "encoding", None) or "utf-8"
        if getattr(stream, "errors", None) in {"strict", "surrogateescape"}:
            with contextlib.suppress(AttributeError):  # only a file's text has it
                stream.reconfigure(errors="replace")  # type: ignore[union-attr]

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- the stream's own
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write `text`, as far as that is possible."""
        if self._stream is not None and self.failure is None:
            try:
                self._stream.write(text)
            except (OSError, ValueError) as error:  # ValueError: it was closed
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Write what is pending, as far as that is possible."""
        if self._stream is not None and self.failure is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._give_up(error)

    def isatty(self) -> bool:
        """Say whether a person sees it."""
        return self._stream is not None and self._stream.isatty()

    def _give_up(self, error: Exception) -> None:
        self.failure = getattr(error, "strerror", None) or str(error)
        # Else the interpreter tries to write what is pending once more, at exit,
        # and makes an exit code of its own of it.
        if self._stream is None:
            return
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextlib.contextmanager
def forgiving_output() -> Iterator[None]:
    """Let standard output and error fail without raising, within the block."""
    _open_standard_descriptors()
    out, err = (cast("TextIO", Output(stream)) for stream in (sys.stdout, sys.stderr))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield


def _open_standard_descriptors() -> None:
    """Keep files and sockets from getting the number of a closed standard stream."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= _STANDARD:
        pass
    os.close(number)


def say(*lines: str) -> bool:
    """Put lines on standard output, as they are; return whether they are written."""
    print(*lines, sep="\n", flush=True)  # noqa: T201 -- what a command line does
    return output_failure() is None


def say_error(*lines: str) -> None:
    """Put lines on standard error, as they are."""
    print(*lines, sep="\n", file=sys.stderr, flush=True)  # noqa: T201 -- the same


def say_json(values: Mapping[str, Any]) -> bool:
    """Put one JSON object, in one line, on standard output; return as `say` does."""
    text = json.dumps(values, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:  # a key with a question mark is another key
        text = json.dumps(values)
    return say(text)


def output_failure() -> str | None:
    """Return why standard output can't be written, or None."""
    return sys.stdout.failure if isinstance(sys.stdout, Output) else None
