"""Address matching: whether two spellings of an address mean the same party.

Pure. What a caller writes is strict (`aiophlo.model.addresses`); what an event says is
spelled by whoever sent it, so that it is compared by keys:

===========================  ==================================================
`+14152225555`               a number with its country code
`4152225555`, `04152225555`  a number without, or one whose `+` was left out
`user@host`                  a SIP endpoint
`WITHHELD`                   a withheld number: equal to none, not even to itself
===========================  ==================================================

Two texts mean the same party if they have a key in common that isn't `WITHHELD`.
"""

from typing import Final
from urllib.parse import quote, unquote

from aiophlo.model.calling_codes import split_number
from aiophlo.model.lazy_regex import lazy_compile

WITHHELD: Final = ""

_FULL: Final = lazy_compile(r"\+[1-9][0-9]{6,14}")
_DIGITS: Final = lazy_compile(r"[0-9]+")
# What people and programs put between digits, invisible characters included.
_BETWEEN: Final = lazy_compile(
    r"[\s().\[\]/\-\xad\u2010-\u2015\u2212\u200b-\u200f\u202a-\u202e\u2060\ufeff]+"
)
_BRACKETED: Final = lazy_compile(r"<([^<>]*)>")
_AFTER_HOST: Final = lazy_compile(r"[;?>\s]")
_DEFAULT_PORTS: Final = frozenset({"", "5060", "5061"})
_NORTH_AMERICA: Final = "1"
_SHORTEST_NATIONAL: Final = 6  # digits; below it, extensions would be taken for it


def party_keys(text: str, country_code: str | None = None) -> tuple[str, ...]:
    """Return the keys by which a party may be known, the likeliest first.

    A number with its country code has one key, and so has a SIP endpoint: its user,
    percent-decoded, at its host in lower case, without scheme, port, parameters and
    display name. An endpoint whose user is a number with `+` is that number. A number
    without country code has several, as nobody can say which of them was meant.

    Args:
        text: As an event or a person spells it.
        country_code: Of numbers that are written without, where it is known.

    Source:
        RFC 3261, 19.1.4: how SIP addresses are compared, but for port and
        parameters, which an event may add or leave out. RFC 3966: `tel:`.
        Assumed: Plivo spells SIP endpoints and numbers in one of these ways.
    """
    if _FULL.fullmatch(text):
        return (text,)  # as most are
    text = text.strip()
    if bracketed := _BRACKETED.search(text):
        text = bracketed[1].strip()
    scheme, colon, rest = text.partition(":")
    match scheme.casefold() if colon else "":
        case "tel":
            return _tel_keys(rest, country_code)
        case "sip" | "sips":
            return _endpoint_keys(rest)
    if "@" in text:
        return _endpoint_keys(text)
    return _number_keys(text, country_code)


def phone_of(address: str) -> str:
    """Return what all spellings of the phone behind an address have in common.

    Two dials that differ in this alone ring one phone: a SIP endpoint's scheme,
    parameters, default port and percent-encoding make no second one.

    Args:
        address: As `parse_address` returns it.

    Source:
        RFC 3261, 19.1.4. Assumed: parameters lead to no other phone, another port
        may.
    """
    if address[0] == "+":
        return address
    user, _, place = address.partition(":")[2].rpartition("@")
    host, colon, port = _AFTER_HOST.split(place, maxsplit=1)[0].rpartition(":")
    if not colon or not port.isdigit():
        host, port = f"{host}{colon}{port}", ""
    user = unquote(user.partition(";")[0], errors="surrogateescape")
    other_port = "" if port in _DEFAULT_PORTS else f":{port}"
    # Quoted anew: no blank may be in it, and no lone surrogate.
    return f"{quote(user, errors='surrogateescape')}@{host.lower()}{other_port}"


def party_of(address: str) -> str:
    """Return what two addresses have in common that a list of calls may show alike.

    It leaves out more than `phone_of`: any port, and where a number's endpoint is.

    Args:
        address: As `parse_address` returns it.
    """
    return party_keys(address)[0]


def same_phone(address: str, text: str) -> bool:
    """Say whether a spelling that means the same party can mean no other phone.

    Unlike `same_party` it tells a number from its endpoint, and ports apart.

    Args:
        address: As `parse_address` returns it.
        text: As anybody spells it.
    """
    if bracketed := _BRACKETED.search(text):
        text = bracketed[1]
    text = text.strip()
    if "@" not in text:
        return address[0] == "+" and same_party(address, text)
    if address[0] == "+":
        return False
    scheme = text.partition(":")[0].casefold()
    endpoint = text if scheme in {"sip", "sips"} else f"sip:{text}"
    return phone_of(endpoint) == phone_of(address)


def _tel_keys(rest: str, country_code: str | None) -> tuple[str, ...]:
    number, _, parameters = rest.partition(";")
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.casefold() == "phone-context" and value.startswith("+"):
            country_code = value[1:]
    return _number_keys(number, country_code)


def _endpoint_keys(rest: str) -> tuple[str, ...]:
    user, _, place = rest.rpartition("@")
    host = _AFTER_HOST.split(place, maxsplit=1)[0].lower()
    host = host.partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    # With replacement characters, two users of other bytes would be one.
    user = unquote(user.partition(":")[0], errors="surrogateescape")
    if user.startswith("+"):
        number = _BETWEEN.sub("", user.partition(";")[0])
        if _FULL.fullmatch(number):
            return (number,)
    if user.casefold() == "anonymous" or host.endswith(".invalid"):
        return (WITHHELD,)
    return (f"{user}@{host.rstrip('.')}",)


def _number_keys(text: str, country_code: str | None) -> tuple[str, ...]:
    digits = _BETWEEN.sub("", text)
    if _FULL.fullmatch(digits):
        return (digits,)
    if not _DIGITS.fullmatch(digits):
        has_digit = any(map(str.isdigit, text))
        return (f"={text.casefold()}",) if has_digit else (WITHHELD,)
    if digits.startswith("00"):
        full = f"+{digits[2:]}"
        return (full if _FULL.fullmatch(full) else digits,)
    candidates = [f"+{digits}"]  # some senders leave the plus out
    if country_code is not None:
        if digits.startswith("0"):  # which stays in some countries
            candidates.append(f"+{country_code}{digits[1:]}")
        if digits.startswith("011") and country_code == _NORTH_AMERICA:
            candidates.append(f"+{digits[3:]}")
        candidates.append(f"+{country_code}{digits}")
    return (*filter(_FULL.fullmatch, candidates), digits)


def same_party(first: str, second: str, *, country_code: str | None = None) -> bool:
    """Say whether two spellings may mean the same party.

    Two numbers with their country codes are the same if all their digits are. Who
    withholds their number is nobody's equal.

    Args:
        first: An address, as anybody spells it.
        second: Another one.
        country_code: Of numbers that are written without, where it is known.
    """
    keys = set(party_keys(first, country_code)) - {WITHHELD}
    return not keys.isdisjoint(party_keys(second, country_code))


def is_withheld(text: str) -> bool:
    """Say whether `text` stands for a withheld number.

    That is any text without a digit which is no SIP endpoint: what stands there
    isn't documented, and differs with the network.
    """
    return party_keys(text) == (WITHHELD,)


def country_code_of(key: str) -> str | None:
    """Return the country code of a key, if that is a number with one."""
    number = split_number(key[1:]) if key.startswith("+") else None
    return None if number is None else number[0]


def national_keys(key: str) -> tuple[str, ...]:
    """Return the keys of a number as it is written in its own country.

    Args:
        key: A key of `party_keys`.

    Returns:
        Nothing for a SIP endpoint, or where an extension might be written so.
    """
    number = split_number(key[1:]) if key.startswith("+") else None
    if number is None or len(number[1]) < _SHORTEST_NATIONAL:
        return ()
    return number[1], f"0{number[1]}"
