"""What a whole answer means: yes, no, not now (429), or unclear."""

import enum
import json
from typing import Any, Final

_OK: Final = range(200, 300)
_NO_CONTENT: Final = 204
_REFUSALS: Final = {307, 308, *range(400, 500)} - {408, 429}
_TOO_MANY_REQUESTS: Final = 429


class Meaning(enum.StrEnum):
    """What an answer says of its request."""

    YES = "yes"
    NO = "no"
    NOT_NOW = "not_now"  # 429: nothing was done, come again
    UNCLEAR = "unclear"  # it may have been carried out


def meaning_of(status: int, body: bytes) -> Meaning:
    """Say what an answer means that arrives whole.

    Source:
        Plivo docs, "Status codes". Assumed: a 2xx with an `error` is a refusal, and
        so is 307 or 308, which asks to come elsewhere; a 429 has done nothing.
    """
    if status in _OK:
        return Meaning.YES if status == _NO_CONTENT and not body else _said(body)
    if status == _TOO_MANY_REQUESTS:
        return Meaning.NOT_NOW
    return Meaning.NO if status in _REFUSALS else Meaning.UNCLEAR


def _said(body: bytes) -> Meaning:
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        return Meaning.UNCLEAR
    if not isinstance(document, dict):
        return Meaning.UNCLEAR
    error = document.get("error")
    refused = error.strip() if isinstance(error, str) else error
    return Meaning.NO if refused else Meaning.YES
