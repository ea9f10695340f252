"""Keeps what aiophlo logs as lines of JSON, for the judge."""

import json
import logging
import os
from typing import Final

RECORDS: Final = "AIOPHLO_DAY_RECORDS"  # where a process's records go
_FIELDS: Final = (
    *("agent", "handover", "began_at", "action", "verdict", "reason"),
    *("joined", "seconds", "waited"),
)


class _Keeper(logging.Handler):
    """Appends records to a file, each in one write: a kill leaves them whole."""

    def __init__(self, path: str) -> None:
        super().__init__(logging.INFO)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def emit(self, record: logging.LogRecord) -> None:
        line = {
            "at": record.created,
            "pid": record.process,
            "level": record.levelname,
            "text": record.getMessage(),
        }
        for name in _FIELDS:
            value = getattr(record, f"phlo_{name}", None)
            if value is not None:
                line[name] = value
        os.write(self._file, json.dumps(line, default=str).encode() + b"\n")


def keep_records() -> None:
    """Keep what this process logs."""
    logging.getLogger("aiophlo").addHandler(_Keeper(os.environ[RECORDS]))
