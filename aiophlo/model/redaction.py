"""Redaction: masks numbers, endpoints and keys in logs, errors and files.

The only place that masks. A number is hidden however it is split, up to its last
two digits; the host and the port of a connection stay legible.
"""

import ipaddress
import re
import traceback
from collections.abc import Callable

from aiophlo.model.addresses import INVISIBLE
from aiophlo.model.lazy_regex import lazy_compile

_SHOWN_DIGITS = 2
_LONGEST_NUMBER = 15  # digits, by E.164
_HIGHEST_PORT = 65_535
_LONGEST_TEXT = 2_000  # of an error that is searched for URLs from every start

# Between two digits of one number: whatever is no letter, and what a blank or a
# dash turns into in a URL, a web page, JSON or a repr. `%20` and the like need no
# word here: their digits can't be told from the number's, and go with them.
_BETWEEN = (
    r"[\W_]*(?:(?:%(?:25)*(?:[0-9][A-Fa-f]|[A-Fa-f][0-9A-Fa-f])"
    r"|&(?:nbsp|[A-Za-z]{2,8};)"
    r"|&#x(?![0-9]+;)[0-9A-Fa-f]{1,6};|&#x|\\u(?![0-9]{4})[0-9A-Fa-f]{4}"
    r"|\\x(?![0-9]{2})[0-9A-Fa-f]{2}|\\[a-z]"
    r"|<(?:![^<>]{0,80}|/?[A-Za-z]{1,10}(?: [^<>]{0,80})?/?)>)[\W_]*)*"
)
# The 2 of `%2D` is none, nor is that of `%25C2`.
_DIGIT = r"(?!(?<=%)(?:25)*(?:[0-9][A-Fa-f]|[A-Fa-f]))\d"
# Doesn't look for how it ends: a search that ran to the end from every start would
# be quadratic. A run of fewer digits has no more than five starts.
_NUMBERS = lazy_compile(rf"\+?{_DIGIT}(?:{_BETWEEN}{_DIGIT}){{5,}}")
_USERS = lazy_compile(
    r"(sips?(?::|%3a|&\#58;|&colon;))(?:(?!%40)[^@\s\"<>])+",
    re.ASCII | re.IGNORECASE,
)
_PLUS = lazy_compile(r"(?<=.)(?=\+)", re.DOTALL)
_DIGITS = lazy_compile(r"\d")
_LAST_DIGIT = lazy_compile(r".*\d", re.DOTALL)

# What reads as a number, and isn't: ids, and where a connection goes.
_HEX = "[0-9A-Fa-f]"  # matched in half the time that `re.IGNORECASE` takes
_UUID = rf"{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}"
_QUAD = r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}"
_IP = r"[0-9a-f:.]{2,45}"
_PLACES = lazy_compile(
    r"(?:(?<![\w.+:-])(?<![0-9][ ,])(?:"
    rf"(?P<uuid>{_UUID})(?![\w-])"
    rf"|(?:(?P<quad>{_QUAD})|\[(?P<six>{_IP})(?:%\w+)?\]):(?P<port>[0-9]{{1,5}})"
    r"(?!\w|[:.,-][0-9]))"
    rf"|\('(?P<peer>{_IP})(?:%\w+)?',[ ](?P<peer_port>[0-9]{{1,5}})"
    r"(?:,[ ][0-9]{1,10},[ ][0-9]{1,10})?\)"
    rf'|(?<=server[ ]at[ ]")(?P<server>{_IP})",[ ]port[ ]'
    r"(?P<server_port>[0-9]{1,5})(?!\w)"
    rf"|(?<=host[ ])(?P<host>{_IP}):(?P<host_port>[0-9]{{1,5}})(?!\w|:[0-9])"
    rf"|(?:(?<=://)|(?<=:…@))(?:(?P<url>{_QUAD})|\[(?P<url_six>{_IP})\])(?![\w.]))",
    re.IGNORECASE,
)
_PROXY_OR_PAGE = lazy_compile(r"(?P<scheme>[A-Za-z][\w+.-]*://)(?P<rest>\S*)|\S+@\S+")

# In ids and keys, which people look up in their own books, eight digits are a
# number and fewer an order's. An ellipsis would let a key pass for a masked one.
_TELLING = lazy_compile(
    rf"\+{_BETWEEN}\d|{_DIGIT}(?:{_BETWEEN}{_DIGIT}){{7}}|sips?(?::|%3a|&)|…",
    re.IGNORECASE,
)
# Made by us and by Plivo: a batch's row with its digest, and UUIDs.
_OPAQUE = lazy_compile(rf"[0-9]{{1,7}}:(?:{_HEX}{{16}})?|{_UUID}")
_KEY_DIGEST = lazy_compile(r"[0-9a-f]{16}")

_INVISIBLE = lazy_compile(f"[{INVISIBLE}]+")
# What would forge a log line, steer a terminal, or not print.
_UNPRINTABLE = lazy_compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def mask(address: str) -> str:
    """Return `address` with all but its last two digits, or its SIP user, hidden.

    Args:
        address: An address as `parse_address` returns it.

    Returns:
        What is safe to log, such as `…55`. Of a SIP endpoint, scheme and host stay;
        its user, its parameters and a number standing for its host are hidden.
    """
    scheme, _, endpoint = address.partition(":")
    if scheme in {"sip", "sips"} and "@" in endpoint:
        host = endpoint.rpartition("@")[2].partition(";")[0]
        return mask_text(f"{scheme}:…@{host}")
    return f"…{address[-_SHOWN_DIGITS:]}"


def mask_text(text: str) -> str:
    """Return free `text`, such as an answer's error, with every address masked.

    Args:
        text: Text of another program, which may quote a number.

    Returns:
        The text on one line, safe to log. Whatever could be a number of six
        digits or more is hidden, however it is split, and so are SIP users;
        control characters are blanks, invisible ones are gone. An IP address
        with its port stays, as does a UUID.
    """
    if not text.isascii():
        text = _INVISIBLE.sub("", text)
    if not text.isprintable():
        text = _UNPRINTABLE.sub(" ", text)
    return _mask_addresses(text)


def _mask_addresses(text: str) -> str:
    text = _USERS.sub(r"\1…", text)
    return _mask_numbers(text) if _NUMBERS.search(text) else text


def _mask_numbers(text: str) -> str:
    parts, end = [], 0
    for match in _PLACES.finditer(text):
        if _is_place(match):
            parts += [_NUMBERS.sub(_masked, text[end : match.start()]), match[0]]
            end = match.end()
    parts.append(_NUMBERS.sub(_masked, text[end:]))
    return "".join(parts)


def _masked(match: re.Match[str]) -> str:
    # Several in a row are told apart where no two can be one that was split.
    numbers = _PLUS.split(match[0])
    if any(len(_DIGITS.findall(number)) <= _LONGEST_NUMBER // 2 for number in numbers):
        numbers = [match[0]]
    return "".join(map(_mask_number, numbers))


def _mask_number(text: str) -> str:
    last = _LAST_DIGIT.match(text)
    end = len(text) if last is None else last.end()
    return f"…{''.join(_DIGITS.findall(text)[-_SHOWN_DIGITS:])}{text[end:]}"


def _is_place(match: re.Match[str]) -> bool:
    """Say whether what looks like a UUID or an IP address and its port is one."""
    found = match.groupdict()
    if found["uuid"] is not None:
        return not found["uuid"].replace("-", "").isdecimal()
    ports = (found[f"{name}port"] for name in ("", "peer_", "server_", "host_"))
    port = next(filter(None, ports), "0")
    names = ("quad", "six", "peer", "server", "host", "url", "url_six")
    address = next(found[name] for name in names if found[name] is not None)
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return int(port) <= _HIGHEST_PORT


def masked_repr(masked: Callable[[str], str]) -> Callable[[str | None], str]:
    """Return the repr of a field whose text is to be `masked`, if it has any."""
    return lambda text: repr(None if text is None else masked(text))


def mask_error(error: BaseException, *, in_lines: bool = False) -> str:
    """Return an unforeseen `error` with its traceback, masked as `mask_text` does.

    Args:
        error: What foreign code raised; its words may quote a number.
        in_lines: Keep the traceback's lines, instead of putting all on one.
    """
    text = "".join(traceback.format_exception(error)).rstrip()
    if not in_lines:
        return mask_text(text)
    # As a whole before line by line: a number may be split between two of them.
    return "\n".join(map(mask_text, _mask_addresses(text).splitlines()))


def mask_exchange_error(text: str) -> str:
    """Return what went wrong with an exchange, which may name URLs.

    Args:
        text: Words of this machine. A URL in it may hold a member's address, an
            auth_id or a proxy's password: its host and port alone stay.
    """
    return mask_text(_PROXY_OR_PAGE.sub(_mask_url, text[:_LONGEST_TEXT]))


def _mask_url(match: re.Match[str]) -> str:
    if match["scheme"] is None:
        return "…"
    authority = re.split(r"[/?#]", match["rest"], maxsplit=1)[0]
    return match["scheme"] + authority.rpartition("@")[2]


def mask_id(text: str) -> str:
    """Return an id or a key as it is, but masked where it could hold a number.

    Args:
        text: An id, such as a PHLO's, or a key of the caller's own: somebody
            may have put a number there. Below eight digits it's taken for an
            order's, say; a UUID, and a batch's own key of a row, stay.
    """
    if not could_hold_number(text):
        return text
    shown, mark, digest = text.rpartition("#")
    if "…" in shown and _KEY_DIGEST.fullmatch(digest):
        return f"{mask_text(shown)}{mark}{digest}"  # as the journal keeps it
    return mask_text(text)


def could_hold_number(text: str) -> bool:
    """Say whether an id or a key could hold a number, or is masked already."""
    if _OPAQUE.fullmatch(text):
        return False
    if not text.isascii():
        text = _INVISIBLE.sub("", text)
    return _TELLING.search(text) is not None


def describe_value(value: object) -> str:
    """Return a refused value for an error: a small number, or a type's name.

    Args:
        value: What was given; a text may be a number or a token, and is not shown.
    """
    if value is None or type(value) is bool:
        return repr(value)
    if type(value) is float or (type(value) is int and abs(value) < 10**6):
        return mask_text(repr(value))
    return mask_text(type(value).__name__)
