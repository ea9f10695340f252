"""The command `aiophlo` from its first moment on.

It stands beside the package because its commands import aiohttp first, for which a
busy machine needs seconds. A signal in these would kill
the command without a word, or print a traceback of whatever was being imported.
"""

import os
import signal
import sys

_INTERRUPTED = 130
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


def main() -> int:
    """Run one command of the process's arguments, and return its exit code."""
    before = {
        number: signal.signal(number, _end)
        for name in _SIGNALS
        if (number := getattr(signal, name, None)) is not None
        and signal.getsignal(number) is not signal.SIG_IGN  # as `nohup` wants it
    }
    from aiophlo.cli import load_commands  # noqa: PLC0415 -- see above

    run = load_commands()
    for number, handler in before.items():
        signal.signal(number, handler)
    code = run(sys.argv[1:])
    for number in before:  # what came of it was said, and the code has to tell the same
        signal.signal(number, signal.SIG_IGN)
    return code


def _end(*_: object) -> None:
    # Not by an exception: what is half imported could swallow it.
    os.write(2, b"aiophlo: interrupted; nothing was sent\n")
    os._exit(_INTERRUPTED)
