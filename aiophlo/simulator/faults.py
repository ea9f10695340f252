"""Every fault that an answer can have, and the bytes that a server writes for it."""

import enum
from collections.abc import Callable
from typing import Final

import attrs

from aiophlo.simulator.answer_meaning import Meaning, meaning_of
from aiophlo.simulator.http11 import Answer, BodyEnd


class Fault(enum.StrEnum):
    """One way in which a request ends badly.

    The first three strike before the request is read: nothing is dialled. Nor is it
    where the answer says no: 4xx but 408, 307, 308, 2xx with an `error`. All the
    others have dialled, which is the worst that a client can meet: repeating the
    request rings a second phone.
    """

    DROP_BEFORE_READ = "drop_before_read"
    RESET_BEFORE_READ = "reset_before_read"
    STALE_408 = "stale_408"

    DROP_AFTER_READ = "drop_after_read"
    RESET = "reset"
    SILENCE = "silence"
    CUT_STATUS_LINE = "cut_status_line"
    CUT_HEADERS = "cut_headers"
    CUT_BODY = "cut_body"
    CUT_CHUNKED = "cut_chunked"
    STALL_HEADERS = "stall_headers"
    STALL_BODY = "stall_body"
    NO_LENGTH = "no_length"
    BAD_GZIP = "bad_gzip"
    GARBAGE = "garbage"
    GARBAGE_HEADERS = "garbage_headers"
    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    EMPTY_BODY = "empty_body"
    DRIP = "drip"
    IDLE_CLOSE = "idle_close"
    IDLE_408 = "idle_408"

    ERROR_IN_201 = "error_in_201"
    NO_CONTENT = "no_content"
    STATUS_301 = "status_301"
    STATUS_302 = "status_302"
    STATUS_303 = "status_303"
    STATUS_307 = "status_307"
    STATUS_308 = "status_308"
    STATUS_400 = "status_400"
    STATUS_401 = "status_401"
    STATUS_403 = "status_403"
    STATUS_404 = "status_404"
    STATUS_405 = "status_405"
    STATUS_408 = "status_408"
    STATUS_409 = "status_409"
    STATUS_422 = "status_422"
    STATUS_429 = "status_429"
    STATUS_429_SECONDS = "status_429_seconds"
    STATUS_429_DATE = "status_429_date"
    STATUS_500 = "status_500"
    STATUS_502 = "status_502"
    STATUS_503 = "status_503"
    STATUS_504 = "status_504"

    @property
    def is_read(self) -> bool:
        """Whether the request is read before this strikes."""
        return self not in _UNREAD

    @property
    def takes_effect(self) -> bool:
        """Whether the request is carried out all the same, unless told otherwise."""
        if self.status is not None:
            return status_takes_effect(self.status)
        return self.is_read and self is not Fault.ERROR_IN_201

    @property
    def status(self) -> int | None:
        """The status of a fault that is a sound answer with it, else None."""
        if self is Fault.NO_CONTENT:
            return 204
        kind, _, number = self.partition("_")
        return int(number[:3]) if kind == "status" else None


_UNREAD: Final = frozenset(
    {Fault.DROP_BEFORE_READ, Fault.RESET_BEFORE_READ, Fault.STALE_408}
)
_UNCLEAR: Final = frozenset({301, 302, 303, 408})


def status_takes_effect(status: int) -> bool:
    """Say whether a request answered so may have been carried out.

    What leaves a client in doubt has been: a repeat must show.
    """
    return status // 100 in {2, 5} or status in _UNCLEAR


@attrs.frozen
class WireAnswer:
    """What is written in place of a sound answer.

    Attributes:
        data: Bytes that go out.
        ending: What becomes of the connection.
        status: Status of an answer that is all there, else None.
        last_words: Bytes that go out before an idle connection is closed.
        meaning: What a client that reads all of it can know.
    """

    data: bytes
    ending: BodyEnd
    status: int | None = None
    last_words: bytes = b""
    meaning: Meaning = Meaning.UNCLEAR


def _half_head(answer: Answer) -> bytes:
    return answer.head(length=len(answer.body))[:-8]


def _half_body(answer: Answer) -> bytes:
    return answer.body[: len(answer.body) // 2]


def _head_and_half_body(answer: Answer) -> bytes:
    return answer.head(length=len(answer.body) + 1) + _half_body(answer)


def _half_chunk(answer: Answer) -> bytes:
    size = f"{len(answer.body) + 1:x}\r\n".encode()
    return answer.head(Transfer_Encoding="chunked") + size + _half_body(answer)


def _bad_gzip(answer: Answer) -> WireAnswer:
    head = answer.head(length=len(answer.body), Content_Encoding="gzip")
    return WireAnswer(head + answer.body, BodyEnd.KEEP, answer.status)


def _not_json(answer: Answer) -> WireAnswer:
    return _whole(Answer(answer.status, _PAGE, {"Content-Type": "text/html"}))


def _not_an_object(answer: Answer) -> WireAnswer:
    return _whole(Answer(answer.status, b'["accepted"]'))


def _empty_body(answer: Answer) -> WireAnswer:
    return _whole(Answer(answer.status))


def _idle_close(answer: Answer) -> WireAnswer:
    return attrs.evolve(_whole(answer), ending=BodyEnd.FORGET)


def _idle_408(answer: Answer) -> WireAnswer:
    return attrs.evolve(_idle_close(answer), last_words=_REQUEST_TIMEOUT)


def _whole(answer: Answer) -> WireAnswer:
    meaning = meaning_of(answer.status, answer.body)
    return WireAnswer(answer.whole(), BodyEnd.KEEP, answer.status, meaning=meaning)


_REQUEST_TIMEOUT: Final = (
    b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)
_PAGE: Final = b"<html><body><h1>It works!</h1></body></html>\n"
_GARBAGE: Final = b"\x16\x03\x01\x02\x00\xff\xfe garbage\r\n\r\n"
_BAD_HEADERS: Final = b"\r\n\x00\x01\xff no colon here\r\n\r\n"
# Whatever the answer would have been.
_FIXED: Final = {
    Fault.DROP_BEFORE_READ: WireAnswer(b"", BodyEnd.CLOSE),
    Fault.RESET_BEFORE_READ: WireAnswer(b"", BodyEnd.RESET),
    Fault.STALE_408: WireAnswer(_REQUEST_TIMEOUT, BodyEnd.CLOSE, 408),
    Fault.DROP_AFTER_READ: WireAnswer(b"", BodyEnd.CLOSE),
    Fault.RESET: WireAnswer(b"", BodyEnd.RESET),
    Fault.SILENCE: WireAnswer(b"", BodyEnd.SILENT),
    Fault.GARBAGE: WireAnswer(_GARBAGE, BodyEnd.CLOSE),
}
# What goes out of the answer, and what becomes of the connection then.
_CUT: Final[dict[Fault, tuple[Callable[[Answer], bytes], BodyEnd]]] = {
    Fault.CUT_STATUS_LINE: (lambda it: it.status_line()[:11].encode(), BodyEnd.CLOSE),
    Fault.CUT_HEADERS: (_half_head, BodyEnd.CLOSE),
    Fault.CUT_BODY: (_head_and_half_body, BodyEnd.CLOSE),
    Fault.CUT_CHUNKED: (_half_chunk, BodyEnd.CLOSE),
    Fault.STALL_HEADERS: (_half_head, BodyEnd.SILENT),
    Fault.STALL_BODY: (_head_and_half_body, BodyEnd.SILENT),
    Fault.NO_LENGTH: (lambda it: it.head() + _half_body(it), BodyEnd.CLOSE),
    Fault.GARBAGE_HEADERS: (
        lambda it: it.status_line().encode() + _BAD_HEADERS,
        BodyEnd.CLOSE,
    ),
}
_CHANGED: Final[dict[Fault, Callable[[Answer], WireAnswer]]] = {
    Fault.BAD_GZIP: _bad_gzip,
    Fault.NOT_JSON: _not_json,
    Fault.NOT_AN_OBJECT: _not_an_object,
    Fault.EMPTY_BODY: _empty_body,
    Fault.IDLE_CLOSE: _idle_close,
    Fault.IDLE_408: _idle_408,
}


def write(answer: Answer, fault: Fault | None) -> WireAnswer:
    """Write an answer as `fault` has it, or whole."""
    if fault in _FIXED:
        return _FIXED[fault]
    if fault in _CUT:
        data_of, ending = _CUT[fault]
        return WireAnswer(data_of(answer), ending)
    return _CHANGED[fault](answer) if fault in _CHANGED else _whole(answer)
