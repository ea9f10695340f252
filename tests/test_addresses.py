"""Addresses: who is dialled, and that nobody reads it in a log."""

import re
import subprocess
import sys
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiophlo.addresses import mask, mask_error, mask_id, mask_text, parse_address
from aiophlo.errors import InvalidAddressError

NUMBER = "+14155550100"
JUNK = 100_000
WRONG = [
    None,
    True,
    14155550100,
    1.5,
    b"+14155550100",
    ["+14155550100"],
    {"to": "+14155550100"},
    object(),
    "",
    " ",
    "+",
    "14155550100",
    "0014155550100",
    "+04155550100",
    "+141555",  # six digits
    "+1234567890123456",  # sixteen
    "+1415555O100",
    "++14155550100",
    "+14155550100+",
    "+14155550100;ext=5",
    "+14155550100\x00",
    "tel:+14155550100",
    "+١٤١٥٥٥٥٠١٠٠",
    "+\uff11\uff14\uff11\uff15\uff15\uff15\uff10\uff11\uff10\uff10",
    "\ud800+14155550100",
    "9" * 50_000,
    "+" + "9" * 50_000,
    "(" * 50_000,
    "sip:",
    "sip:host",
    "sip:@host",
    "sip:user@",
    "sip:user@host@host",
    "sip:us er@host",
    "sip:user:password@host",
    "sip:user@host/../z?q",
    "sip:user@-host",
    "sip:user@host:123456",
    "sip:user@host?to=x",
    "sip:%zz@host",
    "sip:J\u00fcrgen@host",
    "sip:\u212a@host",  # the Kelvin sign is a "k" to a careless pattern
    "sip:user@\u212a.example",
    "sip:u\u017fer@host",
    "sip:\ud800@host",
    "sip:" + "a" * 50_000 + "@host",
    "sips:user",
    "http://host/",
]


@pytest.mark.parametrize(
    ("written", "address"),
    [
        (NUMBER, NUMBER),
        ("  +1 (415) 555-0100\t", NUMBER),
        ("+1.415.555.0100", NUMBER),
        ("+1 [415] 555\u20110100", NUMBER),
        ("+1\u00a0415\u2013555\u20140100", NUMBER),
        ("+1234567", "+1234567"),
        ("+123456789012345", "+123456789012345"),
        ("+39 06 1234 5678", "+390612345678"),
        ("sip:user@phone.plivo.com", "sip:user@phone.plivo.com"),
        ("SIP:User@Phone.PLIVO.com", "sip:User@phone.plivo.com"),
        ("sips:user@host:5061", "sips:user@host:5061"),
        ("sip:a/b?c%20d@h.example;transport=TLS", None),
        ("sip:user@[2001:DB8::1]:5060", "sip:user@[2001:db8::1]:5060"),
        ("sip:+14155550100@host", None),
        (" sip:user@host\n", "sip:user@host"),
    ],
)
def test_address_takes_its_one_spelling(written: str, address: str | None) -> None:
    """An agent whose number was typed with blanks must still be dialled."""
    assert parse_address(written) == (written if address is None else address)


@pytest.mark.parametrize(
    "case", list(enumerate(WRONG)), ids=lambda case: ascii(case)[:30]
)
def test_wrong_address_is_refused_by_field_and_unshown(
    case: tuple[int, object],
) -> None:
    """A stranger rung for a typing slip, or named in a log, is hurt."""
    with pytest.raises(InvalidAddressError) as caught:
        parse_address(case[1], field="to")
    error = caught.value
    assert error.field == "to"
    assert str(error).startswith("to: ")
    assert "+14152225555" in str(error)  # how it is written
    shown = "".join(traceback.format_exception(error)).replace("+14152225555", "")
    assert not re.search(r"[0-9]{6}|\d{6}", shown.partition("Error: ")[2])
    str(error).encode()


def test_bracketed_zero_is_refused_rather_than_dialled() -> None:
    """`+44 (0)20` with its 0 kept reaches somebody else."""
    for written in ("+44 (0)20 7946 0958", "+44 [ 0 ] 20 7946 0958"):
        with pytest.raises(InvalidAddressError, match="leave out the bracketed 0"):
            parse_address(written)


def test_missing_plus_is_named() -> None:
    """Without its `+` an American number is a Swiss one: say what to add."""
    with pytest.raises(InvalidAddressError, match="'\\+' is missing"):
        parse_address("14155550100")


@given(st.integers(1, 9), st.text("0123456789", min_size=6, max_size=14))
def test_every_e164_number_is_itself(first: int, rest: str) -> None:
    """A caller whose number is rare, but right, must be reachable."""
    number = f"+{first}{rest}"
    assert parse_address(number) == number
    assert mask(number) == f"…{number[-2:]}"


@given(st.text(max_size=300) | st.text("+0123456789 ().-[]", max_size=40))
def test_any_text_is_canonical_or_refused(text: str) -> None:
    """A third way out would reach a path of the API unchecked."""
    try:
        address = parse_address(text)
    except InvalidAddressError:
        return
    assert parse_address(address) == address
    assert re.fullmatch(r"\+[1-9][0-9]{6,14}|sips?:[!-~]+@[!-~]+", address)


@given(st.from_regex(r"sips?:[a-z0-9/?%41]+@[A-Za-z0-9]+(;[a-z]+)?", fullmatch=True))
def test_sip_endpoint_hides_its_user(text: str) -> None:
    """A SIP user is a person's name or number."""
    try:
        address = parse_address(text)
    except InvalidAddressError:
        return
    assert re.fullmatch(r"sips?:…@[^@;]+", mask(address))


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        ("sip:bob@phone.plivo.com", "sip:…@phone.plivo.com"),
        ("sip:bob@192.168.10.20:5060", "sip:…@192.168.10.20:5060"),
        ("sip:bob@14155550100.example", "sip:…@…00.example"),
        ("sip:bob@host;phone-context=+14155550100", "sip:…@host"),
        ("sip14155550100", "…00"),  # no address, but somebody may pass it
        ("sip14155550100:@", "…:@"),
        ("", "…"),
    ],
)
def test_mask_leaves_no_number_when_one_hides_in_the_rest(
    address: str, masked: str
) -> None:
    """A number in a SIP endpoint's host is as private as one in front of it."""
    assert mask(address) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("no member +14155550100 here", "no member …00 here"),
        ("+1 (415) 555-0100", "…00"),
        ("+1 - 415 - 555 - 0100!", "…00!"),
        ("+1415\u200b555\u200b0100", "…00"),
        ("%2B14155550100", "%2B…00"),
        ("+١٤١٥٥٥٥٠١٠٠", "…٠٠"),  # noqa: RUF001 -- digits of another script
        ("SIP:bob@host is busy", "SIP:…@host is busy"),
        ('{"to":"sip%3abob%40host"}', '{"to":"sip%3a…%40host"}'),
        ("cut short: sip:bob", "cut short: sip:…"),
        ("status 503 after 2 tries", "status 503 after 2 tries"),
        ("a\r\nERROR b\x1b[2J\u202e\ud800", "a ERROR b [2J "),
        ("", ""),
    ],
)
def test_free_text_is_masked(text: str, masked: str) -> None:
    """What Plivo quotes of a customer must not reach the logs, nor forge them."""
    assert mask_text(text) == masked


@given(st.text())
def test_masked_text_is_one_printable_line(text: str) -> None:
    """A log line that breaks off, or a terminal that is steered, hides the rest."""
    masked = mask_text(text)
    assert len(masked.splitlines()) <= 1
    masked.encode()


def test_error_is_masked_with_all_that_led_to_it() -> None:
    """The number that nobody may read stands in the cause as often."""
    error = ValueError("sip:bob@phone.plivo.com is gone")
    error.__cause__ = KeyError("+14155550123")
    told = mask_error(error)
    assert "KeyError: '…23'" in told
    assert "ValueError: sip:…@phone.plivo.com is gone" in told
    assert "4155550123" not in told


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("14155550100", "…00"),
        ("1-415-555-0100", "…00"),
        ("faad0293-f5f0-487e-8ff7-b45ba6c45b25",) * 2,
        ("12345", "12345"),
        ("", ""),
    ],
)
def test_id_is_masked_only_when_it_reads_as_a_number(text: str, shown: str) -> None:
    """Ids must stay legible to whoever asks Plivo's support about one."""
    assert mask_id(text) == shown


READ_JUNK = """
from aiophlo.addresses import mask_text, parse_address
for unit in ("sip:", "sips%3a", "1 ", "( 0 ", "1...", "(0", "%40", "sip:a@", ";a"):
    junk = unit * (1_000_000 // len(unit))
    mask_text(junk)
    try:
        parse_address("+" + junk)
    except ValueError:
        continue
    raise SystemExit(unit)
"""


def test_junk_of_any_length_is_read_in_one_pass() -> None:
    """One quadratic search of a crafted text would stop every call on the loop.

    A million characters take a second or two when each is looked at a few times,
    and most of an hour when each is a new search's start: no tight clock is needed.
    """
    command = [sys.executable, "-c", READ_JUNK]
    subprocess.run(command, check=True, timeout=60)  # noqa: S603 -- our own words


def test_long_text_is_never_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound on every pattern's work is the length of what it is given."""
    searched: list[int] = []

    class Spy:
        def __init__(self, pattern: re.Pattern[str]) -> None:
            self.pattern = pattern

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- any method
            method = getattr(self.pattern, name)

            def call(*args: str) -> object:
                searched.append(len(args[-1]))
                return method(*args)

            return call

    for name in ("_SEPARATORS", "_TRUNK_ZERO", "_NUMBER", "_SIP"):
        pattern = getattr(__import__("aiophlo.addresses").addresses, name)
        monkeypatch.setattr(f"aiophlo.addresses.{name}", Spy(pattern))
    for text in (f"+{'1 ' * JUNK}", f"sip:{'a' * JUNK}@b", "+" + "1" * 254, "1" * 256):
        with pytest.raises(InvalidAddressError):
            parse_address(text)
    assert searched
    assert max(searched) <= 255


@pytest.mark.parametrize("number", ["+14155550123.0", "+1 415.555.0123.00"])
def test_decimals_of_a_spreadsheet_are_refused(number: str) -> None:
    """A column that was read as numbers must not dial strangers."""
    with pytest.raises(InvalidAddressError, match="spreadsheet"):
        parse_address(number)
    assert parse_address(number.rpartition(".")[0]) == "+14155550123"
