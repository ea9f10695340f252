"""Addresses the PHLO API dials: E.164 numbers and SIP endpoints."""

import re
from collections.abc import Iterable
from typing import Final

from aiophlo.model.invalid_input import InvalidAddressError
from aiophlo.model.lazy_regex import lazy_compile

# Country codes in whose countries a 0 is dialled before national numbers, and
# left out of international ones. A number that begins with this 0 reaches somebody
# else or nobody. Where the 0 belongs to the number (39, 225, 241, 242, 378 and the
# like), or another digit is dialled (1, 7), the code is not here.
# Source: ITU-T, "Dialling procedures" (annex to Operational Bulletin 994), as kept in
# libphonenumber 9.0.43: `national_prefix` is 0; besides 36 (06) and 375 (80).
NATIONAL_ZERO: Final = frozenset(
    """
    20 27 31 32 33 36 40 41 43 44 46 49 51 53 54 55 57 58 60 61 62 63 64 66 81 82 84 86
    90 91 92 93 94 95 98 211 212 213 218 231 232 233 234 243 249 250 251 252 254 255 256
    260 261 262 263 264 265 291 353 355 358 359 370 373 374 375 377 380 381 382 383 385
    386 387 389 421 423 508 590 591 593 594 595 596 598 686 850 855 856 880 886 961 962
    963 964 966 967 970 971 972 976 977 994 995 996
    """.split()  # noqa: SIM905 -- a hundred quotes would hide the codes
)


def _codes_by_first_digit(codes: Iterable[str]) -> str:
    """Return a pattern of `codes` that looks at few of them for any number."""
    rest: dict[str, list[str]] = {}
    for code in sorted(codes):
        rest.setdefault(code[0], []).append(code[1:])
    return "|".join(f"{first}(?:{'|'.join(ends)})" for first, ends in rest.items())


_ZERO = rf"(?:{_codes_by_first_digit(NATIONAL_ZERO)})0"
_NUMBER = lazy_compile(rf"\+(?!{_ZERO})[1-9][0-9]{{6,14}}")
_WITH_ZERO = lazy_compile(rf"\+(?P<code>(?={_ZERO})[0-9]+?)0[0-9]+")

# Unicode's category Cf, and what else takes no room: variation selectors, fillers.
INVISIBLE = (
    r"\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160"
    r"\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd"
    r"\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0000-\U000e0fff"
)
# Category Pd, the minus signs, and the hyphen that is a bullet.
_DASHES = (
    r"\-\u02d7\u058a\u05be\u1400\u1806\u2010-\u2015\u2043\u207b\u208b\u2212\u2e17\u2e1a"
    r"\u2e3a\u2e3b\u2e40\u2e5d\u301c\u3030\u30a0\ufe31\ufe32\ufe58\ufe63\uff0d\U00010ead"
)
_UNSEEN = lazy_compile(f"[{INVISIBLE}]+")
_SEPARATORS = lazy_compile(rf"[\s\u2800().\[\]{_DASHES}]+")
_DECIMALS = lazy_compile(r"\+?[0-9]+\.0{1,2}")
_TRUNK_ZERO = lazy_compile(r"[(\[]\s*0\s*[)\]]")
_APOSTROPHES = ("'", "`", "\u00b4", "\u02bc", "\u2018", "\u2019", "\u2032", "\uff07")
_SIP = lazy_compile(
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


def parse_address(value: object, *, field: str = "address") -> str:
    """Return `value` as the API wants it: `+14152225555` or `sip:user@host`.

    Blanks, dashes, dots and brackets in a number are dropped, and invisible
    characters anywhere. A national 0 after the country code, as in `+44 (0)20` or
    `+44 020`, and a spreadsheet's `.0` are refused: they are not part of the
    number, and keeping them would dial somebody else.

    Args:
        value: What a person or a program wrote.
        field: The name that an error gives it.

    Returns:
        The address in its one canonical spelling.

    Raises:
        InvalidAddressError: It is neither an E.164 number (`+`, then 7 to 15
            digits, the first not 0, and no national 0) nor a SIP endpoint.

    Source:
        Plivo docs, "Warm transfer a caller": numbers are E.164 with `+`;
        `sip:user@phone.plivo.com` is a SIP endpoint.
    """
    if not isinstance(value, str):
        raise _refusal(field, type(value).__name__)
    if len(value) <= _LONGEST and (match := _NUMBER.fullmatch(value)):
        return match[0]  # most come as they should
    text = value.strip()
    if len(text) > _LONGEST:
        raise _refusal(field, f"{len(text)} characters")
    if not text.isascii():
        text = _UNSEEN.sub("", text).strip()
    if text[:4].lower() in {"sip:", "sips"}:
        return _parse_sip(text, field)
    number = _SEPARATORS.sub("", text)
    wrong = _added(text)
    if wrong is None:
        if _NUMBER.fullmatch(number):
            return number
        wrong = _mistake(text, number)
    raise _refusal(field, _hint(text), "" if wrong is None else f"{wrong}; ")


def _refusal(field: str, got: str, why: str = "") -> InvalidAddressError:
    message = f"{field}: {why}{_RIGHT}, got {got}"
    return InvalidAddressError(message, field=field)


def _added(text: str) -> str | None:
    """Return what to do about digits that are not the number's, if it has some."""
    if _TRUNK_ZERO.search(text):
        return "leave out the bracketed 0, or its brackets if it belongs to the number"
    return "leave out a spreadsheet's '.0'" if _DECIMALS.fullmatch(text) else None


def _mistake(text: str, number: str) -> str | None:
    """Return what to do about a common mistake, if that is one."""
    if text.startswith(_APOSTROPHES):
        return "leave out the apostrophe before it"
    if number.startswith(("00", "+00")):
        return "write '+' for 00"
    if national := _WITH_ZERO.fullmatch(number):
        return f"leave out the national 0 after +{national['code']}"
    if not number.isdecimal():
        return None
    if number.startswith("0"):
        return "write '+' and the country code for the national 0"
    return "the '+' is missing, and perhaps the country code"


def _parse_sip(text: str, field: str) -> str:
    match = _SIP.fullmatch(text)
    if match is None:
        raise _refusal(field, "a malformed SIP endpoint")
    scheme, user, host, port, parameters = match.groups(default="")
    return f"{scheme.lower()}:{user}@{host.lower()}{port}{parameters}"


def _hint(text: str) -> str:
    if not text:
        return "an empty string"
    return f"{len(text)} characters ending in {text[-_SHOWN_DIGITS:]!r}"
