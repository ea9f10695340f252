"""Addresses the PHLO API dials: E.164 numbers and SIP endpoints."""

import re
import traceback

from aiophlo.errors import InvalidAddressError

_SEPARATORS = re.compile(r"[\s().\[\]\-\u2010-\u2015]+")
_DECIMALS = re.compile(r"\.0{1,2}$")
_TRUNK_ZERO = re.compile(r"[(\[]\s*0\s*[)\]]")
_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")
_SIP = re.compile(
    r"(?P<scheme>sips?):"
    r"(?P<user>(?:[A-Za-z0-9_.!~*'()&=+$,;?/-]|%[0-9A-Fa-f]{2})+)@"
    r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])"
    r"(?P<port>:[0-9]{1,5})?"
    r"(?P<parameters>(?:;[A-Za-z0-9_.!~*'()%+=-]+)*)",
    re.ASCII | re.IGNORECASE,  # without ASCII, [a-z] also takes the Kelvin sign
)
_RIGHT = "expected an E.164 number such as '+14152225555' or 'sip:user@host'"
_SHOWN_DIGITS = 2
_LONGEST = 255  # bounds what is searched, copied and sent; no address comes near

# In free text, whatever could be a number or a SIP user. Neither looks for how
# it ends: a search that ran to the end from every start would be quadratic.
_NUMBERS_IN_TEXT = re.compile(r"\+?\d(?:[\s().\[\]/\-\u2010-\u2015]{0,3}\d){5,}")
_USERS_IN_TEXT = re.compile(
    r"(sips?(?::|%3a))(?:(?!%40)[^@\s\"<>])+", re.ASCII | re.IGNORECASE
)
_DIGITS_IN_HOST = re.compile(r"[0-9]{6,}")
# What would forge a log line, steer a terminal, turn text around, or not print.
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]+"
)


def parse_address(value: object, *, field: str = "address") -> str:
    """Return `value` as the API wants it: `+14152225555` or `sip:user@host`.

    Blanks, dashes, dots and brackets in a number are dropped. A bracketed
    zero, as in `+44 (0)20`, and a spreadsheet's `.0` are refused: they are not
    part of the number, and keeping them would dial somebody else.

    Args:
        value: What a person or a program wrote.
        field: The name that an error gives it.

    Returns:
        The address in its one canonical spelling.

    Raises:
        InvalidAddressError: It is neither an E.164 number (`+`, then 7 to 15
            digits, the first not 0) nor a SIP endpoint.

    Source:
        Plivo docs, "Warm transfer a caller": numbers are E.164 with `+`;
        `sip:user@phone.plivo.com` is a SIP endpoint.
    """
    if not isinstance(value, str):
        message = f"{field}: {_RIGHT}, got {type(value).__name__}"
        raise InvalidAddressError(message, field=field)
    if len(value) <= _LONGEST and (match := _NUMBER.fullmatch(value)):
        return match[0]  # most come as they should
    text = value.strip()
    if len(text) > _LONGEST:
        message = f"{field}: {_RIGHT}, got {len(text)} characters"
        raise InvalidAddressError(message, field=field)
    canonical = _NUMBER.fullmatch(text)  # as most are, and a batch has a million
    if canonical is not None:
        return canonical[0]
    if text[:4].lower() in {"sip:", "sips"}:
        return _parse_sip(text, field)
    if _TRUNK_ZERO.search(text):
        message = f"{field}: leave out the bracketed 0; {_RIGHT}, got {_hint(text)}"
        raise InvalidAddressError(message, field=field)
    if _DECIMALS.search(text):
        message = (
            f"{field}: leave out a spreadsheet's '.0'; {_RIGHT}, got {_hint(text)}"
        )
        raise InvalidAddressError(message, field=field)
    number = _SEPARATORS.sub("", text)
    if not _NUMBER.fullmatch(number):
        missing = "the '+' is missing; " if number.isdecimal() else ""
        message = f"{field}: {missing}{_RIGHT}, got {_hint(text)}"
        raise InvalidAddressError(message, field=field)
    return number


def _parse_sip(text: str, field: str) -> str:
    match = _SIP.fullmatch(text)
    if match is None:
        message = f"{field}: {_RIGHT}, got a malformed SIP endpoint"
        raise InvalidAddressError(message, field=field)
    scheme, user, host, port, parameters = match.groups(default="")
    return f"{scheme.lower()}:{user}@{host.lower()}{port}{parameters}"


def _hint(text: str) -> str:
    if not text:
        return "an empty string"
    return f"{len(text)} characters ending in {text[-_SHOWN_DIGITS:]!r}"


def mask(address: str) -> str:
    """Return `address` with all but its last two digits, or its SIP user, hidden.

    Args:
        address: An address as `parse_address` returns it.

    Returns:
        `'…55'` or `'sip:…@host'`, safe to log. A SIP endpoint's parameters and
        a number standing for its host are hidden too.
    """
    scheme, _, endpoint = address.partition(":")
    if scheme in {"sip", "sips"} and "@" in endpoint:
        host = endpoint.rpartition("@")[2].partition(";")[0]
        return f"{scheme}:…@{_DIGITS_IN_HOST.sub(_mask_number, host)}"
    return f"…{address[-_SHOWN_DIGITS:]}"


def _mask_number(match: re.Match[str]) -> str:
    return f"…{match[0][-_SHOWN_DIGITS:]}"


def mask_id(text: str) -> str:
    """Return an id as it is, but masked where it reads as a number.

    Args:
        text: An id, such as a PHLO's. Somebody may have put a number there.
    """
    return mask(text) if _NUMBERS_IN_TEXT.fullmatch(text) else text


def mask_text(text: str) -> str:
    """Return free `text`, such as an answer's error, with every address masked.

    Args:
        text: What somebody else wrote, which may quote a number.

    Returns:
        The text on one line, safe to log: runs of six digits or more and SIP
        users are hidden, control characters are blanks.
    """
    text = _UNPRINTABLE.sub(" ", text)
    text = _USERS_IN_TEXT.sub(r"\1…", text)
    return _NUMBERS_IN_TEXT.sub(_mask_number, text)


def mask_error(error: BaseException) -> str:
    """Return an unforeseen `error` with its traceback, masked as `mask_text` does.

    Args:
        error: What somebody else's code raised; its words may quote a number.
    """
    return mask_text("".join(traceback.format_exception(error)).rstrip())
